"""What `koseki replay`, `show`, `diff` and `explain` do: with a log that can only be read.

Each reaches the server as `koseki backup` does: that of a running installation, or one of its own.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any

from actors.clock import SystemClock
from actors.intake.identifiers import IdentifierNormaliser
from actors.log_clock import LogClock
from app.asking_to_erase import read_identifier
from app.bootstrap import open_log
from app.reaching import reached
from app.rehearsing import rules_of
from app.scratch import scratch_for
from app.settings import Settings, read_pepper
from app.turning import read_time
from domain.errors import Invalid
from domain.ids import MergeId, RecordId
from domain.rules import AUDIT
from eventlog.jetstream import JetStreamEventLog
from eventlog.port import LogReader
from projections.clock import read_clock
from projections.counts import read_counts
from projections.errors import ReadSideError
from projections.fold import let_time_pass
from projections.instants import time_of
from projections.row_keys import in_thread
from projections.segments.explaining import Explanation, explain_membership
from projections.segments.membership import MEMBERSHIPS
from projections.store import Store
from projections.tables import ReadTables
from projections.views import CustomerView
from replay.as_of import AsOf, Prefix, find_prefix
from replay.customer import PastMembers, fold_members
from replay.diff import Change, diff_customer
from replay.explain import event_at, explain_change, explain_merge, since_in_log
from replay.fold import Progress, fold_into, silent
from replay.person import export_person
from services.client import Key
from services.requests import read_record_id


@dataclass(frozen=True, slots=True)
class Past:
    """A log to read, and where in it its read side, if there is one, says to look."""

    log: LogReader
    marks: Store | None
    settings: Settings
    clock: LogClock

    async def person(
        self, prefix: Prefix, named: RecordId | Key
    ) -> tuple[PastMembers, RecordId | None]:
        """Fold who has this id or held this identifier; None for nobody.

        Raises `Invalid` and `CustomerParked`.
        """
        if isinstance(named, str):
            return await fold_members(self.log, prefix, record_ids=[named]), named
        rules = await rules_of(self.log)
        normaliser = IdentifierNormaliser(read_pepper(self.settings), rules=lambda: rules)
        key = normaliser.sought(*named, {}).key
        found = await fold_members(self.log, prefix, identifiers=[key])
        return found, found.holder(key)

    async def since(self, past: PastMembers, why: Explanation) -> tuple[int, int] | None:
        """Say at which revision and instant of the log a membership began or ended."""
        if why.since_revision is None or why.since_at is None:
            return None
        since = {why.segment: (why.since_revision, why.since_at)}
        find = partial(since_in_log, self.log, past, since=since)
        if self.marks is None:
            return (await find(now=self.clock.recorded_now()))[why.segment]
        with self.marks.snapshot() as marks:
            return (await find(now=self._now(marks), marks=marks))[why.segment]

    async def prefix(self, as_of: AsOf) -> Prefix:
        """Find where a past state ends."""
        if self.marks is None:
            return await find_prefix(self.log, as_of, now=self.clock.recorded_now())
        with self.marks.snapshot() as marks:
            return await find_prefix(self.log, as_of, now=self._now(marks), marks=marks)

    def _now(self, marks: ReadTables) -> datetime:
        return max(self.clock.recorded_now(), read_clock(marks))  # another host's may be ahead


@asynccontextmanager
async def past_of(settings: Settings) -> AsyncIterator[Past]:
    """Open a log to read. Raises `StartFailed`, `NotRunning`, `LogError` and `OSError`."""
    async with reached(settings, role="reader") as (found, connection):
        log: JetStreamEventLog = await open_log(connection, found)
        try:
            marks: Store | None = Store.open_reader(found.read_side_folder)
        except ReadSideError:
            marks = None
        try:
            clock = LogClock(log, SystemClock())
            await clock.refresh()
            yield Past(log, marks, found, clock)
        finally:
            if marks is not None:
                marks.close()
            await log.close()


def read_person(customer: str, identifier: str) -> RecordId | Key:
    """Read who is meant, by id or `namespace:value`. Raises `Invalid`, also for neither or both."""
    if bool(customer) == bool(identifier):
        raise Invalid("MISSING_IDENTIFIER", "name a customer's id or an identifier")
    return read_record_id(customer) if customer else read_identifier(identifier)


def read_moment(text: str | None, happened: str | None = None) -> AsOf:
    """Read a revision or a time known, and a time by which it had happened."""
    by = None if happened is None else read_time(happened)
    if text is None:
        return AsOf(happened=by)
    if text.isdigit():
        return AsOf(revision=int(text), happened=by)
    return AsOf(known=read_time(text), happened=by)


async def replay_log(
    settings: Settings, until: str | None, *, progress: Progress = silent
) -> dict[str, Any]:
    """Fold the whole log up to a past state; give its figures, digests and the rate."""
    async with past_of(settings) as past:
        prefix = await past.prefix(read_moment(until))
        begun = time.monotonic()
        with scratch_for(past.log, prefix.revision) as rows:
            await fold_into(past.log, rows, through_revision=prefix.revision, progress=progress)
            seconds = time.monotonic() - begun
            folded = rows.checkpoint
            await in_thread(partial(let_time_pass, rows, prefix.clock), rows.codec)
            with rows.snapshot() as tables:
                counts, memberships = read_counts(tables), _memberships(tables)
    return {
        "revision": folded.revision,
        "clock": prefix.clock.isoformat(),
        **asdict(counts),
        "customers": counts.customers,
        "memberships": memberships,
        "log_digest": folded.log_digest.hex(),
        "rows_digest": folded.rows_digest.hex(),
        "seconds": round(seconds, 3),
        "events_per_second": round(folded.revision / seconds) if seconds else 0,
    }


def _memberships(tables: ReadTables) -> dict[str, int]:
    """Count who belongs to each segment."""
    sizes: dict[str, int] = {}
    for _, row in tables.scan(MEMBERSHIPS, b""):
        for name in row["in"]:
            if not name.startswith("~"):
                sizes[name] = sizes.get(name, 0) + 1
    return dict(sorted(sizes.items()))


async def show_customer(
    settings: Settings,
    customer: str = "",
    *,
    identifier: str = "",
    as_of: str | None,
    happened: str | None = None,
    purpose: str = AUDIT,
) -> dict[str, Any] | None:
    """Show a customer as it was, by id or `namespace:value`; None for nobody.

    Raises `Invalid`, and as `PastCustomers.view`.
    """
    named, moment = read_person(customer, identifier), read_moment(as_of, happened)
    async with past_of(settings) as past:
        prefix = await past.prefix(moment)
        found, record_id = await past.person(prefix, named)
        view = None if record_id is None else found.view(record_id, purpose)
        return None if view is None else _shown(view, found)


async def person_exported(
    settings: Settings, customer: str, *, as_of: str | None
) -> dict[str, Any] | None:
    """Give everything about one person; None for nobody.

    Raises `Invalid`, and as `PastCustomers.view`.
    """
    record_id, moment = read_record_id(customer), read_moment(as_of)
    async with past_of(settings) as past:
        prefix = await past.prefix(moment)
        return await export_person(past.log, prefix, record_id)


def _shown(view: CustomerView, found: PastMembers) -> dict[str, Any]:
    shown = {k: v for k, v in asdict(view).items() if k != "revision"}
    is_seen = view.purpose == AUDIT
    return {
        "revision": found.prefix.revision,
        "clock": found.prefix.clock.isoformat(),
        **shown,
        # A segment serves purposes of its own: whole lists of them are an auditor's.
        **({"segments": found.segments(view.customer_id)} if is_seen else {}),
    }


async def compare_customer(
    settings: Settings, customer: str, *, earlier: str, later: str | None
) -> list[dict[str, Any]]:
    """Say what changed for a customer between two past states. Raises `Invalid`."""
    record_id, moments = read_record_id(customer), (read_moment(earlier), read_moment(later))
    async with past_of(settings) as past:
        before, after = [await past.prefix(moment) for moment in moments]
        changes = await diff_customer(past.log, record_id, earlier=before, later=after)
    return [_change(change) for change in changes]


def _change(change: Change) -> dict[str, Any]:
    return {
        "field": change.name,
        "before": change.before,
        "after": change.after,
        "steps": [
            {
                "revision": step.revision,
                "by": "event" if step.events else "time",
                "types": step.types,
                "event_ids": step.event_ids,
                "auth_id": step.auth_id,
                "value": step.value,
            }
            for step in change.steps
        ],
    }


async def merge_explained(
    settings: Settings, merge_id: str, *, progress: Progress = silent
) -> dict[str, Any] | None:
    """Say why a merge was; None where there was none such."""
    async with past_of(settings) as past:
        found = await explain_merge(past.log, MergeId(merge_id), progress=progress)
    return None if found is None else asdict(found)


async def membership_explained(
    settings: Settings,
    segment: str,
    customer: str = "",
    *,
    identifier: str = "",
    as_of: str | None,
) -> dict[str, Any] | None:
    """Say why a customer belonged to a segment or did not, since when, and until when."""
    named, moment = read_person(customer, identifier), read_moment(as_of)
    async with past_of(settings) as past:
        prefix = await past.prefix(moment)
        found, record_id = await past.person(prefix, named)
        if record_id is None:
            return None
        found.view(record_id, AUDIT)  # parked and erased ones end it here
        why = explain_membership(found.tables, segment, record_id)
        return None if why is None else await _membership(past, found, why)


def _time_text(instant: int | None) -> str | None:
    return None if instant is None else time_of(instant).isoformat()


async def _membership(past: Past, found: PastMembers, why: Explanation) -> dict[str, Any]:
    shown: dict[str, Any] = asdict(why)
    since = await past.since(found, why)
    revision, at = (None, None) if since is None else since
    shown |= {
        "since_revision": revision,
        "since_at": _time_text(at),
        "sure_until": _time_text(why.sure_until),
    }
    shown["readings"] = [
        {"call": str(read.call), "value": read.value, "sure_until": _time_text(read.due)}
        for read in why.readings
    ]
    if revision is not None and why.since_revision is not None:
        folded = why.since_revision
        change = explain_change(found.tables, why.segment, why.customer, revision=folded)
        shown["since_cause"] = None if change is None else change.cause
        event = await event_at(past.log, revision)
        if event is not None:
            shown["since_event_type"], shown["since_event_id"] = event
    return shown
