"""Consent over a real server: states, validity, history, receipts, TCF strings, choices."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2, timestamp_pb2

from koseki.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    common_pb2,
    customer_service_pb2,
    query_service_pb2,
    workspace_service_pb2,
)
from services.client import Client
from tests.services.edge import SECONDS, Edge, loyalty, refusal, signal, user

TCF = "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA"
"""Of 2022-04-07, in English, of no purpose: a string of the IAB's documents."""


def stamp(time: datetime) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(time)
    return message


async def history(edge: Edge, who: Any, **fields: Any) -> Any:
    fields = {"purpose": "service"} | fields
    request = query_service_pb2.ListConsentHistoryRequest(identifier=who, **fields)
    return await edge.query.ListConsentHistory(request, timeout=SECONDS)


async def test_an_agreement_closes_by_itself_when_its_time_is_over(edge: Edge) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    done = await edge.consent("GIVEN", user("1"), valid_until=stamp(soon))
    first = await edge.check(user("1"))
    assert (first.open, first.valid_until.ToDatetime(tzinfo=UTC)) == (True, soon)
    before = len(await edge.house.events())
    while (late := await edge.check(user("1"))).open:
        assert datetime.now(UTC) < soon + timedelta(seconds=5)
    assert (late.reason, late.act_event_id) == ("EXPIRED", first.act_event_id)
    assert len(await edge.house.events()) == before
    seen = await edge.get(user("1"), purpose="marketing", at_least_revision=done.revision)
    assert not seen.purpose_open


async def test_what_the_table_ignores_or_refuses_is_said_with_its_reason(edge: Edge) -> None:
    await edge.consent("GIVEN", user("1"))
    again = await edge.consent("REQUESTED", user("1"))
    stands = await refusal(edge.consent("TERMINATED", user("1")))
    never = await refusal(edge.consent("RENEWED", user("2")))
    assert again.ignored == "ALREADY_GIVEN"
    assert (stands.code, stands.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "CONSENT_STANDS",
    )
    assert never.reason == "CONSENT_NEVER_GIVEN"
    wrong = await refusal(edge.consent("GIVEN", user("1"), acted_by="CONSENT_ACTOR_AUTHORITY"))
    assert wrong.reason == "INVALID_ACTOR"


async def test_the_history_lists_every_act_with_its_details_in_pages(edge: Edge) -> None:
    states = ["REQUESTED", "GIVEN", "RENEWED", "WITHDRAWN", "REVOKED"]
    for state in states:
        done = await edge.consent(
            state, user("1"), notice_version=f"of {state}", jurisdiction="JP", evidence={"x": 1}
        )
    found, token = [], ""
    while True:
        page = await history(
            edge, user("1"), at_least_revision=done.revision, page_size=2, page_token=token
        )
        found += page.acts
        token = page.next_page_token
        if not token:
            break
        assert len(page.acts) == 2
    assert [act.notice_version for act in found] == [f"of {state}" for state in states]
    assert [act.acted_by for act in found] == [3, 1, 1, 1, 3]
    assert all(act.evidence["x"] == 1 and act.jurisdiction == "JP" for act in found)


async def test_of_a_closed_purpose_the_history_shows_its_own_acts_without_evidence(
    edge: Edge,
) -> None:
    await edge.consent("GIVEN", user("1"), purpose="analytics", evidence={"secret": 1})
    done = await edge.consent("REFUSED", user("1"), evidence={"secret": 1}, method="secret")
    page = await history(edge, user("1"), purpose="marketing", at_least_revision=done.revision)
    assert [act.purpose for act in page.acts] == ["marketing"]
    assert "secret" not in str(page)
    nobody = await refusal(history(edge, user("2")))
    assert nobody.reason == "UNKNOWN_CUSTOMER"


