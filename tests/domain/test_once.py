"""Once and only once: repeated commands, repeated messages, and what memory holds of them."""

from __future__ import annotations

from datetime import timedelta

from domain.ids import record_stream
from domain.record import COMMANDS_REMEMBERED_MAX, MESSAGES_REMEMBERED_MAX
from domain.signal_events import SignalsRecorded, TraitsSet
from domain.signals import signal_key
from tests.domain.scenario import (
    LATE,
    act,
    at,
    command_id,
    email,
    given,
    identify,
    linked,
    on,
    record_id,
    recorded,
    set_traits,
    signal,
    signals,
    user,
)

A, B, C = user("a"), email("b"), user("c")
KNOWN = given(on(1, linked(A)))


def results(decision: object) -> list[tuple[str, str]]:
    return [(r.message_id, r.result) for r in decision.signals]  # type: ignore[attr-defined] # a Decision


def test_a_message_twice_in_one_command_counts_once() -> None:
    body = SignalsRecorded(source="shop", signals=(signal("m1"), signal("m2")))
    decision = KNOWN.when(signals(2, A, messages=["m1", "m2", "m1"])).then(on(1, body))
    assert results(decision) == [("m1", "recorded"), ("m2", "recorded"), ("m1", "duplicate")]


def test_a_message_declined_twice_in_one_command_is_declined_twice() -> None:
    decision = KNOWN.when(signals(2, A, source="ads", messages=["m1", "m1"])).decision
    assert decision is not None
    assert results(decision) == [("m1", "declined"), ("m1", "declined")]
    assert decision.changes[0].body.model_dump()["message_ids"] == ("m1",)


def test_a_message_in_two_commands_counts_once() -> None:
    once = KNOWN.after(signals(2, A, messages=["m1"]))
    assert results(once.when(signals(3, A, messages=["m1"])).then_nothing()) == [
        ("m1", "duplicate")
    ]
    body = SignalsRecorded(source="shop", signals=(signal("m2"),))
    mixed = once.when(signals(4, A, messages=["m1", "m2"])).then(on(1, body))
    assert results(mixed) == [("m1", "duplicate"), ("m2", "recorded")]


def test_a_repeated_message_links_nothing() -> None:
    KNOWN.after(signals(2, A, messages=["m1"])).when(signals(3, A, B)).then_nothing()


def test_a_message_that_another_record_of_the_customer_has_counts_once() -> None:
    two = given(on(1, linked(A)), on(2, linked(C)))
    sent = two.after(signals(3, A, messages=["m1"])).after(signals(4, C, messages=["m2"]))
    joined = sent.after(identify(5, A, C))
    for number, item in enumerate((A, C), start=6):
        again = joined.when(signals(number, item, messages=["m1", "m2"])).then_nothing()
        assert results(again) == [("m1", "duplicate"), ("m2", "duplicate")]


def test_the_same_message_id_from_another_source_is_another_message() -> None:
    once = KNOWN.after(signals(2, A, messages=["m1"]))
    body = SignalsRecorded(source="web", signals=(signal("m1"),))
    once.when(signals(3, A, source="web", messages=["m1"])).then(on(1, body))
    assert signal_key("a", "b") != signal_key("ab", "")


def test_a_declined_message_stays_declined_after_consent() -> None:
    refused = KNOWN.after(signals(2, A, source="ads", messages=["m1"]))
    granted = refused.after(act(3, "given", A))
    again = granted.when(signals(4, A, source="ads", messages=["m1"])).then_nothing()
    assert results(again) == [("m1", "declined")]


def test_an_identify_message_counts_once() -> None:
    once = KNOWN.after(identify(2, A, traits={"x": 1}, message_id="m1"))
    again = once.when(identify(3, A, B, traits={"x": 2}, message_id="m1")).then_nothing()
    assert results(again) == [("m1", "duplicate")]
    once.when(set_traits(4, A, message_id="m1")).then_nothing()


def test_a_repeated_command_stores_nothing_and_names_where_it_was_stored() -> None:
    for command in (
        identify(2, A, B, traits={"x": 1}),
        set_traits(2, A),
        act(2, "given", A),
    ):
        once = KNOWN.after(command)
        later = once.after(set_traits(3, A, traits={"y": 2}))
        decision = later.when(command).then_nothing()
        assert decision.repeated_revision == once.revision
        assert decision.customer_id == record_id(1)


