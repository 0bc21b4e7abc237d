"""Erasure over a real server: every answer tells of it at once, whoever asks and however (R14)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from domain.ids import RecordId, record_stream
from eventlog.jetstream import JetStreamEventLog
from eventlog.port import Refused
from koseki.v1 import (
    audit_service_pb2,
    common_pb2,
    customer_service_pb2,
    query_service_pb2,
    segment_service_pb2,
)
from projections.errors import CustomerErased
from replay.explain import explain_merge
from tests.services.edge import SECONDS, Edge, edge_over, loyalty, refusal, signal, user
from tests.support.events import attempt, draft

ANN, CARD, BOB = user("ann"), loyalty("card"), user("bob")
GONE = "CUSTOMER_ERASED"


@pytest_asyncio.fixture
async def audited(jetstream_log: JetStreamEventLog, tmp_path: Path) -> AsyncIterator[Edge]:
    """Serve auditors too, over JetStream."""
    async with edge_over(jetstream_log, tmp_path / "audited", is_for_auditors=True) as edge:
        await edge.define_rules()
        yield edge


async def erase(edge: Edge, *identifiers: Any, **fields: Any) -> Any:
    request = customer_service_pb2.EraseCustomerRequest(identifiers=identifiers, **fields)
    return await edge.customer.EraseCustomer(request, timeout=SECONDS)


async def two_records(edge: Edge) -> str:
    """Make a customer of two records, with something of every kind."""
    await edge.ingest(signal("m1", ANN, cds=1), signal("m2", CARD, cds=2))
    done = await edge.identify(ANN, CARD, traits={"tier": "gold"})
    await edge.consent("GIVEN", ANN)
    return done.customer_id


async def test_who_is_erased_is_read_by_nobody_now_or_then(audited: Edge) -> None:
    edge = audited
    customer = await two_records(edge)
    known = await edge.get(ANN)
    [merge_id] = [
        edge_of.merge_id
        for event in await edge.house.events()
        for edge_of in getattr(event.body, "live_edges", ())
    ]
    assert await explain_merge(edge.house.log, merge_id)
    done = await erase(edge, CARD, reference="ticket 4")
    with pytest.raises(CustomerErased):
        await explain_merge(edge.house.log, merge_id)
    assert done.customer_id == customer
    assert len(done.records) == 2
    for named in ({"customer_id": customer}, {"identifier": ANN}):
        fresh = {**named, "at_least_revision": done.revision}
        assert (await refusal(edge.get(**fresh))).reason == GONE
        past = common_pb2.AsOf(revision=known.revision)
        assert (await refusal(edge.get(**named, as_of=past))).reason == GONE
        reference = common_pb2.CustomerReference(**named)
        timeline = query_service_pb2.ListTimelineRequest(reference=reference, purpose="service")
        assert (await refusal(edge.query.ListTimeline(timeline, timeout=SECONDS))).reason == GONE
        segments = query_service_pb2.ListSegmentsOfRequest(reference=reference, purpose="service")
        assert (await refusal(edge.query.ListSegmentsOf(segments, timeout=SECONDS))).reason == GONE
        history = query_service_pb2.ListConsentHistoryRequest(purpose="service", **named)
        asked = edge.query.ListConsentHistory(history, timeout=SECONDS)
        assert (await refusal(asked)).reason == GONE
        for request in (timeline, segments, history):
            request.as_of.revision = known.revision
        assert (await refusal(edge.query.ListTimeline(timeline, timeout=SECONDS))).reason == GONE
        assert (await refusal(edge.query.ListSegmentsOf(segments, timeout=SECONDS))).reason == GONE
        asked = edge.query.ListConsentHistory(history, timeout=SECONDS)
        assert (await refusal(asked)).reason == GONE
        receipt = audit_service_pb2.GetReceiptRequest(purpose="service", **named)
        assert (await refusal(edge.audit.GetReceipt(receipt, timeout=SECONDS))).reason == GONE
    many = await edge.get_many({"customer_id": customer}, {"identifier": CARD})
    assert [result.reason for result in many.results] == [GONE, GONE]
    diff = audit_service_pb2.DiffCustomerRequest(purpose="audit", customer_id=customer)
    getattr(diff, "from").revision = known.revision
    assert (await refusal(edge.audit.DiffCustomer(diff, timeout=SECONDS))).reason == GONE


async def test_nothing_is_open_taken_in_or_undone_for_who_is_erased(audited: Edge) -> None:
    edge = audited
    customer = await two_records(edge)
    merged = await edge.identify(BOB)
    await erase(edge, customer_id=customer)

    async def closed() -> None:
        for purpose in ("service", "marketing"):
            by_id = await edge.check(customer_id=customer, purpose=purpose)
            by_name = await edge.check(CARD, purpose=purpose)
            assert (by_id.open, by_id.reason) == (False, GONE)
            assert (by_name.open, by_name.reason) == (False, "IDENTIFIER_ERASED")
        [outcome] = await edge.ingest(signal("m1", ANN, cds=1))
        assert outcome.reason == "IDENTIFIER_ERASED"
        assert (await refusal(edge.set_traits(customer_id=customer))).reason == GONE
        assert (await refusal(edge.identify(ANN))).reason == "IDENTIFIER_ERASED"
        merge = customer_service_pb2.MergeCustomersRequest(
            customer_id=merged.customer_id, other_customer_id=customer
        )
        refused = await refusal(edge.customer.MergeCustomers(merge, timeout=SECONDS))
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, GONE)
        unmerge = customer_service_pb2.UnmergeRecordRequest(record_id=customer)
        refused = await refusal(edge.customer.UnmergeRecord(unmerge, timeout=SECONDS))
        assert refused.reason == GONE

    await closed()
    await edge.restart_hosts()
    await closed()
    assert (await edge.check(BOB, purpose="service")).open


async def test_what_was_held_comes_back_by_an_explicit_act_to_somebody_new(audited: Edge) -> None:
    edge = audited
    old = await two_records(edge)
    await erase(edge, ANN)
    readmit = customer_service_pb2.ReadmitIdentifierRequest(identifier=ANN, reference="ticket 5")
    await edge.customer.ReadmitIdentifier(readmit, timeout=SECONDS)
    done = await edge.identify(ANN, CARD)
    assert done.created
    assert done.customer_id != old
    assert [item.reason for item in done.left_out] == ["ERASED"]
    seen = await edge.get(ANN, at_least_revision=done.revision)
    assert seen.customer_id == done.customer_id


async def test_a_dry_run_changes_nothing_and_a_batch_erases_too(audited: Edge) -> None:
    edge = audited
    customer = await two_records(edge)
    would = await erase(edge, customer_id=customer, dry_run=True)
    assert [dict(record.identifiers) for record in would.records] == [
        {"user_id": 1},
        {"loyalty_id": 1},
    ]
    assert (await edge.check(ANN, purpose="service")).open
    command = customer_service_pb2.CustomerCommand(
        erase_customer=customer_service_pb2.EraseCustomerRequest(identifiers=[ANN])
    )
    request = customer_service_pb2.ExecuteRequest(commands=[command])
    [outcome] = (await edge.customer.Execute(request, timeout=SECONDS)).outcomes
    assert len(outcome.done.consequences.erased) == 2
    again = await erase(edge, customer_id=customer)
    assert (again.customer_id, list(again.records)) == (customer, [])


async def test_there_is_no_receipt_before_the_end_and_none_of_others(audited: Edge) -> None:
    edge = audited
    customer = await two_records(edge)

    async def asked(**fields: Any) -> Any:
        request = audit_service_pb2.GetErasureReceiptRequest(**fields)
        return await edge.audit.GetErasureReceipt(request, timeout=SECONDS)

    known = await edge.get(ANN)
    early = await refusal(asked(customer_id=customer, at_least_revision=known.revision))
    assert (early.code, early.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_ERASED")
    done = await erase(edge, ANN)
    told = await asked(customer_id=customer, at_least_revision=done.revision)
    assert (told.complete, told.receipt) == (False, "")
    assert told.requested_revision <= done.revision
    unknown = await refusal(asked(customer_id="01890000-0000-7000-8000-000000000000"))
    assert unknown.reason == "UNKNOWN_CUSTOMER"


async def tell_of_the_future(log: JetStreamEventLog, record_id: str) -> None:
    """Store an event on a record as a release to come does, of a kind that nobody here knows."""
    stream = record_stream(RecordId(record_id))
    heads = await log.last_heads([stream])
    prepared = log._appender._outgoing.prepare(attempt(draft(stream), expected=heads))
    assert not isinstance(prepared, Refused)
    [message] = prepared
    headers = message.headers | {"ce-type": "koseki.record.horoscope-cast.v3"}
    connection = log._api.connection
    await connection.request(message.subject, message.body, headers=headers, timeout_seconds=5)


async def test_of_whom_an_event_cannot_be_read_is_erased_and_nothing_else(
    audited: Edge, jetstream_log: JetStreamEventLog
) -> None:
    edge = audited
    customer = await two_records(edge)
    await tell_of_the_future(jetstream_log, customer)
    await edge.restart_hosts()
    revision = (await jetstream_log.shape()).last_revision
    assert (await refusal(edge.set_traits(ANN))).reason == "CUSTOMER_UNREADABLE"
    parked = await refusal(edge.get(customer_id=customer, at_least_revision=revision))
    assert parked.reason == "CUSTOMER_PARKED"
    done = await erase(edge, CARD)
    assert (done.customer_id, len(done.records)) == (customer, 2)
    for named in ({"customer_id": customer}, {"identifier": ANN}):
        seen = await refusal(edge.get(**named, at_least_revision=done.revision))
        assert seen.reason == GONE
    assert (await refusal(edge.set_traits(customer_id=customer))).reason == GONE
    [outcome] = await edge.ingest(signal("m9", ANN))
    assert outcome.reason == "IDENTIFIER_ERASED"
    request = audit_service_pb2.GetErasureReceiptRequest(customer_id=customer)
    told = await edge.audit.GetErasureReceipt(request, timeout=SECONDS)
    assert revision < told.requested_revision <= done.revision
    verifying = edge.audit.Verify(audit_service_pb2.VerifyRequest(purpose="audit"))
    assert [step async for step in verifying][-1].found.holds


async def test_who_watches_is_told_once_that_the_customer_is_erased(audited: Edge) -> None:
    edge = audited
    customer = await two_records(edge)
    segment = await edge.define_segment("golden", 'traits.tier == "gold"', purposes=["service"])
    seen = await edge.get(ANN, at_least_revision=segment.revision)
    watch = query_service_pb2.WatchCustomerRequest(
        reference=common_pb2.CustomerReference(identifier=ANN),
        purpose="service",
        after_revision=seen.revision,
    )
    watching = edge.query.WatchCustomer(watch, timeout=SECONDS)
    members = segment_service_pb2.WatchSegmentRequest(segment="golden", purpose="service")
    while True:  # the definition takes effect a moment later
        count = segment_service_pb2.CountAudienceRequest(
            audience=segment_service_pb2.Audience(segment="golden"), purpose="service"
        )
        try:
            if (await edge.segments.CountAudience(count, timeout=SECONDS)).count:
                break
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.05)
    following = edge.segments.WatchSegment(members, timeout=SECONDS)
    await erase(edge, ANN)
    async for change in following:
        if change.cause == common_pb2.CHANGE_CAUSE_ERASED:
            assert change.customer_id == customer
            assert change.change == segment_service_pb2.MEMBERSHIP_CHANGE_EXITED
            break
    async for told in watching:
        if told.change == query_service_pb2.CUSTOMER_CHANGE_ERASED:
            assert told.customer_id == customer
            break
    assert (await edge.segments.CountAudience(count, timeout=SECONDS)).count == 0
