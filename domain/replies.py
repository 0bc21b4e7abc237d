"""What is answered to a command: done, moved to another host, or failed for a stable reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from domain.consent import ConsentState
from domain.identity import LeftOut
from domain.ids import IdentifierKey, RecordId

_CLOSED = ConfigDict(extra="forbid")

SignalResult = Literal["recorded", "duplicate", "declined"]
"""What became of a signal; it is declined because every purpose of its source is closed."""


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


class HeldIdentifier(BaseModel):
    """An identifier without its value, and the record that holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: IdentifierKey
    namespace: str
    record_id: str


class CustomerAfter(BaseModel):
    """A customer as a merge or an undo leaves it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer_id: str
    record_ids: tuple[str, ...]
    identifiers: tuple[HeldIdentifier, ...]


class TraitConsequence(BaseModel):
    """A trait that shows another word than before; the customer is the one that joins or parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer_id: str
    trait: str
    source_before: str | None
    source_after: str | None


class ConsentConsequence(BaseModel):
    """A purpose that stands differently; the customer is the one that joins or parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer_id: str
    purpose: str
    open_before: bool
    open_after: bool
    state_before: ConsentState
    state_after: ConsentState


class SegmentConsequence(BaseModel):
    """A segment that somebody comes to or leaves; the customer is the one that joins or parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer_id: str
    segment: str
    belongs_before: bool
    belongs_after: bool


class ErasedRecord(BaseModel):
    """A record that goes with its customer: how much of each kind it holds, by no name of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    record_id: str
    identifiers: dict[str, int]
    traits: int
    acts: int
    households: int
    messages: int


class Consequences(BaseModel):
    """What a merge, an undo or an erasure comes to.

    `closing_acts` go on binding several of the customers after an undo; `declined_messages` stay
    declined. `segments` are added to a dry run's by those who serve segments: no host knows them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    customers: tuple[CustomerAfter, ...] = ()
    traits: tuple[TraitConsequence, ...] = ()
    consents: tuple[ConsentConsequence, ...] = ()
    segments: tuple[SegmentConsequence, ...] = ()
    closing_acts: tuple[str, ...] = ()
    declined_messages: int = 0
    erased: tuple[ErasedRecord, ...] = ()


# Plain dataclasses: a host makes one for each command, in a quarter of the time that a model or a
# frozen one takes, and without slots they are written in a quarter of the time.
@dataclass(kw_only=True)
class Done:
    """A command was carried out; `revision` is where a reader sees it (0: nothing was stored).

    `signals` are what became of the command's signals or its message, in their order.
    """

    __pydantic_config__: ClassVar = _CLOSED

    outcome: Literal["done"] = "done"
    customer_id: str | None
    revision: int
    created: bool = False
    merge_ids: tuple[str, ...] = ()
    signals: tuple[SignalResult, ...] = ()
    verdict: Verdict | None = None
    ignored: str | None = None
    left_out: tuple[LeftOut, ...] = ()
    consequences: Consequences | None = None


@dataclass(kw_only=True)
class Moved:
    """The command belongs to the customer with this root: send it to that customer's host.

    `owners` and `roots` say what the host knows better: who holds the identifiers (nobody those
    that it does not name), and to which customers these records belong.
    """

    __pydantic_config__: ClassVar = _CLOSED

    outcome: Literal["moved"] = "moved"
    root: str
    owners: dict[IdentifierKey, RecordId] = field(default_factory=dict)
    roots: dict[RecordId, RecordId] = field(default_factory=dict)


@dataclass(kw_only=True)
class Failed:
    """A command was not carried out, for a stable reason; `kind` is a `domain.errors.Kind`.

    `current_revision` says how new the customer is, where it is newer than was expected.
    """

    __pydantic_config__: ClassVar = _CLOSED

    outcome: Literal["failed"] = "failed"
    kind: str
    reason: str
    message: str
    current_revision: int | None = None


Reply = Annotated[Done | Moved | Failed, Field(discriminator="outcome")]
replies: TypeAdapter[list[Reply]] = TypeAdapter(list[Reply])
"""Reads and writes a batch of replies as JSON."""
