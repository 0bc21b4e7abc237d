"""The fold of a record is total and deterministic, whatever a stream may hold."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.consent import LawfulBasis
from domain.consent_events import (
    CONSENT_EVENTS,
    ChoiceMade,
    ChoicesRecorded,
    ConsentChanged,
    VerdictRecorded,
)
from domain.event import Event, Recorded
from domain.gate import gate_of
from domain.identity import Edge, PastHolder
from domain.identity_events import (
    CustomersMerged,
    CustomerTouched,
    IdentifierClaimed,
    IdentifiersLinked,
    IdentifiersTakenOver,
    IdentifiersUnlinked,
)
from domain.ids import MergeId, made_at_milliseconds, record_stream
from domain.preference_events import HouseholdLinked, HouseholdUnlinked, Preference, PreferencesSet
from domain.record import MESSAGES_REMEMBERED_MAX, evolve, fold, unborn
from domain.rules import Rules, evolve_rules
from domain.signal_events import SignalsDeclined, SignalsRecorded, TraitsSet
from domain.signals import Signal
from domain.workspace_events import ClockAdvanced, NoticePublished, PurposeDefined, SourceRegistered
from tests.domain.asking import signal
from tests.domain.facts import at, command_id, email, record_id, recorded, user

RECORDS = st.integers(1, 4).map(record_id)
COMMANDS = st.integers(1, 6).map(command_id)
NAMES = st.sampled_from(["shop", "web", "marketing", "analytics"])
TIMES = st.integers(-100, 100).map(at)
MESSAGES = st.sampled_from(["m1", "m2", "m3"])
INTEGERS = st.integers(-(2**63), 2**64 - 1)  # the log refuses others
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)
MAPS = st.dictionaries(st.text(max_size=3), JSON, max_size=3)
IDENTIFIERS = st.builds(lambda make, value: make(value), st.sampled_from([user, email]), NAMES)
EDGES = st.builds(Edge, merge_id=COMMANDS.map(MergeId), older=RECORDS, newer=RECORDS)
SIGNALS = st.builds(
    Signal, message_id=MESSAGES, name=NAMES, happened_at=TIMES, properties=MAPS, context=MAPS
)


def tuples(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=3).map(tuple)


def consents(event: type[ConsentChanged]) -> st.SearchStrategy[ConsentChanged]:
    return st.builds(
        event,
        act_id=COMMANDS,
        purpose=NAMES,
        evidence=MAPS,
        valid_until=st.none() | TIMES,
        is_imported=st.booleans(),
        is_day_precise=st.booleans(),
        source=st.none() | NAMES,
    )


KEYS = tuples(IDENTIFIERS.map(lambda item: item.key))
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(IdentifiersLinked, source=NAMES, keys=KEYS, identifiers=tuples(IDENTIFIERS)),
    st.builds(IdentifiersUnlinked, keys=KEYS),
    st.builds(
        IdentifiersTakenOver,
        holders=tuples(
            st.builds(
                PastHolder,
                key=IDENTIFIERS.map(lambda item: item.key),
                record_id=RECORDS,
                until=COMMANDS.map(made_at_milliseconds),
            )
        ),
    ),
    st.builds(
        TraitsSet,
        source=NAMES,
        traits=MAPS,
        message_id=st.none() | MESSAGES,
        expires_at=st.none() | TIMES,
    ),
    st.builds(SignalsRecorded, source=NAMES, signals=tuples(SIGNALS)),
    st.builds(SignalsDeclined, source=NAMES, reason=NAMES, message_ids=tuples(MESSAGES)),
    st.builds(
        CustomersMerged,
        root=RECORDS,
        edges=tuples(EDGES),
        evidence=KEYS,
        component=tuples(RECORDS),
        live_edges=tuples(EDGES),
    ),
    st.builds(CustomerTouched, record_id=RECORDS),
    *(consents(event) for event in CONSENT_EVENTS.values()),
    st.builds(
        ChoicesRecorded,
        source=NAMES,
        acts=tuples(
            st.builds(
                ChoiceMade,
                act_id=COMMANDS,
                purpose=NAMES,
                state=st.sampled_from(["given", "refused", "withdrawn"]),
                happened_at=TIMES,
            )
        ),
        is_day_precise=st.booleans(),
        evidence=MAPS,
    ),
    st.builds(
        VerdictRecorded,
        purpose=NAMES,
        is_open=st.booleans(),
        shown_state=st.sampled_from([*CONSENT_EVENTS]),
        act_event_id=st.none(),
        notice_version=st.none(),
        rules_version=st.integers(0, 9),
    ),
    st.builds(IdentifierClaimed, record_id=RECORDS),
    st.builds(
        PurposeDefined,
        purpose=NAMES,
        basis=st.sampled_from(LawfulBasis),
        parent=st.none() | NAMES,
    ),
    st.builds(
        NoticePublished, purpose=NAMES, version=NAMES, language=NAMES, text=NAMES, digest=NAMES
    ),
    st.builds(HouseholdLinked, household_id=COMMANDS, source=NAMES),
    st.builds(HouseholdUnlinked, household_id=COMMANDS),
    st.builds(
        PreferencesSet, preferences=tuples(st.builds(Preference, channel=NAMES, frequency=NAMES))
    ),
    st.builds(SourceRegistered, source=NAMES, purposes=tuples(NAMES)),
    st.builds(ClockAdvanced, to=TIMES),
)


@st.composite
def streams(draw: st.DrawFn) -> list[Recorded[Event]]:
    """Draw any events on one stream, in any order of times."""
    bodies = draw(st.lists(EVENTS, max_size=12))
    return [
        recorded(
            record_stream(record_id(1)),
            body,
            revision=revision,
            happened_at=draw(TIMES),
            recorded_at=draw(TIMES),
            command_id=draw(COMMANDS),
        )
        for revision, body in enumerate(bodies, start=1)
    ]


@given(streams())
@settings(max_examples=250, deadline=None)
def test_any_sequence_of_events_folds(events: list[Recorded[Event]]) -> None:
    record = fold(unborn(record_id(1)), events)
    assert record.id == record_id(1)
    assert fold(unborn(record_id(1)), events) == record
    assert str(record) == f"Record<{record_id(1)}>"


@given(streams())
@settings(max_examples=80, deadline=None)
def test_any_sequence_of_events_folds_into_rules(events: list[Recorded[Event]]) -> None:
    rules = Rules()
    for event in events:
        rules = evolve_rules(rules, event)
        assert rules.version == event.version


@given(streams(), st.integers(0, 12))
@settings(max_examples=80, deadline=None)
def test_a_fold_can_be_broken_off_and_gone_on_with(
    events: list[Recorded[Event]], place: int
) -> None:
    whole = fold(unborn(record_id(1)), events)
    assert fold(fold(unborn(record_id(1)), events[:place]), events[place:]) == whole


@given(streams())
@settings(max_examples=150, deadline=None)
def test_a_fold_is_the_same_as_one_step_after_another(events: list[Recorded[Event]]) -> None:
    stepwise = unborn(record_id(1))
    for event in events:
        stepwise = evolve(stepwise, event)
    whole = fold(unborn(record_id(1)), events)
    assert whole == stepwise
    for name in ("traits", "messages", "commands"):
        assert list(getattr(whole, name)) == list(getattr(stepwise, name))
        assert type(getattr(whole, name)) is dict
    assert type(whole.acts) is tuple


def test_a_fold_forgets_what_steps_forget() -> None:
    batch = 30
    events = [
        recorded(
            record_stream(record_id(1)),
            SignalsRecorded(
                source="shop",
                signals=tuple(signal(f"m{number}-{place}") for place in range(batch)),
            )
            if number % 10
            else TraitsSet(source="shop", traits={f"k{number % 7}": number}),
            revision=number,
            recorded_at=at(number),
            command_id=command_id(number),
        )
        for number in range(1, 2 * MESSAGES_REMEMBERED_MAX // batch)
    ]
    stepwise = unborn(record_id(1))
    for event in events:
        stepwise = evolve(stepwise, event)
    whole = fold(unborn(record_id(1)), events)
    assert whole == stepwise
    assert list(whole.messages) == list(stepwise.messages)
    assert len(whole.messages) == MESSAGES_REMEMBERED_MAX


@given(streams(), EVENTS)
@settings(max_examples=80, deadline=None)
def test_state_that_was_handed_out_never_changes(
    events: list[Recorded[Event]], more: Event
) -> None:
    record = fold(unborn(record_id(1)), events)
    before = repr(record)
    evolve(record, recorded(record_stream(record.id), more, revision=99))
    assert repr(record) == before


@given(streams())
@settings(max_examples=80, deadline=None)
def test_whatever_was_folded_can_be_judged(events: list[Recorded[Event]]) -> None:
    record = fold(unborn(record_id(1)), events)
    rules = Rules()
    for event in events:
        rules = evolve_rules(rules, event)
    for purpose in rules.purposes.values():
        gate = gate_of(rules, {record.id: record}, at=at(0))
        assert gate.standing(purpose).is_open in (True, False)