@pytest.mark.parametrize("token", ["x", "-1", "1_0", "\u0661", "9" * 33, "9" * 4301])
async def test_a_page_token_that_is_no_place_in_the_history_is_refused(
    edge: Edge, token: str
) -> None:
    done = await edge.consent("GIVEN", user("1"))
    asked = history(edge, user("1"), at_least_revision=done.revision, page_token=token)
    bad = await refusal(asked)
    assert (bad.code, bad.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_whoever_asks_is_told_by_which_identifiers_nobody_was_judged(edge: Edge) -> None:
    known, apart, gone = user("1"), user("2"), loyalty("gone")
    for item in (known, apart, gone):
        await edge.consent("GIVEN", item)
    erasing = customer_service_pb2.EraseCustomerRequest(identifiers=[gone])
    await edge.customer.EraseCustomer(erasing, timeout=SECONDS)
    for record in (False, True):
        answer = await edge.check(user("null"), known, gone, apart, record=record)
        assert answer.open
        assert [(item.place, item.reason) for item in answer.left_out] == [
            (0, "BLOCKED"),
            (2, "ERASED"),
        ]
    assert not (await edge.check(known, apart)).left_out
    await edge.consent("WITHDRAWN", apart)
    assert not (await edge.check(known, apart)).open
    past = common_pb2.AsOf(revision=answer.revision)
    before = await edge.check(user("null"), known, as_of=past)
    assert [(item.place, item.reason) for item in before.left_out] == [(0, "BLOCKED")]


async def test_whoever_records_consent_is_told_which_identifiers_were_not_used(edge: Edge) -> None:
    names = workspace_service_pb2.PurposeNames(purposes=["marketing"])
    await edge.register(source="ads", purposes=["marketing"], tcf_purposes={1: names})
    both = [user("1"), user("2")]
    customers = [(await edge.identify(item)).customer_id for item in both]
    given = await edge.consent("GIVEN", *both)
    said = await record_tcf(edge, TCF, identifiers=both)
    again = await record_tcf(edge, TCF, identifiers=both)
    used = customers.index(given.customer_id)
    for done in (given, said, again):
        assert done.customer_id == customers[used]
        assert [(item.place, item.reason) for item in done.left_out] == [
            (1 - used, "TOO_MANY_VALUES")
        ]
    assert (said.ignored, again.ignored) == ("", "ALREADY_SAID")
    assert (await edge.check(both[1 - used])).reason == "NOT_GIVEN"
    assert not (await edge.consent("WITHDRAWN", both[used])).left_out


async def test_an_import_never_beats_what_the_person_did_here(edge: Edge) -> None:
    await edge.consent("WITHDRAWN", user("1"))
    await edge.consent("GIVEN", user("1"), imported=True)
    assert not (await edge.check(user("1"))).open
    long_ago = stamp(datetime(2020, 1, 1, tzinfo=UTC))
    await edge.consent("GIVEN", user("2"), imported=True, happened_at=long_ago)
    assert (await edge.check(user("2"))).open
    await edge.consent("EXPIRED", user("2"), imported=True)
    assert not (await edge.check(user("2"))).open


async def receipt(edge: Edge, who: Any, act_event_id: str, **fields: Any) -> Any:
    request = audit_service_pb2.GetReceiptRequest(
        identifier=who, act_event_id=act_event_id, **({"purpose": "marketing"} | fields)
    )
    stub: Any = audit_service_pb2_grpc.AuditServiceStub(edge.channel)
    return await stub.GetReceipt(request, timeout=SECONDS)


async def test_a_receipt_has_the_structure_of_the_standard(edge: Edge) -> None:
    notice = workspace_service_pb2.PublishNoticeRequest(
        purpose="marketing", version="7", language="ja", text="お知らせ"
    )
    await edge.workspace.PublishNotice(notice, timeout=SECONDS)
    until = datetime(2099, 1, 1, tzinfo=UTC)
    done = await edge.consent(
        "GIVEN",
        user("1"),
        notice_version="7",
        notice_language="ja",
        jurisdiction="JP",
        valid_until=stamp(until),
        evidence={"secret": 1},
    )
    event_id = (await edge.check(user("1"))).act_event_id
    answer = await receipt(edge, user("1"), event_id, at_least_revision=done.revision)
    said = json.loads(answer.receipt)
    assert said["@context"]["dpv"] == "https://w3id.org/dpv#"
    assert said["@type"] == "dpv:ConsentReceipt"
    record = said["dpv:hasRecordOfActivity"]
    assert (record["@type"], record["dct:identifier"]) == ("dpv:ConsentRecord", event_id)
    assert record["dpv:hasDataSubject"]["@id"] == f"urn:uuid:{done.customer_id}"
    assert record["dpv:hasProcess"]["dpv:hasPurpose"]["dct:title"] == "marketing"
    assert record["dpv:hasProcess"]["dpv:hasLegalBasis"] == "dpv:Consent"
    assert record["dpv:hasJurisdiction"] == "JP"
    status = record["dpv:hasConsentStatus"]
    assert status["@type"] == "dpv:ConsentGiven"
    assert status["dpv:hasTimestamp"]["@type"] == "xsd:dateTime"
    assert status["dpv:hasDuration"]["dct:valid"]["@value"] == until.isoformat()
    (digest,) = record["dpv:hasNotice"]["koseki:sha256"]
    assert (len(digest), record["dpv:hasNotice"]["dct:hasVersion"]) == (64, "7")
    assert "secret" not in answer.receipt
    unknown = await refusal(receipt(edge, user("1"), done.command_id))
    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ACT")


async def test_a_receipt_tells_of_its_purpose_as_it_was_when_the_act_was_recorded(
    edge: Edge,
) -> None:
    consent, interest = "LAWFUL_BASIS_CONSENT", "LAWFUL_BASIS_LEGITIMATE_INTEREST"
    await edge.define(purpose="marketing", lawful_basis=consent, description="Letters")
    await edge.consent("GIVEN", user("1"))
    await edge.define(purpose="marketing", lawful_basis=interest, description="Letters and calls")
    done = await edge.consent("REFUSED", user("1"))
    page = await history(edge, user("1"), at_least_revision=done.revision)
    told = []
    for act in page.acts:
        answer = await receipt(edge, user("1"), act.event_id, purpose="service")
        process = json.loads(answer.receipt)["dpv:hasRecordOfActivity"]["dpv:hasProcess"]
        described = process["dpv:hasPurpose"]["dct:description"]
        told.append((process["dpv:hasLegalBasis"], described))
    assert told == [("dpv:Consent", "Letters"), ("dpv:LegitimateInterest", "Letters and calls")]


async def test_agreements_are_to_published_notices_only_and_a_no_is_not_held_up(
    edge: Edge,
) -> None:
    def publish(text: str) -> Any:
        request = workspace_service_pb2.PublishNoticeRequest(
            purpose="marketing", version="1", language="en", text=text
        )
        return edge.workspace.PublishNotice(request, timeout=SECONDS)

    first, again = await publish("a"), await publish("a")
    assert again.revision == first.revision
    assert (await refusal(publish("b"))).reason == "NOTICE_EXISTS"
    unknown = await refusal(edge.consent("GIVEN", user("1"), notice_version="2"))
    assert unknown.reason == "UNKNOWN_NOTICE"
    await edge.consent("REFUSED", user("1"), notice_version="2")
    rules = await edge.rules()
    (notice,) = next(p for p in rules.purposes if p.name == "marketing").notices
    assert (notice.version, notice.language) == ("1", "en")


async def test_what_closes_a_purpose_closes_those_below_it(edge: Edge) -> None:
    await edge.define(purpose="offers", lawful_basis="LAWFUL_BASIS_CONSENT", parent="marketing")
    cycle = await refusal(
        edge.define(purpose="marketing", lawful_basis="LAWFUL_BASIS_CONSENT", parent="offers")
    )
    assert cycle.reason == "CYCLIC_PURPOSE"
    await edge.consent("GIVEN", user("1"))
    assert not (await edge.check(user("1"), purpose="offers")).open
    await edge.consent("GIVEN", user("1"), purpose="offers")
    assert (await edge.check(user("1"), purpose="offers")).open
    await edge.consent("WITHDRAWN", user("1"))
    closed = await edge.check(user("1"), purpose="offers")
    assert (closed.open, closed.reason) == (False, "WITHDRAWN")


def choosing(message_id: str, *, chosen: bool) -> Any:
    made = signal(message_id, user("1"))
    context = struct_pb2.Struct()
    context.update({"consent": {"categoryPreferences": {"Advertising": chosen}}})
    made.context.CopyFrom(context)
    return made


async def test_choices_are_recorded_before_the_gate_is_judged(edge: Edge) -> None:
    names = workspace_service_pb2.PurposeNames(purposes=["marketing"])
    await edge.register(
        source="ads", purposes=["marketing"], consent_categories={"Advertising": names}
    )
    await edge.identify(user("1"))
    yes, again, no, late = (
        choosing("m1", chosen=True),
        choosing("m2", chosen=True),
        choosing("m3", chosen=False),
        choosing("m4", chosen=True),
    )
    outcomes = await edge.ingest(yes, again, no, late, source="ads")
    assert [outcome.result for outcome in outcomes] == [1, 1, 3, 1]
    page = await history(edge, user("1"), at_least_revision=outcomes[-1].revision)
    assert [(act.state, act.source) for act in page.acts] == [(3, "ads"), (6, "ads"), (3, "ads")]


async def test_a_choice_that_cannot_be_read_refuses_its_signal(edge: Edge) -> None:
    bad = choosing("m1", chosen=True)
    bad.context.update({"consent": {"categoryPreferences": {"Advertising": "yes"}}})
    (outcome,) = await edge.ingest(bad)
    assert outcome.reason == "INVALID_CONTEXT"


async def record_tcf(edge: Edge, text: str, **fields: Any) -> Any:
    fields = {"source": "ads", "identifiers": [user("1")]} | fields
    request = customer_service_pb2.RecordTcfStringRequest(tcf_string=text, **fields)
    return await edge.customer.RecordTcfString(request, timeout=SECONDS)


async def test_a_tcf_string_is_recorded_once_with_itself_as_evidence(edge: Edge) -> None:
    names = workspace_service_pb2.PurposeNames(purposes=["marketing"])
    await edge.register(source="ads", purposes=["marketing"], tcf_purposes={1: names})
    done = await record_tcf(edge, TCF)
    again = await record_tcf(edge, TCF)
    assert (done.ignored, again.ignored) == ("", "ALREADY_SAID")
    page = await history(edge, user("1"), at_least_revision=done.revision)
    (act,) = page.acts
    assert act.day_precise
    assert act.evidence["tcf_string"] == TCF
    assert act.effective_at.ToDatetime().time().isoformat() == "23:59:59.999999"


async def test_choices_of_several_purposes_are_acts_with_pages_and_receipts_of_their_own(
    edge: Edge,
) -> None:
    purposes = ["marketing", "research"]
    define = workspace_service_pb2.DefinePurposeRequest(
        purpose="research", lawful_basis=common_pb2.LAWFUL_BASIS_CONSENT
    )
    await edge.workspace.DefinePurpose(define, timeout=SECONDS)
    both = workspace_service_pb2.PurposeNames(purposes=purposes)
    await edge.register(source="ads", purposes=purposes, tcf_purposes={1: both})
    done = await record_tcf(edge, TCF)
    found: list[query_service_pb2.ConsentAct] = []
    token = ""
    while token or not found:
        page = await history(
            edge,
            user("1"),
            page_size=1,
            page_token=token,
            purpose="service",
            at_least_revision=done.revision,
        )
        found += page.acts
        token = page.next_page_token
    assert [act.purpose for act in found] == purposes
    (event_id,) = {act.event_id for act in found}
    ids = []
    for named, told in (("", "marketing"), ("marketing", "marketing"), ("research", "research")):
        answer = await receipt(edge, user("1"), event_id, purpose="service", act_purpose=named)
        said = json.loads(answer.receipt)
        record = said["dpv:hasRecordOfActivity"]
        assert record["dpv:hasProcess"]["dpv:hasPurpose"]["dct:title"] == told
        ids.append({said["@id"], record["@id"]})
    assert (ids[0] == ids[1], ids[1] & ids[2], len(ids[2])) == (True, set(), 2)
    other = await refusal(receipt(edge, user("1"), event_id, act_purpose="service"))
    assert other.reason == "UNKNOWN_ACT"


@pytest.mark.parametrize(
    "text", ["", "C", TCF[:20], TCF[:38], "B" + TCF[1:], TCF + "!", TCF + ".", "C" + "_" * 60]
)
async def test_a_tcf_string_that_is_not_whole_is_refused(edge: Edge, text: str) -> None:
    found = await refusal(record_tcf(edge, text))
    assert (found.code, found.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_TCF_STRING",
    )


async def test_preferences_households_and_context_are_shown_with_the_customer(
    edge: Edge,
) -> None:
    household = "01890000-0000-7000-8000-00000000f00d"
    first, other = await edge.identify(user("1")), await edge.identify(loyalty("a"))
    for frequency in ("weekly", "never"):
        await edge.customer.SetPreferences(
            customer_service_pb2.SetPreferencesRequest(
                identifiers=[user("1")],
                preferences=[
                    customer_service_pb2.Preference(
                        channel="email", topic="news", frequency=frequency
                    )
                ],
            ),
            timeout=SECONDS,
        )
    for who in (user("1"), loyalty("a")):
        await edge.customer.LinkHousehold(
            customer_service_pb2.LinkHouseholdRequest(
                identifiers=[who], source="shop", household_id=household
            ),
            timeout=SECONDS,
        )
    soon = stamp(datetime.now(UTC) + timedelta(hours=1))
    over = stamp(datetime.now(UTC) - timedelta(seconds=1))
    await edge.set_traits(user("1"), traits={"city": "Kyoto"}, expires_at=soon)
    done = await edge.set_traits(user("1"), traits={"campaign": "gone"}, expires_at=over)
    seen = await edge.get(user("1"), at_least_revision=done.revision)
    assert [(p.channel, p.topic, p.frequency) for p in seen.preferences] == [
        ("email", "news", "never")
    ]
    assert [(h.household_id, sorted(h.customer_ids)) for h in seen.households] == [
        (household, sorted([first.customer_id, other.customer_id]))
    ]
    assert [(c.key, c.value.string_value) for c in seen.context] == [("city", "Kyoto")]
    assert not seen.traits
    await edge.customer.UnlinkHousehold(
        customer_service_pb2.UnlinkHouseholdRequest(
            identifiers=[user("1")], household_id=household
        ),
        timeout=SECONDS,
    )
    done = await edge.set_traits(user("1"))
    seen = await edge.get(user("1"), at_least_revision=done.revision)
    assert not seen.households


async def test_the_context_of_signals_holds_as_long_as_their_source_declares(edge: Edge) -> None:
    await edge.register(source="till", purposes=["service"], context_ttl_seconds=3_600)
    fresh, old = signal("m1", user("1")), signal("m2", user("1"))
    fresh.context.update({"device": "phone", "externalIds": []})
    old.context.update({"campaign": "spring"})
    old.happened_at.FromDatetime(datetime.now(UTC) - timedelta(hours=2))
    outcomes = await edge.ingest(fresh, old, source="till")
    seen = await edge.get(user("1"), at_least_revision=outcomes[0].revision)
    assert [(claim.key, claim.value.string_value) for claim in seen.context] == [
        ("device", "phone")
    ]


async def test_a_closed_purpose_shows_no_preferences(edge: Edge) -> None:
    await edge.consent("REFUSED", user("1"))
    async with Client(edge.address) as client:
        revision = await client.set_preference(("user_id", "1"), "sms", frequency="daily")
        seen = await edge.get(user("1"), purpose="marketing", at_least_revision=revision)
        acts = await client.consent_history(("user_id", "1"), "marketing")
        text = await client.consent_receipt(("user_id", "1"), "marketing", acts[0].event_id)
    assert not seen.preferences
    assert json.loads(text)["dpv:hasRecordOfActivity"]["dct:identifier"] == acts[0].event_id
