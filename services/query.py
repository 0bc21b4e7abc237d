"""`QueryService`: customers from the read side, and consent from the customer's own host."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime

from actors.router import CommandRouter
from domain.commands import CheckConsent
from domain.errors import DomainError, Invalid, NotFound
from domain.ids import RecordId
from domain.replies import Verdict
from koseki.v1 import common_pb2, query_service_pb2, query_service_pb2_grpc
from projections import customers
from projections.errors import CustomerParked, KeysNotHeld
from projections.instants import microseconds, time_of
from projections.row_keys import read_long, read_rows
from projections.rules import read_rules
from projections.segments.following import CustomerWatch, is_open_for, segments_of
from projections.segments.watching import mark_of, read_place
from projections.store import Store
from projections.tables import ReadTables
from projections.views import history_view, rules_for
from replay.customer import PastCustomers
from services.answers import STATES, act_message, customer_message, stamp
from services.customer import execute
from services.errors import CallContext
from services.freshness import Freshness
from services.kept import KeptCustomers, Name
from services.lookup import history_named
from services.methods import Encoded
from services.outcomes import left_out_message
from services.pages import page_of
from services.past import Named, PastReader, view_of
from services.people import People, require_purpose
from services.requests import RequestReader, read_time, spelled_id
from services.segment_answers import customer_change_message, membership_messages
from services.timeline_pages import PAGE_SIGNALS_MAX, timeline_page
from services.watching import Watches

REFERENCES_MAX = 1_000
NAMES_MAX = 64
CHECK_SECONDS_MAX = 5.0
"""Until a check that nobody answers is given up, however long its caller would wait."""

ACTS_BITS = 16
"""The low bits of a place in a history of consent: which of its event's acts it is."""

