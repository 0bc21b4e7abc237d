"""`SegmentService`: segments defined, listed, watched and explained; audiences counted and listed.

Rules go to the log; everything else is read from the read side, for one purpose (R12).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from functools import partial

from actors.rules import RulesKeeper
from domain.commands import ArchiveSegment, DefineSegment, DropTraitIndex, IndexTrait
from domain.errors import Invalid, NotFound
from domain.ids import RecordId
from domain.rules import decide_rules
from domain.trait_indexes import living
from koseki.v1 import segment_service_pb2, segment_service_pb2_grpc
from projections.row_keys import read_long
from projections.segments.audiences import Sets, audience_members, check_serves, count_audience
from projections.segments.definitions import read_segment, read_segments
from projections.segments.evaluation import Reading
from projections.segments.explaining import (
    Explanation,
    check_definition,
    explain_membership,
    preview_counts,
)
from projections.segments.following import is_open_for, served_by
from projections.segments.language import Expression
from projections.segments.pages import PAGE_MEMBERS_MAX, Page, Pages
from projections.segments.trait_reading import ready_purposes
from projections.segments.watching import SegmentWatch, Told, mark_of, read_place
from projections.store import Store
from projections.tables import ReadTables
from services.audiences import read_audience
from services.errors import CallContext
from services.freshness import Freshness
from services.past import PastReader
from services.people import People, require_purpose
from services.requests import RequestReader
from services.segment_answers import (
    explanation_message,
    segment_change_message,
    segment_message,
    trait_index_message,
)
from services.watching import Watches

PAGE_MEMBERS_DEFAULT = 1_000


class SegmentService(segment_service_pb2_grpc.SegmentServiceServicer):
    """Serve the segments of one workspace."""

    def __init__(
        self,
        rules: RulesKeeper,
        reader: RequestReader,
        *,
        store: Store,
        freshness: Freshness,
        watches: Watches,
        past: PastReader,
    ) -> None:
        self._rules = rules
        self._reader = reader
        self._store = store
        self._freshness = freshness
        self._watches = watches
        self._past = past
        self._people = People(reader)
        self._sets = Sets()
        self._pages = Pages()

    async def DefineSegment(
        self, request: segment_service_pb2.DefineSegmentRequest, context: CallContext
    ) -> segment_service_pb2.DefineSegmentResponse:
        """Define or change a segment, or only count."""
        command = DefineSegment(
            **self._reader.command(request, context),
            segment=request.segment,
            expression=request.expression,
            purposes=tuple(dict.fromkeys(request.purposes)),
            exception=request.exception if request.HasField("exception") else None,
            description=request.description,
        )
        await self._rules.refresh()
        for purpose in command.purposes:
            self._rules.rules.purpose(purpose)
        await self._freshness.reach(self._rules.revision, timeout_seconds=context.time_remaining())

        def check(tables: ReadTables) -> Expression:
            return check_definition(
                tables,
                command.expression,
                purposes=command.purposes,
                exception=command.exception,
            )

        uses = (await read_long(self._store, check)).uses
        command = command.model_copy(update={"uses": tuple(sorted(uses))})
        if request.dry_run:
            decide_rules(self._rules.rules, command)  # it refuses what the rules would not take
            return await read_long(self._store, lambda tables: _previewed(tables, command))
        done = await self._rules.execute(command)
        return segment_service_pb2.DefineSegmentResponse(
            revision=done.revision, command_id=command.command_id
        )

    async def ListSegments(
        self, request: segment_service_pb2.ListSegmentsRequest, context: CallContext
    ) -> segment_service_pb2.ListSegmentsResponse:
        """List every segment."""
        self._reader.require_workspace(request.workspace)
        await self._reach(request.at_least_revision, context)
        with self._store.snapshot() as tables:
            return segment_service_pb2.ListSegmentsResponse(
                segments=[segment_message(*found) for found in read_segments(tables).items()],
                revision=tables.checkpoint.revision,
            )

    async def ArchiveSegment(
        self, request: segment_service_pb2.ArchiveSegmentRequest, context: CallContext
    ) -> segment_service_pb2.ArchiveSegmentResponse:
        """End a segment."""
        command = ArchiveSegment(**self._reader.command(request, context), segment=request.segment)
        done = await self._rules.execute(command)
        return segment_service_pb2.ArchiveSegmentResponse(
            revision=done.revision, command_id=command.command_id
        )

    async def IndexTrait(
        self, request: segment_service_pb2.IndexTraitRequest, context: CallContext
    ) -> segment_service_pb2.IndexTraitResponse:
        """Index a trait."""
        command = IndexTrait(
            **self._reader.command(request, context),
            trait=request.trait,
            purposes=tuple(dict.fromkeys(request.purposes)),
            open_reason=request.open_reason if request.HasField("open_reason") else None,
        )
        done = await self._rules.execute(command)
        return segment_service_pb2.IndexTraitResponse(
            revision=done.revision, command_id=command.command_id
        )

    async def DropTraitIndex(
        self, request: segment_service_pb2.DropTraitIndexRequest, context: CallContext
    ) -> segment_service_pb2.DropTraitIndexResponse:
        """Index a trait no more."""
        command = DropTraitIndex(**self._reader.command(request, context), trait=request.trait)
        done = await self._rules.execute(command)
        return segment_service_pb2.DropTraitIndexResponse(
            revision=done.revision, command_id=command.command_id
        )

    async def ListTraitIndexes(
        self, request: segment_service_pb2.ListTraitIndexesRequest, context: CallContext
    ) -> segment_service_pb2.ListTraitIndexesResponse:
        """List every index over a trait."""
        self._reader.require_workspace(request.workspace)
        await self._reach(request.at_least_revision, context)
        with self._store.snapshot() as tables:
            rules, _ = self._sets.rules(tables)
            indexes = sorted(living(rules.trait_indexes).items())
            return segment_service_pb2.ListTraitIndexesResponse(
                indexes=[
                    trait_index_message(index, ready_purposes(tables, rules, index))
                    for _trait, index in indexes
                ],
                revision=tables.checkpoint.revision,
            )

    async def ListMembers(
        self, request: segment_service_pb2.ListMembersRequest, context: CallContext
    ) -> AsyncIterator[segment_service_pb2.ListMembersResponse]:
        """Give the members of an audience page by page, as of one revision."""
        self._reader.require_workspace(request.workspace)
        require_purpose(request.purpose)
        size = request.page_members or PAGE_MEMBERS_DEFAULT
        if size > PAGE_MEMBERS_MAX:
            raise Invalid("INVALID_FIELD", f"a page has at most {PAGE_MEMBERS_MAX} members")
        await self._reach(request.at_least_revision, context)
        token: str | None = request.page_token
        while token is not None:
            with self._store.snapshot() as tables:
                page = self._page(tables, request, token=token, page_members=size)
            yield segment_service_pb2.ListMembersResponse(
                customer_ids=page.customers,
                total=page.total,
                revision=page.revision,
                next_page_token=page.next_token or "",
            )
            token = page.next_token

    def _page(
        self,
        tables: ReadTables,
        request: segment_service_pb2.ListMembersRequest,
        *,
        token: str,
        page_members: int,
    ) -> Page:
        if token:
            return self._pages.next(
                tables, token, purpose=request.purpose, page_members=page_members
            )
        audience = read_audience(request.audience)
        members = audience_members(
            tables, self._sets, audience, purpose=request.purpose, now=self._reader.now()
        )
        return self._pages.first(
            tables, members, purpose=request.purpose, page_members=page_members
        )

    async def CountAudience(
        self, request: segment_service_pb2.CountAudienceRequest, context: CallContext
    ) -> segment_service_pb2.CountAudienceResponse:
        """Count the members of an audience."""
        self._reader.require_workspace(request.workspace)
        require_purpose(request.purpose)
        audience = read_audience(request.audience)
        await self._reach(request.at_least_revision, context)
        with self._store.snapshot() as tables:
            return segment_service_pb2.CountAudienceResponse(
                count=count_audience(
                    tables, self._sets, audience, purpose=request.purpose, now=self._reader.now()
                ),
                revision=tables.checkpoint.revision,
            )

    async def WatchSegment(
        self, request: segment_service_pb2.WatchSegmentRequest, context: CallContext
    ) -> AsyncIterator[segment_service_pb2.WatchSegmentResponse]:
        """Tell who enters and exits, from a revision on."""
        self._reader.require_workspace(request.workspace)
        require_purpose(request.purpose)
        segment, purpose = request.segment, request.purpose
        mark = mark_of(f"segment/{segment}", purpose=purpose)
        place = read_place(
            request.resume_token, marks={mark}, after_revision=request.after_revision
        )
        await self._past.require_known(place.position.revision)
        watch = SegmentWatch(segment, purpose, place)
        # As in the list of members that it goes on from, an exception is told to any purpose.
        check = partial(
            check_serves, sets=self._sets, name=segment, purpose=purpose, may_be_exception=True
        )

        def look(tables: ReadTables) -> list[Told]:
            check(tables, may_be_archived=True)
            told = watch.read(tables)
            if not told and not watch.is_behind:  # of one that has ended, the exits come first
                check(tables)
            return told

        async for told in self._watches.follow(look, is_behind=lambda: watch.is_behind):
            yield segment_change_message(told, mark=mark)

    async def ExplainMembership(
        self, request: segment_service_pb2.ExplainMembershipRequest, context: CallContext
    ) -> segment_service_pb2.ExplainMembershipResponse:
        """Say why a customer belongs to a segment or does not."""
        self._reader.require_workspace(request.workspace)
        require_purpose(request.purpose)
        if request.HasField("as_of"):
            return await self._explained_then(request)
        await self._reach(request.at_least_revision, context)

        now = self._reader.now()

        def explained(
            tables: ReadTables,
        ) -> segment_service_pb2.ExplainMembershipResponse:
            check_serves(tables, self._sets, request.segment, purpose=request.purpose)
            root = self._people.find(tables, request.reference)
            why = _why(tables, root, request, now=now)
            return _explained(why, root, revision=tables.checkpoint.revision)

        return await read_long(self._store, explained)

    async def _explained_then(
        self, request: segment_service_pb2.ExplainMembershipRequest
    ) -> segment_service_pb2.ExplainMembershipResponse:
        past, root = await self._past.find_member(request.as_of, request.reference, request.purpose)
        check_serves(past.tables, Sets(), request.segment, purpose=request.purpose)
        why = _why(past.tables, root, request)
        if why is not None and why.since_revision is not None and why.since_at is not None:
            since = {request.segment: (why.since_revision, why.since_at)}
            revision, at = (await self._past.since(past, since))[request.segment]
            why = replace(why, since_revision=revision, since_at=at)
        return _explained(why, root, revision=past.prefix.revision)

    async def _reach(self, revision: int, context: CallContext) -> None:
        await self._freshness.reach(revision, timeout_seconds=context.time_remaining())


def _previewed(
    tables: ReadTables, command: DefineSegment
) -> segment_service_pb2.DefineSegmentResponse:
    counts = preview_counts(
        tables, command.expression, purposes=command.purposes, exception=command.exception
    )
    return segment_service_pb2.DefineSegmentResponse(
        revision=tables.checkpoint.revision, counts=counts
    )


def _why(
    tables: ReadTables,
    root: RecordId,
    request: segment_service_pb2.ExplainMembershipRequest,
    *,
    now: datetime | None = None,
) -> Explanation | None:
    """Explain as much as the purpose may see; None where it is not open for the person."""
    if not is_open_for(tables, root, request.purpose, now=now):
        return None
    explanation = explain_membership(tables, request.segment, root, purpose=request.purpose)
    if explanation is None:
        raise NotFound("UNKNOWN_CUSTOMER", "nobody is known by this id or identifier")
    segment = read_segment(tables, request.segment)
    if segment is None or segment.active is None or segment.active.exception is not None:
        # It reads what this purpose may not see (R12).
        return replace(explanation, readings=(), traits={})
    served = served_by(tables, request.purpose)
    told = [r for r in explanation.readings if _used(r) is None or _used(r) in served]
    return replace(explanation, readings=tuple(told))


def _used(reading: Reading) -> str | None:
    """Name the segment that a reading tells of."""
    return reading.call.arguments[0] if reading.call.function == "segment" else None


def _explained(
    why: Explanation | None, root: RecordId, *, revision: int
) -> segment_service_pb2.ExplainMembershipResponse:
    if why is None:
        return segment_service_pb2.ExplainMembershipResponse(customer_id=root, revision=revision)
    return explanation_message(why, revision=revision)
