"""R9 over all pairs of acts and both clocks, with imports, lapses, parents, merges and undos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.consent import ConsentState, LawfulBasis
from domain.transitions import ACTS
from tests.domain.facts import record_id
from tests.domain.r9 import FOR_EVER, Joined, Said, is_open, members, shown_when_closed
from tests.domain.test_standing import JUDGED_BY_ACTS, judged, place, stand

STATES = tuple(state.value for state in ACTS)
NOW = 5
LAPSED = 4
TIMES = ((1, 2), (1, 1), (2, 1))
"""Of the act that is recorded first and the one recorded second: in order, at once, reversed."""

PLACES: tuple[tuple[tuple[int, int], list[Joined]], ...] = (
    ((1, 1), []),
    ((1, 2), []),
    ((1, 2), [Joined(1, 2, 5)]),
    ((1, 2), [Joined(1, 2, 15)]),
    ((1, 2), [Joined(1, 2, 25)]),
)
"""Where the two acts are made, and when the records are joined: never, before, between, after."""


def kinds() -> Iterator[tuple[str, bool, int, str]]:
    """Give every kind of act: its state, whether it is imported, until when, and on what."""
    for state, imported in product(STATES, (False, True)):
        for until in (FOR_EVER, LAPSED) if state in ("given", "renewed") else (FOR_EVER,):
            yield state, imported, until, "marketing"
        if state not in ("expired", "terminated", "requested"):
            yield state, imported, FOR_EVER, "contact"


def pairs() -> Iterator[tuple[list[Said], list[Joined]]]:
    """Give every history of two acts."""
    for first, second in product(kinds(), repeat=2):
        for times, ((one, other), edges) in product(TIMES, PLACES):
            yield [said(one, first, times[0], 10), said(other, second, times[1], 20)], edges


def said(record: int, kind: tuple[str, bool, int, str], time: int, revision: int) -> Said:
    state, imported, until, purpose = kind
    return Said(record, state, time, revision, imported=imported, until=until, purpose=purpose)


@pytest.mark.parametrize("basis", LawfulBasis)
def test_every_pair_of_acts(basis: LawfulBasis) -> None:
    opened = checked = 0
    for history in pairs():
        expected = is_open(basis, *history, at=NOW)
        assert judged(basis, history, now=NOW).is_open == expected, history
        opened += expected
        checked += 1
    assert checked == len([*kinds()]) ** 2 * 15
    assert opened == checked or 0 < opened < checked


def test_what_every_closed_pair_on_one_record_shows() -> None:
    shown = set()
    for acts, edges in pairs():
        if edges or acts[0].record != acts[1].record:
            continue
        found = judged(LawfulBasis.CONSENT, (acts, []), now=NOW)
        if not found.is_open:
            assert found.state.value == shown_when_closed(acts, at=NOW), acts
            shown.add(found.state)
    assert shown >= {*ConsentState} - {ConsentState.GIVEN, ConsentState.RENEWED}


@pytest.mark.parametrize("state", STATES)
def test_a_single_act(state: str) -> None:
    for imported in (False, True):
        one = [Said(1, state, 1, 1, imported=imported)]
        assert judged(LawfulBasis.CONSENT, (one, [])).is_open == (state in ("given", "renewed"))


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Said], list[Joined]]:
    """Draw acts on four records, merges that never close a circle, and undos of some."""
    acts: list[Said] = []
    edges: list[Joined] = []
    for revision in range(1, draw(st.integers(1, 10)) + 1):
        one, other = draw(st.lists(st.integers(1, 4), min_size=2, max_size=2, unique=True))
        live = [edge for edge in edges if edge.undone == FOR_EVER]
        match draw(st.sampled_from(["act", "act", "merge", "undo"])):
            case "act":
                kind = draw(st.sampled_from([*kinds()]))
                acts.append(said(one, kind, draw(st.integers(1, 6)), revision))
            case "merge" if other not in members(one, edges, at_revision=revision):
                edges.append(Joined(one, other, revision))
            case "undo" if live:
                gone = draw(st.sampled_from(live))
                edges.remove(gone)
                edges.append(Joined(gone.one, gone.other, gone.revision, undone=revision))
            case _:
                pass
    return acts, edges


def customers(edges: Sequence[Joined]) -> list[set[int]]:
    """Give the customers at the end."""
    return [members(record, edges, at_revision=99) for record in range(1, 5)]


@given(histories(), st.sampled_from(JUDGED_BY_ACTS), st.integers(0, 6))
@settings(max_examples=600, deadline=None)
def test_longer_histories_with_undos(
    history: tuple[list[Said], list[Joined]], basis: LawfulBasis, now: int
) -> None:
    acts, edges = history
    placed = place(acts, edges)
    for customer in customers(edges):
        own = {r: placed.get(r, []) for r in map(record_id, customer)}
        expected = is_open(basis, acts, edges, at=now, customer=customer)
        assert stand(basis, own, now=now).is_open == expected


@given(histories(), st.sampled_from(JUDGED_BY_ACTS), st.randoms())
@settings(max_examples=200, deadline=None)
def test_the_order_of_folding_does_not_matter(
    history: tuple[list[Said], list[Joined]], basis: LawfulBasis, shuffled: object
) -> None:
    placed = place(*history)
    mixed = {r: list(acts) for r, acts in reversed(placed.items())}
    for acts in mixed.values():
        shuffled.shuffle(acts)  # type: ignore[attr-defined] # a Random
    assert stand(basis, mixed, now=NOW) == stand(basis, placed, now=NOW)


@given(histories(), st.sampled_from(JUDGED_BY_ACTS))
@settings(max_examples=200, deadline=None)
def test_time_alone_never_opens(
    history: tuple[list[Said], list[Joined]], basis: LawfulBasis
) -> None:
    placed = place(*history)
    opened = [stand(basis, placed, now=now).is_open for now in range(8)]
    assert opened == sorted(opened, reverse=True)


def test_a_grant_is_open_before_and_closed_at_the_end_of_its_validity() -> None:
    one: tuple[list[Said], list[Joined]] = ([Said(1, "given", 1, 1, until=4)], [])
    assert judged(LawfulBasis.CONSENT, one, now=3).is_open
    lapsed = judged(LawfulBasis.CONSENT, one, now=4)
    assert (lapsed.is_open, lapsed.state) == (False, ConsentState.EXPIRED)


def test_a_grant_of_a_parent_opens_no_child_and_its_withdrawal_closes_all_below() -> None:
    above = Said(1, "given", 1, 1, purpose="contact")
    own = Said(1, "given", 1, 2)
    withdrawn = Said(1, "withdrawn", 2, 3, purpose="contact")
    assert not judged(LawfulBasis.CONSENT, ([above], [])).is_open
    assert judged(LawfulBasis.CONSENT, ([above, own], [])).is_open
    closed = judged(LawfulBasis.CONSENT, ([above, own, withdrawn], []))
    assert (closed.is_open, closed.state) == (False, ConsentState.WITHDRAWN)
