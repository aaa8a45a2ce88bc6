"""Secure sums: exact for every tolerated dropout, nothing below the threshold."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from secure_rounds import PHASES, Round, exact, vectors

from p2pfrl.core.types import KEYS, REVEAL, SHARES, UPDATE
from p2pfrl.exchange.secure import members as members_module
from p2pfrl.exchange.secure import sums as sums_module
from p2pfrl.exchange.secure.entries import pack, unpack
from p2pfrl.exchange.secure.errors import SecureError
from p2pfrl.exchange.secure.keys import common, derived, expanded, mask_of, public_of, simulated
from p2pfrl.exchange.secure.members import (
    DEAD,
    LIVES,
    AggregationMember,
    SharingMember,
    Unsigned,
    pairwise,
)
from p2pfrl.exchange.secure.ring import FixedPoint, ring_sum
from p2pfrl.exchange.secure.shamir import PRIME, ShareError, combine, split, threshold
from p2pfrl.exchange.secure.sums import AggregationSums, SharingSums


def draw(size):
    return np.random.default_rng(size).bytes(size)


# The ring


@given(
    st.lists(st.lists(st.floats(-40, 40), min_size=3, max_size=3), min_size=1, max_size=8),
    st.integers(0, 30),
)
def test_sums_in_the_ring_are_the_sums_of_clipped_vectors_to_half_a_unit_each(rows, bits):
    ring = FixedPoint(clip=16.0, bits=bits)
    total = ring.decode(ring_sum([ring.encode(np.array(row)) for row in rows]))
    expected = np.clip(np.array(rows), -16.0, 16.0).sum(axis=0)
    assert np.abs(total - expected).max() <= len(rows) * 2.0 ** -(bits + 1) + 1e-12


def test_as_many_vectors_as_the_ring_holds_do_not_overflow_and_one_more_does():
    ring = FixedPoint(clip=2.0**20, bits=40)
    full = ring.encode(np.array([-(2.0**20), 2.0**20]))
    n = ring.capacity()
    assert n == 7
    assert ring.decode(ring_sum([full] * n)).tolist() == [-n * 2.0**20, n * 2.0**20]
    assert ring.decode(ring_sum([full] * (n + 1)))[1] < 0


# Shamir's shares


@given(
    st.binary(min_size=32, max_size=32),
    st.lists(st.integers(1, 2**31), min_size=1, max_size=9, unique=True),
    st.data(),
)
def test_any_threshold_of_shares_gives_the_secret(secret, points, data):
    t = data.draw(st.integers(1, len(points)))
    shares = dict(zip(points, split(secret, points, t, draw), strict=True))
    kept = data.draw(st.lists(st.sampled_from(points), min_size=t, unique=True))
    assert combine({point: shares[point] for point in kept}, t) == secret
    with pytest.raises(ShareError, match="at least"):
        combine({point: shares[point] for point in kept[: t - 1]}, t)


def test_one_share_too_few_is_consistent_with_every_secret():
    shares = split(bytes(32), [1, 2, 3, 4], 3, draw)
    for other in (b"\1" + bytes(31), b"\xff" * 32):
        # The line through (0, other) and two shares has a value at 4: no share contradicts it.
        known = {0: int.from_bytes(other, "little")}
        known |= {p: int.from_bytes(shares[p - 1], "little") for p in (1, 2)}
        value = 0
        for own, y in known.items():
            weight = 1
            for q in known.keys() - {own}:
                weight = weight * (4 - q) * pow(own - q, -1, PRIME) % PRIME
            value = (value + weight * y) % PRIME
        fourth = value.to_bytes(33, "little")
        assert combine({1: shares[0], 2: shares[1], 4: fourth}, 3) == other


@pytest.mark.parametrize("bad", [b"", b"\1" * 32, b"\xff" * 33, "flipped"])
def test_a_changed_share_among_more_than_the_threshold_is_noticed(bad):
    shares = dict(zip(range(1, 6), split(b"s" * 32, range(1, 6), 3, draw), strict=True))
    one = shares[4]
    shares[4] = bytes([one[0] ^ 1]) + one[1:] if bad == "flipped" else bad
    with pytest.raises(ShareError):
        combine(shares, 3)


# Whole rounds


def outcome(n, gone):
    """Return who is in the sum, by the rules; None where it must be given up."""

    def left(phase):
        return [i for i in range(n) if i not in gone or PHASES.index(gone[i]) > phase]

    on_roster, went_on, living, told = (left(phase) for phase in range(4))
    t = threshold(len(on_roster))
    fits = len(on_roster) >= 3 and min(len(went_on), len(living)) >= max(3, t) and len(told) >= t
    return living if fits else None


def check(n, gone, seed=1):
    sums = Round(n, gone, seed=seed)
    inputs, expected = vectors(n), outcome(n, gone)
    if expected is None:
        with pytest.raises(SecureError, match="too_few"):
            sums.run(inputs)
        assert sums.sums.given_up == {"too_few": 1}
        return
    total, count = sums.run(inputs)
    assert total.tolist() == exact(inputs, expected)
    assert count == len(expected)


def some(n, most):
    for count in range(most + 1):
        for who in combinations(range(n), count):
            for phases in product(PHASES, repeat=count):
                yield dict(zip(who, phases, strict=True))


@pytest.mark.parametrize("count", [0, 1])
def test_sums_are_exact_for_every_dropout_of_four_agents(count):
    for gone in some(4, 1):
        if len(gone) == count:
            check(4, gone)


def test_of_four_agents_any_three_in_time_are_needed():
    for gone in ({0: UPDATE, 1: UPDATE}, {0: SHARES, 3: REVEAL}, {1: KEYS, 2: UPDATE}):
        check(4, gone)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_sums_are_exact_for_every_subset_of_dropouts(n):
    for gone in some(n, n if n < 6 else 3):
        check(n, gone)


@pytest.mark.slow
def test_sums_of_a_hundred_agents_are_exact_in_a_thousand_random_rounds():
    n, rng = 100, np.random.default_rng(3)
    sums, inputs = Round(n), vectors(n, 3)
    masked = sums.masked(sums.shares(sums.keys()), inputs)
    server = sums.sums.save()
    saved = {i: member.save() for i, member in sums.members.items()}
    given_up = 0
    for _ in range(1000):
        sums.sums.restore(server)
        for i, state in saved.items():
            sums.members[i].restore(state)
        dead, silent = (set(rng.choice(n, rng.integers(0, 19), replace=False)) for _ in "ab")
        living = [i for i in range(n) if i not in dead]
        answers = sums.answers(REVEAL, sums.sums.take({i: masked[i] for i in living}))
        told = {i: answer for i, answer in answers.items() if i not in silent}
        if len(told) < threshold(n):
            given_up += 1
            with pytest.raises(SecureError, match="too_few"):
                sums.sums.finish(told)
            continue
        total, _ = sums.sums.finish(told)
        assert total.tolist() == exact(inputs, living)
    assert 0 < given_up < 500


@pytest.mark.parametrize("gone", [{}, {1: KEYS}, {2: SHARES}])
def test_additive_shares_add_up_to_the_sum(gone):
    sums = Round(5, gone, member=SharingMember, server=SharingSums)
    inputs = vectors(5)
    total, count = sums.run(inputs)
    assert total.tolist() == exact(inputs, set(range(5)) - gone.keys())
    assert count == 5 - len(gone)


def test_additive_shares_give_no_sum_without_someone_who_gave_shares():
    sums = Round(5, {4: UPDATE}, member=SharingMember, server=SharingSums)
    with pytest.raises(SecureError, match="too_few"):
        sums.run(vectors(5))


def test_the_next_round_has_other_masks():
    first, inputs = Round(3), {i: np.zeros(500, np.uint64) for i in range(3)}
    first.run(inputs)
    second = Round(3, number=1, members=first.members)
    total, _ = second.run(inputs)
    assert not total.any()
    for i in range(3):
        before, after = first.seen[i], second.seen[i]
        bits = np.unpackbits(before.view(np.uint8) ^ after.view(np.uint8))
        assert bits.mean() == pytest.approx(0.5, abs=0.02)
        assert np.unpackbits(before.view(np.uint8)).mean() == pytest.approx(0.5, abs=0.02)


def test_masks_are_of_one_run_and_one_round():
    secret = common(b"a" * 32, public_of(b"b" * 32))
    seeds = {
        derived(secret, purpose, run, round, *ids)
        for purpose in ("mask", "channel")
        for run in ("a", "b")
        for round in (0, 1)
        for ids in ((1, 2), (2, 1))
    }
    assert len(seeds) == 16
    assert secret == common(b"b" * 32, public_of(b"a" * 32))


# What a coordinator may not do


def round_before_the_end(n=5):
    sums, inputs = Round(n), vectors(n)
    masked = sums.masked(sums.shares(sums.keys()), inputs)
    return sums, inputs, masked


def words(n, dead=()):
    return pack({i: DEAD if i in dead else LIVES for i in range(n)})


def test_an_agent_answers_every_phase_once():
    sums, inputs, _ = round_before_the_end()
    member = sums.members[0]
    for kind in (KEYS, SHARES):
        with pytest.raises(SecureError, match="repeated"):
            member.respond(kind, 0, b"")
    with pytest.raises(SecureError, match="given_up"):
        member.submit(0, inputs[0])
    assert member.respond(REVEAL, 0, words(5))
    with pytest.raises(SecureError, match="repeated"):
        member.respond(REVEAL, 0, words(5, dead=[1]))
    with pytest.raises(SecureError, match="repeated"):
        member.begin(0)


def test_messages_of_another_round_are_refused():
    sums, _, _ = round_before_the_end()
    with pytest.raises(SecureError, match="stale"):
        sums.members[0].respond(REVEAL, 1, words(5))
    sums.members[0].begin(2)
    with pytest.raises(SecureError, match="repeated"):
        sums.members[0].begin(1)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (words(5, dead=[0]), "not among the living"),
        (words(5, dead=[1, 2]), "too few for a sum"),
        (words(4), "on each agent that went on"),
        (words(6), "on each agent that went on"),
        (pack(dict.fromkeys(range(5), b"\2")), "on each agent that went on"),
        (words(5)[:-1], "ends early"),
        (pack({0: LIVES}) + words(5), "ascending"),
    ],
)
def test_a_list_of_the_living_that_reveals_too_much_is_refused(told, said):
    sums, _, _ = round_before_the_end()
    with pytest.raises(SecureError, match=said):
        sums.members[0].respond(REVEAL, 0, told)
    with pytest.raises(SecureError, match="repeated"):  # and nothing is revealed afterwards
        sums.members[0].respond(REVEAL, 0, words(5))


def test_living_and_dead_cannot_overlap():
    sums, _, _ = round_before_the_end()
    both = pack({1: LIVES}) + pack({1: DEAD})
    with pytest.raises(SecureError, match="ascending"):
        sums.members[0].respond(REVEAL, 0, pack({0: LIVES}) + both + pack({2: LIVES, 3: LIVES}))


def recovered(n=4):
    """Return whether a coordinator that calls a living agent dead learns its vector."""
    sums, inputs, masked = round_before_the_end(n)
    victim, others = n - 1, range(n - 1)
    told = words(n, dead=[victim])
    answers = {i: unpack(sums.members[i].respond(REVEAL, 0, told)) for i in others}
    key = combine({i + 1: answers[i][victim] for i in others}, threshold(n))
    guess = masked[victim].copy()
    for i in others:
        public = sums.sums._roster[i][32:64]
        seed, is_added = pairwise(common(key, public), "test", 0, victim, i)
        guess = guess - mask_of(seed, 5) if is_added else guess + mask_of(seed, 5)
    return guess.tolist() == inputs[victim].tolist()


def test_an_agent_that_is_called_dead_after_its_answer_stays_masked():
    assert not recovered()


def test_two_lists_never_reach_the_threshold_both():
    sums, _, _ = round_before_the_end(6)
    lists = [words(6), words(6, dead=[5])]
    asked = {i: lists[i % 2] for i in range(5)}
    answers = {i: unpack(sums.members[i].respond(REVEAL, 0, asked[i])) for i in asked}
    for kind in (0, 1):
        shares = {i + 1: answers[i][5] for i in answers if i % 2 == kind}
        with pytest.raises(ShareError, match="at least"):
            combine(shares, threshold(6))


def test_keys_that_were_replaced_on_their_way_are_noticed_by_their_agent():
    sums = Round(4)
    roster = unpack(sums.keys()[0])
    other = Round(4, seed=2)
    roster[0] = unpack(other.keys()[0])[0]
    with pytest.raises(SecureError, match="other keys of this agent"):
        sums.members[0].respond(KEYS, 0, pack(roster))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda roster: dict(list(roster.items())[:2]), "too_few"),
        (lambda roster: roster | {3: roster[3] + b"s"}, "bad_signature"),
        (lambda roster: roster | {3: roster[3][:95]}, "malformed"),
        (lambda roster: roster | {3: bytes(32) + roster[3][32:]}, "bad_key"),
    ],
)
def test_a_bad_roster_is_refused(change, said):
    sums = Round(4)
    roster = change(unpack(sums.keys()[0]))
    with pytest.raises(SecureError, match=said):
        sums.members[0].respond(KEYS, 0, pack(roster))


@pytest.mark.parametrize("kind", [AggregationMember, SharingMember])
def test_sealed_shares_that_are_changed_or_mixed_up_are_refused(kind):
    server = {AggregationMember: AggregationSums, SharingMember: SharingSums}[kind]
    for change in ("flip", "swap", "stranger", "few"):
        sums = Round(5, member=kind, server=server)
        delivered = unpack(sums.shares(sums.keys())[0])
        if change == "flip":
            delivered[1] = delivered[1][:-1] + bytes([delivered[1][-1] ^ 1])
        if change == "swap":
            delivered[1], delivered[2] = delivered[2], delivered[1]
        if change == "stranger":
            delivered[7] = delivered[1]
        if change == "few":
            delivered = {1: delivered[1], 2: delivered[2]}
        with pytest.raises(SecureError, match="too_few" if change == "few" else "tampered"):
            sums.members[0].respond(SHARES, 0, pack(delivered))


# What other agents may not do


@pytest.mark.parametrize("n", [4, 5])
def test_revealed_shares_that_were_changed_end_the_sum(n):
    """For 4 agents with one dead there is no share to spare: the commitment notices it."""
    gone = {3: UPDATE} if n == 4 else {}
    for agent in (1, 3):
        sums, inputs = Round(n, gone), vectors(n)
        masked = sums.masked(sums.shares(sums.keys()), inputs)
        answers = sums.answers(REVEAL, sums.sums.take(masked))
        entries = unpack(answers[0])
        share = bytearray(entries[agent])
        share[16] ^= 1
        entries[agent] = bytes(share)
        answers[0] = pack(entries)
        with pytest.raises(SecureError, match="tampered"):
            sums.sums.finish(answers)
        assert sums.sums.given_up == {"tampered": 1}


@pytest.mark.parametrize(
    "bad", [b"", b"\0" * 7, pack({0: b"x"}), pack({9: b"x" * 33}), b"\xff" * 80]
)
def test_messages_that_are_none_count_as_absences(bad):
    for phase in (KEYS, SHARES, REVEAL):
        sums, inputs = Round(4), vectors(4)
        sent = {i: sums.members[i].begin(0) for i in range(4)}
        sent |= {3: bad} if phase == KEYS else {}
        sent = sums.answers(KEYS, sums.sums.relay(KEYS, 0, sent))
        sent |= {3: bad} if phase == SHARES else {}
        delivered = sums.sums.relay(SHARES, 0, sent)
        asked = sums.sums.take(sums.masked(delivered, inputs))
        answers = sums.answers(REVEAL, asked) | ({3: bad} if phase == REVEAL else {})
        total, count = sums.sums.finish(answers)
        assert count == (4 if phase == REVEAL else 3)
        assert total.tolist() == exact(inputs, range(count))
        assert sums.sums.refused == {"malformed": 1}


def test_vectors_of_another_length_end_the_sum():
    sums, inputs = Round(4), vectors(4)
    inputs[2] = inputs[2][:3]
    with pytest.raises(SecureError, match="malformed"):
        sums.run(inputs)


def test_a_member_that_comes_back_in_another_life_has_done_with_its_round():
    sums, _, _ = round_before_the_end()

    def again(incarnation):
        return AggregationMember(
            0,
            run="test",
            source=simulated(1, 0, incarnation),
            signer=Unsigned(),
            minimum=3,
            incarnation=incarnation,
        )

    same, other = again(0), again(1)
    same.restore(sums.members[0].save())
    other.restore(sums.members[0].save())
    assert same.respond(REVEAL, 0, words(5))
    with pytest.raises(SecureError, match="repeated"):
        other.respond(REVEAL, 0, words(5))
    with pytest.raises(SecureError, match="repeated"):
        other.begin(0)
    assert other.begin(1) != same.begin(1)


def test_random_bytes_follow_from_their_secret_round_and_use():
    source = expanded(b"secret")
    assert source(1, "a", 32) == source(1, "a", 32)
    assert len({source(1, "a", 32), source(2, "a", 32), source(1, "b", 32)}) == 3
    assert expanded(b"other")(1, "a", 32) != source(1, "a", 32)


# Planted bugs


def seeds_are_whole():
    """Return whether every byte of the masks' seeds varies."""
    sums, _, _ = round_before_the_end(5)
    masks = [[seed for seed, _ in sums.members[i]._masks()] for i in range(5)]
    own, pairs = [seeds[0] for seeds in masks], [seed for seeds in masks for seed in seeds[1:]]
    return all(len({s[place] for s in seeds}) > 1 for seeds in (own, pairs) for place in range(32))


