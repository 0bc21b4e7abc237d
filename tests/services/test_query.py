"""`QueryService` over a real server: what a purpose may see (R12), and no stale yes (R13)."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import grpc
import pytest

from eventlog.jetstream import JetStreamEventLog
from koseki.v1 import common_pb2, query_service_pb2
from projections.store import READERS_MAX
from tests.services.edge import Edge, edge_over, loyalty, refusal, signal, user

NOBODY = "01890000-0000-7000-8000-000000000000"


async def test_a_customer_is_seen_whole_by_any_id_it_ever_had(jetstream_edge: Edge) -> None:
    edge = jetstream_edge
    ids = {
        (await edge.identify(user("1"), traits={"name": "Yumi"})).customer_id,
        (await edge.identify(loyalty("a"), source="desk")).customer_id,
    }
    [counted] = await edge.ingest(signal("m1", user("1"), dollars=0.1))
    consent = await edge.consent("GIVEN", user("1"), notice_version="3")
    merged = await edge.identify(user("1"), loyalty("a"))
    answers = [
        await edge.get(customer_id=customer_id, at_least_revision=merged.revision)
        for customer_id in sorted(ids)
    ]
    seen = answers[0]
    assert answers[1] == seen == await edge.get(loyalty("a"))
    assert seen.customer_id == counted.customer_id == merged.customer_id == min(ids)
    assert list(seen.record_ids) == sorted(ids)
    assert [(i.namespace, i.value, i.source) for i in seen.identifiers] == [
        ("loyalty_id", "a", "desk"),
        ("user_id", "1", "shop"),
    ]
    assert [(trait.key, trait.value.string_value) for trait in seen.traits] == [("name", "Yumi")]
    assert [(tally.name, tally.count, dict(tally.sums)) for tally in seen.signals] == [
        ("Order Completed", 1, {"dollars": "0.1"})
    ]
    assert [(place.purpose, place.open) for place in seen.consents] == [
        ("analytics", True),
        ("marketing", True),
        ("service", True),
    ]
    assert seen.consents[1].notice_version == "3"
    assert (seen.purpose, seen.purpose_open) == ("service", True)
    assert seen.revision >= merged.revision > consent.revision


async def test_at_least_revision_reads_ones_own_writes_at_once(jetstream_edge: Edge) -> None:
    for number in range(20):
        done = await jetstream_edge.identify(user(str(number)), traits={"n": number})
        seen = await jetstream_edge.get(user(str(number)), at_least_revision=done.revision)
        assert seen.traits[0].value.number_value == number
        assert seen.revision >= done.revision


async def test_a_revision_that_is_not_there_in_time_is_said(edge: Edge) -> None:
    done = await edge.identify(user("1"))
    ahead = done.revision + 1
    for call in (
        edge.query.GetCustomer(
            query_service_pb2.GetCustomerRequest(
                identifier=user("1"), purpose="service", at_least_revision=ahead
            ),
            timeout=0.3,
        ),
        edge.query.BatchGetCustomers(
            query_service_pb2.BatchGetCustomersRequest(
                references=[common_pb2.CustomerReference(identifier=user("1"))],
                purpose="service",
                at_least_revision=ahead,
            ),
            timeout=0.3,
        ),
    ):
        found = await refusal(call)
        assert (found.code, found.reason) == (
            grpc.StatusCode.UNAVAILABLE,
            "REVISION_NOT_REACHED",
        )


async def test_who_waits_for_a_revision_is_answered_when_it_comes(edge: Edge) -> None:
    done = await edge.identify(user("1"))
    waiting = asyncio.create_task(edge.get(user("1"), at_least_revision=done.revision + 1))
    later = await edge.set_traits(user("1"))
    assert (await waiting).revision >= later.revision


@pytest.mark.parametrize("state", ["REFUSED", "WITHDRAWN"])
async def test_a_closed_purpose_hides_everything_personal(edge: Edge, state: str) -> None:
    await edge.identify(user("1"), traits={"name": "Yumi"})
    await edge.ingest(signal("m1", user("1")))
    done = await edge.consent(state, user("1"), purpose="analytics")
    fields = {"at_least_revision": done.revision}
    hidden = await edge.get(user("1"), purpose="analytics", **fields)
    open_one = await edge.get(user("1"), **fields)
    assert not hidden.purpose_open
    assert hidden.customer_id == done.customer_id
    assert not [*hidden.identifiers, *hidden.traits, *hidden.signals]
    assert [place.purpose for place in hidden.consents] == ["analytics"]
    assert open_one.purpose_open
    assert open_one.traits
    assert open_one.signals


async def test_what_a_source_says_is_seen_only_for_purposes_that_it_declares(edge: Edge) -> None:
    await edge.consent("GIVEN", user("1"))
    await edge.identify(user("1"), traits={"plan": "x"}, source="desk")
    await edge.identify(user("1"), traits={"campaign": "y"}, source="ads")
    await edge.ingest(signal("m1", user("1"), name="Called"), source="desk")
    [last] = await edge.ingest(signal("m2", user("1"), name="Clicked"), source="ads")

    async def seen_for(purpose: str) -> tuple[list[str], list[str]]:
        seen = await edge.get(user("1"), purpose=purpose, at_least_revision=last.revision)
        assert seen.purpose_open
        return [trait.key for trait in seen.traits], [tally.name for tally in seen.signals]

    assert await seen_for("service") == (["plan"], ["Called"])
    assert await seen_for("marketing") == (["campaign"], ["Clicked"])
    assert await seen_for("analytics") == ([], [])


async def test_consent_to_a_purpose_opens_and_closes_it(edge: Edge) -> None:
    states = []
    for state in ("GIVEN", "WITHDRAWN", "GIVEN", "REFUSED"):
        await edge.consent(state, user("1"))
        verdict = await edge.check(user("1"))
        states.append((verdict.open, verdict.reason))
        assert verdict.state == common_pb2.ConsentState.Value(f"CONSENT_STATE_{state}")
        assert verdict.act_event_id
    assert states == [(True, "OPEN"), (False, "WITHDRAWN"), (True, "OPEN"), (False, "REFUSED")]


async def test_a_yes_is_never_stale_though_another_hosts_wrote(
    jetstream_edge: Edge, jetstream_log: JetStreamEventLog, tmp_path: Path
) -> None:
    async with edge_over(jetstream_log, tmp_path / "second") as other:
        for _ in range(5):
            await jetstream_edge.consent("GIVEN", user("1"))
            assert (await jetstream_edge.check(user("1"))).open
            assert (await other.check(user("1"))).open
            await other.consent("WITHDRAWN", user("1"))
            assert not (await jetstream_edge.check(user("1"))).open
            assert not (await other.check(user("1"))).open


async def test_a_purpose_whose_basis_changed_elsewhere_is_judged_by_the_new_one(
    jetstream_edge: Edge, jetstream_log: JetStreamEventLog, tmp_path: Path
) -> None:
    assert (await jetstream_edge.check(user("1"), purpose="analytics")).open
    async with edge_over(jetstream_log, tmp_path / "second") as other:
        await other.define(purpose="analytics", lawful_basis=common_pb2.LAWFUL_BASIS_CONSENT)
        assert not (await jetstream_edge.check(user("1"), purpose="analytics")).open


async def test_somebody_unknown_is_judged_as_a_person_without_acts(edge: Edge) -> None:
    verdicts = {
        purpose: await edge.check(user("nobody"), purpose=purpose)
        for purpose in ("service", "analytics", "marketing")
    }
    assert {purpose: verdict.open for purpose, verdict in verdicts.items()} == {
        "service": True,
        "analytics": True,
        "marketing": False,
    }
    assert verdicts["marketing"].reason == "NOT_GIVEN"
    assert not verdicts["service"].customer_id


async def test_of_several_customers_all_must_allow_it(edge: Edge) -> None:
    await edge.consent("GIVEN", user("1"))
    await edge.consent("GIVEN", user("2"))
    assert (await edge.check(user("1"), user("2"))).open
    await edge.consent("REFUSED", user("2"))
    assert not (await edge.check(user("1"), user("2"))).open


async def test_a_verdict_can_be_recorded_but_not_on_somebody_unknown(edge: Edge) -> None:
    given = await edge.consent("GIVEN", user("1"))
    plain = await edge.check(user("1"))
    recorded = await edge.check(user("1"), record=True)
    nobody = await refusal(edge.check(user("2"), record=True))
    assert recorded.open
    assert plain.revision == given.revision < recorded.revision
    assert recorded.rules_version == (await edge.rules()).version
    assert (nobody.code, nobody.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_CUSTOMER")


async def test_an_unreadable_act_is_a_no_and_an_error_where_it_was_to_be_recorded(
    edge: Edge,
) -> None:
    given = await edge.consent("GIVEN", user("1"))
    edge.house.memory.damage_body(given.revision, b'{"purpose":')
    await edge.restart_hosts()
    verdict = await edge.check(user("1"))
    refused = await refusal(edge.check(user("1"), record=True))
    change = await refusal(edge.consent("GIVEN", user("1")))
    assert not verdict.open
    assert verdict.reason in {"CUSTOMER_UNREADABLE", "LOG_DAMAGED"}
    assert refused.code == change.code == grpc.StatusCode.DATA_LOSS


async def test_reads_name_their_purpose_and_only_auditors_audit(edge: Edge) -> None:
    await edge.identify(user("1"))
    for purpose, code, reason in (
        ("", grpc.StatusCode.INVALID_ARGUMENT, "MISSING_PURPOSE"),
        ("audit", grpc.StatusCode.PERMISSION_DENIED, "AUDITOR_ONLY"),
        ("nothing", grpc.StatusCode.NOT_FOUND, "UNKNOWN_PURPOSE"),
    ):
        for call in (
            edge.get(user("1"), purpose=purpose),
            edge.get(user("nobody"), purpose=purpose),
            edge.get_many({"identifier": user("1")}, purpose=purpose),
            edge.check(user("1"), purpose=purpose),
        ):
            found = await refusal(call)
            assert (found.code, found.reason) == (code, reason)


async def test_what_a_read_names_must_be_sound_and_known(edge: Edge) -> None:
    defined = len(await edge.house.events())
    for fields, code, reason in (
        ({}, grpc.StatusCode.INVALID_ARGUMENT, "MISSING_IDENTIFIER"),
        ({"identifier": user("")}, grpc.StatusCode.INVALID_ARGUMENT, "EMPTY_IDENTIFIER"),
        ({"identifier": user("a\0b")}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_IDENTIFIER"),
        (
            {"identifier": common_pb2.Identifier(namespace="passport", value="1")},
            grpc.StatusCode.INVALID_ARGUMENT,
            "UNKNOWN_NAMESPACE",
        ),
        ({"identifier": user("1")}, grpc.StatusCode.NOT_FOUND, "UNKNOWN_CUSTOMER"),
        ({"customer_id": NOBODY}, grpc.StatusCode.NOT_FOUND, "UNKNOWN_CUSTOMER"),
        ({"customer_id": "not an id \0"}, grpc.StatusCode.NOT_FOUND, "UNKNOWN_CUSTOMER"),
        ({"customer_id": "x" * 10_000}, grpc.StatusCode.NOT_FOUND, "UNKNOWN_CUSTOMER"),
        (
            {"identifier": user("1"), "workspace": "other"},
            grpc.StatusCode.NOT_FOUND,
            "UNKNOWN_WORKSPACE",
        ),
    ):
        found = await refusal(edge.get(at_least_revision=defined, **fields))
        assert (found.code, found.reason) == (code, reason), fields


async def test_many_customers_are_read_as_of_one_revision_each_with_its_own_result(
    edge: Edge,
) -> None:
    first = await edge.identify(user("1"), loyalty("a"))
    last = await edge.identify(user("2"))
    answer = await edge.get_many(
        {"identifier": user("1")},
        {"identifier": user("nobody")},
        {},
        {"identifier": user("\0")},
        {"customer_id": first.customer_id},
        {"identifier": user("2")},
        at_least_revision=last.revision,
    )
    assert [r.customer.customer_id or r.reason for r in answer.results] == [
        first.customer_id,
        "UNKNOWN_CUSTOMER",
        "MISSING_IDENTIFIER",
        "INVALID_IDENTIFIER",
        first.customer_id,
        last.customer_id,
    ]
    assert {r.customer.revision for r in answer.results if r.customer.customer_id} == {
        answer.revision
    }


async def test_batches_have_1_to_1000_references(edge: Edge) -> None:
    known = await edge.identify(user("1"))
    for references in ([], [{"identifier": user("1")}] * 1_001):
        found = await refusal(edge.get_many(*references))
        assert (found.code, found.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        )
    most = [{"identifier": user("1")}] * 1_000
    answer = await edge.get_many(*most, at_least_revision=known.revision)
    assert {r.customer.customer_id for r in answer.results} == {known.customer_id}


async def test_reads_that_fail_leave_the_read_side_to_others(edge: Edge) -> None:
    await edge.identify(user("1"))
    gc.disable()  # as good as so in a gateway: what is freed there is freed by itself
    try:
        for _ in range(READERS_MAX + 1):
            assert (await refusal(edge.get(user("1"), purpose="typo"))).reason == "UNKNOWN_PURPOSE"
    finally:
        gc.enable()
    assert (await edge.get(user("1"))).identifiers
