"""A typed client of a gateway, for Koseki's own tools and examples: no message types to learn.

`async with Client("host:port") as client: await client.check_consent(...)`. Every call has a
deadline; a call that fails raises `CallFailed` with the stable reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from domain.consent import ConsentState, LawfulBasis
from koseki.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    common_pb2,
    customer_service_pb2,
    customer_service_pb2_grpc,
    query_service_pb2,
    query_service_pb2_grpc,
    segment_service_pb2,
    segment_service_pb2_grpc,
    workspace_service_pb2,
    workspace_service_pb2_grpc,
)
from services.answers import STATES, stamp
from services.workspace import BASIS_NUMBERS

ANSWER_BYTES_MAX = 64 * 1024 * 1024
CALL_SECONDS_MAX = 30.0
_STATES_BY_NUMBER = {number: state for state, number in STATES.items()}

Answer = TypeVar("Answer")
Key = tuple[str, str]
"""An identifier: namespace and value."""


class CallFailed(Exception):
    """A call that the server did not carry out, or that did not reach it; `reason` is stable."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answered:
    """What a purpose comes to for one person."""

    is_open: bool
    state: ConsentState
    revision: int


@dataclass(frozen=True, slots=True)
class Acted:
    """An act of consent, by the event that holds it."""

    event_id: str
    purpose: str
    state: ConsentState
    revision: int


