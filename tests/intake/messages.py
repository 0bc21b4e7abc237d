"""Messages of publishers as the tests send them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from actors.intake.identifiers import IdentifierNormaliser
from actors.intake.port import IntakeMessage

PREFIX = "koseki.demo.ingest"
RECEIVED_AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
NORMALISER = IdentifierNormaliser(b"a pepper for the tests")
JSON = dict[str, Any]  # Any: what publishers send


def track(**fields: Any) -> JSON:
    return {"type": "track", "event": "Order Completed", "userId": "1", **fields}


def identify(**fields: Any) -> JSON:
    return {"type": "identify", "userId": "1", **fields}


def event(call: object, **attributes: Any) -> JSON:
    """Wrap a call into a CloudEvent; an attribute that is None is left out."""
    whole = {
        "specversion": "1.0",
        "id": "m1",
        "source": "/shop",
        "type": "com.segment.track",
        "data": call,
        **attributes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def message(
    body: object,
    *,
    subject: str = f"{PREFIX}.shop",
    headers: Mapping[str, str] | None = None,
    sequence: int = 1,
    deliveries: int = 1,
) -> IntakeMessage:
    return IntakeMessage(
        subject=subject,
        headers=headers or {},
        data=body if isinstance(body, bytes) else orjson.dumps(body),
        sequence=sequence,
        deliveries=deliveries,
        received_at=RECEIVED_AT,
        token=f"{sequence}/{deliveries}",
    )
