"""Identity over a real server: linking, moving, merging, undoing, batches, and the rules of it."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from koseki.v1 import common_pb2, customer_service_pb2, query_service_pb2
from services.client import Client
from tests.actors.house import CLOCK
from tests.services.edge import SECONDS, Edge, loyalty, named, refusal, signal, unlink, user

NOBODY = "01890000-0000-7000-8000-000000000000"


SEGMENTS = {
    "buyers": 'count("Order Completed", "30d") >= 2',
    "golden": 'traits.tier == "gold"',
    "homeless": "!has(traits.city)",
}


def named_in(done: Any) -> set[tuple[str, str, bool]]:
    """Give whom a dry run says to come to a segment (true) or to leave it."""
    found = done.consequences.segments
    assert all(change.belongs_before is not change.belongs_after for change in found)
    return {(change.customer_id, change.segment, change.belongs_after) for change in found}


async def link(edge: Edge, *identifiers: Any, **fields: Any) -> Any:
    request = customer_service_pb2.LinkIdentifiersRequest(
        identifiers=identifiers, **({"source": "shop"} | fields)
    )
    return await edge.customer.LinkIdentifiers(request, timeout=SECONDS)


async def merge(edge: Edge, one: str, other: str, **fields: Any) -> Any:
    request = customer_service_pb2.MergeCustomersRequest(
        customer_id=one, other_customer_id=other, **fields
    )
    return await edge.customer.MergeCustomers(request, timeout=SECONDS)


async def undo(edge: Edge, customer_id: str, merge_id: str, **fields: Any) -> Any:
    request = customer_service_pb2.UndoMergeRequest(
        customer_id=customer_id, merge_id=merge_id, **fields
    )
    return await edge.customer.UndoMerge(request, timeout=SECONDS)


async def unmerge(edge: Edge, record_id: str, **fields: Any) -> Any:
    request = customer_service_pb2.UnmergeRecordRequest(record_id=record_id, **fields)
    return await edge.customer.UnmergeRecord(request, timeout=SECONDS)


async def two(edge: Edge) -> tuple[str, str]:
    one = await edge.identify(user("1"), traits={"city": "Kyoto"})
    other = await edge.identify(loyalty("a"), traits={"tier": "gold"})
    return one.customer_id, other.customer_id


async def test_a_merge_is_undone_and_each_side_is_what_it_was(edge: Edge) -> None:
    one, other = await two(edge)
    newest = len(await edge.house.events())
    before = [await edge.get(item, at_least_revision=newest) for item in (user("1"), loyalty("a"))]
    made = await edge.identify(user("1"), loyalty("a"))
    [merge_id] = made.merge_ids
    whole = await edge.get(loyalty("a"), at_least_revision=made.revision)
    assert (whole.customer_id, list(whole.record_ids)) == (one, [one, other])
    done = await undo(edge, one, merge_id)
    after = [
        await edge.get(item, at_least_revision=done.revision) for item in (user("1"), loyalty("a"))
    ]
    assert [c.customer_id for c in done.consequences.customers] == [one, other]
    assert [(t.customer_id, t.trait) for t in done.consequences.traits] == [
        (one, "tier"),
        (other, "city"),
    ]
    for customer in (*before, *after):
        customer.ClearField("revision")
    assert after == before
    again = await edge.identify(user("1"), loyalty("a"))
    assert [(item.place, item.reason) for item in again.left_out] == [(1, "SEPARATED")]


async def test_a_dry_run_says_what_would_be_and_changes_nothing(edge: Edge) -> None:
    one, other = await two(edge)
    tried = await merge(edge, one, other, dry_run=True)
    assert [list(c.record_ids) for c in tried.consequences.customers] == [[one, other]]
    assert tried.consequences.customers[0].identifiers == {"user_id": 1, "loyalty_id": 1}
    made = await merge(edge, other, one)
    assert made.customer_id == one
    events = len(await edge.house.events())
    dry = await undo(edge, one, made.merge_id, dry_run=True)
    assert len(await edge.house.events()) == events
    assert (await unmerge(edge, other)).consequences == dry.consequences


async def test_a_dry_run_names_the_segments_that_somebody_would_come_to_or_leave(
    edge: Edge,
) -> None:
    one, other = await two(edge)
    for name, expression in SEGMENTS.items():
        defined = await edge.define_segment(name, expression)
        await edge.until_active(name, revision=defined.revision)
    for message_id, identifier in (("m1", user("1")), ("m2", loyalty("a"))):
        await edge.ingest(signal(message_id, identifier))
    tried = await merge(edge, one, other, dry_run=True)
    assert named_in(tried) == {
        (one, "buyers", True),
        (other, "buyers", True),
        (one, "golden", True),
        (other, "homeless", False),
    }
    made = await merge(edge, one, other)
    assert not made.consequences.segments
    back = {(whose, segment, not belongs) for whose, segment, belongs in named_in(tried)}
    assert named_in(await undo(edge, one, made.merge_id, dry_run=True)) == back
    again = customer_service_pb2.UnmergeRecordRequest(record_id=other, dry_run=True)
    request = customer_service_pb2.ExecuteRequest(
        commands=[customer_service_pb2.CustomerCommand(unmerge_record=again)]
    )
    (outcome,) = (await edge.customer.Execute(request, timeout=SECONDS)).outcomes
    assert named_in(outcome.done) == back
    alone_again = await unmerge(edge, other, dry_run=True)
    assert (named_in(alone_again), alone_again.revision) == (back, made.revision)
    done = await undo(edge, one, made.merge_id)
    alone = query_service_pb2.ListSegmentsOfRequest(
        reference=common_pb2.CustomerReference(identifier=loyalty("a")),
        purpose="analytics",
        at_least_revision=done.revision,
    )
    found = await edge.query.ListSegmentsOf(alone, timeout=SECONDS)
    assert [m.segment for m in found.memberships] == ["golden", "homeless"]


async def test_a_dry_run_beside_what_is_meant_tells_of_how_it_was_before(edge: Edge) -> None:
    one, other = await two(edge)
    defined = await edge.define_segment("golden", SEGMENTS["golden"])
    await edge.until_active("golden", revision=defined.revision)
    meant = customer_service_pb2.MergeCustomersRequest(customer_id=one, other_customer_id=other)
    tried = customer_service_pb2.MergeCustomersRequest(
        customer_id=one, other_customer_id=other, dry_run=True
    )
    request = customer_service_pb2.ExecuteRequest(
        commands=[customer_service_pb2.CustomerCommand(merge_customers=m) for m in (meant, tried)]
    )
    made, told = (await edge.customer.Execute(request, timeout=SECONDS)).outcomes
    assert made.done.merge_ids
    assert named_in(told.done) == {(one, "golden", True)}


async def test_a_dry_run_tells_only_of_segments_that_a_purpose_may_see(edge: Edge) -> None:
    one, other = await two(edge)
    defined = await edge.define_segment("golden", SEGMENTS["golden"], purposes=["marketing"])
    await edge.until_active("golden", revision=defined.revision)
    assert named_in(await merge(edge, one, other, dry_run=True)) == set()
    await edge.consent("GIVEN", loyalty("a"))
    assert named_in(await merge(edge, one, other, dry_run=True)) == {(one, "golden", True)}
    await edge.consent("WITHDRAWN", user("1"))
    assert named_in(await merge(edge, one, other, dry_run=True)) == {(other, "golden", False)}


@pytest.mark.parametrize("whose", [0, 1])
async def test_an_undo_that_is_sent_again_names_the_customer_that_it_named(
    edge: Edge, whose: int
) -> None:
    people = await two(edge)
    made = await merge(edge, *people)
    command_id = CLOCK.new_id()
    named = [
        (await undo(edge, people[whose], made.merge_id, command_id=command_id)).customer_id
        for _ in range(2)
    ]
    assert named == [people[whose]] * 2
    await merge(edge, *people)
    again = CLOCK.new_id()
    named = [(await unmerge(edge, people[whose], command_id=again)).customer_id for _ in range(2)]
    assert named == [people[whose]] * 2


async def test_reasons_of_what_cannot_be_undone(edge: Edge) -> None:
    one, other = await two(edge)
    unknown = await refusal(undo(edge, one, NOBODY))
    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_MERGE")
    assert (await refusal(undo(edge, NOBODY, NOBODY))).reason == "UNKNOWN_CUSTOMER"
    assert (await refusal(unmerge(edge, other))).reason == "NOT_MERGED"
    assert (await refusal(merge(edge, one, NOBODY))).reason == "UNKNOWN_CUSTOMER"
    malformed = await refusal(merge(edge, one, "x"))
    assert malformed.fields == ("other_customer_id",)


async def test_an_identifier_is_linked_unlinked_and_moves(edge: Edge) -> None:
    one, other = await two(edge)
    phone = named("phone", "+81 90 1234 5678")
    await link(edge, phone, customer_id=one)
    taken = await unlink(edge, phone)
    assert taken.customer_id == one
    seen = await edge.get(user("1"), at_least_revision=taken.revision)
    assert [known.namespace for known in seen.identifiers] == ["user_id"]
    found = await refusal(edge.get(phone))
    assert found.reason == "UNKNOWN_CUSTOMER"
    moved = await link(edge, phone, customer_id=other)
    seen = await edge.get(phone, at_least_revision=moved.revision)
    assert seen.customer_id == other
    assert (await refusal(unlink(edge, phone, customer_id=one))).reason == "UNKNOWN_IDENTIFIER"
    assert (await refusal(link(edge, named("email", "n@x.test")))).reason == "UNKNOWN_CUSTOMER"
    over = await refusal(link(edge, user("2"), customer_id=one))
    assert (over.code, over.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "IDENTIFIER_TOO_MANY_VALUES",
    )


async def test_only_what_was_erased_is_readmitted(edge: Edge) -> None:
    request = customer_service_pb2.ReadmitIdentifierRequest(
        identifier=user("1"), reference="ticket 1"
    )
    found = await refusal(edge.customer.ReadmitIdentifier(request, timeout=SECONDS))
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_ERASED")


async def test_each_command_of_a_batch_has_its_own_outcome(edge: Edge) -> None:
    one, other = await two(edge)
    command, requests = customer_service_pb2.CustomerCommand, customer_service_pb2
    identify = requests.IdentifyRequest(source="shop", identifiers=[user("9"), user("null")])
    sent = CLOCK.new_id()
    unread = requests.MergeCustomersRequest(customer_id="x", command_id=sent)
    items = [
        command(identify=identify),
        command(undo_merge=requests.UndoMergeRequest(customer_id=one, merge_id=NOBODY)),
        command(),
        command(merge_customers=unread),
        command(
            record_consent=requests.RecordConsentRequest(
                customer_id=other, purpose="marketing", state=common_pb2.CONSENT_STATE_GIVEN
            )
        ),
    ]
    request = requests.ExecuteRequest(commands=items)
    made, unknown, none, malformed, given = (
        await edge.customer.Execute(request, timeout=SECONDS)
    ).outcomes
    assert made.done.created
    assert [(item.place, item.reason) for item in made.done.left_out] == [(1, "BLOCKED")]
    assert (unknown.failure.code, unknown.failure.reason) == (5, "UNKNOWN_MERGE")
    assert (none.failure.code, none.failure.reason) == (3, "INVALID_FIELD")
    assert (malformed.failure.reason, malformed.command_id) == ("INVALID_FIELD", sent)
    assert not none.command_id
    assert given.done.customer_id == other
    assert (await edge.check(loyalty("a"))).open
    empty = await refusal(edge.customer.Execute(requests.ExecuteRequest(), timeout=SECONDS))
    assert empty.reason == "INVALID_FIELD"


async def test_the_client_of_our_tools_merges_and_undoes(edge: Edge) -> None:
    one, other = await two(edge)
    async with Client(edge.address) as client:
        merge_id = await client.merge_customers(one, other)
        tried = await client.undo_merge(one, merge_id, dry_run=True)
        assert await client.undo_merge(one, merge_id) == tried
        await client.link_identifiers(one, [("email", "yumi@x.test")], source="shop")
        await client.unlink_identifier(("email", "yumi@x.test"))
        await client.merge_customers(one, other)
        assert (await client.unmerge_record(other)).customers


async def test_every_command_to_a_customer_can_be_part_of_a_batch(edge: Edge) -> None:
    made = await edge.identify(user("1"))
    requests = customer_service_pb2
    command = requests.CustomerCommand
    known: dict[str, Any] = {"customer_id": made.customer_id}
    stated = [requests.Preference(channel="sms", frequency="daily")]
    ended: dict[str, Any] = {"state": common_pb2.CONSENT_STATE_EXPIRED, "imported": True}
    home: dict[str, Any] = {"household_id": NOBODY, **known}
    batch = [
        command(
            record_consent=requests.RecordConsentRequest(purpose="marketing", **ended, **known)
        ),
        command(set_preferences=requests.SetPreferencesRequest(preferences=stated, **known)),
        command(link_household=requests.LinkHouseholdRequest(source="shop", **home)),
        command(unlink_household=requests.UnlinkHouseholdRequest(**home)),
    ]
    empty = [command() for _field in command.DESCRIPTOR.fields]
    for item, field in zip(empty, command.DESCRIPTOR.fields, strict=True):
        getattr(item, field.name).SetInParent()
    request = requests.ExecuteRequest(commands=[*batch, *empty])
    outcomes = (await edge.customer.Execute(request, timeout=SECONDS)).outcomes
    assert [o.done.customer_id for o in outcomes[: len(batch)]] == [made.customer_id] * len(batch)
    assert {o.failure.code for o in outcomes[len(batch) :]} <= {3, 5}  # read, and refused


async def test_an_id_in_upper_case_names_the_same_customer(edge: Edge) -> None:
    known = await edge.identify(user("a"))
    other = await edge.identify(user("b"))
    upper = known.customer_id.upper()
    request = query_service_pb2.GetCustomerRequest(
        customer_id=upper, purpose="service", at_least_revision=other.revision
    )
    found = await edge.query.GetCustomer(request, timeout=SECONDS)
    assert found.customer.customer_id == known.customer_id
    merged = await merge(edge, other.customer_id.upper(), upper)
    assert merged.customer_id == known.customer_id
