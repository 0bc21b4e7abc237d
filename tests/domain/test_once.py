"""Once and only once: repeated commands, repeated messages, and what memory holds of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from domain.customer import forgotten_by, remembered_command, reminded
from domain.ids import CommandId, RecordId, made_at_milliseconds, record_stream
from domain.record import (
    COMMANDS_AHEAD_MAX,
    COMMANDS_REMEMBERED_FOR,
    COMMANDS_REMEMBERED_MAX,
    MESSAGES_REMEMBERED_MAX,
    RememberedCommand,
)
from domain.signal_events import SignalsRecorded, TraitsSet
from domain.signals import signal_key
from tests.domain.asking import act, identify, merge, set_traits, signal, signals, undo
from tests.domain.facts import LATE, at, command_id, email, linked, on, record_id, recorded, user
from tests.domain.scenario import Scenario, given

A, B, C = user("a"), email("b"), user("c")
KNOWN = given(on(1, linked(A)))


def results(decision: object) -> list[str]:
    return [*decision.signals]  # type: ignore[attr-defined] # a Decision


def test_a_message_twice_in_one_command_counts_once() -> None:
    body = SignalsRecorded(source="shop", signals=(signal("m1"), signal("m2")))
    decision = KNOWN.when(signals(2, A, messages=["m1", "m2", "m1"])).then(on(1, body))
    assert results(decision) == ["recorded", "recorded", "duplicate"]


def test_a_message_declined_twice_in_one_command_is_declined_twice() -> None:
    decision = KNOWN.when(signals(2, A, source="ads", messages=["m1", "m1"])).decision
    assert decision is not None
    assert results(decision) == ["declined", "declined"]
    assert decision.changes[0].body.model_dump()["message_ids"] == ("m1",)


def test_a_message_in_two_commands_counts_once() -> None:
    once = KNOWN.after(signals(2, A, messages=["m1"]))
    assert results(once.when(signals(3, A, messages=["m1"])).then_nothing()) == ["duplicate"]
    body = SignalsRecorded(source="shop", signals=(signal("m2"),))
    mixed = once.when(signals(4, A, messages=["m1", "m2"])).then(on(1, body))
    assert results(mixed) == ["duplicate", "recorded"]


def test_a_repeated_message_links_nothing() -> None:
    KNOWN.after(signals(2, A, messages=["m1"])).when(signals(3, A, B)).then_nothing()


def test_a_message_that_another_record_of_the_customer_has_counts_once() -> None:
    two = given(on(1, linked(A)), on(2, linked(C)))
    sent = two.after(signals(3, A, messages=["m1"])).after(signals(4, C, messages=["m2"]))
    joined = sent.after(identify(5, A, C))
    for number, item in enumerate((A, C), start=6):
        again = joined.when(signals(number, item, messages=["m1", "m2"])).then_nothing()
        assert results(again) == ["duplicate", "duplicate"]


def test_the_same_message_id_from_another_source_is_another_message() -> None:
    once = KNOWN.after(signals(2, A, messages=["m1"]))
    body = SignalsRecorded(source="web", signals=(signal("m1"),))
    once.when(signals(3, A, source="web", messages=["m1"])).then(on(1, body))
    assert signal_key("a", "b") != signal_key("ab", "")


def test_a_declined_message_stays_declined_after_consent() -> None:
    refused = KNOWN.after(signals(2, A, source="ads", messages=["m1"]))
    granted = refused.after(act(3, "given", A))
    again = granted.when(signals(4, A, source="ads", messages=["m1"])).then_nothing()
    assert results(again) == ["declined"]


def test_an_identify_message_counts_once() -> None:
    once = KNOWN.after(identify(2, A, traits={"x": 1}, message_id="m1"))
    again = once.when(identify(3, A, B, traits={"x": 2}, message_id="m1")).then_nothing()
    assert results(again) == ["duplicate"]
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
    assert results(decision) == ["duplicate", "duplicate"]
    assert decision.repeated_revision is not None
    again = identify(3, A, B, traits={"x": 1}, message_id="m3")
    assert results(given().after(again).when(again).then_nothing()) == ["duplicate"]


def test_a_repeated_command_is_known_on_every_record_of_the_customer() -> None:
    two = given(on(1, linked(A)), on(2, linked(C))).after(act(3, "given", C))
    joined = two.after(identify(4, A, C))
    assert joined.when(act(3, "given", A)).then_nothing().repeated_revision == 3


def test_the_consent_of_a_merged_customer_repeated_stores_nothing() -> None:
    two = given(on(1, linked(A)), on(2, linked(C))).after(identify(3, A, C))
    granted = two.after(act(4, "given", A))
    assert [act_.act_id for act_ in granted.record(2).acts] == [command_id(4)]
    granted.when(act(4, "given", A)).then_nothing()


def test_a_repeated_command_names_the_merges_that_it_made_and_that_stand() -> None:
    three = given(on(1, linked(A)), on(2, linked(B)), on(3, linked(C)))
    for command, undone in ((identify(4, A, B, C), 2), (merge(4, 1, 2), 1)):
        decided = three.when(command).decision
        assert decided is not None
        joined = three.after(command).after(set_traits(5, A))
        assert joined.when(command).then_nothing().merge_ids == decided.merge_ids
        parted = joined.after(undo(6, decided.merge_ids[undone - 1], named=1))
        assert parted.when(command).then_nothing().merge_ids == decided.merge_ids[: undone - 1]


def day_after(number: int, milliseconds: int) -> CommandId:
    """Name a command made when another one's day is over, all clocks considered."""
    kept_for = COMMANDS_REMEMBERED_FOR + 2 * COMMANDS_AHEAD_MAX
    at = made_at_milliseconds(command_id(number)) + kept_for // timedelta(milliseconds=1)
    made = f"{at + milliseconds:012x}"
    return CommandId(f"{made[:8]}-{made[8:]}-7000-8000-00000000c0de")


