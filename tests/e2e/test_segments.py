"""Segments as a user has them: defined over gRPC, months that pass by hand, watched and listed.

What must be is computed anew each time, from nothing but the list of what was ingested.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from koseki.v1 import (
    common_pb2,
    customer_service_pb2,
    segment_service_pb2,
    segment_service_pb2_grpc,
)
from tests.e2e.installation import CALL_SECONDS, Caller, Installation, installed, order, person

START = datetime(2024, 2, 1, tzinfo=UTC)
SEGMENTS = {
    "regulars": 'count("Order Completed", "60d") >= 2',
    "spenders": 'sum("Order Completed", "amount", "45d") >= 50.0',
    "lapsed": 'seen("Order Completed") && !seen("Order Completed", "30d")',
    "lost_spenders": 'segment("lapsed") && !segment("spenders") && seen("Order Completed", "90d")',
}
WAIT_SECONDS = 30.0
MOVED = segment_service_pb2.MEMBERSHIP_CHANGE_MOVED
ENTERED = segment_service_pb2.MEMBERSHIP_CHANGE_ENTERED
Orders = dict[str, list[tuple[datetime, int]]]


def belongs(segment: str, orders: list[tuple[datetime, int]], now: datetime) -> bool:
    """Say it in plain words: an order counts until its window is over, to the microsecond."""

    def within(days: int) -> list[int]:
        return [amount for at, amount in orders if now - timedelta(days=days) < at <= now]

    match segment:
        case "regulars":
            return len(within(60)) >= 2
        case "spenders":
            return sum(within(45)) >= 50
        case "lapsed":
            return bool(orders) and not within(30)
        case _:
            is_lapsed = belongs("lapsed", orders, now)
            return is_lapsed and not belongs("spenders", orders, now) and bool(within(90))


class Shop:
    """An installation with its orders, and the members of its segments as told to a watcher."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.caller = Caller(installation)
        self.segments = segment_service_pb2_grpc.SegmentServiceStub(self.caller.channel)
        self.now = START
        self.orders: Orders = defaultdict(list)
        self.revision = 0
        self._messages = 0

    async def define(self) -> None:
        """Define every segment, each when those that it uses are active."""
        for name, expression in SEGMENTS.items():
            request = segment_service_pb2.DefineSegmentRequest(
                segment=name, expression=expression, purposes=["analytics"]
            )
            done = await self.segments.DefineSegment(request, timeout=CALL_SECONDS)
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    if await self._is_active(name, done.revision):
                        break
                    await asyncio.sleep(0.02)

    async def _is_active(self, name: str, revision: int) -> bool:
        request = segment_service_pb2.ListSegmentsRequest(at_least_revision=revision)
        answer = await self.segments.ListSegments(request, timeout=CALL_SECONDS)
        states = {segment.name: segment.state for segment in answer.segments}
        return bool(states[name] == segment_service_pb2.SEGMENT_STATE_ACTIVE)

    async def buy(self, who: str, amount: int) -> str:
        """Order now; give the customer."""
        self._messages += 1
        made = order(f"order-{self._messages}", person(who), amount=amount)
        [outcome] = await self.caller.ingest(made)
        self.orders[outcome.customer_id].append((self.now, amount))
        self.revision = max(self.revision, outcome.revision)
        return str(outcome.customer_id)

    def wait(self, **time: float) -> None:
        """Let time pass, by hand."""
        self.now += timedelta(**time)
        turned = self.installation.json("clock", "advance", "--to", self.now.isoformat())
        self.revision = max(self.revision, turned["revision"])

    def expected(self, segment: str) -> set[str]:
        """Compute anew who belongs."""
        return {c for c, orders in self.orders.items() if belongs(segment, orders, self.now)}

    async def members(self, segment: str) -> set[str]:
        """List who belongs, two at a time."""
        request = segment_service_pb2.ListMembersRequest(
            audience=segment_service_pb2.Audience(segment=segment),
            purpose="analytics",
            page_members=2,
            at_least_revision=self.revision,
        )
        call = self.segments.ListMembers(request, timeout=CALL_SECONDS)
        return {customer async for page in call for customer in page.customer_ids}

    async def count(self, segment: str) -> int:
        """Count who belongs."""
        request = segment_service_pb2.CountAudienceRequest(
            audience=segment_service_pb2.Audience(segment=segment),
            purpose="analytics",
            at_least_revision=self.revision,
        )
        return int((await self.segments.CountAudience(request, timeout=CALL_SECONDS)).count)

    async def explain(self, segment: str, customer_id: str) -> Any:
        """Ask why somebody belongs."""
        request = segment_service_pb2.ExplainMembershipRequest(
            segment=segment,
            purpose="analytics",
            reference=common_pb2.CustomerReference(customer_id=customer_id),
            at_least_revision=self.revision,
        )
        return await self.segments.ExplainMembership(request, timeout=CALL_SECONDS)

    async def told(self, segment: str, *, after_revision: int = 0) -> list[Any]:
        """Watch until nothing more comes for a moment; the read side has reached the revision."""
        request = segment_service_pb2.WatchSegmentRequest(
            segment=segment, purpose="analytics", after_revision=after_revision
        )
        call, found = self.segments.WatchSegment(request), list[Any]()
        with suppress(TimeoutError):
            while True:
                found.append(await asyncio.wait_for(call.read(), 1.0))
        call.cancel()
        return found

    async def check(self) -> None:
        """Compare every segment with what must be."""
        for segment in SEGMENTS:
            expected = self.expected(segment)
            assert await self.members(segment) == expected, (segment, self.now)
            assert await self.count(segment) == len(expected)


