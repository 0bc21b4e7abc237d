"""`AuditService`: proofs for those who ask afterwards."""

from __future__ import annotations

from domain.errors import NotFound
from domain.rules import Rules
from koseki.v1 import audit_service_pb2, audit_service_pb2_grpc
from projections.row_keys import read_rows
from projections.rules import read_rules
from projections.store import Store
from projections.tables import ReadTables
from projections.views import HistoryView
from services.errors import CallContext, translated
from services.freshness import Freshness
from services.lookup import history_named
from services.people import require_purpose
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

        def read(tables: ReadTables) -> tuple[HistoryView | None, Rules]:
            return history_named(tables, request, self._reader), read_rules(tables)

        view, rules = await read_rows(self._store, read)
        if view is None:
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