def test_commands_are_forgotten_after_a_day_by_their_ids_whatever_the_logs_clock_says() -> None:
    command = set_traits(2, A)
    once = given().after(identify(1, A, new=1)).after(command)
    month = at(LATE) + timedelta(days=31)
    on_record = on(1, TraitsSet(source="shop", traits={}))
    kept = once.happened(*on_record, command_id=day_after(2, 0), recorded_at=month)
    kept.when(command).then_nothing()
    forgotten = once.happened(*on_record, command_id=day_after(2, 1))
    forgotten.when(command).then(on(1, TraitsSet(source="shop", traits={"a": 1})))
    assert not forgotten.record(1).forgotten


def traits_set(scenario: Scenario, commands: Iterable[int]) -> Scenario:
    for number in commands:
        scenario = scenario.happened(
            *on(1, TraitsSet(source="shop", traits={})), command_id=command_id(number)
        )
    return scenario


def test_only_so_many_commands_are_remembered_the_newest() -> None:
    full = traits_set(KNOWN, range(2, COMMANDS_REMEMBERED_MAX + 2))
    assert len(full.record(1).commands) == COMMANDS_REMEMBERED_MAX
    assert full.when(set_traits(2, A)).then_nothing().repeated_revision is not None
    more = traits_set(full, [COMMANDS_REMEMBERED_MAX + 2])
    assert len(more.record(1).commands) == COMMANDS_REMEMBERED_MAX
    assert more.when(set_traits(2, A)).decision != full.when(set_traits(2, A)).decision


def test_of_what_had_no_room_it_is_known_where_in_the_log_it_may_stand() -> None:
    last = COMMANDS_REMEMBERED_MAX + 201
    more = traits_set(given().after(identify(1, A, new=1)), range(2, last + 1))
    lost = [number for number in range(1, last + 1) if forgotten(more, number)]
    assert lost == list(range(1, 202))
    spans = more.record(1).forgotten
    assert 2 <= len(spans) <= 25
    assert forgotten(more, 2) == {record_id(1): more.record(1).forgotten[0].revision}
    assert forgotten(more, 201) == {record_id(1): spans[-1].revision}
    assert spans[-1].revision > spans[0].revision
    assert not forgotten(more, last + 1)
    recalled = reminded(more.customers, command_id(2), {record_id(1): RememberedCommand(2)})
    assert remembered_command(recalled, command_id(2)) == (
        recalled[0],
        RememberedCommand(2),
    )


def forgotten(scenario: Scenario, number: int) -> dict[RecordId, int]:
    return forgotten_by(scenario.customers, command_id(number))


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
    assert results(once.when(command).then_nothing()) == ["duplicate"]


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