_Check = CheckConsent
"""The command; within the service its name is the method's."""
_About = (
    query_service_pb2.ListSegmentsOfRequest
    | query_service_pb2.ListTimelineRequest
    | query_service_pb2.WatchCustomerRequest
)
_Read = (
    query_service_pb2.GetCustomerRequest
    | query_service_pb2.BatchGetCustomersRequest
    | query_service_pb2.ListSegmentsOfRequest
    | query_service_pb2.ListTimelineRequest
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
        watches: Watches,
        past: PastReader,
    ) -> None:
        self._past = past
        self._router = router
        self._store = store
        self._freshness = freshness
        self._watches = watches
        self._reader = reader
        self._people = People(reader)
        self._kept = KeptCustomers(reader.now)

    async def GetCustomer(  # type: ignore[override]  # also what is encoded, as `Methods` allows
        self, request: query_service_pb2.GetCustomerRequest, context: CallContext
    ) -> query_service_pb2.GetCustomerResponse | Encoded:
        """Give one customer as a purpose may see it."""
        self._require(request)
        if request.at_least_revision:
            await self._reach(request, context)
        if request.HasField("as_of"):
            _, view = await self._past.find(request.as_of, request, request.purpose)
            return query_service_pb2.GetCustomerResponse(customer=customer_message(view))
        name, now = self._name(request, request.purpose), self._reader.now()
        store, kept = self._store, self._kept
        found = kept.at_hand(name, store.checkpoint, store.codec, now=now)
        if found is None:
            found = await read_rows(store, lambda rows: kept.answer(rows, name, now=now))
        if found is None:
            raise _unknown()
        return found

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

    async def CheckConsent(
        self, request: query_service_pb2.CheckConsentRequest, context: CallContext
    ) -> query_service_pb2.CheckConsentResponse:
        """Say whether a purpose is open for a person now."""
        require_purpose(request.purpose)
        said = self._reader.person(request, context)
        said["deadline"] = min(said["deadline"], self._reader.deadline(CHECK_SECONDS_MAX))
        command = CheckConsent(**said, purpose=request.purpose, record=request.record)
        if request.HasField("as_of"):
            return await self._check_past(request, command)
        done = await execute(self._router, command)
        if done.verdict is None:
            raise AssertionError("a host answered a check without a verdict")
        answer = _verdict_message(
            done.verdict, command, customer_id=done.customer_id, revision=done.revision
        )
        answer.left_out.extend(left_out_message(done.left_out, request.identifiers, self._reader))
        return answer

    async def ListConsentHistory(
        self, request: query_service_pb2.ListConsentHistoryRequest, context: CallContext
    ) -> query_service_pb2.ListConsentHistoryResponse:
        """List the acts of consent of one customer."""
        await self._prepare(request, context)
        if request.HasField("as_of"):
            past, seen = await self._past.find(request.as_of, request, request.purpose)
            view = history_view(past.tables, seen.customer_id, request.purpose)
        else:
            view = await read_rows(
                self._store, lambda tables: history_named(tables, request, self._reader)
            )
        if view is None:
            raise _unknown()
        page, token = page_of(
            view.transitions,
            key=lambda act: act.revision << ACTS_BITS | act.place,
            size=request.page_size,
            token=request.page_token,
        )
        return query_service_pb2.ListConsentHistoryResponse(
            customer_id=view.customer_id,
            acts=[act_message(act) for act in page],
            next_page_token=token,
            revision=view.revision,
        )

    async def ListSegmentsOf(
        self, request: query_service_pb2.ListSegmentsOfRequest, context: CallContext
    ) -> query_service_pb2.ListSegmentsOfResponse:
        """List the segments of a customer that serve a purpose."""
        await self._prepare(request, context)
        if request.HasField("as_of"):
            past, root = await self._past.find_member(
                request.as_of, request.reference, request.purpose
            )
            answer = _segments(past.tables, root, request)
            since = {
                told.segment: (told.since_revision, microseconds(read_time(told.since)))
                for told in answer.memberships
            }
            in_log = await self._past.since(past, since)
            for told in answer.memberships:
                told.since_revision, at = in_log[told.segment]
                told.since.FromDatetime(time_of(at))
            return answer
        now = self._reader.now()
        return await read_rows(
            self._store,
            lambda tables: _segments(tables, self._find(tables, request), request, now=now),
        )

    async def ListTimeline(
        self, request: query_service_pb2.ListTimelineRequest, context: CallContext
    ) -> query_service_pb2.ListTimelineResponse:
        """List what a customer did, the newest first."""
        if request.page_signals > PAGE_SIGNALS_MAX or len(request.names) > NAMES_MAX:
            limits = f"at most {PAGE_SIGNALS_MAX} signals a page and {NAMES_MAX} names"
            raise Invalid("INVALID_FIELD", limits)
        await self._prepare(request, context)
        if request.HasField("as_of"):
            then, seen = await self._past.find(request.as_of, request.reference, request.purpose)
            return timeline_page(then.tables, seen.customer_id, request, is_open=seen.is_open)
        now = self._reader.now()

        def read(tables: ReadTables) -> query_service_pb2.ListTimelineResponse:
            root = self._find(tables, request)
            is_open = is_open_for(tables, root, request.purpose, now=now)
            return timeline_page(tables, root, request, is_open=is_open)

        return await read_long(self._store, read)

    async def WatchCustomer(
        self, request: query_service_pb2.WatchCustomerRequest, context: CallContext
    ) -> AsyncIterator[query_service_pb2.WatchCustomerResponse]:
        """Tell what changes of a customer, from a revision on."""
        self._reader.require_workspace(request.workspace)
        require_purpose(request.purpose)
        with self._store.snapshot() as tables:
            root = self._find(tables, request)
            records = {root, *customers.members(tables, root)}
        marks = {
            record: mark_of(f"customer/{record}", purpose=request.purpose) for record in records
        }
        place = read_place(
            request.resume_token, marks=marks.values(), after_revision=request.after_revision
        )
        await self._past.require_known(place.position.revision)
        watch = CustomerWatch(root, request.purpose, place, now=self._reader.now)
        async for change in self._watches.follow(watch.read):
            yield customer_change_message(change, mark=marks[root])

    def _find(self, tables: ReadTables, request: _About) -> RecordId:
        read_rules(tables).purpose(request.purpose)
        return self._people.find(tables, request.reference)

    async def _check_past(
        self, request: query_service_pb2.CheckConsentRequest, command: _Check
    ) -> query_service_pb2.CheckConsentResponse:
        if command.record:
            raise Invalid("INVALID_FIELD", "a past answer cannot be recorded")
        verdict, past, root = await self._past.verdict(request.as_of, command)
        answer = _verdict_message(verdict, command, customer_id=root, revision=past.prefix.revision)
        answer.left_out.extend(
            left_out_message(command.left_out, request.identifiers, self._reader)
        )
        return answer

    async def _all_past(
        self, request: query_service_pb2.BatchGetCustomersRequest
    ) -> query_service_pb2.BatchGetCustomersResponse:
        read = [self._read_past(reference) for reference in request.references]
        sound = [named for named in read if not isinstance(named, Invalid)]
        past = await self._past.customers(request.as_of, sound)
        rules_for(past.tables, request.purpose)
        results = [_result_then(past, named, request.purpose) for named in read]
        return query_service_pb2.BatchGetCustomersResponse(
            results=results, revision=past.prefix.revision
        )

    def _read_past(self, reference: common_pb2.CustomerReference) -> Named | Invalid:
        try:
            return self._past.read(reference)
        except Invalid as fault:  # the outcome of this reference alone
            return fault

    async def _prepare(self, request: _Read, context: CallContext) -> None:
        self._require(request)
        await self._reach(request, context)

    def _require(self, request: _Read) -> None:
        self._reader.require_workspace(request.workspace)
        require_purpose(request.purpose)

    async def _reach(self, request: _Read, context: CallContext) -> None:
        await self._freshness.reach(
            request.at_least_revision, timeout_seconds=context.time_remaining()
        )

    def _all(
        self, tables: ReadTables, request: query_service_pb2.BatchGetCustomersRequest
    ) -> query_service_pb2.BatchGetCustomersResponse:
        """Answer for every reference; ask for all keys at once, should some be wanting."""
        rules_for(tables, request.purpose)
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
        def see() -> query_service_pb2.Customer | None:
            name = self._name(reference, purpose)
            found = self._kept.answer(tables, name, now=self._reader.now())
            if found is None:
                return None
            return query_service_pb2.GetCustomerResponse.FromString(found).customer

        return _outcome(see)

    def _name(
        self,
        reference: common_pb2.CustomerReference | query_service_pb2.GetCustomerRequest,
        purpose: str,
    ) -> Name:
        match reference.WhichOneof("reference"):
            case "customer_id" if reference.customer_id:
                return ("id", spelled_id(reference.customer_id), purpose)
            case "identifier":
                return ("key", self._reader.sought(reference.identifier).key, purpose)
            case _:
                raise Invalid("MISSING_IDENTIFIER", "name a customer id or an identifier")


