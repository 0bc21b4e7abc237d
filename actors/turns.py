"""The turns that are under way in a host: begun, concluded when the log has answered, and ended.

A turn has no task of its own: it is decided in one go, and goes on when its outcome is heard. Only
what has to be read again, or was refused, takes a task. Called by `host.py`, once a round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from actors.awake import AwakeCustomers, AwakeRecord
from actors.clock import Clock
from actors.faults import describe
from actors.messages import failed
from actors.readiness import Readiness, is_unreadable
from actors.rounds import Lane, Turn, TurnKeeper, Waiting, answer_all
from actors.snapshots import RecordSnapshots
from actors.turn import Begun, TurnResult, TurnTaker
from domain.errors import Kind
from domain.ids import RecordId
from eventlog.errors import LogError
from eventlog.port import Outcome, Stored

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A turn that holds its keys, and the records that it is decided on."""

    turn: Turn
    lane: Lane
    awake: list[AwakeRecord]


class Turns:
    """Carry turns through. `give_back` takes commands that need another turn, in order."""

    def __init__(
        self,
        *,
        taker: TurnTaker,
        keeper: TurnKeeper,
        awake: AwakeCustomers,
        ready: Readiness,
        snapshots: RecordSnapshots,
        clock: Clock,
        tries_max: int,
        give_back: Callable[[Sequence[Waiting]], None],
    ) -> None:
        self._taker = taker
        self._keeper = keeper
        self._awake = awake
        self._ready = ready
        self._snapshots = snapshots
        self._clock = clock
        self._tries_max = tries_max
        self._give_back = give_back
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def close(self) -> None:
        """Stop; commands that are under way are left to their callers' retries."""
        self._is_closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def begin(self, turn: Turn, lane: Lane) -> None:
        """Decide a turn whose keys are held, and have stored what it came to. Never raises."""
        lane.begin_turn(turn)
        under_way = _UnderWay(turn, lane, [])
        try:
            if self._moved(turn):
                self._end(under_way, turn.commands)
                return
            under_way.awake.extend(self._met(turn))
            begun = self._taker.begin(turn.commands, under_way.awake)
            if isinstance(begun, Begun):
                self._taker.store(begun, partial(self._hear, under_way, begun))
            else:
                self._finish(under_way, begun)
        except Exception as error:  # noqa: BLE001  # or its callers would wait for ever
            self._give_up(under_way, error)

    def _hear(self, under_way: _UnderWay, begun: Begun, outcome: Outcome) -> None:
        """Answer what is stored; what it left is seen to once the answers are on their way."""
        try:
            if isinstance(outcome, Stored):
                self._taker.answer(begun, outcome)
        except Exception as error:  # noqa: BLE001  # or its callers would wait for ever
            self._give_up(under_way, error)
        else:
            asyncio.get_running_loop().call_soon(self._conclude, under_way, begun, outcome)

    def _conclude(self, under_way: _UnderWay, begun: Begun, outcome: Outcome) -> None:
        try:
            result = self._taker.conclude(begun, outcome)
            if result is None:
                self._spawn(under_way, self._take_halves(under_way, begun))
            else:
                self._finish(under_way, result)
        except Exception as error:  # noqa: BLE001  # or its callers would wait for ever
            self._give_up(under_way, error)

    def _finish(self, under_way: _UnderWay, result: TurnResult) -> None:
        """Keep what a turn left, and end it; where something must be read first, in a task."""
        self._keep(under_way, result)
        if result.again or any(waiting.forgotten_by for waiting in result.left_over):
            self._spawn(under_way, self._reconsider(under_way, result))
        else:
            self._end(under_way, result.left_over)

    def _keep(self, under_way: _UnderWay, result: TurnResult) -> None:
        self._awake.keep(result.records)
        versions = {item.record.id: item.head.version for item in under_way.awake}
        for item in result.records:
            since = versions.get(item.record.id, 0)
            self._snapshots.note(item.record, item.head, since_version=since)
        if result.is_unsure:
            self._forget(under_way.turn)

    def _end(self, under_way: _UnderWay, back: Sequence[Waiting]) -> None:
        under_way.lane.end_turn(under_way.turn)
        self._give_back([*back, *self._keeper.end(under_way.turn)])

    def _give_up(self, under_way: _UnderWay, error: Exception) -> None:
        """End a turn that failed; what shared it with others is taken back to fail alone."""
        _log.error("turn_failed", **describe(error))
        self._forget(under_way.turn)
        back = [waiting for waiting in under_way.turn.commands if waiting.may_share]
        for waiting in back:
            waiting.tries += 1
        text = "the host failed in the turn"
        fault = failed(Kind.UNKNOWN_OUTCOME, "UNKNOWN_OUTCOME", text)
        answer_all([w for w in under_way.turn.commands if w not in back], fault)
        self._end(under_way, [w for w in back if not w.is_answered])

    def _spawn(self, under_way: _UnderWay, work: Coroutine[None, None, list[Waiting]]) -> None:
        """Go on with a turn in a task, which gives the commands that need another one."""
        task = asyncio.create_task(self._until_ended(under_way, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._is_closed:
            task.cancel()

    async def _until_ended(
        self, under_way: _UnderWay, work: Coroutine[None, None, list[Waiting]]
    ) -> None:
        try:
            back = await work
        except Exception as error:  # noqa: BLE001  # or its callers would wait for ever
            self._give_up(under_way, error)
        else:
            self._end(under_way, back)

    async def _take_halves(self, under_way: _UnderWay, begun: Begun) -> list[Waiting]:
        result = await self._taker.take_halves(begun, under_way.awake)
        self._keep(under_way, result)
        return await self._reconsider(under_way, result)

    async def _reconsider(self, under_way: _UnderWay, result: TurnResult) -> list[Waiting]:
        again = await self._again(under_way.turn, result.again)
        return [*again, *await self._recall(result.left_over)]

    def _met(self, turn: Turn) -> list[AwakeRecord]:
        """Give every record of whom the turn is about, and of who may remember it."""
        roots = {root: None for waiting in turn.commands for root in waiting.roots}
        others = [other for root in roots for other in self._awake.parted_from(root)]
        others += [RecordId(h.record_id) for waiting in turn.commands for h in waiting.before]
        roots |= {root: None for r in others if (root := self._awake.root_of(r))}
        return [item for root in roots for item in self._awake.records_of(root).values()]

    def _moved(self, turn: Turn) -> list[Waiting]:
        """Name the commands of which what they were made ready for is not so any more.

        Each of them is looked at, for each such look is one of its tries.
        """
        return [waiting for waiting in turn.commands if self._is_moved(waiting)]

    def _is_moved(self, waiting: Waiting) -> bool:
        for root in waiting.roots:
            if self._awake.root_of(root) != root:
                return True
        for key, record_id in waiting.routed.owners.items():
            if not self._awake.holds(record_id, key):
                waiting.tries += 1
                return waiting.tries < self._tries_max
        return False

    async def _again(self, turn: Turn, commands: list[Waiting]) -> list[Waiting]:
        """Prepare fresh state for commands that met a conflict; give those with tries left."""
        if not commands:
            return []
        spent = [w for w in commands if w.tries >= self._tries_max]
        again = [w for w in commands if w.tries < self._tries_max]
        text = "the customer keeps changing"
        answer_all(spent, failed(Kind.CONFLICT, "CONFLICT_BUDGET_SPENT", text))
        try:
            met = {root for w in turn.commands for root in w.roots}
            await self._ready.refresh(met)
            unreadable = await self._ready.look_up(again)
            # Whom they turned out to mean only now may have been awake, and behind, all along.
            others = {r for w in again for r in w.named if self._awake.root_of(r) not in met}
            unreadable |= await self._ready.refresh(others)
        except LogError as error:
            answer_all(again, failed(Kind.UNAVAILABLE, error.reason, error.message))
            return []
        for waiting in again:
            waiting.tries += 1
            if is_unreadable(waiting, unreadable) and not waiting.is_erasure:
                self._taker.answer_unreadable(waiting)
        return [waiting for waiting in again if not waiting.is_answered]

    async def _recall(self, commands: list[Waiting]) -> list[Waiting]:
        """Look in the log for what memory may have lost; give the commands that can be decided."""
        lost = [waiting for waiting in commands if waiting.forgotten_by]
        if lost:
            seconds = (
                max(w.routed.command.deadline for w in lost) - self._clock.now()
            ).total_seconds()
            try:
                async with asyncio.timeout(max(0.0, seconds)):
                    await self._ready.recall(lost)
            except TimeoutError:
                late = failed(Kind.UNAVAILABLE, "DEADLINE_EXCEEDED", "the deadline has passed")
                answer_all(lost, late)
            except LogError as error:
                answer_all(lost, failed(Kind.UNAVAILABLE, error.reason, error.message))
        return [waiting for waiting in commands if not waiting.is_answered]

    def _forget(self, turn: Turn) -> None:
        for waiting in turn.commands:
            for root in waiting.roots:
                self._awake.forget(root)
