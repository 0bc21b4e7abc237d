"""Commands of requests to one customer: one function a request, for single calls and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

from domain.commands import (
    EraseCustomer,
    Identify,
    LinkHousehold,
    LinkIdentifiers,
    MergeCustomers,
    PersonCommand,
    ReadmitIdentifier,
    RecordConsent,
    RecordTcfChoices,
    SetPreferences,
    SetTraits,
    UndoMerge,
    UnlinkHousehold,
    UnlinkIdentifier,
    UnmergeRecord,
)
from domain.consent import ConsentState
from domain.errors import Invalid
from domain.preference_events import Preference
from koseki.v1 import common_pb2, customer_service_pb2
from services.answers import ACTORS, STATES
from services.errors import CallContext
from services.requests import (
    CommandRequest,
    PersonRequest,
    RequestReader,
    is_command_id,
    missing_identifier,
    read_map,
    read_optional_time,
    spelled_id,
)
from services.tcf import decode_tcf

ACTS = {number: state for state, number in STATES.items() if state is not ConsentState.UNKNOWN}
ACTED_BY = {number: actor for actor, number in ACTORS.items()} | {
    common_pb2.CONSENT_ACTOR_UNSPECIFIED: None
}


class ChangeRequest(CommandRequest, Protocol):
    """A request that may say what it expects of the customer."""

    @property
    def expected_revision(self) -> int:
        """The revision since which nothing may have changed."""

    def HasField(self, field_name: Literal["expected_revision"], /) -> bool:
        """Say whether it was given."""


class ChangeOfPerson(ChangeRequest, PersonRequest, Protocol):
    """Such a request to one person."""


class NamesIdentifier(ChangeRequest, Protocol):
    """A request that names one identifier."""

    @property
    def identifier(self) -> common_pb2.Identifier:
        """The identifier."""


def sent_command_id(item: customer_service_pb2.CustomerCommand) -> str:
    """Give the id that an item of a batch was sent with; empty for none that can be read."""
    name = item.WhichOneof("command")
    sent: str = getattr(item, name).command_id if name else ""
    return sent if is_command_id(sent) else ""


class CommandReader:
    """Make commands of requests. Raises `Invalid`, `NotFound` and pydantic's `ValidationError`."""

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader

    def read(
        self, item: customer_service_pb2.CustomerCommand, context: CallContext
    ) -> PersonCommand:
        """Read one item of a batch: each is named as the function that reads it."""
        name = item.WhichOneof("command")
        if name is None:
            raise Invalid("INVALID_FIELD", "an item of the batch names no command")
        read: Callable[[object, CallContext], PersonCommand] = getattr(self, name)
        return read(getattr(item, name), context)

    def identify(
        self, request: customer_service_pb2.IdentifyRequest, context: CallContext
    ) -> Identify:
        """Read `Identify`."""
        return Identify(
            **self._person(request, context),
            source=request.source,
            traits=read_map(request.traits),
            happened_at=self._reader.happened_at(request),
            expires_at=read_optional_time(
                request.expires_at, is_set=request.HasField("expires_at")
            ),
        )

    def set_traits(
        self, request: customer_service_pb2.SetTraitsRequest, context: CallContext
    ) -> SetTraits:
        """Read `SetTraits`."""
        return SetTraits(
            **self._person(request, context),
            source=request.source,
            traits=read_map(request.traits),
            happened_at=self._reader.happened_at(request),
            expires_at=read_optional_time(
                request.expires_at, is_set=request.HasField("expires_at")
            ),
        )

    def record_consent(
        self, request: customer_service_pb2.RecordConsentRequest, context: CallContext
    ) -> RecordConsent:
        """Read `RecordConsent`."""
        if request.state not in ACTS:
            raise Invalid("INVALID_CONSENT_STATE", "the state is not one that an act brings about")
        if request.acted_by not in ACTED_BY:
            raise Invalid("INVALID_ACTOR", "it is not known who that is")
        return RecordConsent(
            **self._person(request, context),
            purpose=request.purpose,
            state=ACTS[request.state],
            happened_at=self._reader.happened_at(request),
            notice_version=request.notice_version or None,
            notice_language=request.notice_language or None,
            jurisdiction=request.jurisdiction or None,
            method=request.method or None,
            evidence=read_map(request.evidence),
            valid_until=read_optional_time(
                request.valid_until, is_set=request.HasField("valid_until")
            ),
            acted_by=ACTED_BY[request.acted_by],
            is_imported=request.imported,
            is_day_precise=request.day_precise,
        )

    def record_tcf_string(
        self, request: customer_service_pb2.RecordTcfStringRequest, context: CallContext
    ) -> RecordTcfChoices:
        """Read `RecordTcfString`."""
        person = self._person(request, context)
        return RecordTcfChoices(**person, source=request.source, **decode_tcf(request.tcf_string))

    def set_preferences(
        self, request: customer_service_pb2.SetPreferencesRequest, context: CallContext
    ) -> SetPreferences:
        """Read `SetPreferences`."""
        return SetPreferences(
            **self._person(request, context),
            preferences=tuple(
                Preference(channel=said.channel, topic=said.topic, frequency=said.frequency)
                for said in request.preferences
            ),
            happened_at=self._reader.happened_at(request),
        )

    def link_household(
        self, request: customer_service_pb2.LinkHouseholdRequest, context: CallContext
    ) -> LinkHousehold:
        """Read `LinkHousehold`."""
        return LinkHousehold(
            **self._person(request, context),
            source=request.source,
            household_id=request.household_id,
            happened_at=self._reader.happened_at(request),
        )

    def unlink_household(
        self, request: customer_service_pb2.UnlinkHouseholdRequest, context: CallContext
    ) -> UnlinkHousehold:
        """Read `UnlinkHousehold`."""
        return UnlinkHousehold(
            **self._person(request, context),
            household_id=request.household_id,
            happened_at=self._reader.happened_at(request),
        )

    def link_identifiers(
        self, request: customer_service_pb2.LinkIdentifiersRequest, context: CallContext
    ) -> LinkIdentifiers:
        """Read `LinkIdentifiers`; a blocked value refuses it."""
        for identifier in request.identifiers:
            self._reader.identifier(identifier)
        return LinkIdentifiers(
            **self._person(request, context),
            source=request.source,
            happened_at=self._reader.happened_at(request),
        )

    def unlink_identifier(
        self, request: customer_service_pb2.UnlinkIdentifierRequest, context: CallContext
    ) -> UnlinkIdentifier:
        """Read `UnlinkIdentifier`."""
        return UnlinkIdentifier(
            **self._one_identifier(request, context),
            record_id=spelled_id(request.customer_id) or None,
        )

    def readmit_identifier(
        self, request: customer_service_pb2.ReadmitIdentifierRequest, context: CallContext
    ) -> ReadmitIdentifier:
        """Read `ReadmitIdentifier`."""
        return ReadmitIdentifier(
            **self._one_identifier(request, context), reference=request.reference
        )

    def erase_customer(
        self, request: customer_service_pb2.EraseCustomerRequest, context: CallContext
    ) -> EraseCustomer:
        """Read `EraseCustomer`; what the person holds may be blocked by now."""
        named = {i.key: i for i in map(self._reader.sought, request.identifiers)}
        if not request.customer_id and not named:
            raise missing_identifier()
        return EraseCustomer(
            **self._command(request, context),
            record_id=spelled_id(request.customer_id) or None,
            identifiers=tuple(named.values()),
            reference=request.reference,
            dry_run=request.dry_run,
        )

    def merge_customers(
        self, request: customer_service_pb2.MergeCustomersRequest, context: CallContext
    ) -> MergeCustomers:
        """Read `MergeCustomers`."""
        return MergeCustomers(
            **self._command(request, context),
            record_id=spelled_id(request.customer_id),
            other_record_id=spelled_id(request.other_customer_id),
            dry_run=request.dry_run,
        )

    def undo_merge(
        self, request: customer_service_pb2.UndoMergeRequest, context: CallContext
    ) -> UndoMerge:
        """Read `UndoMerge`."""
        return UndoMerge(
            **self._command(request, context),
            record_id=spelled_id(request.customer_id),
            merge_id=request.merge_id,
            dry_run=request.dry_run,
        )

    def unmerge_record(
        self, request: customer_service_pb2.UnmergeRecordRequest, context: CallContext
    ) -> UnmergeRecord:
        """Read `UnmergeRecord`."""
        return UnmergeRecord(
            **self._command(request, context),
            record_id=request.record_id,
            dry_run=request.dry_run,
        )

    def _one_identifier(self, request: NamesIdentifier, context: CallContext) -> dict[str, Any]:
        identifier = self._reader.sought(request.identifier)
        return {**self._command(request, context), "identifiers": (identifier,)}

    def _command(self, request: ChangeRequest, context: CallContext) -> dict[str, Any]:
        fields = self._reader.command(request, context)
        return {**fields, **_expected(request), "new_record_id": self._reader.new_id()}

    def _person(self, request: ChangeOfPerson, context: CallContext) -> dict[str, Any]:
        return {**self._reader.person(request, context), **_expected(request)}


def _expected(request: ChangeRequest) -> dict[str, int]:
    """Give the revision that is expected, if one is: 0 expects something too."""
    if not request.HasField("expected_revision"):
        return {}
    return {"expected_revision": request.expected_revision}
