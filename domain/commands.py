"""Everything that may be asked of a customer or a workspace, as frozen models.

Commands are validated where they enter. Ids, times and normalised values arrive inside them: the
domain reads no clock and makes nothing up. A command that addresses a person names a record id, or
identifiers, or both; `new_record_id` is the record that is created if nobody is known by them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
)

from domain.consent import ConsentState, LawfulBasis
from domain.event import ShortText
from domain.identity import Identifier, LeftOut
from domain.identity_rules import IdentityRules
from domain.ids import (
    IDENTIFIERS_PER_CUSTOMER_MAX,
    REVISION_MAX,
    UUID_FORM,
    ActorName,
    CommandId,
    MergeId,
    Name,
    OpenMap,
    RecordId,
    UuidText,
)
from domain.notices import NOTICE_CHARACTERS_MAX
from domain.preference_events import Preference
from domain.signals import MessageId, Signal
from domain.transitions import ActedBy
from domain.workspace_events import SegmentExpression, TraitName

SIGNALS_PER_COMMAND_MAX = 500
PURPOSES_PER_SOURCE_MAX = 64
CATEGORIES_MAX = 64
PREFERENCES_PER_COMMAND_MAX = 64
TCF_PURPOSES_MAX = 24
CONTEXT_TTL_SECONDS_MAX = 31_536_000

CategoryPreferences = Annotated[dict[ShortText, bool], Field(max_length=CATEGORIES_MAX)]
"""What a source says that the person chose, by the source's own categories."""

GivenReason = Annotated[ShortText, StringConstraints(pattern=r"\S")]
"""Why a rule is set aside: it is kept as proof, so a blank text is none."""


