"""Commands of requests to one customer: one function a request, for single calls and batches."""

from __future__ import annotations

from typing import Any, Protocol

from domain.commands import (
    Identify,
    LinkIdentifiers,
    MergeCustomers,
    PersonCommand,
    ReadmitIdentifier,
    RecordConsent,
    SetTraits,
    UndoMerge,
    UnlinkIdentifier,
    UnmergeRecord,
)
from domain.consent import ConsentState
from domain.errors import Invalid
from koseki.v1 import common_pb2, customer_service_pb2
from services.errors import CallContext
from services.requests import CommandRequest, RequestReader, read_map

ACTS = {
    common_pb2.CONSENT_STATE_GIVEN: ConsentState.GIVEN,
    common_pb2.CONSENT_STATE_REFUSED: ConsentState.REFUSED,
    common_pb2.CONSENT_STATE_WITHDRAWN: ConsentState.WITHDRAWN,
}


class NamesIdentifier(CommandRequest, Protocol):
    """A request that names one identifier."""

    @property
    def identifier(self) -> common_pb2.Identifier:
        """The identifier."""


class CommandReader:
    """Make commands of requests. Raises `Invalid`, `NotFound` and pydantic's `ValidationError`."""

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader

    def read(
        self, item: customer_service_pb2.CustomerCommand, context: CallContext
    ) -> PersonCommand:
        """Read one item of a batch."""
        match item.WhichOneof("command"):
            case "identify":
                return self.identify(item.identify, context)
            case "set_traits":
                return self.set_traits(item.set_traits, context)
            case "record_consent":
                return self.record_consent(item.record_consent, context)
            case "link_identifiers":
                return self.link_identifiers(item.link_identifiers, context)
            case "unlink_identifier":
                return self.unlink_identifier(item.unlink_identifier, context)
            case "readmit_identifier":
                return self.readmit_identifier(item.readmit_identifier, context)
            case "merge_customers":
                return self.merge_customers(item.merge_customers, context)
            case "undo_merge":
                return self.undo_merge(item.undo_merge, context)
            case "unmerge_record":
                return self.unmerge_record(item.unmerge_record, context)
            case _:
                raise Invalid("INVALID_FIELD", "an item of the batch names no command")

    def identify(
        self, request: customer_service_pb2.IdentifyRequest, context: CallContext
    ) -> Identify:
        """Read `Identify`."""
        return Identify(
            **self._reader.person(request, context),
            source=request.source,
            traits=read_map(request.traits),
            happened_at=self._reader.happened_at(request),
        )

    def set_traits(
        self, request: customer_service_pb2.SetTraitsRequest, context: CallContext
    ) -> SetTraits:
        """Read `SetTraits`."""
        return SetTraits(
            **self._reader.person(request, context),
            source=request.source,
            traits=read_map(request.traits),
            happened_at=self._reader.happened_at(request),
        )

    def record_consent(
        self, request: customer_service_pb2.RecordConsentRequest, context: CallContext
    ) -> RecordConsent:
        """Read `RecordConsent`."""
        if request.state not in ACTS:
            raise Invalid("INVALID_CONSENT_STATE", "the state is not one that an act brings about")
        return RecordConsent(
            **self._reader.person(request, context),
            purpose=request.purpose,
            state=ACTS[request.state],
            happened_at=self._reader.happened_at(request),
            notice_version=request.notice_version or None,
            notice_language=request.notice_language or None,
            jurisdiction=request.jurisdiction or None,
            method=request.method or None,
            evidence=read_map(request.evidence),
        )

    def link_identifiers(
        self, request: customer_service_pb2.LinkIdentifiersRequest, context: CallContext
    ) -> LinkIdentifiers:
        """Read `LinkIdentifiers`; a blocked value refuses it."""
        for identifier in request.identifiers:
            self._reader.identifier(identifier)
        return LinkIdentifiers(
            **self._reader.person(request, context),
            source=request.source,
            happened_at=self._reader.happened_at(request),
        )

    def unlink_identifier(
        self, request: customer_service_pb2.UnlinkIdentifierRequest, context: CallContext
    ) -> UnlinkIdentifier:
        """Read `UnlinkIdentifier`."""
        return UnlinkIdentifier(
            **self._one_identifier(request, context), record_id=request.customer_id or None
        )

    def readmit_identifier(
        self, request: customer_service_pb2.ReadmitIdentifierRequest, context: CallContext
    ) -> ReadmitIdentifier:
        """Read `ReadmitIdentifier`."""
        return ReadmitIdentifier(
            **self._one_identifier(request, context), reference=request.reference
        )

    def merge_customers(
        self, request: customer_service_pb2.MergeCustomersRequest, context: CallContext
    ) -> MergeCustomers:
        """Read `MergeCustomers`."""
        return MergeCustomers(
            **self._command(request, context),
            record_id=request.customer_id,
            other_record_id=request.other_customer_id,
            dry_run=request.dry_run,
        )

    def undo_merge(
        self, request: customer_service_pb2.UndoMergeRequest, context: CallContext
    ) -> UndoMerge:
        """Read `UndoMerge`."""
        return UndoMerge(
            **self._command(request, context),
            record_id=request.customer_id,
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
        identifier = self._reader.identifier(request.identifier)
        return {**self._command(request, context), "identifiers": (identifier,)}

    def _command(self, request: CommandRequest, context: CallContext) -> dict[str, Any]:
        fields = self._reader.command(request, context)
        return {**fields, "new_record_id": self._reader.new_id()}
