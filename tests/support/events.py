"""Events, drafts and attempts for tests of the log: made up, but of the right form."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from domain.event import Event
from domain.identity_events import CustomerTouched
from domain.ids import CommandId, DecisionId, EventId, RecordId, Stream, record_stream
from domain.signal_events import TraitsSet
from eventlog.port import EMPTY, Attempt, Draft, EventLog, Head, Stored

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
_random = random.Random()


def new_id() -> str:
    """Make a UUID of version 7."""
    number = _random.getrandbits(128)
    number = number & ~(0xF << 76) | (7 << 76)
    number = number & ~(0x3 << 62) | (0x2 << 62)
    return str(UUID(int=number))


def new_record() -> Stream:
    """Name the stream of a record that is not there yet."""
    return record_stream(RecordId(new_id()))


def traits(**values: Any) -> TraitsSet:
    """Say something of a person."""
    return TraitsSet(source="shop", traits=values)


def touched() -> CustomerTouched:
    """Touch a customer: the smallest event."""
    return CustomerTouched(record_id=new_id())


def draft(stream: Stream, body: Event | None = None, **changes: Any) -> Draft:
    """Draft one event."""
    fields: dict[str, Any] = {
        "stream": stream,
        "event_id": EventId(new_id()),
        "body": body or traits(city="Kyoto"),
        "happened_at": NOON,
        "recorded_at": NOON + timedelta(seconds=1),
        "command_id": CommandId(new_id()),
        "correlation_id": "order-7",
        "decision_id": DecisionId(new_id()),
        "part": 1,
        "parts": 1,
        "auth_id": "service:shop",
    }
    return Draft(**(fields | changes))


def attempt(*drafts: Draft, expected: Mapping[Stream, Head] | None = None) -> Attempt:
    """Put drafts together; streams that are not named are expected to be empty."""
    heads = {d.stream: EMPTY for d in drafts} | dict(expected or {})
    return Attempt(drafts, heads)


async def store(log: EventLog, *drafts: Draft, after: Stored | None = None) -> Stored:
    """Append drafts, after what was stored before, and require that they are stored."""
    heads = after.heads if after else {}
    expected = {d.stream: heads[d.stream] for d in drafts if d.stream in heads}
    outcome = await log.append(attempt(*drafts, expected=expected), timeout_seconds=10)
    assert isinstance(outcome, Stored), outcome
    return outcome
