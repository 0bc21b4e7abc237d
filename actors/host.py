"""A host of customers: tens of thousands of virtual actors in one process, one turn each at a time.

A round wakes, in bulk, everybody whom its commands mean; then turns decide on the customers' states
and append, many at once. There are two lanes, and bulk is cut into slices: a command waits for a
slice, not for a batch. The log's expectations guard every write (R1): two hosts for one customer
are slow, never wrong. A plain class: `remote.py` puts it on Ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from actors.awake import AwakeCustomers
from actors.clock import HostClock, milliseconds_of
from actors.erasing_unread import UnreadErasures
from actors.faults import describe
from actors.known_heads import KnownHeads
from actors.messages import Routed, failed
from actors.readiness import Readiness, Unreadable, is_unreadable
from actors.rounds import COMMANDS_PER_TURN_MAX, Answers, Lane, TurnKeeper, Waiting, answer_all
from actors.rules import RulesKeeper
from actors.slots import slot_of
from actors.snapshots import RecordSnapshots
from actors.turn import TurnTaker
from actors.turns import Turns
from actors.waking import Waker
from domain.errors import Kind
from domain.ids import MILLISECOND, CommandId, RecordId, made_at_milliseconds
from domain.record import COMMANDS_AHEAD_MAX, COMMANDS_REMEMBERED_FOR
from domain.replies import Moved, Reply
from eventlog.commit import GroupCommit
from eventlog.errors import LogDamaged, LogError
from eventlog.guard import LogGuard
from eventlog.port import EventLog
from eventlog.snapshots.port import SnapshotStore

GATHER_SECONDS = 0.002
"""How long a small slice of bulk waits for more, while turns of bulk are under way anyway."""

BEHIND_MAX = COMMANDS_PER_TURN_MAX
"""Commands in bulk that wait behind others before these gather no longer: mostly one customer's."""