def is_exact(gone=None):
    inputs = vectors(4)
    total, _ = Round(4, gone).run(inputs) if gone else Round(4).run(inputs)
    return total.tolist() == exact(inputs, set(range(4)) - (gone or {}).keys())


def test_without_bugs_all_checks_pass():
    assert seeds_are_whole()
    assert is_exact()
    assert is_exact({1: UPDATE})


def test_no_self_mask_is_caught(monkeypatch):
    whole = AggregationMember._masks
    monkeypatch.setattr(AggregationMember, "_masks", lambda self: whole(self)[1:])
    assert recovered()


def test_a_seed_of_32_bits_is_caught(monkeypatch):
    def short(*arguments):
        return derived(*arguments)[:4] + bytes(28)

    monkeypatch.setattr(members_module, "derived", short)
    assert is_exact()  # nobody would notice otherwise
    assert not seeds_are_whole()


def test_a_float_mask_is_caught(monkeypatch):
    def loose(seed, size):
        return (mask_of(seed, size).astype(np.float64) / 3.0).astype(np.uint64)

    def tripled(seed, size):
        return (loose(seed, size).astype(np.float64) * 3.0).astype(np.uint64)

    monkeypatch.setattr(members_module, "mask_of", tripled)
    assert not is_exact()


@pytest.mark.parametrize("gone", [None, {1: UPDATE}])
def test_ids_in_the_wrong_order_are_caught(monkeypatch, gone):
    def wrong(secret, run, round, me, other):
        return derived(secret, "mask", run, round, me, other), me < other

    monkeypatch.setattr(members_module, "pairwise", wrong)
    monkeypatch.setattr(sums_module, "pairwise", wrong)
    assert not is_exact(gone)
