"""Who may take a turn now: commands that meet in a customer or an identifier share one turn.

A turn holds keys (roots, and identifiers that nobody holds) until it is over; commands that need a
held key wait behind it, in the order in which they came. Bulk shares turns also where it does not
meet, as long as nothing went wrong with it: a turn costs as much as a signal.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from actors.messages import Routed
from domain.commands import EraseCustomer, ReadmitIdentifier, UnlinkIdentifier
from domain.identity import PastHolder, Tombstone
from domain.ids import CommandId, IdentifierKey, RecordId
from domain.record import RememberedCommand
from domain.replies import Reply
from eventlog.port import Head

COMMANDS_PER_TURN_MAX = 64


@dataclass(frozen=True, slots=True)
class IdentifierStream:
    """Where the stream of an identifier stands that was claimed before, as the log told.

    `erased` names the record that held it until its person was erased, while it is tombstoned;
    `past_holders` who held one that is free, the last one last; `readmitted` which commands
    let it be used again, where its whole stream was read.
    """

    head: Head
    erased: RecordId | None = None
    past_holders: tuple[PastHolder, ...] = ()
    readmitted: Mapping[CommandId, RememberedCommand] = field(default_factory=dict)

    @property
    def tombstone(self) -> Tombstone | None:
        """What it is while it is tombstoned: its newest event says so."""
        return None if self.erased is None else Tombstone(self.erased, self.head.revision)


class Lane:
    """Commands that came one way, the most that a round of them takes, and room for turns."""

    def __init__(self, *, is_bulk: bool, round_max: int, in_turns_max: int) -> None:
        self.is_bulk = is_bulk
        self.inbox: deque[Waiting] = deque()
        self.arrived = asyncio.Event()
        self.in_turns = 0
        self.round_max = round_max
        self._in_turns_max = in_turns_max
        self._ended = asyncio.Event()

    async def take(self) -> list[Waiting]:
        """Take a round's commands, in order, once there is room for them in turns."""
        while self.in_turns >= self._in_turns_max:
            self._ended.clear()
            await self._ended.wait()
        room = min(self.round_max, self._in_turns_max - self.in_turns)
        return [self.inbox.popleft() for _ in range(min(len(self.inbox), room))]

    def begin_turn(self, turn: Turn) -> None:
        """Count its commands as taking their turn."""
        self.in_turns += len(turn.commands)

    def end_turn(self, turn: Turn) -> None:
        """Let others begin."""
        self.in_turns -= len(turn.commands)
        self._ended.set()


class Answers:
    """The replies to the commands of one batch, in its order; `given` is done with the last."""

    def __init__(self, commands: int) -> None:
        self.given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.replies: list[Reply | None] = [None] * commands
        self._left = commands
        if not commands:
            self.given.set_result(None)

    def has(self, place: int) -> bool:
        """Whether a command has its reply, or the caller has gone."""
        return self.replies[place] is not None or self.given.done()

    def give(self, place: int, reply: Reply) -> None:
        """Reply to a command, unless there is a reply already or the caller has gone."""
        if self.has(place):
            return
        self.replies[place] = reply
        self._left -= 1
        if not self._left:
            self.given.set_result(None)


