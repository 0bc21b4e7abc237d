"""Open or closed (R9): every table of up to three acts against the slow oracle, and properties."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.consent import ConsentAct, ConsentState, LawfulBasis, Standing, standing
from domain.consent_events import CONSENT_EVENTS
from domain.ids import EventId, RecordId, record_stream
from domain.record import evolve, unborn
from tests.domain.facts import at, command_id, record_id, recorded
from tests.domain.r9 import FOR_EVER, Joined, Said, is_open, members

STATES = ("given", "refused", "withdrawn")
JUDGED_BY_ACTS = (LawfulBasis.CONSENT, LawfulBasis.LEGITIMATE_INTEREST)
ALWAYS_OPEN = (LawfulBasis.CONTRACT, LawfulBasis.LEGAL_OBLIGATION)

History = tuple[Sequence[Said], Sequence[Joined]]


def place(acts: Sequence[Said], edges: Sequence[Joined]) -> dict[RecordId, list[ConsentAct]]:
    """Put each act on every record that was a member then, as decisions do (R7)."""
    records = {act.record for act in acts} | {r for e in edges for r in (e.one, e.other)}
    placed: dict[RecordId, list[ConsentAct]] = {record_id(r): [] for r in sorted(records)}
    for act in acts:
        copies = sorted(members(act.record, edges, at_revision=act.revision))
        for part, record in enumerate(copies):
            placed[record_id(record)].append(copy_of(act, part))
    return placed


def copy_of(act: Said, part: int) -> ConsentAct:
    return ConsentAct(
        act_id=command_id(act.revision),
        purpose=act.purpose,
        state=ConsentState(act.state),
        effective_at=at(act.time),
        revision=act.revision * 100 + part,
        event_id=EventId(f"{act.revision}-{part}"),
        notice_version=None,
        valid_until=None if act.until == FOR_EVER else at(act.until),
        is_imported=act.imported,
    )


def judged(basis: LawfulBasis, history: History, *, now: int = 0) -> Standing:
    return stand(basis, place(*history), now=now)


def stand(
    basis: LawfulBasis, placed: Mapping[RecordId, Sequence[ConsentAct]], *, now: int = 0
) -> Standing:
    return standing("marketing", basis, placed, at=at(now), ancestors=("contact",))


def histories(acts: int) -> Iterator[History]:
    """Give every history of so many acts: states, event times, one or two records, and the join.

    Acts are in the order of their revisions (10, 20, …), so that event times in every order, with
    ties, cover both clocks. The join, if any, comes before, between or after them.
    """
    joins: list[list[Joined]] = [[]]
    joins += [[Joined(1, 2, place * 10 + 5)] for place in range(acts + 1)]
    for states in product(STATES, repeat=acts):
        for times in product(range(1, acts + 1), repeat=acts):
            for records in product((1, 2), repeat=acts):
                said = [
                    Said(record, state, time, place * 10)
                    for place, (record, state, time) in enumerate(
                        zip(records, states, times, strict=True), start=1
                    )
                ]
                for edges in joins:
                    yield said, edges


@pytest.mark.parametrize("basis", LawfulBasis)
@pytest.mark.parametrize("acts", [0, 1, 2])
def test_every_table_of_up_to_two_acts(basis: LawfulBasis, acts: int) -> None:
    for history in histories(acts):
        assert judged(basis, history).is_open == is_open(basis, *history), history


@pytest.mark.parametrize("basis", JUDGED_BY_ACTS)
def test_every_table_of_three_acts(basis: LawfulBasis) -> None:
    checked = 0
    for history in histories(3):
        assert judged(basis, history).is_open == is_open(basis, *history), history
        checked += 1
    assert checked == 3**3 * 3**3 * 2**3 * 5


@st.composite
def long_histories(draw: st.DrawFn) -> History:
    """Draw acts on four records, and merges that never close a circle."""
    acts: list[Said] = []
    edges: list[Joined] = []
    for revision in range(1, draw(st.integers(1, 9)) + 1):
        one, other = draw(st.lists(st.integers(1, 4), min_size=2, max_size=2, unique=True))
        if draw(st.booleans()):
            acts.append(Said(one, draw(st.sampled_from(STATES)), draw(st.integers(1, 6)), revision))
        elif other not in members(one, edges, at_revision=revision):
            edges.append(Joined(one, other, revision))
    return acts, edges


@given(long_histories(), st.sampled_from(LawfulBasis))
@settings(max_examples=600, deadline=None)
def test_longer_histories_of_four_records(history: History, basis: LawfulBasis) -> None:
    assert judged(basis, history).is_open == is_open(basis, *history)


@given(long_histories(), st.sampled_from(JUDGED_BY_ACTS), st.randoms())
@settings(max_examples=200, deadline=None)
def test_the_order_in_which_acts_are_folded_does_not_matter(
    history: History, basis: LawfulBasis, shuffled: object
) -> None:
    placed = place(*history)
    expected = stand(basis, placed)
    mixed = {r: list(acts) for r, acts in reversed(placed.items())}
    for acts in mixed.values():
        shuffled.shuffle(acts)  # type: ignore[attr-defined] # a Random
    assert stand(basis, mixed) == expected


def test_three_acts_in_every_order_say_the_same() -> None:
    for history in histories(3):
        ((record, acts),) = [*place(*history).items()][:1]
        if len(acts) == 3:
            found = {
                stand(LawfulBasis.CONSENT, {record: list(order)}) for order in permutations(acts)
            }
            assert len(found) == 1


@given(long_histories(), st.sampled_from(LawfulBasis), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_a_closing_act_never_opens(history: History, basis: LawfulBasis, time: int) -> None:
    acts, edges = history
    more = [*acts, Said(1, "withdrawn", time, 99)]
    if not judged(basis, history).is_open:
        assert not judged(basis, (more, edges)).is_open


@given(long_histories(), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_a_merge_opens_nothing_that_either_side_had_closed(
    history: History, one: int, other: int
) -> None:
    acts, edges = history
    if other in members(one, edges, at_revision=99):
        return
    joined = place(acts, [*edges, Joined(one, other, 99)])
    both = members(one, edges, at_revision=99) | members(other, edges, at_revision=99)
    whole = {r: joined.get(r, []) for r in map(record_id, both)}
    for side in (one, other):
        own = {r: joined.get(r, []) for r in map(record_id, members(side, edges, at_revision=99))}
        for basis in JUDGED_BY_ACTS:
            if stand(basis, own).act is None:
                continue  # Nobody closed it there: it is open, or nothing was ever said.
            if not stand(basis, own).is_open:
                assert not stand(basis, whole).is_open


def shown(*acts: Said) -> ConsentState:
    return judged(LawfulBasis.CONSENT, (acts, [])).state


def test_what_a_closed_purpose_shows() -> None:
    assert shown() is ConsentState.UNKNOWN
    assert shown(Said(1, "refused", 1, 1)) is ConsentState.REFUSED
    withdrawn, refused = Said(1, "withdrawn", 1, 1), Said(1, "refused", 2, 2)
    assert shown(withdrawn, refused) is ConsentState.WITHDRAWN
    assert shown(withdrawn, Said(1, "given", 2, 2), Said(1, "refused", 3, 3)) is (
        ConsentState.REFUSED
    )


def test_what_an_open_purpose_shows() -> None:
    first, second = Said(1, "given", 1, 1), Said(1, "given", 2, 2)
    judgement = judged(LawfulBasis.CONSENT, ([second, first], []))
    assert judgement.state is ConsentState.GIVEN
    assert judgement.act == copy_of(second, 0)
    silent = judged(LawfulBasis.LEGITIMATE_INTEREST, ([], []))
    assert (silent.is_open, silent.state, silent.act) == (True, ConsentState.UNKNOWN, None)


@pytest.mark.parametrize("basis", ALWAYS_OPEN)
def test_contract_and_legal_obligation_are_open_whatever_was_said(basis: LawfulBasis) -> None:
    judgement = judged(basis, ([Said(1, "withdrawn", 1, 1)], []))
    assert (judgement.is_open, judgement.state) == (True, ConsentState.WITHDRAWN)


@pytest.mark.parametrize("basis", [*ALWAYS_OPEN, LawfulBasis.LEGITIMATE_INTEREST])
def test_an_agreement_that_ran_out_is_not_shown_of_what_needs_none(basis: LawfulBasis) -> None:
    said: History = ([Said(1, "given", 1, 1, until=5)], [])
    assert judged(basis, said, now=4).state is ConsentState.GIVEN
    ended = judged(basis, said, now=5)
    assert (ended.is_open, ended.state) == (True, ConsentState.UNKNOWN)


def test_an_act_on_another_purpose_says_nothing() -> None:
    placed = place([Said(1, "given", 1, 1)], [])
    assert not standing("service", LawfulBasis.CONSENT, placed, at=at(0)).is_open


def folded(*acts: tuple[str, int, int]) -> bool:
    """Fold acts given as state, when it is said to have happened, and when it was recorded."""
    record = unborn(record_id(1))
    for revision, (state, happened, known) in enumerate(acts, start=1):
        body = CONSENT_EVENTS[ConsentState(state)](act_id=command_id(revision), purpose="marketing")
        event = recorded(
            record_stream(record.id),
            body,
            revision=revision,
            happened_at=at(happened),
            recorded_at=at(known),
        )
        record = evolve(record, event)
    return stand(LawfulBasis.CONSENT, {record.id: record.acts}).is_open


def test_a_time_in_the_future_counts_as_of_when_it_was_recorded() -> None:
    assert folded(("withdrawn", 900, 5), ("given", 6, 7))
    assert not folded(("withdrawn", 900, 5), ("given", 5, 7))
    assert not folded(("given", 900, 3), ("withdrawn", 5, 6))
    assert not folded(("withdrawn", 5, 6), ("given", 4, 7))


def test_what_is_open_says_exactly_until_when_if_nothing_else_happens() -> None:
    kinds = [(state, until) for state in STATES for until in (FOR_EVER, 10, 20)]
    for basis, kind, other in product(LawfulBasis, kinds, kinds):
        made = enumerate((kind, other), start=1)
        acts = [Said(1, state, n, n, until=until) for n, (state, until) in made]
        found = judged(basis, (acts, ()), now=5)
        told = found.valid_until
        ends = [n for n in range(6, 30) if not judged(basis, (acts, ()), now=n).is_open]
        assert told == (at(ends[0]) if found.is_open and ends else None), (basis, acts)