@dataclass(frozen=True, slots=True)
class SignalTotal:
    """How often a signal came, and the exact sums of its numbers."""

    count: int = 0
    sums: dict[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ErasureTold:
    """What became of an erasure; the receipt is JSON, empty until it is complete."""

    customer_id: str
    requested_revision: int
    is_complete: bool
    receipt: str


class Client:
    """Call one gateway."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(
            address, options=[("grpc.max_receive_message_length", ANSWER_BYTES_MAX)]
        )
        self._audits = audit_service_pb2_grpc.AuditServiceStub(self._channel)
        self._customers = customer_service_pb2_grpc.CustomerServiceStub(self._channel)
        self._queries = query_service_pb2_grpc.QueryServiceStub(self._channel)
        self._segments = segment_service_pb2_grpc.SegmentServiceStub(self._channel)
        self._workspaces = workspace_service_pb2_grpc.WorkspaceServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channel.close(None)

    async def define_purpose(self, purpose: str, basis: LawfulBasis) -> int:
        """Define a purpose; give the revision."""
        request = workspace_service_pb2.DefinePurposeRequest(
            purpose=purpose, lawful_basis=BASIS_NUMBERS[basis]
        )
        call = self._workspaces.DefinePurpose(request, timeout=CALL_SECONDS_MAX)
        return (await _answer(call)).revision

    async def register_source(
        self,
        source: str,
        purposes: Sequence[str],
        *,
        consent_categories: Mapping[str, Sequence[str]] | None = None,
    ) -> int:
        """Register a source; give the revision."""
        categories = {
            category: workspace_service_pb2.PurposeNames(purposes=named)
            for category, named in (consent_categories or {}).items()
        }
        request = workspace_service_pb2.RegisterSourceRequest(
            source=source, purposes=purposes, consent_categories=categories
        )
        call = self._workspaces.RegisterSource(request, timeout=CALL_SECONDS_MAX)
        return (await _answer(call)).revision

    async def record_consent(
        self,
        who: Key,
        purpose: str,
        state: ConsentState,
        *,
        notice_version: str = "",
        valid_until: datetime | None = None,
    ) -> int:
        """Record an act; give the revision."""
        request = customer_service_pb2.RecordConsentRequest(
            identifiers=[_identifier(who)],
            purpose=purpose,
            state=STATES[state],
            notice_version=notice_version,
            valid_until=stamp(valid_until) if valid_until else None,
        )
        call = self._customers.RecordConsent(request, timeout=CALL_SECONDS_MAX)
        return (await _answer(call)).revision

    async def merge_customers(self, one: str, other: str, *, dry_run: bool = False) -> str:
        """Make two customers one, or only try; give the merge's id."""
        request = customer_service_pb2.MergeCustomersRequest(
            customer_id=one, other_customer_id=other, dry_run=dry_run
        )
        call = self._customers.MergeCustomers(request, timeout=CALL_SECONDS_MAX)
        return (await _answer(call)).merge_id

    async def undo_merge(
        self, customer_id: str, merge_id: str, *, dry_run: bool = False
    ) -> customer_service_pb2.Consequences:
        """Undo a merge, or only try; give what it comes to."""
        request = customer_service_pb2.UndoMergeRequest(
            customer_id=customer_id, merge_id=merge_id, dry_run=dry_run
        )
        call = self._customers.UndoMerge(request, timeout=CALL_SECONDS_MAX)
        return (await _answer(call)).consequences

    async def unmerge_record(
        self, record_id: str, *, dry_run: bool = False
    ) -> customer_service_pb2.Consequences:
        """Undo every merge of a record, or only try; give what it comes to."""
        request = customer_service_pb2.UnmergeRecordRequest(record_id=record_id, dry_run=dry_run)
        call = self._customers.UnmergeRecord(request, timeout=CALL_SECONDS_MAX)
        return (await _answer(call)).consequences

    async def erase_customer(
        self,
        customer_id: str,
        identifiers: Sequence[Key] = (),
        *,
        reference: str = "",
        dry_run: bool = False,
    ) -> customer_service_pb2.EraseCustomerResponse:
        """Erase a person, named by id or by what they hold, or list what would go."""
        request = customer_service_pb2.EraseCustomerRequest(
            customer_id=customer_id,
            identifiers=[_identifier(key) for key in identifiers],
            reference=reference,
            dry_run=dry_run,
        )
        return await _answer(self._customers.EraseCustomer(request, timeout=CALL_SECONDS_MAX))

    async def erasure_receipt(self, customer_id: str, *, at_least_revision: int = 0) -> ErasureTold:
        """Read what became of an erasure."""
        request = audit_service_pb2.GetErasureReceiptRequest(
            customer_id=customer_id, at_least_revision=at_least_revision
        )
        call = self._audits.GetErasureReceipt(request, timeout=CALL_SECONDS_MAX)
        told = await _answer(call)
        return ErasureTold(told.customer_id, told.requested_revision, told.complete, told.receipt)

    async def link_identifiers(
        self, customer_id: str, identifiers: Sequence[Key], *, source: str
    ) -> int:
        """Link identifiers to a customer; give the revision."""
        request = customer_service_pb2.LinkIdentifiersRequest(
            customer_id=customer_id,
            identifiers=[_identifier(key) for key in identifiers],
            source=source,
        )
        call = self._customers.LinkIdentifiers(request, timeout=CALL_SECONDS_MAX)
        return (await _answer(call)).revision

    async def unlink_identifier(self, identifier: Key) -> int:
        """Take an identifier from whoever holds it; give the revision."""
        request = customer_service_pb2.UnlinkIdentifierRequest(identifier=_identifier(identifier))
        call = self._customers.UnlinkIdentifier(request, timeout=CALL_SECONDS_MAX)
        return (await _answer(call)).revision

    async def define_segment(self, segment: str, expression: str, purposes: Sequence[str]) -> int:
        """Define a segment, which takes effect by itself a moment later; give the revision."""
        request = segment_service_pb2.DefineSegmentRequest(
            segment=segment, expression=expression, purposes=purposes
        )
        call = self._segments.DefineSegment(request, timeout=CALL_SECONDS_MAX)
        return (await _answer(call)).revision

    async def count_segment(self, segment: str, purpose: str, *, at_least_revision: int = 0) -> int:
        """Count who belongs to a segment and has a purpose open."""
        request = segment_service_pb2.CountAudienceRequest(
            audience=segment_service_pb2.Audience(segment=segment),
            purpose=purpose,
            at_least_revision=at_least_revision,
        )
        call = self._segments.CountAudience(request, timeout=CALL_SECONDS_MAX)
        return (await _answer(call)).count

    async def check_consent(self, who: Key, purpose: str) -> Answered:
        """Ask whether a purpose is open for a person now."""
        request = query_service_pb2.CheckConsentRequest(
            identifiers=[_identifier(who)], purpose=purpose
        )
        answer = await _answer(self._queries.CheckConsent(request, timeout=CALL_SECONDS_MAX))
        return Answered(answer.open, _STATES_BY_NUMBER[answer.state], answer.revision)

    async def consent_receipt(self, who: Key, purpose: str, act_event_id: str) -> str:
        """Read the receipt of one act of consent: JSON-LD."""
        request = audit_service_pb2.GetReceiptRequest(
            identifier=_identifier(who), purpose=purpose, act_event_id=act_event_id
        )
        call = self._audits.GetReceipt(request, timeout=CALL_SECONDS_MAX)
        return (await _answer(call)).receipt

    async def consent_history(self, who: Key, purpose: str) -> list[Acted]:
        """List the acts of consent that a purpose may see, the oldest first."""
        acts: list[Acted] = []
        token = ""
        while True:
            request = query_service_pb2.ListConsentHistoryRequest(
                identifier=_identifier(who), purpose=purpose, page_size=1_000, page_token=token
            )
            call = self._queries.ListConsentHistory(request, timeout=CALL_SECONDS_MAX)
            page = await _answer(call)
            acts += [
                Acted(act.event_id, act.purpose, _STATES_BY_NUMBER[act.state], act.revision)
                for act in page.acts
            ]
            token = page.next_page_token
            if not token:
                return acts

    async def set_preference(
        self, who: Key, channel: str, *, topic: str = "", frequency: str
    ) -> int:
        """Set how often one topic may come over one channel; give the revision."""
        preference = customer_service_pb2.Preference(
            channel=channel, topic=topic, frequency=frequency
        )
        request = customer_service_pb2.SetPreferencesRequest(
            identifiers=[_identifier(who)], preferences=[preference]
        )
        call = self._customers.SetPreferences(request, timeout=CALL_SECONDS_MAX)
        return (await _answer(call)).revision

    async def signal_totals(
        self, whom: Sequence[Key], purpose: str, signal: str
    ) -> list[SignalTotal | None]:
        """Read one signal's totals of many people, as of one revision; None for nobody."""
        request = query_service_pb2.BatchGetCustomersRequest(
            references=[common_pb2.CustomerReference(identifier=_identifier(who)) for who in whom],
            purpose=purpose,
        )
        answer = await _answer(self._queries.BatchGetCustomers(request, timeout=CALL_SECONDS_MAX))
        return [_total(result, signal) for result in answer.results]


def _total(result: query_service_pb2.CustomerResult, signal: str) -> SignalTotal | None:
    if not result.HasField("customer"):
        return None
    for tally in result.customer.signals:
        if tally.name == signal:
            sums = {name: Decimal(text) for name, text in tally.sums.items()}
            return SignalTotal(tally.count, sums)
    return SignalTotal()


def _identifier(key: Key) -> common_pb2.Identifier:
    namespace, value = key
    return common_pb2.Identifier(namespace=namespace, value=value)


async def _answer(call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise CallFailed(reason_of(error), error.details() or "") from error


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Read the stable reason of an error; the status code's name where there is none."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it reads either kind
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return str(error.code().name)