class Command(BaseModel):
    """What every command carries: its id (a UUIDv7), who asks, and until when an answer helps.

    Who asks and `correlation_id` stand open in the log: neither is a text of a caller's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_id: Annotated[CommandId, UUID_FORM]
    auth_id: ActorName
    issued_at: AwareDatetime
    deadline: AwareDatetime
    correlation_id: UuidText | None = None


class CustomerCommand(Command):
    """A command to one person, named by a record's id, or by identifiers, or by both.

    `left_out` are identifiers that were dropped where the command entered, and why.
    """

    record_id: UuidText | None = None
    new_record_id: UuidText
    identifiers: Annotated[
        tuple[Identifier, ...], Field(max_length=IDENTIFIERS_PER_CUSTOMER_MAX)
    ] = ()
    left_out: Annotated[tuple[LeftOut, ...], Field(max_length=IDENTIFIERS_PER_CUSTOMER_MAX)] = ()

    @property
    def named_records(self) -> tuple[RecordId, ...]:
        """The records that the command names by their ids."""
        return () if self.record_id is None else (RecordId(self.record_id),)


class ExpectingCommand(CustomerCommand):
    """A command that may say what it expects: nothing changed since, or 0 for nobody known."""

    expected_revision: Annotated[int, Field(ge=0, le=REVISION_MAX)] | None = None


class Identify(ExpectingCommand):
    """Say that identifiers belong together, and what a source knows of the person.

    `on_closed` says what a closed gate does: refuse the command, or leave a `SignalsDeclined`.
    """

    kind: Literal["identify"] = "identify"
    source: Name
    traits: OpenMap = Field(default_factory=dict)
    happened_at: AwareDatetime
    message_id: MessageId | None = None
    expires_at: AwareDatetime | None = None
    category_preferences: CategoryPreferences = Field(default_factory=dict)
    on_closed: Literal["refuse", "decline"] = "refuse"


class SetTraits(ExpectingCommand):
    """Set traits of a known person."""

    kind: Literal["set_traits"] = "set_traits"
    source: Name
    traits: Annotated[OpenMap, Field(min_length=1)]
    happened_at: AwareDatetime
    message_id: MessageId | None = None
    expires_at: AwareDatetime | None = None


class RecordSignals(CustomerCommand):
    """Record signals of one source that came with the same identifiers and the same choices."""

    kind: Literal["record_signals"] = "record_signals"
    source: Name
    signals: Annotated[tuple[Signal, ...], Field(min_length=1, max_length=SIGNALS_PER_COMMAND_MAX)]
    category_preferences: CategoryPreferences = Field(default_factory=dict)


class RecordConsent(ExpectingCommand):
    """Record an act on a purpose; who may bring which state about is in `transitions.py`.

    `is_imported` says that another system recorded it, at the time it names.
    """

    kind: Literal["record_consent"] = "record_consent"
    purpose: Name
    state: ConsentState
    happened_at: AwareDatetime
    notice_version: ShortText | None = None
    notice_language: ShortText | None = None
    jurisdiction: ShortText | None = None
    method: ShortText | None = None
    evidence: OpenMap = Field(default_factory=dict)
    valid_until: AwareDatetime | None = None
    acted_by: ActedBy | None = None
    is_imported: bool = False
    is_day_precise: bool = False


class RecordTcfChoices(ExpectingCommand):
    """Record what a TCF string says that the person chose, by the source's map of purposes.

    `consented` and `interests` number the IAB's purposes: agreed to, and not objected to.
    """

    kind: Literal["record_tcf_choices"] = "record_tcf_choices"
    source: Name
    consented: frozenset[int]
    interests: frozenset[int]
    happened_at: AwareDatetime
    notice_language: ShortText | None = None
    jurisdiction: ShortText | None = None
    evidence: OpenMap = Field(default_factory=dict)


class SetPreferences(ExpectingCommand):
    """Set how a known person wishes to be spoken to; passes no gate."""

    kind: Literal["set_preferences"] = "set_preferences"
    preferences: Annotated[
        tuple[Preference, ...], Field(min_length=1, max_length=PREFERENCES_PER_COMMAND_MAX)
    ]
    happened_at: AwareDatetime


class LinkHousehold(ExpectingCommand):
    """Say that a known person is of a household, without merging them with anybody."""

    kind: Literal["link_household"] = "link_household"
    source: Name
    household_id: UuidText
    happened_at: AwareDatetime


class UnlinkHousehold(ExpectingCommand):
    """Say that a known person is no more of a household; passes no gate."""

    kind: Literal["unlink_household"] = "unlink_household"
    household_id: UuidText
    happened_at: AwareDatetime


class CheckConsent(CustomerCommand):
    """Ask whether a purpose is open for a person now; `record` proves the answer in the log.

    Asked again under the same command id it is judged, and where asked for recorded, again.
    """

    kind: Literal["check_consent"] = "check_consent"
    purpose: Name
    record: bool = False


class LinkIdentifiers(ExpectingCommand):
    """Link identifiers to somebody known, all of them or none."""

    kind: Literal["link_identifiers"] = "link_identifiers"
    source: Name
    identifiers: Annotated[
        tuple[Identifier, ...], Field(min_length=1, max_length=IDENTIFIERS_PER_CUSTOMER_MAX)
    ]
    happened_at: AwareDatetime


class UnlinkIdentifier(ExpectingCommand):
    """Take one identifier from whoever holds it; given a record's id, only from that customer."""

    kind: Literal["unlink_identifier"] = "unlink_identifier"
    identifiers: Annotated[tuple[Identifier, ...], Field(min_length=1, max_length=1)]


class ReadmitIdentifier(ExpectingCommand):
    """Let the identifier of somebody erased be used again; `reference` says where the proof is."""

    kind: Literal["readmit_identifier"] = "readmit_identifier"
    identifiers: Annotated[tuple[Identifier, ...], Field(min_length=1, max_length=1)]
    reference: Annotated[ShortText, Field(min_length=1)]


class TriableCommand(ExpectingCommand):
    """A command that may be tried: with `dry_run` it tells what it would come to, and no more."""

    dry_run: bool = False


class EraseCustomer(TriableCommand):
    """Erase a person: every record of the customer; `reference` says where the request is kept."""

    kind: Literal["erase_customer"] = "erase_customer"
    reference: ShortText = ""


class MergeCustomers(TriableCommand):
    """Make the customers of two records one, and lift what keeps them apart."""

    kind: Literal["merge_customers"] = "merge_customers"
    record_id: UuidText
    other_record_id: UuidText

    @property
    def named_records(self) -> tuple[RecordId, ...]:
        """The two records."""
        return (RecordId(self.record_id), RecordId(self.other_record_id))


