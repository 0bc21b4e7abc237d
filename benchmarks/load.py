"""Made-up events of the usual size, made before the clock runs. Seeded: every run has the same."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

from domain.event import Event
from domain.identity import Identifier
from domain.identity_events import IdentifiersLinked
from domain.ids import (
    CommandId,
    DecisionId,
    EventId,
    IdentifierKey,
    RecordId,
    Stream,
    record_stream,
)
from domain.signal_events import SignalsRecorded
from domain.signals import Signal
from eventlog.port import Draft

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

_random = random.Random(7)


def new_id() -> str:
    """Make a UUID of version 7."""
    number = _random.getrandbits(128) & ~(0xF << 76) & ~(0x3 << 62)
    return str(UUID(int=number | 7 << 76 | 2 << 62))


def new_record() -> Stream:
    """Name the stream of a new record."""
    return record_stream(RecordId(new_id()))


def purchase() -> SignalsRecorded:
    """Record one purchase, some 300 bytes as stored."""
    signal = Signal(
        message_id=new_id(),
        name="Order Completed",
        happened_at=NOON + timedelta(seconds=_random.randrange(86_400)),
        properties={"order_id": str(_random.randrange(10**9)), "total": _random.random() * 100},
        context={"page": "/checkout/thank-you", "locale": "ja-JP"},
    )
    return SignalsRecorded(source="shop", signals=(signal,))


def birth() -> IdentifiersLinked:
    """Begin a record, known by one e-mail address."""
    key = IdentifierKey(f"email.{_random.getrandbits(256):064x}")
    value = f"person{_random.randrange(10**9)}@example.org"
    identifier = Identifier(namespace="email", value=value, key=key)
    return IdentifiersLinked(source="shop", keys=(key,), identifiers=(identifier,))


def draft(stream: Stream, body: Event) -> Draft:
    """Draft an event as a decision of its own."""
    return Draft(
        stream=stream,
        event_id=EventId(new_id()),
        body=body,
        happened_at=NOON,
        recorded_at=NOON + timedelta(seconds=1),
        command_id=CommandId(new_id()),
        correlation_id=new_id(),
        decision_id=DecisionId(new_id()),
        part=1,
        parts=1,
        auth_id="service:shop",
    )
