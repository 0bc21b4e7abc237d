"""`expected_revision` over a real server: every method that changes a customer honours it."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import message_factory

from koseki.v1 import customer_service_pb2
from tests.services.edge import SECONDS, Edge, refusal, refused, user
from tests.services.sound import METHODS, People, commands, settle

SERVICE = "koseki.v1.CustomerService"
CHANGES = sorted(
    method.name
    for name, method in METHODS.items()
    if name.startswith(SERVICE) and method.name != "Execute"
)
ITEMS = {
    "".join(part.title() for part in field.name.split("_")): field.name
    for field in customer_service_pb2.CustomerCommand.DESCRIPTOR.fields
}
"""How a batch names each method."""


def call(edge: Edge, method: str, people: People, **said: Any) -> Any:
    """Call a method with its sound request, and what else is said."""
    request_class = message_factory.GetMessageClass(METHODS[f"{SERVICE}.{method}"].input_type)
    request = request_class(**commands(people)[method], **said)
    return getattr(edge.customer, method)(request, timeout=SECONDS)


@pytest.mark.parametrize("method", CHANGES)
async def test_every_change_is_made_only_to_whom_it_expects(edge: Edge, method: str) -> None:
    people = await settle(edge)
    stale = await refusal(call(edge, method, people, expected_revision=1))
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "CUSTOMER_CHANGED")
    current = int(stale.metadata["current_revision"])
    assert 1 < current <= people.revision
    earlier = await refusal(call(edge, method, people, expected_revision=current - 1))
    assert earlier.reason == "CUSTOMER_CHANGED"
    assert await refused(call(edge, method, people, expected_revision=current)) is None


@pytest.mark.parametrize("method", CHANGES)
async def test_a_batch_is_told_for_each_of_its_items(edge: Edge, method: str) -> None:
    people = await settle(edge)
    fields = commands(people)[method]
    item: Any = customer_service_pb2.CustomerCommand
    items = [
        item(**{ITEMS[method]: {**fields, "expected_revision": revision}})
        for revision in (1, people.revision)
    ]
    request = customer_service_pb2.ExecuteRequest(commands=items)
    stale, served = (await edge.customer.Execute(request, timeout=SECONDS)).outcomes
    assert served.WhichOneof("outcome") == "done", served
    assert (stale.failure.code, stale.failure.reason) == (10, "CUSTOMER_CHANGED")
    assert stale.failure.current_revision > 1


async def test_what_a_read_or_an_answer_gave_may_be_expected(edge: Edge) -> None:
    made = await edge.identify(user("1"), expected_revision=0)
    for value in range(3):
        seen = await edge.get(user("1"), at_least_revision=made.revision)
        traits = {"n": value}
        read = await edge.set_traits(user("1"), traits=traits, expected_revision=seen.revision)
        made = await edge.identify(user("1"), traits=traits, expected_revision=read.revision)


async def test_zero_creates_and_never_changes_somebody(edge: Edge) -> None:
    made = await edge.identify(user("1"), expected_revision=0)
    assert made.created
    stale = await refusal(edge.identify(user("1"), traits={"a": 1}, expected_revision=0))
    assert stale.metadata["current_revision"] == str(made.revision)
    unborn = await refusal(edge.identify(user("2"), expected_revision=made.revision))
    assert (unborn.reason, unborn.metadata["current_revision"]) == ("CUSTOMER_CHANGED", "0")


async def test_a_command_sent_again_is_answered_as_then_also_by_other_hosts(edge: Edge) -> None:
    made = await edge.identify(user("1"))
    command: dict[str, Any] = {
        "command_id": edge.house.clock.new_id(),
        "expected_revision": made.revision,
        "traits": {"tier": "gold"},
    }
    first = await edge.set_traits(user("1"), **command)
    await edge.set_traits(user("1"), traits={"tier": "tin"})
    assert await edge.set_traits(user("1"), **command) == first
    await edge.restart_hosts()
    assert await edge.set_traits(user("1"), **command) == first


async def test_a_dry_run_says_what_the_change_itself_would(edge: Edge) -> None:
    one, other = await edge.identify(user("1")), await edge.identify(user("2"))
    said: dict[str, Any] = {"customer_id": one.customer_id, "other_customer_id": other.customer_id}
    expected: dict[str, Any] = {"dry_run": True, "expected_revision": other.revision}
    trying = customer_service_pb2.MergeCustomersRequest(**said, **expected)
    await edge.customer.MergeCustomers(trying, timeout=SECONDS)
    await edge.set_traits(user("2"))
    stale = await refusal(edge.customer.MergeCustomers(trying, timeout=SECONDS))
    assert stale.reason == "CUSTOMER_CHANGED"
