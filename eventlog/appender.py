"""Appends to JetStream, sent until their outcome is settled (R1, R2).

One event is a plain publish, several are an atomic batch. A time-out, a lost connection or a
conflict leaves an append unsettled: then the log is asked (`settlement.py`), and where it cannot
tell yet the same bytes are sent again with the same expectations.
"""

from __future__ import annotations

import asyncio
import random
from enum import Enum, auto
from typing import Protocol

import orjson
import structlog

from eventlog.connection import NotSent
from eventlog.errors import ClockDiffers, LogDamaged, LogUnavailable
from eventlog.incoming import BATCH_COMMIT, BATCH_ID, BATCH_SEQUENCE
from eventlog.jetstream_api import JetStreamApi
from eventlog.nats_client import Received
from eventlog.outgoing import (
    CLOCK_DIFFERS,
    EVENT_TOO_LARGE,
    LOG_DAMAGED,
    LOG_FULL,
    LOG_UNAVAILABLE,
    Message,
    Outgoing,
    stored,
)
from eventlog.port import Attempt, Conflict, Head, Outcome, Refused, Stored, Unknown
from eventlog.settlement import Settlement
from eventlog.subjects import Subjects
from eventlog.wire import MessageTooLarge, Outbound

TRY_SECONDS_MAX = 3.0
PAUSE_SECONDS_MIN = 0.005
PAUSE_SECONDS_MAX = 0.25

LOG_REJECTED = "LOG_REJECTED"

EXPECTED_REVISION = "Nats-Expected-Last-Subject-Sequence"

_NOT_ADMITTED = (Refused(LOG_DAMAGED), Refused(CLOCK_DIFFERS))
_CONFLICTS = frozenset({10071, 10164})
_TRY_AGAIN = frozenset({10163, 10176, 10210})
_TOO_LARGE = frozenset({10054, 10097})
_FULL = frozenset({10023, 10047})
_STORE_FAILED = 10077
_BUSY = frozenset({429, 503})
_SERVER_ERROR = 500

_logger = structlog.get_logger(__name__)


class _Answer(Enum):
    """What sending once can end with beside an outcome: surely not stored, or not known."""

    TRY_AGAIN = auto()
    UNSETTLED = auto()


_NO_OUTCOME_YET = (_Answer.UNSETTLED, Conflict())


class Gate(Protocol):
    """What stands before every sending: a `LogGuard`."""

    async def admit(self) -> int:
        """Give the connection to send on, by its losses. Raises as `LogGuard.admit`."""

    def note(self, head: Head) -> None:
        """Note an event that is about to be acknowledged."""


