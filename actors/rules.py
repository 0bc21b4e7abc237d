"""The workspace's rules at hand: read from its stream, brought up to date, and changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from math import inf
from time import monotonic

import structlog

from actors.clock import Clock
from actors.drafting import drafts_of
from domain.command_origins import require_origin
from domain.commands import RulesCommand, SetIdentityRules
from domain.decision import Change
from domain.errors import DomainError, Kind, Refused
from domain.ids import WORKSPACE_STREAM, CommandId, StreamKind
from domain.record import RememberedCommand, remembered
from domain.replies import Done
from domain.rules import Rules, Source, decide_rules, fold_rules, replaces, rewrites
from eventlog.errors import LogDamaged, LogError, LogUnavailable
from eventlog.outgoing import LOG_DAMAGED, NOBODYS_FAULT
from eventlog.port import EMPTY, Attempt, Conflict, EventLog, Head, Stored, Unknown
from eventlog.port import Refused as NotStored

REFRESH_EVERY_SECONDS = 0.25
KNOWN_SECONDS_MAX = 0.5
"""Nothing is decided by rules that the log's leader told longer ago, also by a host that had stood
still. A change of a purpose or source is answered when none goes by what it was any more."""

TRIES_MAX = 16
RULES_DAMAGED = "rules_damaged"
_KINDS = dict.fromkeys(NOBODYS_FAULT, Kind.UNAVAILABLE) | {LOG_DAMAGED: Kind.DAMAGED}
_log = structlog.get_logger()


class RulesUnavailable(DomainError):
    """A change of rules was not carried out, or nobody knows whether it was."""

    def __init__(self, kind: Kind, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.kind = kind


class RulesKeeper:
    """Keep the rules of one workspace; one instance a process.

    `on_damage` hears that they cannot be read, after which nothing should be decided.
    """

    def __init__(
        self, log: EventLog, clock: Clock, *, on_damage: Callable[[str], None] | None = None
    ) -> None:
        self._log = log
        self._clock = clock
        self._on_damage = on_damage
        self._rules = Rules()
        self._head = EMPTY
        self._carried_out: dict[CommandId, RememberedCommand] = {}
        self._reading = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None
        self._asked_at = -inf

    @property
    def rules(self) -> Rules:
        """The rules as last read, about `REFRESH_EVERY_SECONDS` ago while the log can be read."""
        return self._rules

    @property
    def revision(self) -> int:
        """The revision of the last change."""
        return self._head.revision

    async def start(self) -> None:
        """Read the rules, and go on reading them in the background."""
        await self.refresh()
        self._refreshing = asyncio.create_task(self._refresh_for_ever())

    async def close(self) -> None:
        """Stop reading."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    async def keep_up(self) -> None:
        """Ask the leader, unless it was asked within `KNOWN_SECONDS_MAX`. Raises `LogError`."""
        now = monotonic()
        if now - self._asked_at <= KNOWN_SECONDS_MAX:
            return
        await self.refresh()
        if self._asked_at < now:
            raise LogUnavailable("the rules could not be read up to where the log's leader is")

    async def refresh(self, *, at_least_revision: int = 0) -> None:
        """Read what is new, unless that revision is already here. Raises `LogError`."""
        async with self._reading:
            if at_least_revision and self._head.revision >= at_least_revision:
                return
            asked_at = monotonic()
            try:
                [newest] = await self._log.leader_revisions([WORKSPACE_STREAM])
                if newest > self._head.revision:
                    await self._read_on()
                if newest <= self._head.revision:
                    self._asked_at = asked_at
            except LogDamaged:
                if self._on_damage is not None:
                    self._on_damage(RULES_DAMAGED)
                raise

    async def require_source(self, name: str) -> Source:
        """Give a source, though registered a moment ago. Raises `NotFound` and `LogError`."""
        if name not in self._rules.sources:
            await self.refresh()
        return self._rules.source(name)

    async def _read_on(self) -> None:
        entries = await self._log.load(WORKSPACE_STREAM, after=self._head)
        events = [entry.event for entry in entries if entry.event is not None]
        if len(events) != len(entries):
            raise LogDamaged("an event of the workspace's rules cannot be read")
        if entries:
            self._rules = fold_rules(self._rules, events)
            for event in events:
                known = self._carried_out.get(event.command_id)
                self._carried_out[event.command_id] = remembered(known, event)
            self._head = entries[-1].head

    async def execute(self, command: RulesCommand) -> Done:
        """Change the rules. Raises `DomainError`, with kind unavailable where the log is away."""
        for _try in range(TRIES_MAX):
            await self._refresh_or_fail()
            done = self._carried_out.get(command.command_id)
            if done is not None:
                require_origin(done.origins, command.kind)
                return Done(customer_id=None, revision=done.revision)
            before = self._rules
            if isinstance(command, SetIdentityRules) and rewrites(self._rules, command.rules):
                await self._require_nobody_known()
            bodies = decide_rules(self._rules, command)
            if not bodies:
                return Done(customer_id=None, revision=self._head.revision)
            changes = [Change(WORKSPACE_STREAM, body, command.issued_at) for body in bodies]
            attempt = _attempt(command, changes, head=self._head, clock=self._clock)
            left = command.deadline - self._clock.now()
            outcome = await self._log.append(
                attempt, timeout_seconds=max(left, timedelta(0)).total_seconds()
            )
            match outcome:
                case Stored():
                    # It is in the log: a read that fails now only delays what this process knows.
                    with contextlib.suppress(LogError):
                        await self.refresh()
                    if replaces(before, bodies):
                        await asyncio.sleep(KNOWN_SECONDS_MAX)
                    return Done(customer_id=None, revision=outcome.revision)
                case NotStored(reason=reason):
                    kind = _KINDS.get(reason, Kind.REFUSED)
                    raise RulesUnavailable(kind, reason, "the log did not take the change")
                case Unknown():
                    raise RulesUnavailable(
                        Kind.UNKNOWN_OUTCOME,
                        "UNKNOWN_OUTCOME",
                        "nobody knows whether it was stored",
                    )
                case Conflict():
                    continue
        raise RulesUnavailable(Kind.CONFLICT, "CONFLICT_BUDGET_SPENT", "the rules keep changing")

    async def _require_nobody_known(self) -> None:
        """Raise `Refused` if the log holds any identifier."""
        try:
            async for entries in self._log.read():
                if any(entry.stream.kind is StreamKind.IDENTIFIER for entry in entries):
                    text = "what is held, refused or erased under a value would be so no more"
                    raise Refused("NORMALISER_IN_USE", text)
        except LogError as error:
            raise _unavailable(error) from error

    async def _refresh_or_fail(self) -> None:
        try:
            await self.refresh()
        except LogError as error:
            raise _unavailable(error) from error

    async def _refresh_for_ever(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_EVERY_SECONDS)
            try:
                await self.refresh()
            except LogError as error:
                _log.warning("rules_not_refreshed", reason=error.reason)


def _unavailable(error: LogError) -> RulesUnavailable:
    kind = Kind.DAMAGED if isinstance(error, LogDamaged) else Kind.UNAVAILABLE
    return RulesUnavailable(kind, error.reason, error.message)


def _attempt(command: RulesCommand, changes: list[Change], *, head: Head, clock: Clock) -> Attempt:
    drafts = drafts_of(changes, command, clock=clock, now=clock.recorded_now())
    return Attempt(tuple(drafts), {WORKSPACE_STREAM: head})
