"""What is answered to a command: done, moved to another host, or failed for a stable reason."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from domain.consent import ConsentState


class SignalResult(BaseModel):
    """What became of one message: `recorded`, `duplicate` or `declined` (with its reason)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    message_id: str
    result: Literal["recorded", "duplicate", "declined"]
    reason: str | None = None


class Verdict(BaseModel):
    """The answer to `CheckConsent`, and what it stands on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    purpose: str
    is_open: bool
    state: ConsentState
    reason: str
    act_event_id: str | None = None
    notice_version: str | None = None
    rules_version: int
    decided_at: datetime
    valid_until: datetime | None = None


class Done(BaseModel):
    """A command was carried out; `revision` is where a reader sees it (0: nothing was stored)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Literal["done"] = "done"
    customer_id: str | None
    revision: int
    created: bool = False
    merge_ids: tuple[str, ...] = ()
    signals: tuple[SignalResult, ...] = ()
    verdict: Verdict | None = None
    ignored: str | None = None


class Moved(BaseModel):
    """The command belongs to the customer with this root: send it to that customer's host."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Literal["moved"] = "moved"
    root: str


class Failed(BaseModel):
    """A command was not carried out, for a stable reason; `kind` is a `domain.errors.Kind`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Literal["failed"] = "failed"
    kind: str
    reason: str
    message: str


Reply = Annotated[Done | Moved | Failed, Field(discriminator="outcome")]
replies: TypeAdapter[list[Reply]] = TypeAdapter(list[Reply])
"""Reads and writes a batch of replies as JSON."""
