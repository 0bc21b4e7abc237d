"""`QueryService`: customers from the read side, and consent from the customer's own host."""

from __future__ import annotations

from actors.router import CommandRouter
from domain.commands import CheckConsent
from domain.errors import Denied, DomainError, Invalid, NotFound
from domain.ids import RecordId
from domain.replies import Verdict
from domain.rules import AUDIT
from koseki.v1 import common_pb2, query_service_pb2, query_service_pb2_grpc
from projections.errors import CustomerParked, KeysNotHeld
from projections.row_keys import read_rows
from projections.store import Store
from projections.tables import ReadTables
from projections.views import (
    CustomerView,
    customer_view,
    customer_view_by_identifier,
)
from services.answers import STATES, act_message, customer_message, stamp
from services.customer import execute
from services.errors import CallContext, translated
from services.freshness import Freshness
from services.lookup import history_named
from services.pages import page_of
from services.past import PastReader
from services.requests import RequestReader

REFERENCES_MAX = 1_000
_Check = CheckConsent
"""The command; within the service its name is the method's."""
_Read = (
    query_service_pb2.GetCustomerRequest
    | query_service_pb2.BatchGetCustomersRequest
    | query_service_pb2.ListConsentHistoryRequest
)


class QueryService(query_service_pb2_grpc.QueryServiceServicer):
    """Serve questions about customers."""

    def __init__(
        self,
        router: CommandRouter,
        reader: RequestReader,
        *,
        store: Store,
        freshness: Freshness,
        past: PastReader,
    ) -> None:
        self._past = past
        self._router = router
        self._store = store
        self._freshness = freshness
        self._reader = reader

    @translated
    async def GetCustomer(
        self, request: query_service_pb2.GetCustomerRequest, context: CallContext
    ) -> query_service_pb2.GetCustomerResponse:
        """Give one customer as a purpose may see it."""
        await self._prepare(request, context)
        if request.HasField("as_of"):
            past = await self._past.customers(request.as_of, [request])
            view = self._past.view(past, request, request.purpose)
        else:
            view = await read_rows(
                self._store, lambda tables: self._view(tables, request, request.purpose)
            )
        if view is None:
            raise NotFound("UNKNOWN_CUSTOMER", "nobody is known by this id or identifier")
        return query_service_pb2.GetCustomerResponse(customer=customer_message(view))

    @translated
    async def BatchGetCustomers(
        self, request: query_service_pb2.BatchGetCustomersRequest, context: CallContext
    ) -> query_service_pb2.BatchGetCustomersResponse:
        """Give many customers as of one revision."""
        if not 0 < len(request.references) <= REFERENCES_MAX:
            raise Invalid("INVALID_FIELD", f"give 1 to {REFERENCES_MAX} references")
        await self._prepare(request, context)
        if request.HasField("as_of"):
            return await self._all_past(request)
        return await read_rows(self._store, lambda tables: self._all(tables, request))

    @translated
    async def CheckConsent(
        self, request: query_service_pb2.CheckConsentRequest, context: CallContext
    ) -> query_service_pb2.CheckConsentResponse:
        """Say whether a purpose is open for a person now."""
        require_purpose(request.purpose)
        command = CheckConsent(
            **self._reader.person(request, context),
            purpose=request.purpose,
            record=request.record,
        )
        if request.HasField("as_of"):
            return await self._check_past(request.as_of, command)
        done = await execute(self._router, command)
        if done.verdict is None:
            raise AssertionError("a host answered a check without a verdict")
        return _verdict_message(
            done.verdict, command, customer_id=done.customer_id, revision=done.revision
        )

    @translated
    async def ListConsentHistory(
        self, request: query_service_pb2.ListConsentHistoryRequest, context: CallContext
    ) -> query_service_pb2.ListConsentHistoryResponse:
        """List the acts of consent of one customer."""
        await self._prepare(request, context)
        view = await read_rows(
            self._store, lambda tables: history_named(tables, request, self._reader)
        )
        if view is None:
            raise NotFound("UNKNOWN_CUSTOMER", "nobody is known by this id or identifier")
        page, token = page_of(
            view.transitions,
            key=lambda act: act.revision,
            size=request.page_size,
            token=request.page_token,
        )
        return query_service_pb2.ListConsentHistoryResponse(
            customer_id=view.customer_id,
            acts=[act_message(act) for act in page],
            next_page_token=token,
            revision=view.revision,
        )

    async def _check_past(
        self, as_of: common_pb2.AsOf, command: _Check
    ) -> query_service_pb2.CheckConsentResponse:
        if command.record:
            raise Invalid("INVALID_FIELD", "a past answer cannot be recorded")
        verdict, past, root = await self._past.verdict(as_of, command)
        return _verdict_message(verdict, command, customer_id=root, revision=past.prefix.revision)

    async def _all_past(
        self, request: query_service_pb2.BatchGetCustomersRequest
    ) -> query_service_pb2.BatchGetCustomersResponse:
        results = []
        past = await self._past.customers(request.as_of, request.references)
        for reference in request.references:
            try:
                view = self._past.view(past, reference, request.purpose)
            except (DomainError, CustomerParked) as error:
                if error.reason == "UNKNOWN_PURPOSE":
                    raise
                results.append(query_service_pb2.CustomerResult(reason=error.reason))
                continue
            results.append(_result_of(view))
        return query_service_pb2.BatchGetCustomersResponse(
            results=results, revision=past.prefix.revision
        )

    async def _prepare(self, request: _Read, context: CallContext) -> None:
        self._reader.require_workspace(request.workspace)
        require_purpose(request.purpose)
        await self._freshness.reach(
            request.at_least_revision, timeout_seconds=context.time_remaining()
        )

    def _all(
        self, tables: ReadTables, request: query_service_pb2.BatchGetCustomersRequest
    ) -> query_service_pb2.BatchGetCustomersResponse:
        """Answer for every reference; ask for all keys at once, should some be wanting."""
        results = []
        missing: set[RecordId] = set()
        for reference in request.references:
            try:
                results.append(self._result(tables, reference, request.purpose))
            except KeysNotHeld as error:
                missing |= error.record_ids
        if missing:
            raise KeysNotHeld(frozenset(missing))
        revision = tables.checkpoint.revision
        return query_service_pb2.BatchGetCustomersResponse(results=results, revision=revision)

    def _result(
        self, tables: ReadTables, reference: common_pb2.CustomerReference, purpose: str
    ) -> query_service_pb2.CustomerResult:
        try:
            view = self._view(tables, reference, purpose)
        except (DomainError, CustomerParked) as error:
            if error.reason == "UNKNOWN_PURPOSE":
                raise
            return query_service_pb2.CustomerResult(reason=error.reason)
        return _result_of(view)

    def _view(
        self,
        tables: ReadTables,
        reference: common_pb2.CustomerReference | query_service_pb2.GetCustomerRequest,
        purpose: str,
    ) -> CustomerView | None:
        now = self._reader.now()
        match reference.WhichOneof("reference"):
            case "customer_id":
                return customer_view(tables, RecordId(reference.customer_id), purpose, now=now)
            case "identifier":
                key = self._reader.identifier(reference.identifier).key
                return customer_view_by_identifier(tables, key, purpose, now=now)
            case _:
                raise Invalid("MISSING_IDENTIFIER", "name a customer id or an identifier")


def _result_of(view: CustomerView | None) -> query_service_pb2.CustomerResult:
    if view is None:
        return query_service_pb2.CustomerResult(reason="UNKNOWN_CUSTOMER")
    return query_service_pb2.CustomerResult(customer=customer_message(view))


def _verdict_message(
    verdict: Verdict, command: CheckConsent, *, customer_id: str | None, revision: int
) -> query_service_pb2.CheckConsentResponse:
    return query_service_pb2.CheckConsentResponse(
        customer_id=customer_id or "",
        revision=revision,
        command_id=command.command_id,
        open=verdict.is_open,
        state=STATES[verdict.state],
        reason=verdict.reason,
        act_event_id=verdict.act_event_id or "",
        notice_version=verdict.notice_version or "",
        rules_version=verdict.rules_version,
        decided_at=stamp(verdict.decided_at),
        valid_until=stamp(verdict.valid_until) if verdict.valid_until else None,
    )


def require_purpose(purpose: str) -> None:
    """Refuse a read that does not say what it is for, or claims to be an audit (R12)."""
    if not purpose:
        raise Invalid("MISSING_PURPOSE", "every read names its purpose")
    if purpose == AUDIT:
        raise Denied("AUDITOR_ONLY", "only the role auditor may read for audit")