@dataclass(slots=True, eq=False)
class Waiting:
    """A command in a host: the place of its answer, and how often it met a conflict already.

    `roots` are the customers that it meant, as they were known when its turn was formed; `streams`
    what the log told of identifiers, for those that were looked up; `held` are those that it takes
    from whom it erases; `before` are who held what it came with before, and may remember it.
    `is_bulk` names its lane. `forgotten_by` are records whose memory had no room for it, should it
    have been carried out before; `recalled` is it as the log has it on them, once that was looked
    for.
    """

    routed: Routed
    answers: Answers
    place: int
    is_bulk: bool = False
    tries: int = 0
    roots: frozenset[RecordId] = frozenset()
    streams: dict[IdentifierKey, IdentifierStream] = field(default_factory=dict)
    forgotten_by: dict[RecordId, int] = field(default_factory=dict)
    recalled: dict[RecordId, RememberedCommand] | None = None
    held: frozenset[IdentifierKey] = frozenset()
    before: tuple[PastHolder, ...] = ()

    @property
    def may_share(self) -> bool:
        """Whether it may share a turn with commands on others: nobody waits for it alone.

        What met a conflict does not: it would cost the others their turn again.
        """
        return self.is_bulk and not self.tries

    @property
    def is_answered(self) -> bool:
        """Whether there is an answer already, or the caller has gone."""
        return self.answers.has(self.place)

    def reply(self, reply: Reply) -> None:
        """Answer, unless there is an answer already or the caller has gone."""
        self.answers.give(self.place, reply)

    def own(self, owners: dict[IdentifierKey, RecordId]) -> None:
        """Correct who holds the identifiers."""
        self.routed = replace(self.routed, owners=owners)

    @property
    def named(self) -> list[RecordId]:
        """The records that the command names, itself or by the identifiers it came with."""
        # Asked for several times of every command, so no more is made than is needed.
        named = self.routed.command.named_records
        return [*self.hints.values(), *named] if named else list(self.hints.values())

    @property
    def hints(self) -> dict[IdentifierKey, RecordId]:
        """Who holds the identifiers, or held them before an erasure: what leads to the customer."""
        if not self.is_erasure:
            return self.routed.owners
        erased = {key: s.erased for key, s in self.streams.items() if s.erased is not None}
        return {**self.routed.owners, **erased}

    @property
    def unheld(self) -> list[IdentifierKey]:
        """The identifiers that nobody holds, as far as is known."""
        owners = self.routed.owners
        return [item.key for item in self.routed.command.identifiers if item.key not in owners]

    @property
    def uncertain(self) -> list[IdentifierKey]:
        """The identifiers whose streams it may write to, so that their heads have to be known."""
        if self.is_about_identifier:
            return [item.key for item in self.routed.command.identifiers]
        if self.is_erasure:
            return list({*self.held, *(item.key for item in self.routed.command.identifiers)})
        return self.unheld

    @property
    def is_about_identifier(self) -> bool:
        """Whether it changes who holds an identifier that is not free."""
        return isinstance(self.routed.command, UnlinkIdentifier | ReadmitIdentifier)

    @property
    def is_erasure(self) -> bool:
        """Whether it erases somebody, with all identifiers that are held then."""
        return isinstance(self.routed.command, EraseCustomer)

    @property
    def keys(self) -> frozenset[str]:
        """What its turn has to hold: the customers it means, and the identifiers it may claim."""
        unheld = self.unheld
        if not unheld and self.roots:
            return self.roots
        return frozenset([*self.roots, *unheld] or [self.routed.command.new_record_id])


def answer_all(commands: Iterable[Waiting], reply: Reply) -> None:
    """Give all of these commands one reply."""
    for waiting in commands:
        waiting.reply(reply)


@dataclass(slots=True)
class Turn:
    """Commands that are decided one after another, and the keys that they hold together."""

    keys: set[str] = field(default_factory=set)
    commands: list[Waiting] = field(default_factory=list)


class TurnKeeper:
    """Form turns, and keep waiting whoever meets one that is not over."""

    def __init__(self) -> None:
        self._busy: set[str] = set()
        self._behind: dict[str, list[Waiting]] = defaultdict(list)
        self._waiting = 0

    def is_busy(self, key: str) -> bool:
        """Whether a turn holds this key."""
        return key in self._busy

    @property
    def waiting(self) -> int:
        """How many commands wait behind a turn."""
        return self._waiting

    def form(self, commands: Iterable[Waiting]) -> list[Turn]:
        """Group commands into turns that may run at once, and note their keys as held."""
        turn_of: dict[str, Turn] = {}
        turns: list[Turn] = []
        shared: Turn | None = None
        for waiting in commands:
            keys = waiting.keys
            met: list[Turn] = []
            if not turn_of.keys().isdisjoint(keys):
                met = _distinct(turn_of[key] for key in keys if key in turn_of)
            held = self._held(keys, met, turn_of)
            if held is not None:
                self._behind[held].append(waiting)
                self._waiting += 1
                continue
            if not met and waiting.may_share and shared is not None:
                met = [shared]
            turn = _joined(met, turns)
            turn.commands.append(waiting)
            turn.keys |= keys
            for key in turn.keys if len(met) > 1 else keys:
                turn_of[key] = turn
            if waiting.may_share or any(other is shared for other in met):
                shared = turn if len(turn.commands) < COMMANDS_PER_TURN_MAX else None
        for turn in turns:
            self._busy |= turn.keys
        return turns

    def _held(
        self, keys: frozenset[str], met: list[Turn], turn_of: Mapping[str, Turn]
    ) -> str | None:
        """Name the key behind which a command waits: of a turn under way, or of a full one."""
        if not self._busy.isdisjoint(keys):
            return next(key for key in keys if key in self._busy)
        if met and sum(len(turn.commands) for turn in met) >= COMMANDS_PER_TURN_MAX:
            return next(key for key in keys if key in turn_of)
        return None

    def end(self, turn: Turn) -> list[Waiting]:
        """Let go of a turn's keys; give the commands that waited behind them, in order."""
        freed: list[Waiting] = []
        for key in turn.keys:
            self._busy.discard(key)
            freed += self._behind.pop(key, [])
        self._waiting -= len(freed)
        return freed


def _distinct(turns: Iterable[Turn]) -> list[Turn]:
    return list({id(turn): turn for turn in turns}.values())


def _joined(met: list[Turn], turns: list[Turn]) -> Turn:
    if not met:
        turns.append(Turn())
        return turns[-1]
    if len(met) == 1:
        return met[0]
    first, *others = met
    for other in others:
        first.commands += other.commands
        first.keys |= other.keys
        turns.remove(other)
    return first
