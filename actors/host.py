"""A host of customers: tens of thousands of virtual actors in one process, one turn each at a time.

A round wakes, in bulk, everybody whom its commands mean; then turns decide on the customers' states
and append, many at once. There are two lanes, and bulk is cut into slices: a command waits for a
slice, not for a batch. The log's expectations guard every write (R1): two hosts for one customer
are slow, never wrong. A plain class: `remote.py` puts it on Ray.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import structlog

from actors.awake import AwakeCustomers, AwakeRecord, Waker
from actors.clock import HostClock, id_age
from actors.faults import describe
from actors.known_heads import KnownHeads
from actors.messages import Routed, failed
from actors.readiness import Readiness, Unreadable, is_unreadable
from actors.rounds import Turn, TurnKeeper, Waiting
from actors.rules import RulesKeeper
from actors.slots import slot_of
from actors.snapshots import RecordSnapshots
from actors.turn import TurnTaker
from domain.errors import Kind
from domain.ids import RecordId
from domain.record import COMMANDS_AHEAD_MAX, COMMANDS_REMEMBERED_FOR
from domain.replies import Moved, Reply
from eventlog.commit import GroupCommit
from eventlog.errors import LogDamaged, LogError
from eventlog.guard import LogGuard
from eventlog.port import EventLog
from eventlog.snapshots.port import SnapshotStore

GATHER_SECONDS = 0.002
"""How long a small slice of bulk waits for more, while turns of bulk are under way anyway."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HostLimits:
    """What one host takes on. Times in seconds."""

    inbox_commands_max: int = 20_000
    round_commands_max: int = 2_000
    slice_commands_max: int = 64
    turns_at_once_max: int = 512
    tries_max: int = 12
    customers_max: int = 100_000
    packed_bytes_max: int = 1024 * 1024 * 1024
    idle_seconds: float = 600.0
    sweep_every_seconds: float = 5.0


class _Lane:
    """Commands that came one way, the most that a round of them takes, and room for turns."""

    def __init__(self, round_max: int, slots: asyncio.Semaphore) -> None:
        self.inbox: deque[Waiting] = deque()
        self.arrived = asyncio.Event()
        self.slots = slots
        self.turns = 0
        self._round_max = round_max

    def take(self) -> list[Waiting]:
        """Take a round's commands, in order."""
        return [self.inbox.popleft() for _ in range(min(len(self.inbox), self._round_max))]


