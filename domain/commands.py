"""Everything that may be asked of a customer or a workspace, as frozen models.

Commands are validated where they enter. Ids, times and normalised values arrive inside them: the
domain reads no clock and makes nothing up. A command that addresses a person names a record id, or
identifiers, or both; `new_record_id` is the record that is created if nobody is known by them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from domain.consent import ConsentState, LawfulBasis
from domain.event import ShortText
from domain.identity import Identifier
from domain.ids import (
    IDENTIFIERS_PER_CUSTOMER_MAX,
    UUID_FORM,
    CommandId,
    Name,
    OpenMap,
    UuidText,
)
from domain.signals import MessageId, Signal
from domain.workspace_events import SegmentExpression

SIGNALS_PER_COMMAND_MAX = 500
PURPOSES_PER_SOURCE_MAX = 64


class Command(BaseModel):
    """What every command carries: its id (a UUIDv7), who asks, and until when an answer helps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_id: Annotated[CommandId, UUID_FORM]
    auth_id: ShortText
    issued_at: AwareDatetime
    deadline: AwareDatetime
    correlation_id: ShortText = ""


class CustomerCommand(Command):
    """A command to one person, named by a record's id, or by identifiers, or by both."""

    record_id: UuidText | None = None
    new_record_id: UuidText
    identifiers: Annotated[
        tuple[Identifier, ...], Field(max_length=IDENTIFIERS_PER_CUSTOMER_MAX)
    ] = ()


class Identify(CustomerCommand):
    """Say that identifiers belong together, and what a source knows of the person.

    `on_closed` says what a closed gate does: refuse the command, or leave a `SignalsDeclined`.
    """

    kind: Literal["identify"] = "identify"
    source: Name
    traits: OpenMap = Field(default_factory=dict)
    happened_at: AwareDatetime
    message_id: MessageId | None = None
    on_closed: Literal["refuse", "decline"] = "refuse"


class SetTraits(CustomerCommand):
    """Set traits of a known person."""

    kind: Literal["set_traits"] = "set_traits"
    source: Name
    traits: Annotated[OpenMap, Field(min_length=1)]
    happened_at: AwareDatetime
    message_id: MessageId | None = None


class RecordSignals(CustomerCommand):
    """Record signals of one source that came with the same identifiers."""

    kind: Literal["record_signals"] = "record_signals"
    source: Name
    signals: Annotated[tuple[Signal, ...], Field(min_length=1, max_length=SIGNALS_PER_COMMAND_MAX)]


class RecordConsent(CustomerCommand):
    """Record an act of the person on a purpose."""

    kind: Literal["record_consent"] = "record_consent"
    purpose: Name
    state: Literal[ConsentState.GIVEN, ConsentState.REFUSED, ConsentState.WITHDRAWN]
    happened_at: AwareDatetime
    notice_version: ShortText | None = None
    notice_language: ShortText | None = None
    jurisdiction: ShortText | None = None
    method: ShortText | None = None
    evidence: OpenMap = Field(default_factory=dict)


class CheckConsent(CustomerCommand):
    """Ask whether a purpose is open for a person now; `record` proves the answer in the log.

    Asked again under the same command id it is judged, and where asked for recorded, again.
    """

    kind: Literal["check_consent"] = "check_consent"
    purpose: Name
    record: bool = False


class DefinePurpose(Command):
    """Define or change a purpose."""

    kind: Literal["define_purpose"] = "define_purpose"
    purpose: Name
    basis: LawfulBasis
    description: ShortText = ""


class RegisterSource(Command):
    """Register a source, or change what it may send for."""

    kind: Literal["register_source"] = "register_source"
    source: Name
    purposes: Annotated[tuple[Name, ...], Field(min_length=1, max_length=PURPOSES_PER_SOURCE_MAX)]
    priority: Annotated[int, Field(ge=0, le=1_000)] = 100


class DefineSegment(Command):
    """Define or change a segment; the edge has checked the expression and says what it uses."""

    kind: Literal["define_segment"] = "define_segment"
    segment: Name
    expression: SegmentExpression
    purposes: Annotated[tuple[Name, ...], Field(min_length=1, max_length=PURPOSES_PER_SOURCE_MAX)]
    uses: tuple[Name, ...] = ()
    exception: ShortText | None = None
    description: ShortText = ""


class ActivateSegment(Command):
    """Let a definition take effect, once its back-fill is ready."""

    kind: Literal["activate_segment"] = "activate_segment"
    segment: Name
    definition: int


class ArchiveSegment(Command):
    """End a segment that no other one uses."""

    kind: Literal["archive_segment"] = "archive_segment"
    segment: Name


PersonCommand = Annotated[
    Identify | SetTraits | RecordSignals | RecordConsent | CheckConsent,
    Field(discriminator="kind"),
]
RulesCommand = Annotated[
    DefinePurpose | RegisterSource | DefineSegment | ActivateSegment | ArchiveSegment,
    Field(discriminator="kind"),
]

person_commands: TypeAdapter[list[PersonCommand]] = TypeAdapter(list[PersonCommand])
"""Reads and writes a batch of commands as JSON, for the way between processes."""
