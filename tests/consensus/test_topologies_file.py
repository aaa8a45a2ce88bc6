"""Graph files: what is read, what is refused, and the networks that come with the package."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.consensus.topologies import RULES
from p2pfrl.consensus.topologies.file import find, great_circle, load
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import path_latency

SHIPPED = {"abilene": (11, 14), "nsfnet": (14, 21), "geant": (22, 36), "campus": (16, 30)}

KEYS = """<key id="d0" for="node" attr.name="Latitude" attr.type="double"/>
<key id="d1" for="node" attr.name="Longitude" attr.type="double"/>
<key id="d2" for="edge" attr.name="latency" attr.type="string"/>
<key id="d3" for="edge" attr.name="bandwidth" attr.type="string"><default>1Gbit/s</default></key>
<key id="d4" for="node" attr.name="label" attr.type="string"/>"""
TRIANGLE = '<edge source="a" target="b"/><edge source="b" target="c"/><edge source="c" target="a"/>'


def write(tmp_path: Path, body: str, *, default: str = "undirected", nodes: str = "abc") -> Path:
    listed = "".join(f'<node id="{node}"/>' for node in nodes)
    path = tmp_path / "net.graphml"
    path.write_text(
        f'<graphml>\n{KEYS}\n<graph edgedefault="{default}">\n{listed}\n{body}\n</graph></graphml>'
    )
    return path


@pytest.mark.parametrize(("name", "size"), SHIPPED.items())
def test_shipped_networks_are_undirected_and_every_link_has_a_latency_and_a_bandwidth(name, size):
    n, links = size
    graph = RULES["file"](path=f"{name}.graphml").at(n, 0, 0)
    assert graph.is_undirected
    assert graph.is_connected
    assert len(graph.edges) == 2 * links
    assert len(set(graph.labels)) == n
    assert set(graph.latency) == set(graph.bandwidth) == set(graph.edges)
    assert all(0 < seconds < 0.05 for seconds in graph.latency.values())


@pytest.mark.parametrize("name", ["abilene", "nsfnet", "geant"])
def test_shipped_latencies_are_great_circles_at_two_thirds_of_the_speed_of_light(name):
    graph = load(find(f"{name}.graphml"))
    for (i, j), seconds in graph.latency.items():
        (x, y), (u, v) = graph.positions[i], graph.positions[j]
        assert seconds == pytest.approx(
            great_circle((y, x), (v, u)) / (2 / 3 * 299_792_458), abs=1e-7
        )


@pytest.mark.parametrize(
    ("name", "text"),
    [("abilene", "Topology Zoo"), ("nsfnet", "JSAC"), ("geant", "SNDlib"), ("campus", "Cisco")],
)
def test_shipped_files_name_their_source(name, text):
    comment = re.search("<!--(.*?)-->", find(f"{name}.graphml").read_text(), re.DOTALL)
    assert comment is not None
    assert text in comment[1]


def test_units_plain_seconds_defaults_and_labels_are_read(tmp_path):
    body = (
        '<edge source="a" target="b"><data key="d2">20ms</data></edge>'
        '<edge source="b" target="c"><data key="d2">0.005</data><data key="d3">125</data></edge>'
    )
    path = write(tmp_path, body)
    graph = load(path)
    assert graph.latency == {(0, 1): 0.02, (1, 0): 0.02, (1, 2): 0.005, (2, 1): 0.005}
    assert graph.bandwidth[0, 1] == 125e6
    assert graph.bandwidth[1, 2] == 125.0
    assert graph.labels == ("a", "b", "c")
    assert path_latency(graph, 0) == pytest.approx((0.0, 0.02, 0.025))


def test_coordinates_give_the_latency_that_a_file_leaves_out(tmp_path):
    body = """<node id="x"><data key="d0">0</data><data key="d1">0</data><data key="d4">Null</data></node>
    <node id="y"><data key="d0">0</data><data key="d1">90</data></node><edge source="x" target="y"/>"""
    graph = load(write(tmp_path, body, nodes=""))
    quarter = 6371.0088e3 * 3.141592653589793 / 2
    assert graph.latency[0, 1] == pytest.approx(quarter / (299_792_458 * 2 / 3), rel=1e-12)
    assert graph.positions == ((0.0, 0.0), (90.0, 0.0))
    assert graph.labels == ("Null", "y")


def test_directed_files_and_single_directed_edges_go_one_way(tmp_path):
    assert load(write(tmp_path, TRIANGLE, default="directed")).successors == ((1,), (2,), (0,))
    one_way = TRIANGLE.replace('source="a"', 'source="a" directed="true"')
    assert load(write(tmp_path, one_way)).successors == ((1, 2), (2,), (0, 1))


def test_parallel_links_count_once_with_the_least_latency_and_largest_bandwidth(tmp_path):
    links = "".join(
        f'<edge source="a" target="b"><data key="d2">{ms}ms</data><data key="d3">{size}</data></edge>'
        for ms, size in [(7, 100), (3, 50), (5, 70)]
    )
    graph = load(write(tmp_path, links, nodes="ab"))
    assert graph.edges == ((0, 1), (1, 0))
    assert (graph.latency[0, 1], graph.bandwidth[0, 1]) == (0.003, 100.0)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('<edge source="a" target="b"/>', "net.graphml:8: the graph is disconnected"),
        (
            TRIANGLE + '\n<edge source="b" target="b"/>',
            "net.graphml:10: node 'b' has an edge to itself",
        ),
        ('<edge source="a" target="z"/>', "net.graphml:9: an edge with the target 'z'"),
        ('<edge source="a"/>', "an edge with the target None"),
        ('<node id="a"/>', "a second node 'a'"),
        ("<node/>", "a node without an id"),
        (
            '<edge source="a" target="b"><data key="d2">fast</data></edge>',
            "latency: expected a duration",
        ),
        (
            '<edge source="a" target="b"><data key="d2">-1</data></edge>',
            "latency: expected a duration",
        ),
        (
            '<edge source="a" target="b"><data key="d2">nan</data></edge>',
            "latency: expected a duration",
        ),
        ('<edge source="a" target="b"><data key="d3">0</data></edge>', "a link of zero bandwidth"),
        (
            '<edge source="a" target="b"><data key="d9">0</data></edge>',
            "the key 'd9', which no <key> element",
        ),
        (
            '<node id="q"><data key="d0">91</data><data key="d1">0</data></node>',
            "not degrees on the earth",
        ),
        (
            '<node id="q"><data key="d0">north</data><data key="d1">0</data></node>',
            "expected degrees",
        ),
        ("<hyperedge/>", "a hyperedge"),
        ('<node id="q"><graph/></node>', "nested graph"),
        ("</graphml>", "not well-formed XML: mismatched tag"),
    ],
)
def test_unfit_files_are_refused_with_the_place(tmp_path, body, says):
    with pytest.raises(TopologyError, match=re.escape(says)):
        load(write(tmp_path, body))


def test_one_way_reachability_is_not_enough(tmp_path):
    with pytest.raises(TopologyError, match="disconnected"):
        load(
            write(
                tmp_path,
                '<edge source="a" target="b"/><edge source="b" target="c"/>',
                default="directed",
            )
        )


def test_entities_are_refused_before_they_grow(tmp_path):
    lines = "".join(f'<!ENTITY e{k + 1} "{f"&e{k};" * 10}">' for k in range(12))
    path = tmp_path / "bomb.graphml"
    path.write_text(
        f'<?xml version="1.0"?>\n<!DOCTYPE graphml [<!ENTITY e0 "ha">{lines}]>\n<graphml>&e12;</graphml>'
    )
    with pytest.raises(TopologyError, match=r"bomb.graphml:2: a document type is refused"):
        load(path)


def test_a_file_over_the_limit_is_refused(tmp_path):
    path = write(tmp_path, TRIANGLE + " " * (1 << 20))
    with pytest.raises(TopologyError, match="larger than 1 MiB"):
        load(path)


def test_an_unknown_encoding_and_another_document_are_refused(tmp_path):
    path = tmp_path / "x.graphml"
    path.write_text('<?xml version="1.0" encoding="nonsense"?><graphml/>')
    with pytest.raises(TopologyError, match="save the file as UTF-8"):
        load(path)
    path.write_text("<html/>")
    with pytest.raises(TopologyError, match="expected GraphML, with <graphml> outermost"):
        load(path)
    path.write_text("<graphml/>")
    with pytest.raises(TopologyError, match="no nodes"):
        load(path)


def test_the_wrong_number_of_agents_is_refused_saying_both():
    with pytest.raises(
        TopologyError, match=r"has 11 nodes, the scenario 16 agents: set agents = 11"
    ):
        RULES["file"](path="abilene.graphml").at(16, 0, 0)


@pytest.mark.parametrize("name", ["abilen.graphml", "Abilene.graphml", "abilene"])
def test_a_missing_file_offers_the_nearest_name(name):
    with pytest.raises(TopologyError, match=r"did you mean 'abilene.graphml'\?"):
        find(name)


@pytest.mark.parametrize("name", ["", "a\0b", "..", "x" * 5000])
def test_names_that_are_no_files_are_refused(name):
    with pytest.raises(TopologyError, match=r"topology\.path"):
        find(name)


def test_files_are_found_as_a_path_then_in_topologies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "topologies").mkdir()
    shadow = tmp_path / "topologies" / "abilene.graphml"
    shadow.write_bytes(write(tmp_path, TRIANGLE).read_bytes())
    assert RULES["file"](path="abilene.graphml").at(3, 0, 0).n == 3
    assert RULES["file"](path=str(tmp_path / "net.graphml")).at(3, 0, 0).n == 3


@given(where=st.integers(0, 4000), garbage=st.binary(max_size=8), cut=st.integers(0, 60))
def test_a_damaged_file_is_a_graph_or_a_topology_error(tmp_path_factory, where, garbage, cut):
    content = find("abilene.graphml").read_bytes()
    path = tmp_path_factory.getbasetemp() / "damaged.graphml"
    path.write_bytes(content[:where] + garbage + content[where + cut :])
    try:
        graph = load(path)
    except TopologyError:
        return
    assert graph.is_connected


GRAPH = '<graphml>{keys}<graph edgedefault="undirected">{body}</graph></graphml>'
PAIR = '<edge source="n0" target="n1"/>'


def test_labels_of_other_programs_are_read(tmp_path):
    path = tmp_path / "net.graphml"
    igraph = '<key id="v_name" for="node" attr.name="name"/>'
    nodes = "".join(
        f'<node id="{i}"><data key="v_name">{name}</data></node>'
        for i, name in (("n0", "Rome"), ("n1", "Oslo"))
    )
    path.write_text(GRAPH.format(keys=igraph, body=nodes + PAIR))
    assert load(path).labels == ("Rome", "Oslo")
    yed = '<key id="d6" for="node" yfiles.type="nodegraphics"/>'
    nodes = "".join(
        f'<node id="{i}"><data key="d6"><y:ShapeNode xmlns:y="y"><y:Fill color="#FFCC00"/>'
        f"<y:NodeLabel>{name}<y:LabelModel/></y:NodeLabel></y:ShapeNode></data></node>"
        for i, name in (("n0", "Rome"), ("n1", "Oslo"))
    )
    path.write_text(GRAPH.format(keys=yed, body=nodes + PAIR))
    assert load(path).labels == ("Rome", "Oslo")


def test_text_around_nested_elements_is_the_value(tmp_path):
    path = tmp_path / "net.graphml"
    key = '<key id="d" for="edge" attr.name="latency"/>'
    nodes = '<node id="n0"/><node id="n1"/>'
    edge = '<edge source="n0" target="n1"><data key="d">20<note>of 2024</note>ms</data></edge>'
    path.write_text(GRAPH.format(keys=key, body=nodes + edge))
    assert load(path).latency == {(0, 1): 0.02, (1, 0): 0.02}


def test_a_disconnected_graph_names_a_node(tmp_path):
    path = write(tmp_path, '<edge source="a" target="b"/>')
    with pytest.raises(TopologyError, match=r":8: .* disconnected: node 'c' has no edge; give it"):
        load(path)
    pairs = '<edge source="a" target="b"/><edge source="c" target="d"/>'
    with pytest.raises(TopologyError, match=r"no path leads from node 'a' to 'c'; add an edge"):
        load(write(tmp_path, pairs, nodes="abcd"))
    one_way = '<edge source="a" target="b"/><edge source="b" target="c"/>'
    with pytest.raises(TopologyError, match=r"directed, and no path leads from node 'b' to 'a'"):
        load(write(tmp_path, one_way, default="directed"))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (
            b'graph [\n node [ id 0 label "Narvik" ]\n]',
            "GML; networkx converts it: nx.write_graphml(nx.read_g",
        ),
        (
            b"\xef\xbb\xbfCreator gml\nVersion 1\ngraph\n[\n]",
            "GML; networkx converts it: nx.write_graphml(nx.read_g",
        ),
        (b"digraph net { a -> b }", "DOT"),
        (b'{"nodes": []}', "JSON"),
        (
            b"# edges\n0 1\n1 2\n",
            "a list of edges; networkx converts it: nx.write_graphml(nx.read_e",
        ),
        (b"*Vertices 3", "Pajek"),
        (b"\x89PNG\r\n", "something else"),
        (b'<?xml version="1.0"?><network/>', "SNDlib's XML; networkx writes GraphML: nx.wri"),
        (b"<gexf/>", "GEXF"),
        (b"<html/>", "a web page"),
        (b"#" + b"  \n# " * 3000, "something else"),
    ],
)
def test_other_formats_are_named_with_what_converts_them(tmp_path, content, named):
    path = tmp_path / "net.gml"
    path.write_bytes(content)
    with pytest.raises(TopologyError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:1: expected GraphML")
    assert f"got {named}" in str(caught.value)
    assert "nx.write_graphml" in str(caught.value)


def test_what_is_no_regular_file_is_refused_unread(tmp_path):
    os.mkfifo(tmp_path / "pipe.graphml")
    with pytest.raises(TopologyError, match="expected a regular file"):
        load(tmp_path / "pipe.graphml")
    with pytest.raises(TopologyError, match="Is a directory"):
        load(tmp_path)
    (tmp_path / "zero.graphml").symlink_to("/dev/zero")
    with pytest.raises(TopologyError, match="expected a regular file"):
        load(tmp_path / "zero.graphml")
