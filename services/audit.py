"""`AuditService`: receipts for all; the log, proofs and what changed for auditors (R12, R17).

Auditors see everything. As long as callers have no roles, no caller is known to be one, and every
read for `audit` is denied, as `require_purpose` denies it; a server that is started for auditors
takes whoever reaches its port for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing

from domain.errors import Denied, DomainError, Invalid, Kind, NotFound
from domain.ids import Stream, record_stream
from domain.rules import AUDIT, Rules
from eventlog.port import STREAMS_PER_READ_MAX, LogReader
from eventlog.registry import EVENTS
from koseki.v1 import audit_service_pb2, audit_service_pb2_grpc
from projections.consent_history import ConsentTransition
from projections.row_keys import read_rows
from projections.rules import read_rules
from projections.store import Store
from projections.tables import ReadTables
from projections.views import HistoryView
from replay.erased import masked
from replay.verify import Verification, verify
from services.audit_answers import (
    change_message,
    erasure_message,
    event_message,
    verification_message,
)
from services.errors import CallContext
from services.freshness import Freshness
from services.lookup import erasure_asked_for, history_named
from services.past import PastReader
from services.people import require_purpose
from services.receipts import receipt_text
from services.requests import RequestReader, read_record_id

TYPES_MAX = 100
VERIFIED_AT_ONCE_EVENTS = 500
"""Folded between two looks at other calls: a proof must not stop the answers of its process."""

PROGRESS_WAITING_MAX = 1


class VerificationRunning(DomainError):
    """This server is making a proof already."""

    kind = Kind.UNAVAILABLE

    def __init__(self) -> None:
        super().__init__("VERIFICATION_RUNNING", "this server verifies already: ask again later")


class AuditService(audit_service_pb2_grpc.AuditServiceServicer):
    """Serve auditors."""

    def __init__(
        self,
        log: LogReader,
        reader: RequestReader,
        *,
        store: Store,
        freshness: Freshness,
        past: PastReader,
        is_for_auditors: bool,
    ) -> None:
        self._freshness = freshness
        self._log = log
        self._reader = reader
        self._store = store
        self._past = past
        self._is_for_auditors = is_for_auditors
        self._verifying = asyncio.Lock()

    async def ReplayEvents(
        self, request: audit_service_pb2.ReplayEventsRequest, context: CallContext
    ) -> AsyncIterator[audit_service_pb2.ReplayEventsResponse]:
        """Give events in the log's order."""
        self._require_auditor(request.workspace, request.purpose)
        streams = _streams(request.record_ids)
        types = {EVENTS.get(name) for name in request.types}
        if None in types or len(request.types) > TYPES_MAX:
            raise Invalid("INVALID_FIELD", f"give up to {TYPES_MAX} types of events that exist")
        await self._past.require_reached(request.after_revision)
        reading = self._log.read(
            after_revision=request.after_revision,
            through_revision=request.through_revision or None,
            streams=streams,
        )
        async with aclosing(reading) as batches:  # type: ignore[type-var]  # generators, by contract
            async for batch in batches:
                asked = [e for e in batch if not types or (e.event and type(e.event.body) in types)]
                for entry in await masked(self._log, asked):
                    yield event_message(entry)

    async def Verify(
        self, request: audit_service_pb2.VerifyRequest, context: CallContext
    ) -> AsyncIterator[audit_service_pb2.VerifyResponse]:
        """Prove the read side, and say how far that has come."""
        self._require_auditor(request.workspace, request.purpose)
        if self._verifying.locked():
            raise VerificationRunning
        async with self._verifying:
            reached: asyncio.Queue[int] = asyncio.Queue(PROGRESS_WAITING_MAX)

            def progress(revision: int) -> None:
                if not reached.full():  # an auditor who reads slowly misses some
                    reached.put_nowait(revision)

            with self._store.snapshot() as rows:
                proving = asyncio.create_task(
                    verify(
                        self._log,
                        rows,
                        progress=progress,
                        batch_events_max=VERIFIED_AT_ONCE_EVENTS,
                    )
                )
                try:
                    while (revision := await _next(reached, proving)) is not None:
                        yield audit_service_pb2.VerifyResponse(revision=revision)
                    found = verification_message(proving.result())
                    yield audit_service_pb2.VerifyResponse(found=found)
                finally:
                    proving.cancel()
                    await asyncio.gather(proving, return_exceptions=True)

    async def DiffCustomer(
        self, request: audit_service_pb2.DiffCustomerRequest, context: CallContext
    ) -> audit_service_pb2.DiffCustomerResponse:
        """Say what changed between two past states."""
        self._require_auditor(request.workspace, request.purpose)
        record_id = read_record_id(request.customer_id)
        earlier = await self._past.prefix(getattr(request, "from"))
        later = await self._past.prefix(request.to)
        changes = await self._past.changes(record_id, earlier=earlier, later=later)
        return audit_service_pb2.DiffCustomerResponse(
            from_revision=earlier.revision,
            to_revision=later.revision,
            changes=[change_message(change) for change in changes],
        )

    async def GetReceipt(
        self, request: audit_service_pb2.GetReceiptRequest, context: CallContext
    ) -> audit_service_pb2.GetReceiptResponse:
        """Give the receipt of one act of consent."""
        self._reader.require_workspace(request.workspace)
        require_purpose(request.purpose)
        await self._freshness.reach(
            request.at_least_revision, timeout_seconds=context.time_remaining()
        )
        now = self._reader.now()

        def read(tables: ReadTables) -> tuple[HistoryView | None, Rules]:
            return history_named(tables, request, self._reader), read_rules(tables)

        view, rules = await read_rows(self._store, read)
        if view is None:
            raise NotFound("UNKNOWN_CUSTOMER", "nobody is known by this id or identifier")
        act = _asked_for(view, request)
        purpose = rules.purpose(act.purpose)
        receipt = receipt_text(
            act,
            await self._past.as_defined(purpose, revision=act.revision),
            customer_id=view.customer_id,
            workspace=self._log.workspace,
            issued_at=now,
        )
        return audit_service_pb2.GetReceiptResponse(receipt=receipt, revision=view.revision)

    async def GetErasureReceipt(
        self, request: audit_service_pb2.GetErasureReceiptRequest, context: CallContext
    ) -> audit_service_pb2.GetErasureReceiptResponse:
        """Say what became of an erasure."""
        self._reader.require_workspace(request.workspace)
        record_id = read_record_id(request.customer_id)
        await self._freshness.reach(
            request.at_least_revision, timeout_seconds=context.time_remaining()
        )
        with self._store.snapshot() as tables:
            erasure = erasure_asked_for(tables, record_id)
            revision = tables.checkpoint.revision
        return erasure_message(erasure, workspace=self._log.workspace, revision=revision)

    def _require_auditor(self, workspace: str, purpose: str) -> None:
        """Refuse whoever is not known to be an auditor, or does not say so (R12)."""
        self._reader.require_workspace(workspace)
        if purpose != AUDIT or not self._is_for_auditors:
            raise Denied("AUDITOR_ONLY", "only the role auditor may read for audit")


def _asked_for(
    view: HistoryView, request: audit_service_pb2.GetReceiptRequest
) -> ConsentTransition:
    """Find the act; of an event that tells of several, the one on the purpose asked for."""
    told = [act for act in view.transitions if request.act_event_id in act.event_ids]
    named = request.act_purpose or request.purpose
    found = [act for act in told if act.purpose == named]
    if not found and not request.act_purpose:
        found = told
    if not found:
        raise NotFound("UNKNOWN_ACT", "the person has no such act that the purpose may see")
    return found[0]


async def _next(reached: asyncio.Queue[int], proving: asyncio.Task[Verification]) -> int | None:
    """Wait for the next word of progress; None when there is the result."""
    waiting = asyncio.create_task(reached.get())
    try:
        await asyncio.wait({waiting, proving}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        waiting.cancel()


def _streams(record_ids: Collection[str]) -> list[Stream] | None:
    if len(record_ids) > STREAMS_PER_READ_MAX:
        raise Invalid("INVALID_FIELD", f"give up to {STREAMS_PER_READ_MAX} record ids")
    return [record_stream(read_record_id(record_id)) for record_id in record_ids] or None