class CustomerHost:
    """Execute commands for the customers that `owns` gives to this host."""

    def __init__(
        self,
        log: EventLog,
        *,
        owns: Callable[[RecordId], bool],
        clock: HostClock,
        guard: LogGuard | None = None,
        heads: KnownHeads | None = None,
        limits: HostLimits | None = None,
        snapshots: SnapshotStore | None = None,
    ) -> None:
        self._log = log
        self._owns = owns
        self._clock = clock
        self._limits = limits or HostLimits()
        self._guard = guard or LogGuard(log)
        self._rules = RulesKeeper(log, clock, on_damage=self._guard.condemn)
        self._awake = AwakeCustomers(
            customers_max=self._limits.customers_max,
            packed_bytes_max=self._limits.packed_bytes_max,
            idle_seconds=self._limits.idle_seconds,
        )
        self._snapshots = RecordSnapshots(snapshots)
        self._ready = Readiness(
            log,
            awake=self._awake,
            rules=self._rules,
            waker=Waker(log, self._snapshots, heads=heads, note=clock.note),
        )
        self._keeper = TurnKeeper()
        turns, limits = self._limits.turns_at_once_max, self._limits
        self._commands = _Lane(limits.round_commands_max, asyncio.Semaphore(turns))
        self._bulk = _Lane(limits.slice_commands_max, asyncio.Semaphore(turns))
        self._taker = TurnTaker(GroupCommit(log), rules=self._rules, guard=self._guard, clock=clock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._executed = 0

    async def start(self) -> None:
        """Compare the log, read the rules, begin. Raises `LogError`.

        On a damaged log it starts too: to refuse, and to say why.
        """
        await self._guard.start()
        with suppress(LogDamaged):  # the guard was told, and lets nothing be decided
            await self._rules.start()
        self._loops = [
            asyncio.create_task(self._run_rounds(self._commands), name="rounds-of-commands"),
            asyncio.create_task(self._run_rounds(self._bulk), name="rounds-of-bulk"),
            asyncio.create_task(self._sweep_for_ever()),
        ]

    async def close(self) -> None:
        """Stop; commands that are under way are left to their callers' retries."""
        await self._rules.close()
        await self._guard.close()
        tasks = [*self._loops, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._snapshots.close()

    def status(self) -> dict[str, int | bool | str | list[str]]:
        """Give the host's counters, and its time."""
        return {
            "awake_customers": len(self._awake),
            "commands_executed": self._executed,
            "commands_waiting": self._waiting,
            **self._guard.status(),
            "clock": self._clock.recorded_now().isoformat(),
        }

    async def execute(self, batch: Sequence[Routed]) -> list[Reply]:
        """Execute commands; each gets its own reply, in the order of the batch. Never raises."""
        return await self._execute(batch, self._commands)

    async def execute_bulk(self, batch: Sequence[Routed]) -> list[Reply]:
        """Execute commands that may wait for others: as `execute`, in slices. Never raises."""
        return await self._execute(batch, self._bulk)

    async def _execute(self, batch: Sequence[Routed], lane: _Lane) -> list[Reply]:
        answers = [self._admit(routed, lane) for routed in batch]
        lane.arrived.set()
        replies = await asyncio.gather(*answers)
        self._executed += len(replies)
        return list(replies)

    def _admit(self, routed: Routed, lane: _Lane) -> asyncio.Future[Reply]:
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        refusal = self._refusal(routed, self._clock.now())
        if refusal is None:
            lane.inbox.append(Waiting(routed, answer, is_bulk=lane is self._bulk))
        else:
            answer.set_result(refusal)
        return answer

    @property
    def _waiting(self) -> int:
        return len(self._commands.inbox) + len(self._bulk.inbox) + self._keeper.waiting

    def _refusal(self, routed: Routed, now: datetime) -> Reply | None:
        age = id_age(routed.command.command_id, now)
        if age is None:
            return failed(Kind.INVALID, "INVALID_COMMAND_ID", "a command id is a UUIDv7")
        if age < -COMMANDS_AHEAD_MAX:
            # Remembered for a day from now, it could be carried out again before it is too old.
            return failed(Kind.INVALID, "INVALID_COMMAND_ID", "the command id is from the future")
        if age > COMMANDS_REMEMBERED_FOR:
            return failed(Kind.REFUSED, "COMMAND_TOO_OLD", "the command id is older than 24 hours")
        if self._waiting >= self._limits.inbox_commands_max:
            return failed(Kind.UNAVAILABLE, "HOST_OVERLOADED", "too many commands are waiting")
        return None

    async def _run_rounds(self, lane: _Lane) -> None:
        while True:
            await lane.arrived.wait()
            lane.arrived.clear()
            self._passivate()
            while lane.inbox:
                await self._gather(lane)
                batch = lane.take()
                try:
                    await self._round(batch, lane)
                except Exception as error:  # noqa: BLE001  # or the host would stop for good
                    _log.error("round_failed", **describe(error))
                    _answer_all(batch, failed(Kind.UNAVAILABLE, "HOST_FAULT", "the host failed"))

    async def _gather(self, lane: _Lane) -> None:
        """Let the others have the loop before a slice, and small slices grow where turns run."""
        if lane is self._bulk:
            is_small = len(lane.inbox) < self._limits.slice_commands_max and lane.turns > 0
            await asyncio.sleep(GATHER_SECONDS if is_small else 0)

    async def _round(self, batch: list[Waiting], lane: _Lane) -> None:
        batch = self._drop_expired(batch)
        self._passivate()
        # Of a damaged log nothing is read either: who lost an event would seem unreadable.
        if not await self._taker.is_admitted(batch):
            return
        try:
            unreadable = await self._ready.prepare(batch)
        except LogError as error:
            if self._guard.is_sound:
                _answer_all(batch, failed(Kind.UNAVAILABLE, error.reason, error.message))
            else:
                self._taker.answer_unsound(batch)
            return
        for waiting in batch:
            waiting.roots = self._roots_of(waiting)
        elsewhere = {r for w in batch for r in self._redirected(w, unreadable)}
        # Others write to them: kept awake here, they would send callers to where they once were.
        for root in elsewhere:
            self._awake.forget(root)
        for turn in self._keeper.form(w for w in batch if not w.answer.done()):
            await lane.slots.acquire()
            lane.turns += 1
            task = asyncio.create_task(self._take(turn, lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _drop_expired(self, batch: list[Waiting]) -> list[Waiting]:
        now = self._clock.now()
        late = [waiting for waiting in batch if waiting.routed.command.deadline <= now]
        _answer_all(late, failed(Kind.UNAVAILABLE, "DEADLINE_EXCEEDED", "the deadline has passed"))
        return [waiting for waiting in batch if waiting.routed.command.deadline > now]

    def _redirected(self, waiting: Waiting, unreadable: Unreadable) -> frozenset[RecordId]:
        """Answer a command that is not for this host, or that nobody can carry out.

        Gives the customers that another host holds.
        """
        if is_unreadable(waiting, unreadable):
            self._taker.answer_unreadable(waiting)
        elif waiting.roots and not self._keeps(waiting, min(waiting.roots)):
            roots = {r: root for r in waiting.named if (root := self._awake.root_of(r))}
            waiting.reply(Moved(root=min(waiting.roots), owners=waiting.hints, roots=roots))
            return waiting.roots
        return frozenset()

    def _keeps(self, waiting: Waiting, root: RecordId) -> bool:
        """Whether a customer is this host's, or was sent to it for that its own host is away."""
        return slot_of(root) == waiting.routed.slot or self._owns(root)

    def _passivate(self) -> None:
        """Put sleepers to bed, but nobody busy.

        Between the rounds of a lane. Who was woken for a round of the other one is used last, and
        asleep before the others only where the limits are smaller than two rounds; it is found out.
        """
        self._awake.passivate(busy=self._keeper.is_busy)

    def _roots_of(self, waiting: Waiting) -> frozenset[RecordId]:
        roots = {self._awake.root_of(record_id) for record_id in waiting.named}
        return frozenset(roots - {None})  # type: ignore[arg-type]  # None is taken out

    async def _take(self, turn: Turn, lane: _Lane) -> None:
        back: list[Waiting] = []
        try:
            back = await self._decide(turn)
        except Exception as error:  # noqa: BLE001  # or its callers would wait for ever
            _log.error("turn_failed", **describe(error))
            self._forget(turn)
            fault = failed(Kind.UNKNOWN_OUTCOME, "UNKNOWN_OUTCOME", "the host failed in the turn")
            _answer_all(turn.commands, fault)
        finally:
            lane.slots.release()
            lane.turns -= 1
            self._take_back([*back, *self._keeper.end(turn)])

    def _take_back(self, commands: Sequence[Waiting]) -> None:
        """Put commands that need another turn before those that came after them."""
        for lane, is_bulk in ((self._commands, False), (self._bulk, True)):
            own = [waiting for waiting in commands if waiting.is_bulk == is_bulk]
            lane.inbox.extendleft(reversed(own))
            if lane.inbox:
                lane.arrived.set()

    async def _decide(self, turn: Turn) -> list[Waiting]:
        """Take a turn; give the commands that need another one."""
        if any(self._is_moved(waiting) for waiting in turn.commands):
            return turn.commands
        roots = {root: None for waiting in turn.commands for root in waiting.roots}
        parted = [other for root in roots for other in self._awake.parted_from(root)]
        roots |= {root: None for r in parted if (root := self._awake.root_of(r))}
        awake = [item for root in roots for item in self._awake.records_of(root).values()]
        result = await self._taker.take(turn.commands, awake)
        self._awake.keep(result.records)
        self._note_growth(awake, result.records)
        if result.is_unsure:
            self._forget(turn)
        return [*await self._again(turn, result.again), *await self._recall(result.left_over)]

    def _note_growth(self, before: Sequence[AwakeRecord], after: Sequence[AwakeRecord]) -> None:
        versions = {item.record.id: item.head.version for item in before}
        for item in after:
            since = versions.get(item.record.id, 0)
            self._snapshots.note(item.record, item.head, since_version=since)

    def _is_moved(self, waiting: Waiting) -> bool:
        """Whether an earlier turn changed whom a command means: it has to be made ready again."""
        if self._roots_of(waiting) != waiting.roots:
            return True
        owners = waiting.routed.owners.items()
        if all(self._awake.holds(record_id, key) for key, record_id in owners):
            return False
        waiting.tries += 1
        return waiting.tries < self._limits.tries_max

    async def _again(self, turn: Turn, commands: list[Waiting]) -> list[Waiting]:
        """Prepare fresh state for commands that met a conflict; give those with tries left."""
        if not commands:
            return []
        spent = [w for w in commands if w.tries >= self._limits.tries_max]
        again = [w for w in commands if w.tries < self._limits.tries_max]
        text = "the customer keeps changing"
        _answer_all(spent, failed(Kind.CONFLICT, "CONFLICT_BUDGET_SPENT", text))
        try:
            await self._ready.refresh(root for w in turn.commands for root in w.roots)
            unreadable = await self._ready.look_up(again)
        except LogError as error:
            _answer_all(again, failed(Kind.UNAVAILABLE, error.reason, error.message))
            return []
        for waiting in again:
            waiting.tries += 1
            if is_unreadable(waiting, unreadable):
                self._taker.answer_unreadable(waiting)
        return [waiting for waiting in again if not waiting.answer.done()]

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
                _answer_all(lost, late)
            except LogError as error:
                _answer_all(lost, failed(Kind.UNAVAILABLE, error.reason, error.message))
        return [waiting for waiting in commands if not waiting.answer.done()]

    def _forget(self, turn: Turn) -> None:
        for waiting in turn.commands:
            for root in waiting.roots:
                self._awake.forget(root)

    async def _sweep_for_ever(self) -> None:
        """Let the rounds' loop see to sleepers also when no command comes."""
        while True:
            await asyncio.sleep(self._limits.sweep_every_seconds)
            self._commands.arrived.set()


def _answer_all(batch: Sequence[Waiting], reply: Reply) -> None:
    for waiting in batch:
        waiting.reply(reply)
