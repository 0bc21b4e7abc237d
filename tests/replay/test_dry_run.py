"""What a dry run says of segments is what happens if it is meant, over random histories."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.commands import MergeCustomers
from domain.errors import DomainError
from domain.ids import WORKSPACE_STREAM, RecordId
from domain.replies import SegmentConsequence
from domain.workspace_events import SegmentActivated, SegmentDefined
from eventlog.errors import LogUnavailable
from projections import customers
from projections.fold import fold_batch, let_time_pass
from projections.memory import MemoryTables
from projections.segments.active import purpose_set
from projections.segments.language import read_expression
from projections.segments.membership import read_membership
from replay.as_of import Prefix
from replay.dry_run import Tried, segment_consequences
from tests.projections.histories import START
from tests.projections.test_decided_log import (
    EndedLog,
    Writer,
    command_number,
    random_change_of_identity,
    random_command,
)

SEGMENTS = {
    "planned": ("analytics", "traits.plan >= 2"),
    "buyers": ("analytics", 'count("Order Completed", "60s") >= 2'),
    "idle": ("service", 'count("Order Completed") == 0'),
    "reachable": ("marketing", 'count("Order Completed") >= 1'),
    "both": ("analytics", 'segment("planned") && segment("buyers")'),
}
STEPS = 60


class Watched:
    """A log that is written to, and rows that follow it."""

    def __init__(self) -> None:
        self.writer = Writer(EndedLog("test"))
        self.tables = MemoryTables()

    async def begin(self) -> None:
        await self.writer.set_rules()
        for name, (purpose, expression) in SEGMENTS.items():
            defined = SegmentDefined(
                segment=name,
                definition=1,
                expression=expression,
                purposes=(purpose,),
                uses=tuple(sorted(read_expression(expression).uses)),
            )
            for body in (defined, SegmentActivated(segment=name, definition=1)):
                await self.writer.store([(WORKSPACE_STREAM, body)])

    async def present(self) -> Prefix:
        """Give what is known when the next command is stored."""
        revision = (await self.writer.log.shape()).last_revision
        return Prefix(revision, self.writer.now + timedelta(seconds=1))

    async def belonging(self) -> dict[RecordId, tuple[RecordId, set[str]]]:
        """Give by record its customer and the customer's segments."""
        reading = self.writer.log.read(after_revision=self.tables.checkpoint.revision)
        async for batch in reading:
            fold_batch(self.tables, batch)
        found = {}
        for record in self.writer.records:
            root = customers.root(self.tables, record)
            assert root is not None
            row = read_membership(self.tables, root)
            held = set(row["in"]) if row else set()
            served = {n for n in SEGMENTS if purpose_set(SEGMENTS[n][0]) in held}
            found[record] = (root, held & served)
        return found

    async def meant(self, command: Tried) -> set[SegmentConsequence]:
        """Carry a command out; give what it changed of who joined or parted."""
        await self.belonging()
        let_time_pass(self.tables, (await self.present()).clock)
        before = await self.belonging()
        await self.writer.carry_out(command)
        after = await self.belonging()
        moved = {record for record, (root, _) in before.items() if after[record][0] != root}
        concerned = {root for record in moved for root in (before[record][0], after[record][0])}
        return {
            SegmentConsequence(
                customer_id=record,
                segment=segment,
                belongs_before=segment in before[record][1],
                belongs_after=segment in after[record][1],
            )
            for record in concerned
            for segment in before[record][1] ^ after[record][1]
        }


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 2**32))
async def test_what_a_dry_run_names_is_what_happens(seed: int) -> None:
    drawn, watched = random.Random(seed), Watched()
    await watched.begin()
    for number in range(1, STEPS):
        await watched.writer.carry_out(random_command(drawn, number))
        if number % 3:
            continue
        command = random_change_of_identity(drawn, number, watched.writer)
        if not isinstance(command, get_args(Tried)):
            continue
        tried = command.model_copy(update={"dry_run": True})
        try:
            prefix = await watched.present()
            told = await segment_consequences(
                watched.writer.log, prefix, tried, at_least_revision=0
            )
        except DomainError:
            told = ()
        assert {*told} == await watched.meant(command)
        assert len({*told}) == len(told)


async def test_a_log_that_lags_behind_the_decision_is_no_ground_for_an_answer() -> None:
    watched = Watched()
    await watched.begin()
    for number in (1, 2):
        await watched.writer.carry_out(random_command(random.Random(number), number))
    one, other = sorted(watched.writer.records)
    command = MergeCustomers(
        command_id=command_number(3),
        auth_id="test",
        issued_at=START,
        deadline=START,
        new_record_id=one,
        record_id=one,
        other_record_id=other,
        dry_run=True,
    )
    prefix = await watched.present()
    with pytest.raises(LogUnavailable):
        await segment_consequences(
            watched.writer.log, prefix, command, at_least_revision=prefix.revision + 1
        )