class Appender:
    """Append to the log of one workspace. Any number of appends run at once."""

    def __init__(self, api: JetStreamApi, subjects: Subjects, outgoing: Outgoing) -> None:
        self._connection = api.connection
        self._settlement = Settlement(api, subjects.log_name)
        self._outgoing = outgoing
        self.gate: Gate | None = None
        self._batches = 0
        self._batch_prefix = f"{random.getrandbits(96):024x}"

    async def append(self, attempt: Attempt, *, timeout_seconds: float) -> Outcome:
        """Store an attempt and settle its outcome before the time is up."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        messages = await self._outgoing.prepare_sealed(attempt, timeout_seconds=timeout_seconds)
        if isinstance(messages, Refused):
            return messages
        outcome = await self._settle(messages, deadline)
        if self.gate is not None and isinstance(outcome, Stored):
            last = messages[-1]
            self.gate.note(Head(outcome.revision, last.version, last.digest))
        return outcome

    async def _settle(self, messages: list[Message], deadline: float) -> Outcome:
        loop = asyncio.get_running_loop()
        is_unsettled = False
        pause = PAUSE_SECONDS_MIN
        while (remaining := deadline - loop.time()) > 0:
            answer = await self._send(messages, min(remaining, TRY_SECONDS_MAX))
            if isinstance(answer, Stored):
                return answer
            if answer in _NOT_ADMITTED:
                return Unknown() if is_unsettled else answer
            if isinstance(answer, Refused) and not is_unsettled:
                return answer
            is_unsettled = is_unsettled or answer in _NO_OUTCOME_YET
            if is_unsettled:
                found = await self._settlement.look(
                    messages, deadline, everywhere=isinstance(answer, Conflict)
                )
                if found is not None:
                    return found
            await self._pause(pause, deadline)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)
        return Unknown() if is_unsettled else Refused(LOG_UNAVAILABLE)

    async def _send(self, messages: list[Message], timeout_seconds: float) -> Outcome | _Answer:
        try:
            losses = await self.gate.admit() if self.gate is not None else None
        except LogDamaged:
            return Refused(LOG_DAMAGED)
        except ClockDiffers:
            return Refused(CLOCK_DIFFERS)
        except LogUnavailable:
            return _Answer.TRY_AGAIN
        try:
            answers = await self._connection.request_all(
                self._outbound(messages), losses=losses, timeout_seconds=timeout_seconds
            )
        except MessageTooLarge:
            return Refused(EVENT_TOO_LARGE)
        except NotSent:
            return _Answer.TRY_AGAIN
        except LogUnavailable:
            return _Answer.UNSETTLED
        return _judge(messages, answers[0])

    def _outbound(self, messages: list[Message]) -> list[Outbound]:
        if len(messages) == 1:
            return [_outbound(messages[0], "")]
        # A new id for each sending: what is left of an earlier one must not be taken for a part.
        self._batches += 1
        batch = f"{BATCH_ID}: {self._batch_prefix}-{self._batches}\r\n{BATCH_SEQUENCE}: "
        outbound = [_outbound(m, f"{batch}{n}\r\n") for n, m in enumerate(messages[:-1], start=1)]
        last = f"{batch}{len(messages)}\r\n{BATCH_COMMIT}: 1\r\n"
        return [*outbound, _outbound(messages[-1], last)]

    async def _pause(self, seconds: float, deadline: float) -> None:
        remaining = deadline - asyncio.get_running_loop().time()
        if remaining <= 0:
            return
        if not self._connection.is_connected:
            await self._connection.wait_connected(timeout_seconds=remaining)
            return
        # Writers that met must not meet again in step.
        await asyncio.sleep(min(seconds * (0.5 + random.random()), remaining))  # noqa: S311  # not a secret


def _outbound(message: Message, batch_lines: str) -> Outbound:
    """Write the server's headers before ours: it looks for them in each message, from the front.

    With ours first a batch takes it a tenth longer.
    """
    expectation = "" if message.expected is None else f"{EXPECTED_REVISION}: {message.expected}\r\n"
    lines = f"{batch_lines}{expectation}".encode() + message.lines
    return Outbound(message.subject, {}, message.body, lines)


def _judge(messages: list[Message], answer: Received) -> Outcome | _Answer:
    try:
        reply = orjson.loads(answer.data)
        error = reply.get("error")
        if error is None:
            return stored(messages, int(reply["seq"]))
        return _judge_error(int(error.get("code", 0)), int(error.get("err_code", 0)))
    except (AttributeError, KeyError, TypeError, ValueError):
        return _Answer.UNSETTLED


def _judge_error(status: int, code: int) -> Outcome | _Answer:
    if code in _CONFLICTS:
        return Conflict()
    if code in _TOO_LARGE:
        return Refused(EVENT_TOO_LARGE)
    if code in _FULL:
        return Refused(LOG_FULL)
    if code == _STORE_FAILED:
        return _Answer.UNSETTLED  # some of it may be on disk
    if code in _TRY_AGAIN or status in _BUSY:
        return _Answer.TRY_AGAIN
    _logger.error("append_rejected", status=status, code=code)
    return _Answer.UNSETTLED if status >= _SERVER_ERROR else Refused(LOG_REJECTED)