def _unknown() -> NotFound:
    return NotFound("UNKNOWN_CUSTOMER", "nobody is known by this id or identifier")


def _segments(
    tables: ReadTables,
    root: RecordId,
    request: query_service_pb2.ListSegmentsOfRequest,
    *,
    now: datetime | None = None,
) -> query_service_pb2.ListSegmentsOfResponse:
    return query_service_pb2.ListSegmentsOfResponse(
        customer_id=root,
        revision=tables.checkpoint.revision,
        purpose_open=is_open_for(tables, root, request.purpose, now=now),
        memberships=membership_messages(segments_of(tables, root, request.purpose, now=now)),
    )


def _result_then(
    past: PastCustomers, named: Named | Invalid, purpose: str
) -> query_service_pb2.CustomerResult:
    def see() -> query_service_pb2.Customer | None:
        if isinstance(named, Invalid):
            raise named
        view = view_of(past, named, purpose)
        return None if view is None else customer_message(view)

    return _outcome(see)


def _outcome(
    see: Callable[[], query_service_pb2.Customer | None],
) -> query_service_pb2.CustomerResult:
    """Give who is seen, or why nobody is; that a purpose is unknown fails the whole call."""
    try:
        customer = see()
    except (DomainError, CustomerParked) as error:
        if error.reason == "UNKNOWN_PURPOSE":
            raise
        return query_service_pb2.CustomerResult(reason=error.reason)
    if customer is None:
        return query_service_pb2.CustomerResult(reason="UNKNOWN_CUSTOMER")
    return query_service_pb2.CustomerResult(customer=customer)


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
