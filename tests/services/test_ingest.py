"""`IngestService` over a real server: each signal has its own outcome."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from domain.signal_events import SignalsDeclined, SignalsRecorded
from koseki.v1 import common_pb2, ingest_service_pb2
from tests.services.edge import Edge, loyalty, refusal, signal, user

RECORDED = ingest_service_pb2.SIGNAL_RESULT_RECORDED
DUPLICATE = ingest_service_pb2.SIGNAL_RESULT_DUPLICATE
DECLINED = ingest_service_pb2.SIGNAL_RESULT_DECLINED
INVALID = ingest_service_pb2.SIGNAL_RESULT_INVALID
FAILED = ingest_service_pb2.SIGNAL_RESULT_FAILED


async def test_signals_are_recorded_and_summed_exactly(jetstream_edge: Edge) -> None:
    outcomes = await jetstream_edge.ingest(
        *(signal(f"m{n}", user("1"), cds=1, dollars=29.33) for n in range(10))
    )
    assert [outcome.message_id for outcome in outcomes] == [f"m{n}" for n in range(10)]
    assert {outcome.result for outcome in outcomes} == {RECORDED}
    [customer_id] = {outcome.customer_id for outcome in outcomes}
    seen = await jetstream_edge.get(user("1"), at_least_revision=outcomes[-1].revision)
    [tally] = seen.signals
    assert seen.customer_id == customer_id
    assert (tally.name, tally.count) == ("Order Completed", 10)
    assert dict(tally.sums) == {"cds": "10", "dollars": "293.30"}


async def test_a_call_sent_again_whole_counts_once(edge: Edge) -> None:
    call = [signal("m1", user("1"), cds=1), signal("m2", user("2"), cds=2)]
    first = await edge.ingest(*call)
    again = await edge.ingest(*call)
    assert [outcome.result for outcome in again] == [DUPLICATE, DUPLICATE]
    assert [o.customer_id for o in again] == [o.customer_id for o in first]
    seen = await edge.get(user("2"), at_least_revision=max(o.revision for o in first))
    assert [(tally.count, dict(tally.sums)) for tally in seen.signals] == [(1, {"cds": "2"})]


async def test_the_same_message_twice_in_one_call_counts_once(edge: Edge) -> None:
    outcomes = await edge.ingest(signal("m1", user("1")), signal("m1", user("1")))
    assert sorted(outcome.result for outcome in outcomes) == [RECORDED, DUPLICATE]


async def test_the_same_message_id_of_another_source_is_another_signal(edge: Edge) -> None:
    outcomes = [
        *await edge.ingest(signal("m1", user("1"))),
        *await edge.ingest(signal("m1", user("1")), source="desk"),
    ]
    assert [outcome.result for outcome in outcomes] == [RECORDED, RECORDED]


async def test_identifiers_that_meet_in_a_signal_make_one_customer(edge: Edge) -> None:
    before = await edge.ingest(signal("m1", user("1")), signal("m2", loyalty("a")))
    [joined] = await edge.ingest(signal("m3", user("1"), loyalty("a")))
    seen = await edge.get(loyalty("a"), at_least_revision=joined.revision)
    assert joined.customer_id == min(outcome.customer_id for outcome in before)
    assert seen.customer_id == joined.customer_id
    assert len(seen.record_ids) == 2
    assert [tally.count for tally in seen.signals] == [3]


async def test_each_signal_says_which_of_its_identifiers_were_not_used(edge: Edge) -> None:
    one, nobody, of_another = user("1"), user("null"), loyalty("b")
    await edge.ingest(signal("m0", user("2"), of_another))
    calls = [
        signal("m1", nobody, one),
        signal("m2", one),
        signal("m3", one, loyalty("a"), nobody),
        signal("m4", one, of_another),
        signal("m5", nobody),
    ]
    outcomes = await edge.ingest(*calls)
    assert [[(item.place, item.reason) for item in outcome.left_out] for outcome in outcomes] == [
        [(0, "BLOCKED")],
        [],
        [(2, "BLOCKED")],
        [(1, "TOO_MANY_VALUES")],
        [],
    ]
    assert [(o.result, o.reason) for o in outcomes[3:]] == [
        (RECORDED, ""),
        (INVALID, "IDENTIFIER_BLOCKED"),
    ]
    again = await edge.ingest(*calls[:4], signal("m6", nobody, one))
    assert [[item.place for item in outcome.left_out] for outcome in again] == [[], [], [], [], [0]]


async def test_too_many_identifiers_that_name_nobody_cost_no_other_signal(edge: Edge) -> None:
    one = user("1")
    nobody = [
        common_pb2.Identifier(namespace="email", value=f"test@{n}.example.com") for n in range(600)
    ]
    outcomes = await edge.ingest(
        signal("m1", one, *nobody[:300]),
        signal("m2", one, *nobody[300:]),
        signal("m3", one, *nobody),
        signal("m4", one),
    )
    assert [(outcome.result, outcome.reason) for outcome in outcomes] == [
        (RECORDED, ""),
        (RECORDED, ""),
        (INVALID, "INVALID_FIELD"),
        (RECORDED, ""),
    ]
    assert [len(outcome.left_out) for outcome in outcomes] == [300, 300, 0, 0]


def bad(**fields: Any) -> Any:
    """Make a signal with something wrong."""
    made = signal("bad", user("1"))
    for name, value in fields.items():
        if isinstance(value, list):
            made.ClearField(name)
            getattr(made, name).extend(value)
        elif isinstance(value, dict):
            getattr(made, name).update(value)
        else:
            setattr(made, name, value)
    return made


def nameless_time() -> Any:
    """Make a signal from before the year 1."""
    made = signal("bad", user("1"))
    made.happened_at.seconds = -(10**12)
    return made


BAD = {
    "no message id": (bad(message_id=""), "INVALID_MESSAGE_ID"),
    "a long message id": (bad(message_id="x" * 257), "INVALID_MESSAGE_ID"),
    "controls in a message id": (bad(message_id="a\r\nb"), "INVALID_MESSAGE_ID"),
    "nul in a message id": (bad(message_id="\0"), "INVALID_MESSAGE_ID"),
    "no name": (bad(name=""), "INVALID_FIELD"),
    "a long name": (bad(name="x" * 257), "INVALID_FIELD"),
    "an unheard of kind": (bad(kind=77), "INVALID_FIELD"),
    "nobody": (bad(identifiers=[]), "MISSING_IDENTIFIER"),
    "an empty identifier": (bad(identifiers=[user("")]), "EMPTY_IDENTIFIER"),
    "a malformed identifier": (
        bad(identifiers=[common_pb2.Identifier(namespace="email", value="a@@b")]),
        "INVALID_IDENTIFIER",
    ),
    "an unknown namespace": (
        bad(identifiers=[common_pb2.Identifier(namespace="passport", value="1")]),
        "UNKNOWN_NAMESPACE",
    ),
    "too many identifiers": (
        bad(identifiers=[loyalty(str(n)) for n in range(513)]),
        "INVALID_FIELD",
    ),
    "not a number": (bad(properties={"price": float("nan")}), "INVALID_PROPERTIES"),
    "no end of numbers": (bad(context={"price": float("inf")}), "INVALID_PROPERTIES"),
    "before the year 1": (nameless_time(), "INVALID_TIMESTAMP"),
    "larger than an event": (bad(properties={"essay": "x" * 1_200_000}), "EVENT_TOO_LARGE"),
}


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_signal_says_why_and_does_not_hold_up_the_good_ones(
    edge: Edge, what: str
) -> None:
    wrong, reason = BAD[what]
    outcomes = await edge.ingest(signal("m1", user("1")), wrong, signal("m2", user("2")))
    assert [outcome.result for outcome in outcomes] == [RECORDED, INVALID, RECORDED]
    assert (outcomes[1].message_id, outcomes[1].reason) == (wrong.message_id, reason)
    assert (outcomes[1].revision, outcomes[1].customer_id) == (0, "")


async def test_a_signal_behind_a_closed_gate_is_declined_and_creates_nobody(edge: Edge) -> None:
    await edge.consent("REFUSED", user("known"))
    known, unknown = await edge.ingest(
        signal("m1", user("known")), signal("m2", user("stranger")), source="ads"
    )
    for outcome in (known, unknown):
        assert (outcome.result, outcome.reason) == (DECLINED, "PURPOSE_CLOSED")
    newest = (await edge.house.events())[-1]
    assert isinstance(newest.body, SignalsDeclined)
    assert (known.revision, unknown.revision) == (newest.revision, 0)
    assert known.customer_id
    assert not unknown.customer_id
    assert not (await edge.check(user("stranger"))).customer_id


async def test_calls_that_are_wrong_as_a_whole(edge: Edge) -> None:
    good = signal("m1", user("1"))
    none = await refusal(edge.ingest())
    many = await refusal(edge.ingest(*(signal(str(n), user("1")) for n in range(1_001))))
    nameless = await refusal(edge.ingest(good, source=""))
    strange = await refusal(edge.ingest(good, source="nowhere"))
    other = await refusal(edge.ingest(good, workspace="other"))
    for found in (none, many, nameless):
        assert (found.code, found.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        )
    assert nameless.fields == ("source",)
    assert (strange.code, strange.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SOURCE")
    assert (other.code, other.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_WORKSPACE")
    assert [outcome.result for outcome in await edge.ingest(good)] == [RECORDED]


async def test_signals_of_one_person_that_together_exceed_an_event_are_all_recorded(
    edge: Edge,
) -> None:
    outcomes = await edge.ingest(
        *(signal(str(n), user("1"), essay="x" * 100_000, cds=1) for n in range(20))
    )
    assert [outcome.result for outcome in outcomes] == [RECORDED] * 20
    seen = await edge.get(user("1"), at_least_revision=max(o.revision for o in outcomes))
    assert [(tally.count, tally.sums["cds"]) for tally in seen.signals] == [(20, "20")]


async def test_a_thousand_signals_go_in_one_call(edge: Edge) -> None:
    outcomes = await edge.ingest(*(signal(str(n), user(str(n % 50))) for n in range(1_000)))
    assert [outcome.result for outcome in outcomes] == [RECORDED] * 1_000


async def test_a_signal_that_is_not_known_to_be_stored_is_failed_and_may_be_sent_again(
    edge: Edge,
) -> None:
    edge.house.memory.answer_unknown(1, stored=True)
    [doubtful] = await edge.ingest(signal("m1", user("1")))
    [settled] = await edge.ingest(signal("m1", user("1")))
    assert (doubtful.result, doubtful.reason) == (FAILED, "UNKNOWN_OUTCOME")
    assert settled.result == DUPLICATE


async def test_signals_keep_their_own_time_and_kind(edge: Edge) -> None:
    page = signal("m1", user("1"), name="Viewed Home Page")
    page.kind = ingest_service_pb2.SIGNAL_KIND_PAGE
    page.happened_at.FromDatetime(datetime(1997, 1, 1, tzinfo=UTC))
    await edge.ingest(page)
    event = (await edge.house.events())[-1]
    assert isinstance(event.body, SignalsRecorded)
    [stored] = event.body.signals
    assert stored.kind == "page"
    assert stored.happened_at == datetime(1997, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("left", [bad(message_id=""), bad(identifiers=[user("null")])])
async def test_a_call_whose_signals_are_all_invalid_still_names_a_source(
    edge: Edge, left: Any
) -> None:
    assert (await refusal(edge.ingest(left, source="nowhere"))).reason == "UNKNOWN_SOURCE"
    assert (await refusal(edge.ingest(left, source=""))).reason == "INVALID_FIELD"
    [outcome] = await edge.ingest(left)
    assert outcome.result == INVALID