def test_a_repeated_command_that_created_answers_for_each_message() -> None:
    command = signals(2, A, messages=["m1", "m2"], new=5)
    decision = given().after(command).when(command).then_nothing()
    assert results(decision) == [("m1", "duplicate"), ("m2", "duplicate")]
    assert decision.repeated_revision is not None
    again = identify(3, A, B, traits={"x": 1}, message_id="m3")
    assert results(given().after(again).when(again).then_nothing()) == [("m3", "duplicate")]


def test_a_repeated_command_is_known_on_every_record_of_the_customer() -> None:
    two = given(on(1, linked(A)), on(2, linked(C))).after(act(3, "given", C))
    joined = two.after(identify(4, A, C))
    assert joined.when(act(3, "given", A)).then_nothing().repeated_revision == 3


def test_the_consent_of_a_merged_customer_repeated_stores_nothing() -> None:
    two = given(on(1, linked(A)), on(2, linked(C))).after(identify(3, A, C))
    granted = two.after(act(4, "given", A))
    assert [act_.act_id for act_ in granted.record(2).acts] == [command_id(4)]
    granted.when(act(4, "given", A)).then_nothing()


def test_commands_are_forgotten_after_a_day() -> None:
    command = set_traits(2, A)
    once = KNOWN.after(command, recorded_at=at(LATE + 1))
    day = at(LATE + 1) + timedelta(hours=24)
    kept = once.after(set_traits(3, A), recorded_at=day)
    kept.when(command).then_nothing()
    forgotten = kept.after(set_traits(4, A), recorded_at=day + timedelta(microseconds=1))
    forgotten.when(command).then(on(1, TraitsSet(source="shop", traits={"a": 1})))


def test_only_so_many_commands_are_remembered_the_newest() -> None:
    scenario = KNOWN
    for number in range(2, COMMANDS_REMEMBERED_MAX + 2):
        scenario = scenario.happened(
            *on(1, TraitsSet(source="shop", traits={})), command_id=command_id(number)
        )
    assert len(scenario.record(1).commands) == COMMANDS_REMEMBERED_MAX
    assert scenario.when(set_traits(2, A)).then_nothing().repeated_revision is not None
    one_more = scenario.happened(
        *on(1, TraitsSet(source="shop", traits={})),
        command_id=command_id(COMMANDS_REMEMBERED_MAX + 2),
    )
    assert len(one_more.record(1).commands) == COMMANDS_REMEMBERED_MAX
    assert one_more.when(set_traits(2, A)).decision != scenario.when(set_traits(2, A)).decision


def test_only_so_many_messages_are_remembered_the_newest() -> None:
    scenario = KNOWN
    step = 512
    for start in range(0, MESSAGES_REMEMBERED_MAX, step):
        batch = tuple(signal(f"m{n}") for n in range(start, start + step))
        scenario = scenario.happened(*on(1, SignalsRecorded(source="shop", signals=batch)))
    scenario.when(signals(2, A, messages=["m0"])).then_nothing()
    more = scenario.happened(*on(1, SignalsRecorded(source="shop", signals=(signal("more"),))))
    assert len(more.record(1).messages) == MESSAGES_REMEMBERED_MAX
    assert (
        more.when(signals(3, A, messages=["m0"])).decision
        != scenario.when(signals(3, A, messages=["m0"])).decision
    )
    more.when(signals(4, A, messages=["m1"])).then_nothing()


def test_a_command_of_signals_alone_is_known_by_its_messages() -> None:
    command = signals(2, A, messages=["m1"])
    once = KNOWN.after(command)
    assert command.command_id not in once.record(1).commands
    assert results(once.when(command).then_nothing()) == [("m1", "duplicate")]


def test_a_trait_of_a_source_is_the_latest_by_event_time_however_it_arrives() -> None:
    old, new = at(1), at(2)
    for order in ((old, new), (new, old)):
        scenario = KNOWN
        for number, minute in enumerate(order, start=2):
            traits = {"city": "new" if minute == new else "old"}
            scenario = scenario.after(set_traits(number, A, happened_at=minute, traits=traits))
        assert scenario.record(1).traits["city"]["shop"].value == "new"


def test_a_trait_from_the_future_counts_as_of_when_it_was_recorded() -> None:
    body = TraitsSet(source="shop", traits={"x": 1})
    event = recorded(
        record_stream(record_id(1)), body, revision=1, happened_at=at(900), recorded_at=at(5)
    )
    assert event.effective_at == at(5)
