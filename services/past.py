"""Answer from past states: folded from the log for this one answer, by the replays' own folds."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TypedDict

from domain.commands import CheckConsent
from domain.consent_acts import verdict_of
from domain.errors import Invalid, NotFound
from domain.identity import Identifier
from domain.ids import WORKSPACE_STREAM, IdentifierKey, RecordId
from domain.replies import Done, Verdict
from domain.rules import Purpose
from domain.workspace_events import PurposeDefined
from eventlog.guard import LogGuard
from eventlog.port import EMPTY, LogReader
from koseki.v1 import common_pb2
from projections import customers
from projections.rules import read_rules
from projections.store import Store
from projections.views import CustomerView, customer_standings, rules_for
from replay.as_of import AsOf, Prefix, clock_after, find_prefix
from replay.customer import PastCustomers, PastMembers, fold_customers, fold_members
from replay.diff import Change, diff_customer
from replay.dry_run import Tried, segment_consequences
from replay.explain import Since, since_in_log
from replay.workspace_stream import WorkspaceStreamKept
from services.lookup import Reference
from services.requests import RequestReader, read_record_id, read_time

Named = RecordId | Identifier
"""Whom a reference names."""


class _Whom(TypedDict):
    record_ids: set[RecordId]
    identifiers: set[IdentifierKey]


class PastReader:
    """Folds customers of one workspace as of past states."""

    def __init__(
        self,
        log: LogReader,
        reader: RequestReader,
        *,
        store: Store,
        guard: LogGuard | None = None,
    ) -> None:
        self._guard = guard
        self._log = log
        self._streams = WorkspaceStreamKept(log)
        self._reader = reader
        self._store = store
        self._trying = asyncio.Lock()

    async def require_reached(self, revision: int) -> None:
        """Refuse to go on after what the log has not come to.

        Raises `Invalid` / INVALID_AS_OF; `LogDamaged` where the log has lost events.
        """
        if not revision or revision <= (await self._log.shape()).last_revision:
            return
        if self._guard is not None:  # a log that has lost its end looks like one too short
            await self._guard.require_whole()
        raise Invalid("INVALID_AS_OF", "the log has not come to after_revision yet")

    async def require_known(self, revision: int) -> None:
        """Do the same, but ask the log only about what the read side has not come to."""
        if revision > self._store.checkpoint.revision:
            await self.require_reached(revision)

    async def prefix(self, as_of: common_pb2.AsOf) -> Prefix:
        """Find where a past state ends. Raises `Invalid` / INVALID_AS_OF."""
        with self._store.snapshot() as marks:
            return await find_prefix(
                self._log, read_as_of(as_of), now=self._reader.now(), marks=marks
            )

    async def present(self) -> Prefix:
        """Give all that the log holds now. Raises `LogUnavailable` and `LogDamaged`."""
        revision = (await self._log.shape()).last_revision
        with self._store.snapshot() as marks:
            clock = await clock_after(self._log, revision, marks=marks)
        return Prefix(revision, max(clock, self._reader.now()))

    async def tried(self, command: Tried, done: Done) -> Done:
        """Add to what a dry run came to which segments it would change.

        Raises as `segment_consequences`.
        """
        if done.consequences is None:
            return done
        async with self._trying:  # a large customer takes the processor for seconds
            segments = await segment_consequences(
                self._streams, await self.present(), command, at_least_revision=done.revision
            )
        return replace(
            done, consequences=done.consequences.model_copy(update={"segments": segments})
        )

    async def customers(self, as_of: common_pb2.AsOf, named: Collection[Named]) -> PastCustomers:
        """Fold what was known of these people. Raises `Invalid`."""
        prefix = await self.prefix(as_of)
        return await fold_customers(self._streams, prefix, **_whom(named))

    async def as_defined(self, purpose: Purpose, *, revision: int) -> Purpose:
        """Give a purpose with the lawful basis and description that it had at a revision.

        Raises `LogUnavailable` and `LogDamaged`.
        """
        loaded = await self._streams.load_many({WORKSPACE_STREAM: EMPTY})
        for entry in reversed(loaded[WORKSPACE_STREAM]):
            body = entry.event.body if entry.event and entry.revision <= revision else None
            if isinstance(body, PurposeDefined) and body.purpose == purpose.name:
                return replace(purpose, basis=body.basis, description=body.description)
        return purpose

    def read(self, reference: Reference) -> Named:
        """Read whom a reference names, be somebody known by it or not. Raises `Invalid`."""
        match reference.WhichOneof("reference"):
            case "customer_id" if reference.customer_id:
                return read_record_id(reference.customer_id)
            case "identifier":
                return self._reader.sought(reference.identifier)
            case _:
                raise Invalid("MISSING_IDENTIFIER", "name a customer id or an identifier")

    async def find(
        self, as_of: common_pb2.AsOf, reference: Reference, purpose: str
    ) -> tuple[PastCustomers, CustomerView]:
        """Fold what was known of whom a reference names, and see it.

        Raises `Invalid`, `NotFound`, and as `PastCustomers.view`.
        """
        named = self.read(reference)
        past = await self.customers(as_of, [named])
        return past, _seen(past, named, purpose)

    async def find_member(
        self, as_of: common_pb2.AsOf, reference: Reference, purpose: str
    ) -> tuple[PastMembers, RecordId]:
        """Fold the memberships of whom a reference names, and give the customer's id then.

        Raises as `find`.
        """
        named = self.read(reference)
        prefix = await self.prefix(as_of)
        past = await fold_members(self._streams, prefix, **_whom([named]))
        return past, _seen(past, named, purpose).customer_id

    async def since(self, past: PastMembers, since: Mapping[str, Since]) -> dict[str, Since]:
        """Say by segment since when past memberships are in the log, or ended.

        `since` says it as it is in their fold. Raises `LogUnavailable` and `LogDamaged`.
        """
        with self._store.snapshot() as marks:
            now = self._reader.now()
            return await since_in_log(self._log, past, since=since, now=now, marks=marks)

    async def changes(self, record_id: RecordId, *, earlier: Prefix, later: Prefix) -> list[Change]:
        """Compare a customer in two past states. Raises as `diff_customer`."""
        return await diff_customer(self._streams, record_id, earlier=earlier, later=later)

    async def verdict(
        self, as_of: common_pb2.AsOf, command: CheckConsent
    ) -> tuple[Verdict, PastCustomers, RecordId | None]:
        """Say what a check would have answered, of whom, and where in the log.

        Raises as `PastCustomers.view`.
        """
        prefix = await self.prefix(as_of)
        named = [RecordId(command.record_id)] if command.record_id else []
        past = await fold_customers(
            self._streams,
            prefix,
            record_ids=named,
            identifiers=[identifier.key for identifier in command.identifiers],
        )
        rules = read_rules(past.tables)
        purpose = rules.purpose(command.purpose)
        held = (past.holder(identifier.key) for identifier in command.identifiers)
        members: set[RecordId] = set()
        for record_id in (*named, *(holder for holder in held if holder)):
            view = past.view(record_id, purpose.name)  # parked and erased ones end it here
            if view is None:
                raise NotFound("UNKNOWN_CUSTOMER", "nobody was known by this id")
            members |= {*view.members}
        standings = customer_standings(past.tables, rules, members, at=prefix.clock)
        judged = next(place.standing for place in standings if place.purpose == purpose)
        verdict = verdict_of(
            purpose.name, judged, rules_version=rules.version, decided_at=prefix.clock
        )
        return verdict, past, customers.root(past.tables, min(members)) if members else None


def view_of(past: PastCustomers, named: Named, purpose: str) -> CustomerView | None:
    """See one of those who were folded. Raises as `PastCustomers.view`."""
    rules_for(past.tables, purpose)
    record_id = past.holder(named.key) if isinstance(named, Identifier) else named
    return None if record_id is None else past.view(record_id, purpose)


def _seen(past: PastCustomers, named: Named, purpose: str) -> CustomerView:
    view = view_of(past, named, purpose)
    if view is None:
        raise NotFound("UNKNOWN_CUSTOMER", "nobody was known by this id or identifier")
    return view


def _whom(named: Collection[Named]) -> _Whom:
    return {
        "record_ids": {person for person in named if isinstance(person, str)},
        "identifiers": {person.key for person in named if isinstance(person, Identifier)},
    }


def read_as_of(message: common_pb2.AsOf) -> AsOf:
    """Read which past state is meant. Raises `Invalid`."""
    known_by = message.WhichOneof("known_by")
    return AsOf(
        revision=message.revision if known_by == "revision" else None,
        known=read_time(message.known) if known_by == "known" else None,
        happened=read_time(message.happened) if message.HasField("happened") else None,
    )
