"""Intake's ports in memory: a queue, dead letters, and a router that records what it was asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from actors.intake.port import DeadLetter, IntakeMessage, QueueStats, RejectedMessage
from domain.commands import Identify, PersonCommand, RecordSignals
from domain.errors import Kind
from domain.replies import Done, Failed, SignalResult
from eventlog.errors import LogUnavailable


class MemoryQueue:
    """Delivers again what was given back, at once; `settled` holds what was acknowledged."""

    def __init__(
        self, messages: Sequence[IntakeMessage], *, ack_wait_seconds: float = 30.0
    ) -> None:
        self.ack_wait_seconds = ack_wait_seconds
        self.waiting = deque(messages)
        self.settled: list[IntakeMessage] = []
        self.naks: list[tuple[int, float]] = []
        self.prolonged: list[int] = []
        self.pulls_failing = 0
        self.answers_failing = 0
        self._arrived = asyncio.Event()

    async def pull(
        self, *, batch_messages_max: int, wait_seconds: float, gather_seconds: float
    ) -> list[IntakeMessage]:
        if self.pulls_failing:
            self.pulls_failing -= 1
            raise LogUnavailable("the queue is away")
        if not self.waiting:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), wait_seconds)
            except TimeoutError:
                return []
        size = min(batch_messages_max, len(self.waiting))
        return [self.waiting.popleft() for _ in range(size)]

    def _fail_answer(self) -> None:
        if self.answers_failing:
            self.answers_failing -= 1
            raise LogUnavailable("the queue is away")

    async def ack(self, messages: Sequence[IntakeMessage]) -> None:
        self._fail_answer()
        self.settled.extend(messages)

    async def nak(self, messages: Sequence[IntakeMessage], *, delay_seconds: float) -> None:
        self._fail_answer()
        for message in messages:
            again = message.deliveries + 1
            token = f"{message.sequence}/{again}"
            self.naks.append((message.sequence, delay_seconds))
            self.waiting.append(replace(message, deliveries=again, token=token))
        self._arrived.set()

    async def in_progress(self, messages: Sequence[IntakeMessage]) -> None:
        self.prolonged.extend(message.sequence for message in messages)

    async def settled_through(self) -> dict[str, int]:
        return {}

    async def stats(self) -> QueueStats:
        return QueueStats(len(self.waiting), 0, len(self.waiting), 0)

    async def trim(self, *, settled_before: datetime) -> int:
        return 0


class MemoryDeadLetters:
    """Keeps rejected messages by their origin."""

    def __init__(self) -> None:
        self.kept: dict[str, RejectedMessage] = {}
        self.puts_failing = 0

    @property
    def reasons(self) -> dict[str, str]:
        return {origin: message.reason for origin, message in self.kept.items()}

    async def put(self, message: RejectedMessage) -> None:
        if self.puts_failing:
            self.puts_failing -= 1
            raise LogUnavailable("no room for dead letters")
        self.kept[message.origin] = message

    async def list(
        self, *, after_sequence: int = 0, limit: int = 100, reason: str | None = None
    ) -> list[DeadLetter]:
        raise NotImplementedError

    async def get(self, sequence: int) -> DeadLetter | None:
        raise NotImplementedError


Answer = Callable[[PersonCommand], Done | Failed]


def done(command: PersonCommand, result: SignalResult = "recorded") -> Done:
    """Say of every message of a command that it has this result."""
    match command:
        case RecordSignals(signals=signals):
            messages = len(signals)
        case Identify(message_id=str()):
            messages = 1
        case _:
            messages = 0
    return Done(customer_id=None, revision=1, signals=(result,) * messages)


def failed(kind: Kind, reason: str) -> Failed:
    return Failed(kind=kind, reason=reason, message="as the test says")


def shape(command: PersonCommand) -> tuple[str, list[str]]:
    """Name a command by its person and the messages that it carries."""
    person = command.identifiers[0].value
    match command:
        case RecordSignals(signals=signals):
            return person, [signal.message_id for signal in signals]
        case Identify(message_id=message_id):
            return person, [f"identify {message_id}"]
        case _:
            return person, []


class RecordingRouter:
    """Answers by a function, and keeps every command with the call that carried it."""

    def __init__(self, answer: Answer = done) -> None:
        self.answer = answer
        self.calls: list[list[PersonCommand]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_once = 0
        self.at_once_max = 0

    @property
    def commands(self) -> list[PersonCommand]:
        return [command for call in self.calls for command in call]

    async def execute_many(self, commands: Sequence[PersonCommand]) -> Sequence[Done | Failed]:
        self.calls.append(list(commands))
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        await self.gate.wait()
        self.at_once -= 1
        return [self.answer(command) for command in commands]


class CountingClock:
    """A fixed time, and ids in order."""

    def __init__(self) -> None:
        self._made = 0

    def now(self) -> datetime:
        return datetime(2026, 11, 1, 12, tzinfo=UTC)

    def recorded_now(self) -> datetime:
        return self.now()

    def arrival(self, received_at: datetime) -> datetime:
        return received_at

    def new_id(self) -> str:
        self._made += 1
        return f"01930000-0000-7000-8000-{self._made:012x}"
