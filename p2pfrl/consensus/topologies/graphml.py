"""Reader of GraphML files: nodes, edges and their data, with line numbers for errors.

Files may come from anywhere, so a document type or an entity is refused before it is expanded, and
the size is limited.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from p2pfrl.core.errors import TopologyError
from p2pfrl.core.files import OversizeError, read_regular
from p2pfrl.core.text import MARK

MAX_BYTES = 1 << 20


@dataclass
class Element:
    """A node or an edge of a file.

    Attributes:
        line: its first line.
        attributes: attributes of the tag: id, or source, target and directed.
        data: data by attribute name in lower case.
        shown: the text that yEd draws at a node, which is nested in its data; "" if there is none.
    """

    line: int
    attributes: Mapping[str, str]
    data: dict[str, str] = field(default_factory=dict)
    shown: str = ""


@dataclass
class Document:
    """The content of a GraphML file.

    Attributes:
        path: path of the file, for messages.
        directed: whether edges are directed by default.
        nodes: nodes in the order of the file.
        edges: edges in the order of the file.
    """

    path: Path
    directed: bool = False
    nodes: list[Element] = field(default_factory=list)
    edges: list[Element] = field(default_factory=list)

    def refuse(self, line: int, problem: str) -> NoReturn:
        """Raise `TopologyError` with the place in the file."""
        raise TopologyError(f"{self.path}:{line}: {problem}")


def read(path: Path) -> Document:
    """Return the content of the GraphML file at `path`.

    Raises:
        TopologyError: it is too large, is not XML, has a document type or is not one plain graph.

    Reference: Brandes, Eiglsperger, Herman, Himsolt, Marshall, GraphML progress report, Graph
        Drawing 2001.
    """
    try:
        content = read_regular(path, MAX_BYTES)
    except OversizeError as error:
        raise TopologyError(
            f"{path}: larger than {MAX_BYTES >> 20} MiB, the limit for a graph file"
        ) from error
    except OSError as error:
        raise TopologyError(f"{path}: cannot be read: {error.strerror}") from error
    document = Document(path)
    _refuse_other_formats(document, content)
    reader = _Reader(document)
    try:
        reader.parser.Parse(content, True)
    except expat.ExpatError as error:
        document.refuse(error.lineno, f"not well-formed XML: {expat.ErrorString(error.code)}")
    except (LookupError, ValueError) as error:
        document.refuse(1, f"an encoding that cannot be read ({error}): save the file as UTF-8")
    if reader.root != "graphml":
        known = _ROOTS.get(reader.root, (f"the outermost element is <{reader.root}>", ""))
        document.refuse(1, f"expected GraphML, with <graphml> outermost; got {_named(*known)}")
    return document


_ROOTS = {
    "gexf": ("GEXF", "read_gexf('net.gexf')"),
    "network": ("SNDlib's XML", ""),
    "svg": ("a picture", ""),
    "html": ("a web page", ""),
}
"""Outermost element -> the format that it belongs to, and what of networkx reads it."""
_FORMATS = (
    (rb"graph\s*\[", ("GML", "read_gml('net.gml')")),
    (rb"(strict\s)?\s*(di)?graph\b", ("DOT", "nx_pydot.read_dot('net.dot')")),
    (rb"\*(vertices|network)", ("Pajek", "Graph(nx.read_pajek('net.net'))")),
    (rb"[\[{]", ("JSON", "node_link_graph(json.load(open('net.json')))")),
    (rb"[\w.-]+[ \t,;]+[\w.-]+", ("a list of edges", "read_edgelist('net.txt')")),
)
"""Start of a file that is no XML -> its format, and what of networkx reads it."""


def _named(format: str, reader: str) -> str:
    """Return a format and what converts it to GraphML."""
    if not reader:
        return f"{format}; networkx writes GraphML: nx.write_graphml(graph, 'net.graphml')"
    return f"{format}; networkx converts it: nx.write_graphml(nx.{reader}, 'net.graphml')"


_PREAMBLE = (b"#", b"//", b"Creator", b"Version", b"comment")


def _refuse_other_formats(document: Document, content: bytes) -> None:
    """Refuse a file that is not XML, with the name of its format where that is known."""
    text = content.removeprefix(MARK).lstrip()
    if text.startswith((b"<", b"\xff\xfe", b"\xfe\xff", b"\0")):
        return
    lines = [line.strip() for line in text[:10_000].splitlines()]
    start = b"\n".join(line for line in lines if not line.startswith(_PREAMBLE)).lstrip()
    if not text:
        document.refuse(1, "the file is empty; expected GraphML")
    known = next(
        (format for form, format in _FORMATS if re.match(form, start, re.IGNORECASE)),
        ("something else", ""),
    )
    document.refuse(1, f"expected GraphML, which is XML; got {_named(*known)}")


class _Reader:
    """Converts the events of expat to a document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.root = ""
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self._path: list[str] = []
        self._names: dict[str, str] = {}
        self._defaults: dict[tuple[str, str], str] = {}
        self._key = ("", "")
        self._texts: list[list[str]] = []

    def _doctype(self, *_: object) -> None:
        self._refuse(
            "a document type is refused (it can define entities that grow without bound): remove <!DOCTYPE ...>"
        )

    def _refuse(self, problem: str) -> NoReturn:
        self.document.refuse(self.parser.CurrentLineNumber, problem)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        self.root = self.root or tag
        parent = self._path[-1] if self._path else ""
        self._path.append(tag)
        self._texts.append([])
        if tag == "graph":
            if "graph" in self._path[:-1] or self.document.nodes:
                self._refuse("a second or nested graph: a topology is one plain graph")
            self.document.directed = attributes.get("edgedefault") == "directed"
        elif tag == "hyperedge":
            self._refuse("a hyperedge: an edge joins two nodes")
        elif tag == "key":
            self._key = (attributes.get("for", "all"), attributes.get("id", ""))
            self._names[self._key[1]] = attributes.get("attr.name", self._key[1]).lower()
        elif tag in ("node", "edge"):
            elements = self.document.nodes if tag == "node" else self.document.edges
            defaults = {
                name: value
                for (kind, name), value in self._defaults.items()
                if kind in (tag, "all")
            }
            elements.append(Element(self.parser.CurrentLineNumber, attributes, defaults))
        elif tag == "data" and parent in ("node", "edge"):
            self._key = (parent, attributes.get("key", ""))
            if self._key[1] not in self._names:
                self._refuse(f"data with the key {self._key[1]!r}, which no <key> element declares")

    def _text(self, text: str) -> None:
        if self._texts:
            self._texts[-1].append(text)

    def _end(self, tag: str) -> None:
        tag = self._path.pop()
        parent = self._path[-1] if self._path else ""
        value = "".join(self._texts.pop()).strip()
        if tag == "default" and parent == "key":
            self._defaults[self._key[0], self._names[self._key[1]]] = value
        elif tag == "data" and parent in ("node", "edge"):
            elements = self.document.nodes if parent == "node" else self.document.edges
            elements[-1].data[self._names[self._key[1]]] = value
        elif tag == "NodeLabel" and "node" in self._path:
            node = self.document.nodes[-1]
            node.shown = node.shown or value
