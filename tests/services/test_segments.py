"""`SegmentService` over a real server: defined, activated by itself, listed, watched, explained."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from koseki.v1 import common_pb2, query_service_pb2, segment_service_pb2
from tests.services.edge import SECONDS, Edge, refusal, signal, user

ACTIVE = segment_service_pb2.SEGMENT_STATE_ACTIVE
ARCHIVED = segment_service_pb2.SEGMENT_STATE_ARCHIVED
ENTERED = segment_service_pb2.MEMBERSHIP_CHANGE_ENTERED
EXITED = segment_service_pb2.MEMBERSHIP_CHANGE_EXITED
BUYERS = 'count("Order Completed") >= 1'


def part(**named: Any) -> segment_service_pb2.Audience:
    return segment_service_pb2.Audience(**named)


def parts(*given: segment_service_pb2.Audience) -> segment_service_pb2.AudienceParts:
    return segment_service_pb2.AudienceParts(parts=given)


async def define(
    edge: Edge, name: str, expression: str, **fields: Any
) -> segment_service_pb2.Segment:
    done = await edge.define_segment(name, expression, **fields)
    return await edge.until_active(name, revision=done.revision)


async def buy(edge: Edge, *people: str) -> int:
    outcomes = await edge.ingest(
        *(signal(f"order-{name}", user(name), amount=2) for name in people)
    )
    return max(int(outcome.revision) for outcome in outcomes)


async def members(edge: Edge, *, revision: int = 0, **fields: Any) -> list[Any]:
    fields = {"purpose": "analytics", "at_least_revision": revision, **fields}
    request = segment_service_pb2.ListMembersRequest(**fields)
    return [page async for page in edge.segments.ListMembers(request, timeout=SECONDS)]


def watching(edge: Edge, **fields: Any) -> Any:
    fields = {"segment": "buyers", "purpose": "analytics"} | fields
    return edge.segments.WatchSegment(segment_service_pb2.WatchSegmentRequest(**fields))


async def take(call: Any, count: int) -> list[Any]:
    async with asyncio.timeout(SECONDS):
        return [await call.read() for _ in range(count)]


async def test_a_definition_takes_effect_by_itself_and_its_members_are_listed(
    jetstream_edge: Edge,
) -> None:
    edge = jetstream_edge
    bought = await buy(edge, "a", "b", "c")
    done = await edge.define_segment("buyers", BUYERS, description="who buys")
    assert done.revision > bought
    segment = await edge.until_active("buyers", revision=done.revision)
    assert (segment.active.number, segment.active.expression) == (1, BUYERS)
    [page] = await members(edge, audience=part(segment="buyers"), revision=done.revision)
    assert page.total == len(page.customer_ids) == 3


async def test_a_changed_definition_replaces_the_one_before_it(edge: Edge) -> None:
    await buy(edge, "a")
    await define(edge, "buyers", BUYERS)
    segment = await define(edge, "buyers", 'count("Order Completed") >= 2')
    assert (segment.latest.number, segment.active.number) == (2, 2)
    [page] = await members(edge, audience=part(segment="buyers"))
    assert page.total == 0


async def test_a_dry_run_counts_by_purpose_and_stores_nothing(edge: Edge) -> None:
    revision = await buy(edge, "a", "b")
    agreed = await edge.consent("GIVEN", user("a"))
    await edge.get(user("a"), at_least_revision=max(revision, agreed.revision))
    done = await edge.define_segment(
        "buyers", BUYERS, purposes=["analytics", "marketing"], dry_run=True
    )
    assert dict(done.counts) == {"analytics": 2, "marketing": 1}
    listed = await edge.segments.ListSegments(segment_service_pb2.ListSegmentsRequest())
    assert not listed.segments


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("traits.country ==", "line 1, column 18"),
        ('true &&\n  counts("x") > 1', "line 2, column 3"),
        ('consent("unheard_of")', "unheard_of is not known here"),
        ('segment("unheard_of")', "unheard_of is not known here"),
        ('true && identified("unheard_of")', "line 1, column 20: unheard_of is not known here"),
    ],
)
@pytest.mark.parametrize("fields", [{"dry_run": True}, {}])
async def test_a_fault_of_an_expression_is_named_with_its_place(
    edge: Edge, expression: str, said: str, fields: dict[str, bool]
) -> None:
    found = await refusal(edge.define_segment("x", expression, **fields))
    assert (found.code, found.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_EXPRESSION",
    )
    assert found.fields == ("expression",)
    assert said in found.said


async def test_what_cannot_be_defined_is_refused_with_its_reason(edge: Edge) -> None:
    await define(edge, "buyers", BUYERS)
    await define(edge, "loyal", 'segment("buyers")')
    unknown = await refusal(edge.define_segment("x", "true", purposes=["unheard_of"]))
    nameless = await refusal(edge.define_segment("A b", "true"))
    for fields in ({"dry_run": True}, {}):
        circle = await refusal(edge.define_segment("buyers", 'segment("loyal")', **fields))
        assert circle.reason == "CIRCULAR_SEGMENT"
    request = segment_service_pb2.ArchiveSegmentRequest(segment="buyers")
    used = await refusal(edge.segments.ArchiveSegment(request, timeout=SECONDS))
    assert (unknown.reason, nameless.reason) == ("UNKNOWN_PURPOSE", "INVALID_FIELD")
    assert nameless.fields == ("segment",)
    assert used.reason == "SEGMENT_IN_USE"


async def test_audiences_are_expressions_within_a_purpose(edge: Edge) -> None:
    await define(edge, "buyers", BUYERS)
    await define(edge, "named", 'identified("user_id")')
    await define(edge, "ads", BUYERS, purposes=["marketing"])
    await buy(edge, "a", "b")
    seen = await edge.identify(user("c"))
    agreed = await edge.consent("GIVEN", user("a"))
    revision = max(seen.revision, agreed.revision)

    async def count(audience: segment_service_pb2.Audience, purpose: str = "analytics") -> int:
        request = segment_service_pb2.CountAudienceRequest(
            audience=audience, purpose=purpose, at_least_revision=revision
        )
        return int((await edge.segments.CountAudience(request, timeout=SECONDS)).count)

    buyers, named = part(segment="buyers"), part(segment="named")
    assert await count(buyers) == 2
    assert await count(part(any_of=parts(buyers, named))) == 3
    assert await count(part(all_of=parts(named, part(none_of=parts(buyers))))) == 1
    assert await count(part(all_of=parts(buyers, part(purpose="marketing")))) == 1
    assert await count(part(segment="ads"), "marketing") == 1
    assert (await refusal(count(part(segment="ads")))).reason == "PURPOSE_NOT_SERVED"
    assert (await refusal(count(part(segment="unheard_of")))).reason == "UNKNOWN_SEGMENT"
    assert (await refusal(count(buyers, ""))).reason == "MISSING_PURPOSE"
    assert (await refusal(count(buyers, "audit"))).reason == "AUDITOR_ONLY"
    assert (await refusal(count(part()))).reason == "INVALID_FIELD"
    many = part(any_of=parts(*[buyers] * 256))
    assert (await refusal(count(many))).reason == "AUDIENCE_TOO_LARGE"


async def test_pages_stay_as_they_were_while_membership_moves(edge: Edge) -> None:
    await define(edge, "buyers", BUYERS)
    revision = await buy(edge, *"abcdef")
    first = segment_service_pb2.ListMembersRequest(
        audience=part(segment="buyers"),
        purpose="analytics",
        page_members=2,
        at_least_revision=revision,
    )
    call: Any = edge.segments.ListMembers(first, timeout=SECONDS)
    page = await call.read()
    call.cancel()
    later = await buy(edge, *"ghi")
    await edge.get(user("g"), at_least_revision=later)
    rest = await members(edge, page_token=page.next_page_token, page_members=2)
    assert [len(found.customer_ids) for found in rest] == [2, 2]
    assert {found.total for found in rest} == {6}
    assert {found.revision for found in rest} == {page.revision}
    everyone = {c for found in (page, *rest) for c in found.customer_ids}
    assert len(everyone) == 6
    stale = await refusal(members(edge, page_token="0" * 32 + ".2"))
    other = await refusal(members(edge, page_token=page.next_page_token, purpose="service"))
    assert (stale.code, stale.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "STALE_PAGE_TOKEN",
    )
    assert other.reason == "STALE_PAGE_TOKEN"


async def test_a_watch_tells_each_change_once_over_reconnects(edge: Edge) -> None:
    await define(edge, "buyers", BUYERS)
    await buy(edge, "a")
    call = watching(edge)
    [one] = await take(call, 1)
    assert (one.change, one.cause) == (ENTERED, common_pb2.CHANGE_CAUSE_EVENT)
    call.cancel()
    await buy(edge, "b")
    await buy(edge, "c")
    call = watching(edge, resume_token=one.resume_token)
    two, three = await take(call, 2)
    await edge.consent("REFUSED", user("b"), purpose="analytics")
    [closed] = await take(call, 1)
    assert (closed.change, closed.customer_id) == (EXITED, two.customer_id)
    assert len({one.customer_id, two.customer_id, three.customer_id}) == 3
    assert one.revision < two.revision < three.revision < closed.revision
    call.cancel()
    again = watching(edge, after_revision=two.revision)
    assert await take(again, 2) == [three, closed]
    again.cancel()


async def test_a_watch_goes_on_at_once_past_what_it_has_no_word_of(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await define(edge, "buyers", BUYERS)
    begun = await edge.identify(user("a"))
    for name in "bcdef":
        await edge.identify(user(name))
    await buy(edge, "a")
    monkeypatch.setattr("projections.segments.watching.JOURNAL_ROWS_READ_MAX", 2)
    call = watching(edge, after_revision=begun.revision)
    [one] = await take(call, 1)
    assert (one.change, one.customer_id) == (ENTERED, begun.customer_id)
    call.cancel()


async def test_a_watch_of_an_archived_segment_ends_after_its_last_exits(edge: Edge) -> None:
    await define(edge, "buyers", BUYERS)
    await buy(edge, "a")
    call = watching(edge)
    await take(call, 1)
    request = segment_service_pb2.ArchiveSegmentRequest(segment="buyers")
    await edge.segments.ArchiveSegment(request, timeout=SECONDS)
    [exited] = await take(call, 1)
    assert (exited.change, exited.cause) == (EXITED, common_pb2.CHANGE_CAUSE_DEFINITION)
    assert (await refusal(take(call, 1))).reason == "UNKNOWN_SEGMENT"


async def test_a_watch_is_refused_with_its_reason(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await define(edge, "buyers", BUYERS)
    monkeypatch.setattr("projections.segments.journal.REVISIONS_KEPT", 2)
    monkeypatch.setattr("projections.segments.journal.TRIMMED_EVERY_REVISIONS", 1)
    for fields, reason in (
        ({"purpose": ""}, "MISSING_PURPOSE"),
        ({"purpose": "marketing"}, "PURPOSE_NOT_SERVED"),
        ({"purpose": "unheard_of"}, "UNKNOWN_PURPOSE"),
        ({"segment": "unheard_of"}, "UNKNOWN_SEGMENT"),
        ({"resume_token": "mine"}, "INVALID_FIELD"),
        ({"workspace": "other"}, "UNKNOWN_WORKSPACE"),
        ({"after_revision": 1}, "CHANGES_NOT_KEPT"),
        ({"after_revision": 10**9}, "INVALID_AS_OF"),
    ):
        found = await refusal(take(watching(edge, **fields), 1))
        assert found.reason == reason


async def test_a_membership_is_explained_to_whom_it_may_be(edge: Edge) -> None:
    await define(edge, "buyers", 'sum("Order Completed", "amount", "30d") >= 2.0')
    revision = await buy(edge, "a")

    async def explain(person: str, purpose: str = "analytics") -> Any:
        request = segment_service_pb2.ExplainMembershipRequest(
            segment="buyers",
            purpose=purpose,
            reference=common_pb2.CustomerReference(identifier=user(person)),
            at_least_revision=revision,
        )
        return await edge.segments.ExplainMembership(request, timeout=SECONDS)

    found = await explain("a")
    [reading] = found.readings
    assert (found.belongs, found.purpose_open, found.since_revision) == (True, True, revision)
    assert (reading.function, reading.value.number_value) == ("sum", 2.0)
    assert found.sure_until.seconds - found.since.seconds == pytest.approx(30 * 86_400, abs=60)
    assert (await refusal(explain("z"))).reason == "UNKNOWN_CUSTOMER"
    assert (await refusal(explain("a", "service"))).reason == "PURPOSE_NOT_SERVED"
    revision = (await edge.consent("REFUSED", user("a"), purpose="analytics")).revision
    closed = await explain("a")
    assert (closed.purpose_open, closed.belongs, len(closed.readings)) == (False, False, 0)


async def test_no_purpose_sees_by_way_of_a_segment_what_it_may_not(edge: Edge) -> None:
    await define(
        edge, "ads", 'seen("Order Completed") && has(traits.income)', purposes=["marketing"]
    )
    for fields in ({"dry_run": True}, {}):
        found = await refusal(edge.define_segment("sly", 'true && segment("ads")', **fields))
        assert (found.reason, found.fields) == ("INVALID_EXPRESSION", ("expression",))
        assert "line 1, column 17: ads does not serve analytics" in found.said
    await edge.consent("GIVEN", user("a"))
    income = await edge.identify(user("a"), source="ads", traits={"income": 9})
    await define(edge, "stop", "traits.income > 1", exception="a list of whom not to write to")
    request = segment_service_pb2.ExplainMembershipRequest(
        segment="stop",
        purpose="analytics",
        reference=common_pb2.CustomerReference(identifier=user("a")),
        at_least_revision=income.revision,
    )
    why = await edge.segments.ExplainMembership(request, timeout=SECONDS)
    assert (why.belongs, len(why.readings), dict(why.traits)) == (True, 0, {})


async def test_an_exception_shapes_audiences_but_is_told_to_its_own_purposes_alone(
    edge: Edge,
) -> None:
    await define(edge, "stop", "true", purposes=["marketing"], exception="whom not to write to")
    revision = (await edge.consent("GIVEN", user("a"))).revision
    [page] = await members(edge, audience=part(segment="stop"), revision=revision)
    assert page.total == 1

    async def told(purpose: str, **when: Any) -> tuple[list[str], str]:
        who = common_pb2.CustomerReference(identifier=user("a"))
        asked: dict[str, Any] = {"reference": who, "purpose": purpose, **when}
        of = query_service_pb2.ListSegmentsOfRequest(**asked)
        belongs = await edge.query.ListSegmentsOf(of, timeout=SECONDS)
        why = segment_service_pb2.ExplainMembershipRequest(segment="stop", **asked)
        explained = edge.segments.ExplainMembership(why, timeout=SECONDS)
        names = [membership.segment for membership in belongs.memberships]
        if names:
            return names, "belongs" if (await explained).belongs else ""
        return names, (await refusal(explained)).reason

    for when in ({}, {"as_of": common_pb2.AsOf(revision=revision)}):
        assert await told("marketing", **when) == (["stop"], "belongs")
        assert await told("analytics", **when) == ([], "PURPOSE_NOT_SERVED")


async def test_who_is_in_an_exception_that_a_segment_uses_is_told_to_its_own_purposes_alone(
    edge: Edge,
) -> None:
    await define(edge, "stop", 'traits.tier == "tin"', purposes=["service"], exception="arrears")
    await define(edge, "spoken_to", '!segment("stop") && has(traits.tier)', purposes=["marketing"])
    await define(edge, "served", '!segment("stop") && has(traits.tier)', purposes=["service"])
    await edge.consent("GIVEN", user("a"))
    revision = (await edge.set_traits(user("a"))).revision
    for segment, purpose, functions in (
        ("spoken_to", "marketing", []),
        ("served", "service", ["segment"]),
    ):
        why = segment_service_pb2.ExplainMembershipRequest(
            segment=segment,
            purpose=purpose,
            reference=common_pb2.CustomerReference(identifier=user("a")),
            at_least_revision=revision,
        )
        explained = await edge.segments.ExplainMembership(why, timeout=SECONDS)
        assert explained.belongs
        assert [reading.function for reading in explained.readings] == functions


@pytest.mark.parametrize("reason", ["", " \t\u3000"])
async def test_an_exception_says_why_it_is_one(edge: Edge, reason: str) -> None:
    for fields in ({"dry_run": True}, {}):
        asked = edge.define_segment("stop", "true", exception=reason, **fields)
        found = await refusal(asked)
        assert (found.reason, found.fields) == ("INVALID_FIELD", ("exception",))


async def test_a_customers_segments_and_timeline_are_for_a_purpose(edge: Edge) -> None:
    await define(edge, "buyers", BUYERS)
    await define(edge, "ads", BUYERS, purposes=["marketing"])
    await edge.ingest(signal("1", user("a"), amount=1), signal("2", user("a"), name="Seen"))
    last = await edge.ingest(signal("3", user("a"), amount=3))
    named = {
        "reference": common_pb2.CustomerReference(identifier=user("a")),
        "purpose": "analytics",
        "at_least_revision": last[0].revision,
    }
    request = query_service_pb2.ListSegmentsOfRequest(**named)
    belongs = await edge.query.ListSegmentsOf(request, timeout=SECONDS)
    assert [membership.segment for membership in belongs.memberships] == ["buyers"]

    async def page(**fields: Any) -> Any:
        request = query_service_pb2.ListTimelineRequest(**(named | fields))
        return await edge.query.ListTimeline(request, timeout=SECONDS)

    whole = await page()
    newest = await page(page_signals=2)
    rest = await page(page_signals=2, page_token=newest.next_page_token)
    orders = await page(names=["Order Completed"])
    assert whole.signals[0].message_id == "3"
    assert [*newest.signals, *rest.signals] == [*whole.signals]
    assert (len(whole.signals), rest.next_page_token, len(orders.signals)) == (3, "", 2)
    assert (await refusal(page(page_token="x"))).reason == "INVALID_FIELD"
    closed = await page(purpose="marketing")
    assert (closed.purpose_open, len(closed.signals)) == (False, 0)


async def test_a_customer_is_watched_from_a_revision_on(edge: Edge) -> None:
    await define(edge, "buyers", BUYERS)
    known = await edge.identify(user("a"))
    await edge.get(user("a"), at_least_revision=known.revision)
    request = query_service_pb2.WatchCustomerRequest(
        reference=common_pb2.CustomerReference(identifier=user("a")),
        purpose="analytics",
        after_revision=known.revision,
    )
    call = edge.query.WatchCustomer(request)
    await buy(edge, "a")
    told = await take(call, 2)
    kinds = {query_service_pb2.CustomerChange.Name(change.change) for change in told}
    assert kinds == {"CUSTOMER_CHANGE_DATA", "CUSTOMER_CHANGE_SEGMENT_ENTERED"}
    await edge.consent("REFUSED", user("a"), purpose="analytics")
    [closed] = await take(call, 1)
    assert closed.change == query_service_pb2.CUSTOMER_CHANGE_PURPOSE_CLOSED
    call.cancel()


async def test_a_token_is_good_for_what_was_watched_alone(edge: Edge) -> None:
    await define(edge, "buyers", BUYERS)
    await define(edge, "others", BUYERS)
    await buy(edge, "b")
    revision = await buy(edge, "a")
    ann, bob = user("a"), user("b")
    call = watching(edge)
    [entered, _] = await take(call, 2)
    call.cancel()
    token = entered.resume_token
    wrong = await refusal(take(watching(edge, resume_token=token, segment="others"), 1))
    assert wrong.reason == "INVALID_FIELD"

    def follow(person: common_pb2.Identifier, **fields: Any) -> Any:
        reference = common_pb2.CustomerReference(identifier=person)
        request = query_service_pb2.WatchCustomerRequest(
            reference=reference, purpose="analytics", **fields
        )
        return edge.query.WatchCustomer(request)

    wrong = await refusal(take(follow(ann, resume_token=token), 1))
    assert wrong.reason == "INVALID_FIELD"
    call = follow(ann)
    [first, *_] = await take(call, 2)
    call.cancel()
    wrong = await refusal(take(follow(bob, resume_token=first.resume_token), 1))
    assert wrong.reason == "INVALID_FIELD"
    wrong = await refusal(take(follow(bob, after_revision=revision + 10**9), 1))
    assert wrong.reason == "INVALID_AS_OF"
    again = follow(ann, resume_token=first.resume_token)
    await take(again, 1)
    again.cancel()
