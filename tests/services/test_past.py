"""Past states through gRPC: customers, checks of consent, what changed, the log, and its proof."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp

from eventlog.guard import LogGuard
from eventlog.jetstream import JetStreamEventLog
from eventlog.port import Witness
from koseki.v1 import (
    audit_service_pb2,
    common_pb2,
    customer_service_pb2,
    query_service_pb2,
    segment_service_pb2,
)
from tests.services.edge import SECONDS, Edge, edge_over, loyalty, refusal, signal, user

ANN = user("ann")


def at(revision: int) -> common_pb2.AsOf:
    return common_pb2.AsOf(revision=revision)


@pytest_asyncio.fixture
async def audited(jetstream_log: JetStreamEventLog, tmp_path: Path) -> AsyncIterator[Edge]:
    """Serve auditors, over JetStream."""
    async with edge_over(jetstream_log, tmp_path / "audited", is_for_auditors=True) as edge:
        await edge.define_rules()
        yield edge


async def test_a_customer_is_seen_as_it_was_at_each_revision(audited: Edge) -> None:
    edge = audited
    revisions, live = [], []
    for tier in ("silver", "gold", "black"):
        done = await edge.identify(ANN, traits={"tier": tier})
        revisions.append(done.revision)
        live.append(await edge.get(ANN, at_least_revision=done.revision))
    await edge.ingest(signal("m1", ANN, cds=2))
    for revision, was in zip(revisions, live, strict=True):
        assert await edge.get(ANN, as_of=at(revision)) == was
        assert await edge.get(customer_id=was.customer_id, as_of=at(revision)) == was
    many = await edge.get_many(
        {"identifier": ANN}, {"identifier": user("bob")}, as_of=at(revisions[1])
    )
    assert [result.WhichOneof("result") for result in many.results] == ["customer", "reason"]
    assert many.results[0].customer == live[1]
    assert many.results[1].reason == "UNKNOWN_CUSTOMER"
    before = await refusal(edge.get(ANN, as_of=at(revisions[0] - 2)))
    assert before.reason == "UNKNOWN_CUSTOMER"


async def test_a_past_answer_names_the_revision_that_was_asked_for(audited: Edge) -> None:
    edge = audited
    mine = await edge.identify(ANN, traits={"tier": "gold"})
    later = await edge.identify(user("bob"), traits={"tier": "black"})
    await edge.get(user("bob"), at_least_revision=later.revision)
    assert (await edge.get(ANN, as_of=at(mine.revision))).revision == mine.revision
    assert (await edge.get(ANN, as_of=at(later.revision))).revision == later.revision
    many = await edge.get_many({"identifier": ANN}, as_of=at(later.revision))
    assert many.results[0].customer.revision == many.revision == later.revision


async def test_in_a_batch_each_bad_reference_has_an_outcome_of_its_own(audited: Edge) -> None:
    edge, eve = audited, user("eve")
    await edge.identify(eve)
    done = await edge.identify(ANN)
    erasing = customer_service_pb2.EraseCustomerRequest(identifiers=[eve])
    gone = await edge.customer.EraseCustomer(erasing, timeout=SECONDS)
    references: list[tuple[dict[str, Any], str]] = [
        ({"customer_id": "not an id \0"}, "INVALID_FIELD"),
        ({"customer_id": ""}, "MISSING_IDENTIFIER"),
        ({}, "MISSING_IDENTIFIER"),
        ({"identifier": user("\0")}, "INVALID_IDENTIFIER"),
        ({"identifier": user("null")}, "UNKNOWN_CUSTOMER"),
        ({"customer_id": gone.customer_id}, "CUSTOMER_ERASED"),
        ({"identifier": eve}, "CUSTOMER_ERASED"),
        ({"identifier": user("bob")}, "UNKNOWN_CUSTOMER"),
    ]
    known = {"identifier": ANN}
    many = await edge.get_many(*(r for r, _ in references), known, as_of=at(done.revision))
    assert [found.reason for found in many.results[:-1]] == [reason for _, reason in references]
    assert many.results[-1].customer == await edge.get(ANN, as_of=at(done.revision))
    for named, reason in references:
        alone = edge.get(**{"identifier": None, **named}, as_of=at(done.revision))
        assert (await refusal(alone)).reason == reason
    none = await edge.get_many({}, as_of=at(done.revision))
    assert [(r.reason, none.revision) for r in none.results] == [
        ("MISSING_IDENTIFIER", done.revision)
    ]


async def test_for_a_purpose_that_nobody_defined_nothing_is_told_of_anybody(audited: Edge) -> None:
    edge, eve = audited, user("eve")
    await edge.identify(ANN)
    await edge.identify(eve)
    erasing = customer_service_pb2.EraseCustomerRequest(identifiers=[eve])
    gone = await edge.customer.EraseCustomer(erasing, timeout=SECONDS)
    then = at(gone.revision)
    for who in (ANN, eve, user("nobody")):
        for as_of in (None, then):
            said: dict[str, Any] = {"purpose": "nothing", "as_of": as_of}
            said["at_least_revision"] = gone.revision
            history = query_service_pb2.ListConsentHistoryRequest(identifier=who, **said)
            about = common_pb2.CustomerReference(identifier=who)
            timeline = query_service_pb2.ListTimelineRequest(reference=about, **said)
            for call in (
                edge.get(who, **said),
                edge.get_many({"identifier": who}, **said),
                edge.get_many({}, **said),
                edge.query.ListConsentHistory(history, timeout=SECONDS),
                edge.query.ListTimeline(timeline, timeout=SECONDS),
            ):
                assert (await refusal(call)).reason == "UNKNOWN_PURPOSE"


async def test_lists_are_given_as_they_were(audited: Edge) -> None:
    edge = audited
    defined = await edge.define_segment("buyers", 'count("Order Completed", "30d") >= 2')
    await edge.until_active("buyers", revision=defined.revision)
    first = (await edge.ingest(signal("m1", ANN, cds=1)))[0]
    given = await edge.consent("GIVEN", ANN)
    await edge.ingest(signal("m2", ANN, cds=2))
    gone = await edge.consent("WITHDRAWN", ANN)
    await edge.get(ANN, at_least_revision=gone.revision)
    who = common_pb2.CustomerReference(identifier=ANN)

    async def told(revision: int) -> tuple[list[str], list[str], list[int]]:
        as_of = at(revision) if revision else None
        about: dict[str, Any] = {"reference": who, "purpose": "analytics", "as_of": as_of}
        timeline = query_service_pb2.ListTimelineRequest(**about)
        of = query_service_pb2.ListSegmentsOfRequest(**about)
        acts = query_service_pb2.ListConsentHistoryRequest(
            identifier=ANN, purpose="service", as_of=as_of
        )
        done = await edge.query.ListTimeline(timeline, timeout=SECONDS)
        segments = await edge.query.ListSegmentsOf(of, timeout=SECONDS)
        said = await edge.query.ListConsentHistory(acts, timeout=SECONDS)
        return (
            [s.message_id for s in done.signals],
            [membership.segment for membership in segments.memberships],
            [act.state for act in said.acts],
        )

    yes, no = common_pb2.CONSENT_STATE_GIVEN, common_pb2.CONSENT_STATE_WITHDRAWN
    assert await told(0) == (["m2", "m1"], ["buyers"], [yes, no])
    assert await told(gone.revision) == await told(0)
    assert await told(given.revision) == (["m1"], [], [yes])
    assert await told(first.revision) == (["m1"], [], [])
    before = await refusal(told(first.revision - 1))
    assert before.reason == "UNKNOWN_CUSTOMER"


async def test_a_membership_is_explained_as_it_was(audited: Edge) -> None:
    edge = audited
    defined = await edge.define_segment("buyers", 'count("Order Completed", "30d") >= 2')
    await edge.until_active("buyers", revision=defined.revision)
    told = [(await edge.ingest(signal(f"m{number}", ANN, cds=1)))[0] for number in (1, 2, 3)]
    who = common_pb2.CustomerReference(identifier=ANN)

    async def explained(revision: int, purpose: str = "analytics") -> Any:
        request = segment_service_pb2.ExplainMembershipRequest(
            segment="buyers",
            purpose=purpose,
            reference=who,
            at_least_revision=told[-1].revision,
            as_of=at(revision) if revision else None,
        )
        return await edge.segments.ExplainMembership(request, timeout=SECONDS)

    live = await explained(0)
    then = await explained(told[-1].revision)
    assert live.belongs
    assert then == live
    began = await explained(told[1].revision)
    assert (began.belongs, began.since_revision) == (True, live.since_revision)
    assert [reading.value.number_value for reading in began.readings] == [2]
    before = await explained(told[0].revision)
    assert (before.belongs, before.since_revision, before.purpose_open) == (False, 0, True)
    assert before.revision == told[0].revision
    assert [reading.value.number_value for reading in before.readings] == [1]
    assert not before.HasField("since")
    for wrong, reason in ((told[0].revision - 1, "UNKNOWN_CUSTOMER"), (10_000, "INVALID_AS_OF")):
        assert (await refusal(explained(wrong))).reason == reason
    not_served = await refusal(explained(told[0].revision, "service"))
    assert not_served.reason == "PURPOSE_NOT_SERVED"


async def test_as_of_a_time_known(audited: Edge) -> None:
    edge = audited
    await edge.identify(ANN, traits={"tier": "silver"})
    known = Timestamp()
    known.GetCurrentTime()
    await edge.identify(ANN, traits={"tier": "gold"})
    then = await edge.get(ANN, as_of=common_pb2.AsOf(known=known))
    assert [trait.value.string_value for trait in then.traits] == ["silver"]


async def test_a_past_check_says_what_was_answered_and_permits_nothing(audited: Edge) -> None:
    edge = audited
    given = await edge.consent("GIVEN", ANN)
    asked = await edge.check(ANN)
    withdrawn = await edge.consent("WITHDRAWN", ANN)
    assert asked.open
    then = await edge.check(ANN, as_of=at(given.revision))
    assert (then.open, then.reason, then.revision) == (True, "OPEN", given.revision)
    assert then.act_event_id == asked.act_event_id
    now = await edge.check(ANN, as_of=at(withdrawn.revision))
    assert (now.open, now.reason) == (False, "WITHDRAWN")
    before = await edge.check(ANN, as_of=at(given.revision - 2))
    assert (before.open, before.reason, before.customer_id) == (False, "NOT_GIVEN", "")
    assert not (await edge.check(ANN)).open
    recorded = await refusal(edge.check(ANN, record=True, as_of=at(given.revision)))
    assert recorded.reason == "INVALID_FIELD"


async def test_what_has_not_been_is_no_past(audited: Edge) -> None:
    await audited.identify(ANN)
    found = await refusal(audited.get(ANN, as_of=at(10_000)))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_AS_OF")
    later = Timestamp(seconds=4_000_000_000)
    found = await refusal(audited.get(ANN, as_of=common_pb2.AsOf(known=later)))
    assert found.reason == "INVALID_AS_OF"


async def test_a_difference_names_fields_and_the_events_that_changed_them(audited: Edge) -> None:
    edge = audited
    first = await edge.identify(ANN, traits={"tier": "silver"})
    gold = await edge.set_traits(ANN, traits={"tier": "gold"})
    given = await edge.consent("GIVEN", ANN)
    fields: dict[str, Any] = {"from": at(first.revision), "to": at(given.revision)}
    request = audit_service_pb2.DiffCustomerRequest(
        purpose="audit", customer_id=first.customer_id, **fields
    )
    found = await edge.audit.DiffCustomer(request, timeout=SECONDS)
    changes = {change.field: change for change in found.changes}
    assert {name for name in changes if not name.startswith("happened_at.")} == {
        "traits.tier",
        "consents.marketing",
    }
    tier = changes["traits.tier"]
    assert (tier.before.string_value, tier.after.string_value) == ("silver", "gold")
    assert [step.revision for step in tier.steps] == [gold.revision]
    assert list(tier.steps[0].types) == ["koseki.record.traits-set.v1"]
    consent = changes["consents.marketing"]
    assert (consent.before.string_value, consent.after.string_value) == (
        "closed, unknown",
        "open, given",
    )


async def replayed(edge: Edge, **fields: Any) -> list[Any]:
    request = audit_service_pb2.ReplayEventsRequest(purpose="audit", **fields)
    return [event async for event in edge.audit.ReplayEvents(request, timeout=SECONDS)]


async def test_the_log_is_replayed_whole_or_in_part(audited: Edge) -> None:
    edge = audited
    done = await edge.identify(ANN, traits={"tier": "silver"})
    await edge.identify(user("bob"))
    everything = await replayed(edge)
    assert [event.revision for event in everything] == list(range(1, len(everything) + 1))
    chained: dict[tuple[str, str], bytes] = {}
    for event in everything:
        stream = (event.stream_kind, event.stream_key)
        assert event.previous == chained.get(stream, bytes(32))
        chained[stream] = event.digest
    rest = await replayed(edge, after_revision=3, through_revision=5)
    assert [event.revision for event in rest] == [4, 5]
    traits = await replayed(
        edge, record_ids=[done.customer_id], types=["koseki.record.traits-set.v1"]
    )
    assert [orjson.loads(event.body)["traits"] for event in traits] == [{"tier": "silver"}]


@pytest.mark.parametrize("of_records", [False, True])
async def test_a_replay_goes_on_only_after_what_the_log_has_come_to(
    audited: Edge, *, of_records: bool
) -> None:
    done = await audited.identify(ANN)
    fields = {"record_ids": [done.customer_id]} if of_records else {}
    end = (await replayed(audited))[-1].revision
    assert await replayed(audited, after_revision=end, **fields) == []
    assert await replayed(audited, through_revision=end + 1, **fields)
    for beyond in (end + 1, end + 50, 2**64 - 1):
        found = await refusal(replayed(audited, after_revision=beyond, **fields))
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_AS_OF")


async def test_a_log_that_lost_what_a_replay_had_come_to_is_damaged(
    jetstream_log: JetStreamEventLog, tmp_path: Path
) -> None:
    lost = Witness("acknowledged", 50, bytes(32))
    guard = LogGuard(jetstream_log, witnesses=lambda: [lost])
    async with edge_over(
        jetstream_log, tmp_path / "audited", is_for_auditors=True, guard=guard
    ) as edge:
        await edge.define_rules()
        assert await replayed(edge, after_revision=1)
        for beyond in (50, 100):
            found = await refusal(replayed(edge, after_revision=beyond))
            assert (found.code, found.reason) == (grpc.StatusCode.DATA_LOSS, "LOG_DAMAGED")


async def test_of_who_is_erased_nothing_personal_is_replayed_while_there_are_keys(
    audited: Edge,
) -> None:
    edge, other = audited, loyalty("ann-2")
    await edge.identify(user("bob"), traits={"tier": "silver"})
    await edge.ingest(signal("m1", ANN, cds=1), signal("m2", other, cds=2))
    await edge.identify(ANN, other, traits={"tier": "silver"})
    await edge.consent("GIVEN", ANN, method="checkbox")
    before = await replayed(edge)
    erasing = customer_service_pb2.EraseCustomerRequest(identifiers=[ANN])
    done = await edge.customer.EraseCustomer(erasing, timeout=SECONDS)
    records = sorted(record.record_id for record in done.records)
    personal = ("ann", "silver", "cds", "checkbox")
    told = "".join(event.body for event in before if event.stream_key in records)
    assert len(records) == 2
    assert all(word in told for word in personal)
    for asked in ({}, {"record_ids": records}, {"through_revision": before[-1].revision}):
        events = await replayed(edge, **asked)
        told = "".join(event.body for event in events if event.stream_key in records)
        assert not any(word in told for word in personal)
        erased = {event.stream_key for event in events if event.is_erased}
        assert erased == set(records)
        known = {event.revision: event.digest for event in before}
        assert all(known.get(e.revision, e.digest) == e.digest for e in events)
    everything = await replayed(edge)
    assert "silver" in "".join(event.body for event in everything)
    assert any(event.type == "koseki.customer.erasure-requested.v1" for event in everything)


async def test_a_verification_says_how_far_it_is_and_what_it_found(audited: Edge) -> None:
    done = await audited.identify(ANN)
    await audited.get(ANN, at_least_revision=done.revision)
    request = audit_service_pb2.VerifyRequest(purpose="audit")
    steps = [step async for step in audited.audit.Verify(request, timeout=SECONDS)]
    assert [step.revision for step in steps[:-1]][-1:] == [done.revision]
    assert steps[-1].found.holds
    assert steps[-1].found.revision == done.revision
    assert steps[-1].found.rows_compared > 0
    assert steps[-1].found.sets_compared > 0


async def test_only_a_server_for_auditors_answers_and_only_for_audit(
    audited: Edge, edge: Edge
) -> None:
    verify = audit_service_pb2.VerifyRequest

    async def ask(server: Edge, purpose: str) -> list[Any]:
        call = server.audit.Verify(verify(purpose=purpose), timeout=SECONDS)
        return [step async for step in call]

    for server, purpose in ((edge, "audit"), (audited, "service"), (audited, "")):
        found = await refusal(ask(server, purpose))
        assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "AUDITOR_ONLY")
    request = query_service_pb2.GetCustomerRequest(purpose="audit", identifier=ANN, as_of=at(1))
    found = await refusal(audited.query.GetCustomer(request, timeout=SECONDS))
    assert found.reason == "AUDITOR_ONLY"


@pytest.mark.parametrize("wrong", [{"types": ["koseki.unheard.v1"]}, {"record_ids": ["x"] * 1_001}])
async def test_a_malformed_replay_is_refused(audited: Edge, wrong: dict[str, Any]) -> None:
    found = await refusal(replayed(audited, **wrong))
    assert found.reason == "INVALID_FIELD"