@pytest.mark.timeout(300)
async def test_segments_are_right_at_every_instant_of_the_months_that_pass(tmp_path: Path) -> None:
    options = ("--hosts", "1", "--clock", f"manual={START:%Y-%m-%dT%H:%M:%SZ}")
    with installed(tmp_path / "data", *options) as installation:
        shop = Shop(installation)
        await shop.caller.define_rules()
        await shop.define()
        for who, amount in (("ann", 30), ("bob", 60), ("cid", 5)):
            await shop.buy(who, amount)
        await shop.check()
        shop.wait(days=20)
        ann = await shop.buy("ann", 25)
        shop.wait(days=10, microseconds=-1)
        await shop.check()
        shop.wait(microseconds=1)  # the very instant at which a window of 30 days closes
        await shop.check()
        why = await shop.explain("spenders", ann)
        assert (why.belongs, why.readings[0].value.number_value) == (True, 55.0)
        assert why.sure_until.ToDatetime(tzinfo=UTC) == START + timedelta(days=45)
        for days in (15, 60):
            shop.wait(days=days)
            await shop.check()
        for segment in SEGMENTS:
            held: set[str] = set()
            for change in await shop.told(segment):
                is_entry = change.change == ENTERED
                (held.add if is_entry else held.remove)(change.customer_id)
            assert held == shop.expected(segment)
        await _merge_and_undo(shop)
        await shop.caller.channel.close()


async def _merge_and_undo(shop: Shop) -> None:
    """A merge moves who belongs, and its undo moves back who does: nobody enters or exits."""
    old, new = await shop.buy("dan", 1), await shop.buy("eve", 70)
    await shop.check()
    before = shop.revision
    customers = shop.caller.customer
    merge = customer_service_pb2.MergeCustomersRequest(customer_id=old, other_customer_id=new)
    merged = await customers.MergeCustomers(merge, timeout=CALL_SECONDS)
    shop.revision = merged.revision
    assert await shop.members("spenders") == {old}
    undo = customer_service_pb2.UndoMergeRequest(customer_id=old, merge_id=merged.merge_id)
    undone = await customers.UndoMerge(undo, timeout=CALL_SECONDS)
    shop.revision = undone.revision
    await shop.check()
    told = await shop.told("spenders", after_revision=before)
    assert [(c.change, c.customer_id, c.from_customer_id) for c in told if c.change == MOVED] == [
        (MOVED, old, new),
        (MOVED, new, old),
    ]
    assert {c.cause for c in told if c.change == MOVED} == {
        common_pb2.CHANGE_CAUSE_MERGED,
        common_pb2.CHANGE_CAUSE_PARTED,
    }