class UndoMerge(TriableCommand):
    """Undo one merge of the customer that is named."""

    kind: Literal["undo_merge"] = "undo_merge"
    merge_id: Annotated[MergeId, UUID_FORM]


class UnmergeRecord(TriableCommand):
    """Undo every merge of one record."""

    kind: Literal["unmerge_record"] = "unmerge_record"
    record_id: UuidText


class DefinePurpose(Command):
    """Define or change a purpose."""

    kind: Literal["define_purpose"] = "define_purpose"
    purpose: Name
    basis: LawfulBasis
    description: ShortText = ""
    parent: Name | None = None
    jurisdictions: Annotated[tuple[ShortText, ...], Field(max_length=PURPOSES_PER_SOURCE_MAX)] = ()


class PublishNotice(Command):
    """Publish what people are told about a purpose, in one version and language."""

    kind: Literal["publish_notice"] = "publish_notice"
    purpose: Name
    version: Annotated[ShortText, Field(min_length=1)]
    language: Annotated[ShortText, Field(min_length=1)]
    text: Annotated[str, Field(min_length=1, max_length=NOTICE_CHARACTERS_MAX)]


PurposesOfCategory = Annotated[
    tuple[Name, ...], Field(min_length=1, max_length=PURPOSES_PER_SOURCE_MAX)
]


class RegisterSource(Command):
    """Register a source, or change what it may send for, and what its choices of consent mean."""

    kind: Literal["register_source"] = "register_source"
    source: Name
    purposes: Annotated[tuple[Name, ...], Field(min_length=1, max_length=PURPOSES_PER_SOURCE_MAX)]
    priority: Annotated[int, Field(ge=0, le=1_000)] = 100
    consent_categories: Annotated[
        dict[ShortText, PurposesOfCategory], Field(max_length=CATEGORIES_MAX)
    ] = Field(default_factory=dict)
    tcf_purposes: dict[Annotated[int, Field(ge=1, le=TCF_PURPOSES_MAX)], PurposesOfCategory] = (
        Field(default_factory=dict)
    )
    context_ttl_seconds: Annotated[int, Field(ge=1, le=CONTEXT_TTL_SECONDS_MAX)] | None = None


class DefineSegment(Command):
    """Define or change a segment; the edge has checked the expression and says what it uses."""

    kind: Literal["define_segment"] = "define_segment"
    segment: Name
    expression: SegmentExpression
    purposes: Annotated[tuple[Name, ...], Field(min_length=1, max_length=PURPOSES_PER_SOURCE_MAX)]
    uses: tuple[Name, ...] = ()
    exception: GivenReason | None = None
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


class IndexTrait(Command):
    """Index a trait for some purposes, so that audiences can be counted by it."""

    kind: Literal["index_trait"] = "index_trait"
    trait: TraitName
    purposes: Annotated[tuple[Name, ...], Field(min_length=1, max_length=PURPOSES_PER_SOURCE_MAX)]
    open_reason: GivenReason | None = None


class DropTraitIndex(Command):
    """Index a trait no more."""

    kind: Literal["drop_trait_index"] = "drop_trait_index"
    trait: TraitName


class SetIdentityRules(Command):
    """Say what counts as an identifier; stands in place of all that was said before."""

    kind: Literal["set_identity_rules"] = "set_identity_rules"
    rules: IdentityRules


PersonCommand = Annotated[
    Identify
    | SetTraits
    | RecordSignals
    | RecordConsent
    | RecordTcfChoices
    | SetPreferences
    | LinkHousehold
    | UnlinkHousehold
    | CheckConsent
    | LinkIdentifiers
    | UnlinkIdentifier
    | ReadmitIdentifier
    | EraseCustomer
    | MergeCustomers
    | UndoMerge
    | UnmergeRecord,
    Field(discriminator="kind"),
]
RulesCommand = Annotated[
    DefinePurpose
    | PublishNotice
    | RegisterSource
    | SetIdentityRules
    | DefineSegment
    | ActivateSegment
    | ArchiveSegment
    | IndexTrait
    | DropTraitIndex,
    Field(discriminator="kind"),
]

person_commands: TypeAdapter[list[PersonCommand]] = TypeAdapter(list[PersonCommand])
"""Reads and writes a batch of commands as JSON, for the way between processes."""
