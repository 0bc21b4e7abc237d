"""The way of a command to its customer's host and of the reply back, on one of two lanes.

A single command goes at once on the lane of commands; many go in bulk: while calls to a host are in
flight, what arrives gathers and goes with the next one. What was on its way to a host that died is
sent again with the same command ids until the commands' deadlines: they are idempotent.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

from actors.channels import Answer, Channel, DirectChannel, GatheringChannel
from actors.clock import Clock
from actors.directory import Directory
from actors.lanes import HostTable
from actors.messages import COMMANDS_PER_CALL_MAX, HostLink, HostUnavailable, Routed, failed
from actors.slots import Placement
from domain.commands import (
    CheckConsent,
    EraseCustomer,
    PersonCommand,
    ReadmitIdentifier,
    RecordSignals,
    SetTraits,
    TriableCommand,
    UnlinkIdentifier,
)
from domain.errors import Kind
from domain.replies import Done, Failed, Moved
from eventlog.errors import LogError
from eventlog.port import EventLog

REDIRECTS_MAX = 8
RETRY_AFTER_SECONDS = 0.1

UNSETTLED = frozenset({Kind.UNAVAILABLE, Kind.CONFLICT})
"""Failures that say nothing of what an earlier call with the same command id has stored."""

_TOO_LATE = failed(Kind.UNAVAILABLE, "DEADLINE_EXCEEDED", "the deadline has passed")
_LOST = failed(
    Kind.UNKNOWN_OUTCOME,
    "UNKNOWN_OUTCOME",
    "the host was lost, and none said what became of the command",
)
_UNANSWERED = failed(Kind.UNAVAILABLE, "LOG_UNAVAILABLE", "no host answered in time")


class CommandRouter:
    """Route commands of one workspace; one instance a process.

    `link` carries bulk, `commands` single commands; without it, those travel with the others.
    `table` tells which hosts live; without it, all are thought to.
    """

    def __init__(
        self,
        log: EventLog,
        link: HostLink,
        *,
        placement: Placement,
        clock: Clock,
        commands: HostLink | None = None,
        table: HostTable | None = None,
    ) -> None:
        self._directory = Directory(log)
        self._placement = placement
        self._clock = clock
        self._table = table
        hosts = range(placement.hosts)
        self._bulk: list[Channel] = [GatheringChannel(link, host) for host in hosts]
        self._commands = self._bulk
        if commands is not None:
            self._commands = [DirectChannel(commands, host) for host in hosts]

    async def execute(self, command: PersonCommand) -> Done | Failed:
        """Execute one command, ahead of bulk. Never raises."""
        return (await self._execute([command], self._commands))[0]

    async def execute_many(self, commands: Sequence[PersonCommand]) -> list[Done | Failed]:
        """Execute commands in bulk; replies are aligned with them. Never raises."""
        return await self._execute(commands, self._bulk)

    async def _execute(
        self, commands: Sequence[PersonCommand], channels: Sequence[Channel]
    ) -> list[Done | Failed]:
        try:
            await self._directory.look_up(commands)
        except LogError as error:
            return [failed(Kind.UNAVAILABLE, error.reason, error.message)] * len(commands)
        answers = await self._try(commands, channels)
        replies: dict[int, Done | Failed] = {}
        for place, answer in enumerate(answers):
            if isinstance(answer, Done):
                self._learn(commands[place], answer)
                replies[place] = answer
        if len(replies) < len(commands):
            left = [place for place in range(len(commands)) if place not in replies]
            settling = [self._until_settled(commands[p], answers[p], channels) for p in left]
            replies |= zip(left, await asyncio.gather(*settling), strict=True)
        return [replies[place] for place in range(len(commands))]

    async def _try(
        self, commands: Sequence[PersonCommand], channels: Sequence[Channel]
    ) -> list[Answer]:
        """Send each command once to where it seems to belong, in few pieces. Never raises."""
        answers: list[Answer] = [HostUnavailable()] * len(commands)
        places: dict[int, list[int]] = defaultdict(list)
        batches: dict[int, list[Routed]] = defaultdict(list)
        away = self._table.away if self._table else frozenset[int]()
        now = self._clock.now()
        for place, command in enumerate(commands):
            if command.deadline <= now:
                answers[place] = _given_up(command, was_lost=False)
                continue
            routed, root = self._directory.route(command)
            host = self._placement.host_of(root, away=away)
            places[host].append(place)
            batches[host].append(routed)

        async def send(host: int, start: int) -> None:
            piece = slice(start, start + COMMANDS_PER_CALL_MAX)
            batch = batches[host][piece]
            until = max(routed.command.deadline for routed in batch)
            with suppress(TimeoutError):
                async with asyncio.timeout((until - now).total_seconds()):
                    found = await channels[host].send(batch)
                    for place, answer in zip(places[host][piece], found, strict=True):
                        answers[place] = answer

        pieces = [
            send(host, start)
            for host, batch in batches.items()
            for start in range(0, len(batch), COMMANDS_PER_CALL_MAX)
        ]
        if len(pieces) == 1:  # a single command: it needs no task beside its caller's
            await pieces[0]
        else:
            await asyncio.gather(*pieces)
        return answers

    async def _until_settled(
        self, command: PersonCommand, answer: Answer, channels: Sequence[Channel]
    ) -> Done | Failed:
        """Follow redirects, and call again a host that was away, until the deadline."""
        was_lost = False
        redirects = 0
        while True:
            match answer:
                case HostUnavailable():
                    was_lost = True
                    await self._rest(command)
                case Moved():
                    redirects += 1
                    if redirects > REDIRECTS_MAX:
                        return failed(Kind.UNAVAILABLE, "ALWAYS_MOVING", "no host kept the command")
                    self._directory.learn_moved(command, answer)
                case Done():
                    self._learn(command, answer)
                    return answer
                case Failed(kind=kind) if was_lost and kind in UNSETTLED:
                    await self._rest(command)
                case Failed():
                    return answer
            if command.deadline <= self._clock.now():
                return _given_up(command, was_lost=was_lost)
            (answer,) = await self._try([command], channels)

    async def _rest(self, command: PersonCommand) -> None:
        left = (command.deadline - self._clock.now()).total_seconds()
        await asyncio.sleep(max(0.0, min(RETRY_AFTER_SECONDS, left)))

    def _learn(self, command: PersonCommand, reply: Done) -> None:
        if reply.ignored is not None:
            return  # Nothing was stored, so nothing was linked.
        match command:
            case RecordSignals():  # first: nearly all are
                self._learn_linked(command, reply)
            case CheckConsent() | SetTraits() | TriableCommand(dry_run=True):
                return
            case UnlinkIdentifier() | ReadmitIdentifier():
                self._directory.forget_owner(command.identifiers[0].key)
                return
            case EraseCustomer():
                for item in command.identifiers:
                    self._directory.forget_owner(item.key)
            case _:
                self._learn_linked(command, reply)

    def _learn_linked(self, command: PersonCommand, reply: Done) -> None:
        """Learn whose the identifiers are; of duplicates, or when declined, none was linked."""
        said = reply.signals
        if not said or "recorded" in said:
            self._directory.learn_done(command, reply)


def _given_up(command: PersonCommand, *, was_lost: bool) -> Failed:
    """Say what is known of a command whose deadline has passed: of a question, all there is."""
    if isinstance(command, CheckConsent) and not command.record:
        return _UNANSWERED
    return _LOST if was_lost else _TOO_LATE
