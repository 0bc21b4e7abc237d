"""The rules of identity over a real server: set, refused, and what they leave of what is held."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from koseki.v1 import common_pb2, customer_service_pb2, workspace_service_pb2
from tests.services.edge import SECONDS, Edge, loyalty, named, refusal, unlink, user

EMAIL = common_pb2.Identifier(namespace="email", value="desk@shop.test")
IN_LOWER_CASE = workspace_service_pb2.NORMALISER_LOWER_CASE


async def set_rules(edge: Edge, *namespaces: Any, **fields: Any) -> Any:
    request = workspace_service_pb2.SetIdentityRulesRequest(namespaces=namespaces, **fields)
    return await edge.workspace.SetIdentityRules(request, timeout=SECONDS)


async def readmit(edge: Edge, identifier: Any) -> Any:
    request = customer_service_pb2.ReadmitIdentifierRequest(
        identifier=identifier, reference="ticket 1"
    )
    return await edge.customer.ReadmitIdentifier(request, timeout=SECONDS)


async def erase(edge: Edge, *identifiers: Any) -> Any:
    request = customer_service_pb2.EraseCustomerRequest(identifiers=identifiers)
    return await edge.customer.EraseCustomer(request, timeout=SECONDS)


async def test_what_writes_the_values_of_a_namespace_stays_once_anybody_is_known(
    edge: Edge,
) -> None:
    as_text, *others = (await edge.rules()).namespaces
    lowered = workspace_service_pb2.IdentityNamespace(
        name=as_text.name, values_max=1, normaliser=IN_LOWER_CASE
    )
    for first in (lowered, as_text, lowered):
        await set_rules(edge, first, *others)
    await edge.identify(user("Ann"))
    erased = await erase(edge, user("ANN"))
    for is_gone in (False, True):
        if is_gone:
            await set_rules(edge, *others)
        found = await refusal(set_rules(edge, as_text, *others))
        assert found.code is grpc.StatusCode.FAILED_PRECONDITION
        assert found.reason == "NORMALISER_IN_USE"
    fresh = workspace_service_pb2.IdentityNamespace(name="member", values_max=1)
    await set_rules(edge, lowered, fresh, *others)
    assert (await refusal(edge.identify(user("aNN")))).reason == "IDENTIFIER_ERASED"
    assert (await readmit(edge, user("AnN"))).revision > erased.revision


@pytest.mark.parametrize("is_gone", [False, True])
async def test_who_holds_what_is_blocked_by_now_or_gone_is_found_by_it_and_loses_it(
    edge: Edge, *, is_gone: bool
) -> None:
    held = await edge.identify(EMAIL, loyalty("a"))
    other = await edge.identify(named("email", "mine@shop.test"))
    namespaces = (await edge.rules()).namespaces
    email = next(n for n in namespaces if n.name == "email")
    email.blocked_patterns.append("*@shop.test")
    await set_rules(edge, *(n for n in namespaces if n is not email or not is_gone))
    reason = "UNKNOWN_NAMESPACE" if is_gone else "IDENTIFIER_BLOCKED"
    assert (await refusal(edge.identify(EMAIL))).reason == reason
    for past in (None, common_pb2.AsOf(revision=other.revision)):
        assert (await edge.get(EMAIL, as_of=past)).customer_id == held.customer_id
    done = await unlink(edge, EMAIL)
    assert done.customer_id == held.customer_id
    gone = await refusal(edge.get(EMAIL, at_least_revision=done.revision))
    assert gone.reason == "UNKNOWN_CUSTOMER"
    erased = await erase(edge, named("email", "mine@shop.test"))
    assert erased.customer_id == other.customer_id
    assert (await readmit(edge, named("email", "mine@shop.test"))).revision > erased.revision


@pytest.mark.parametrize("value", ["null", "NULL", "00", "0000-0000"])
async def test_values_that_name_nobody_join_nobody(edge: Edge, value: str) -> None:
    found = await refusal(edge.identify(user(value)))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "IDENTIFIER_BLOCKED")
    made = await edge.identify(user(value), loyalty("a"))
    assert [(item.place, item.reason) for item in made.left_out] == [(0, "BLOCKED")]


async def test_rules_come_back_as_they_were_set_and_hold_at_once(edge: Edge) -> None:
    before = (await edge.rules()).namespaces
    assert [n.name for n in before][:3] == ["user_id", "email", "phone"]
    message = workspace_service_pb2.IdentityNamespace
    part = workspace_service_pb2.IdentityPart
    person = message(
        name="person", values_max=1, parts=[part(name="name"), part(name="birth_date")]
    )
    await set_rules(edge, *before, person)
    assert [n.name for n in (await edge.rules()).namespaces][-1] == "person"
    written = common_pb2.Identifier(
        namespace="person", parts={"name": "  Yamada  TARO ", "birth_date": "1970-01-01"}
    )
    again = common_pb2.Identifier(
        namespace="person", parts={"name": "yamada taro", "birth_date": "1970-01-01"}
    )
    made = await edge.identify(written, user("1"))
    assert (await edge.identify(again)).customer_id == made.customer_id
    half = common_pb2.Identifier(namespace="person", parts={"name": "yamada taro"})
    assert (await refusal(edge.identify(half))).reason == "INVALID_IDENTIFIER"
    alone = await refusal(edge.identify(named("name", "yamada taro")))
    assert alone.reason == "UNKNOWN_NAMESPACE"


async def test_malformed_rules_are_refused(edge: Edge) -> None:
    message = workspace_service_pb2.IdentityNamespace
    for wrong in (
        [],
        [message(name="Big", values_max=1)],
        [message(name="a", values_max=0)],
        [message(name="a", values_max=1), message(name="a", values_max=2)],
        [message(name="a", values_max=1, normaliser=99)],  # type: ignore[arg-type] # unknown
    ):
        found = await refusal(set_rules(edge, *wrong))
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