_AHEAD_MAX = COMMANDS_AHEAD_MAX // MILLISECOND
_REMEMBERED_FOR = COMMANDS_REMEMBERED_FOR // MILLISECOND
_OVERLOADED = failed(Kind.UNAVAILABLE, "HOST_OVERLOADED", "too many commands are waiting")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HostLimits:
    """What one host takes on. Times in seconds."""

    inbox_commands_max: int = 20_000
    round_commands_max: int = 2_000
    slice_commands_max: int = 64
    commands_in_turns_max: int = 1_024
    tries_max: int = 12
    customers_max: int = 100_000
    packed_bytes_max: int = 1024 * 1024 * 1024
    idle_seconds: float = 600.0
    sweep_every_seconds: float = 5.0


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
        waker = Waker(log, self._snapshots, heads=heads, note=clock.note)
        self._ready = Readiness(log, awake=self._awake, rules=self._rules, waker=waker)
        self._keeper = TurnKeeper()
        most, room = self._limits, self._limits.commands_in_turns_max
        self._commands = Lane(is_bulk=False, round_max=most.round_commands_max, in_turns_max=room)
        self._bulk = Lane(is_bulk=True, round_max=most.slice_commands_max, in_turns_max=room)
        self._commit = GroupCommit(log)
        self._taker = TurnTaker(self._commit, rules=self._rules, guard=self._guard, clock=clock)
        self._turns = Turns(
            taker=self._taker,
            keeper=self._keeper,
            awake=self._awake,
            ready=self._ready,
            snapshots=self._snapshots,
            clock=clock,
            tries_max=most.tries_max,
            give_back=self._take_back,
        )
        self._unread = UnreadErasures(
            log, waker=waker, ready=self._ready, taker=self._taker, tries_max=most.tries_max
        )
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
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._turns.close()
        await self._unread.close()
        await self._commit.close()
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

    def execute(self, batch: Sequence[Routed]) -> Coroutine[None, None, list[Reply]]:
        """Take commands in at once; await each's own reply, in the order of the batch.

        Never raises.
        """
        self.give_way()
        return self._replies(self._take_in(batch, self._commands))

    def execute_bulk(self, batch: Sequence[Routed]) -> Coroutine[None, None, list[Reply]]:
        """Take in commands that may wait for others: as `execute`, in slices. Never raises."""
        return self._replies(self._take_in(batch, self._bulk))

    def give_way(self) -> None:
        """Let bulk give way to commands in the log for a while: some came, here or elsewhere."""
        self._commit.give_way()

    def _take_in(self, batch: Sequence[Routed], lane: Lane) -> Answers:
        answers = Answers(len(batch))
        now = milliseconds_of(self._clock.now())
        room = self._limits.inbox_commands_max - self._waiting
        for place, routed in enumerate(batch):
            refusal = _refusal(routed.command.command_id, now)
            if refusal is None and room <= 0:
                refusal = _OVERLOADED
            if refusal is None:
                room -= 1
                lane.inbox.append(Waiting(routed, answers, place, is_bulk=lane.is_bulk))
            else:
                answers.give(place, refusal)
        lane.arrived.set()
        return answers

    async def _replies(self, answers: Answers) -> list[Reply]:
        await answers.given
        self._executed += len(answers.replies)
        return [reply for reply in answers.replies if reply is not None]

    @property
    def _waiting(self) -> int:
        return len(self._commands.inbox) + len(self._bulk.inbox) + self._keeper.waiting

    async def _run_rounds(self, lane: Lane) -> None:
        while True:
            await lane.arrived.wait()
            lane.arrived.clear()
            self._passivate()
            while lane.inbox:
                await self._gather(lane)
                batch = await lane.take()
                try:
                    await self._round(batch, lane)
                except Exception as error:  # noqa: BLE001  # or the host would stop for good
                    _log.error("round_failed", **describe(error))
                    answer_all(batch, failed(Kind.UNAVAILABLE, "HOST_FAULT", "the host failed"))
            if lane.is_bulk:
                self._commit.end_gathering()

    async def _gather(self, lane: Lane) -> None:
        """Let the others have the loop before a slice, and small slices grow where turns run."""
        if lane.is_bulk:
            is_small = len(lane.inbox) < self._limits.slice_commands_max and lane.in_turns > 0
            await asyncio.sleep(GATHER_SECONDS if is_small else 0)

    async def _round(self, batch: list[Waiting], lane: Lane) -> None:
        batch = self._drop_expired(batch)
        self._passivate()
        # Of a damaged log nothing is read either: who lost an event would seem unreadable.
        if not await self._taker.is_admitted(batch):
            return
        try:
            unreadable = await self._ready.prepare(batch)
        except LogError as error:
            if self._guard.is_sound:
                answer_all(batch, failed(Kind.UNAVAILABLE, error.reason, error.message))
            else:
                self._taker.answer_unsound(batch)
            return
        await self._taker.learn_new_rules(batch)
        if not await self._taker.is_admitted(batch):
            return
        # From here on nothing is awaited until every turn is decided.
        batch = self._without_unread_erasures(batch, unreadable)
        for waiting in batch:
            waiting.roots = self._roots_of(waiting)
        elsewhere = {r for w in batch for r in self._redirected(w, unreadable)}
        # Others write to them: kept awake here, they would send callers to where they once were.
        for root in elsewhere:
            self._awake.forget(root)
        waited = self._keeper.waiting
        for turn in self._keeper.form(w for w in batch if not w.is_answered):
            self._turns.begin(turn, lane)
        if not lane.is_bulk:
            self._commit.send_urgent()
        # What they wait behind may be gathering there.
        if self._keeper.waiting > (BEHIND_MAX if lane.is_bulk else waited):
            self._commit.hurry()

    def _drop_expired(self, batch: list[Waiting]) -> list[Waiting]:
        now = self._clock.now()
        late = [waiting for waiting in batch if waiting.routed.command.deadline <= now]
        if not late:
            return batch
        answer_all(late, failed(Kind.UNAVAILABLE, "DEADLINE_EXCEEDED", "the deadline has passed"))
        return [waiting for waiting in batch if waiting.routed.command.deadline > now]

    def _without_unread_erasures(
        self, batch: list[Waiting], unreadable: Unreadable
    ) -> list[Waiting]:
        """Let those who are to be erased and cannot be read go a way of their own."""
        if not unreadable:
            return batch
        unread = [w for w in batch if w.is_erasure and is_unreadable(w, unreadable)]
        for waiting in unread:
            self._unread.begin(waiting)
        return [w for w in batch if w not in unread]

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
        roots = [self._awake.root_of(record_id) for record_id in waiting.named]
        return frozenset([root for root in roots if root is not None])

    def _take_back(self, commands: Sequence[Waiting]) -> None:
        """Put commands that need another turn before those that came after them."""
        for lane, is_bulk in ((self._commands, False), (self._bulk, True)):
            own = [waiting for waiting in commands if waiting.is_bulk == is_bulk]
            lane.inbox.extendleft(reversed(own))
            if lane.inbox:
                lane.arrived.set()

    async def _sweep_for_ever(self) -> None:
        """Let the rounds' loop see to sleepers also when no command comes."""
        while True:
            await asyncio.sleep(self._limits.sweep_every_seconds)
            self._commands.arrived.set()


def _refusal(command_id: CommandId, now: int) -> Reply | None:
    """Refuse a command for its id's age, as of a time in milliseconds since 1970."""
    made_at = made_at_milliseconds(command_id)
    if not made_at:
        return failed(Kind.INVALID, "INVALID_COMMAND_ID", "a command id is a UUIDv7")
    if made_at > now + _AHEAD_MAX:
        # Remembered for a day from now, it could be carried out again before it is too old.
        return failed(Kind.INVALID, "INVALID_COMMAND_ID", "the command id is from the future")
    if made_at < now - _REMEMBERED_FOR:
        return failed(Kind.REFUSED, "COMMAND_TOO_OLD", "the command id is older than 24 hours")
    return None
