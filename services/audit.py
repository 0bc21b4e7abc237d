"""`AuditService`: proofs for those who ask afterwards."""

from __future__ import annotations

from domain.errors import NotFound
from koseki.v1 import audit_service_pb2, audit_service_pb2_grpc
from projections.rules import read_rules
from projections.store import Store
from projections.views import history_view
from services.errors import CallContext, translated
from services.freshness import Freshness
from services.lookup import record_named
from services.query import require_purpose
from services.receipts import receipt_text
from services.requests import RequestReader


class AuditService(audit_service_pb2_grpc.AuditServiceServicer):
    """Serve proofs from the read side."""

    def __init__(
        self, workspace: str, reader: RequestReader, *, store: Store, freshness: Freshness
    ) -> None:
        self._workspace = workspace
        self._reader = reader
        self._store = store
        self._freshness = freshness

    @translated
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
        with self._store.snapshot() as tables:
            record_id = record_named(tables, request, self._reader)
            view = record_id and history_view(tables, record_id, request.purpose, now=now)
            rules = read_rules(tables)
        if not view:
            raise NotFound("UNKNOWN_CUSTOMER", "nobody is known by this id or identifier")
        for act in view.transitions:
            if request.act_event_id in act.event_ids:
                receipt = receipt_text(
                    act,
                    rules.purpose(act.purpose),
                    customer_id=view.customer_id,
                    workspace=self._workspace,
                    issued_at=now,
                )
                return audit_service_pb2.GetReceiptResponse(receipt=receipt, revision=view.revision)
        raise NotFound("UNKNOWN_ACT", "the person has no such act that the purpose may see")
