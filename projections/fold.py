"""Every read model applied to the log in order: the one fold of projector and replay.

A batch of whole appends is one transaction: rows, digest, checkpoint and D(r) together. An event
that cannot be decoded, or on which a model fails, parks its customer; on the workspace or the clock
it raises `PoisonEvent`. Faults of the disk pass through.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache, partial
from typing import Protocol

from domain.event import Event, Recorded
from domain.ids import RecordId, StreamKind
from eventlog.envelope import extend_log_digest
from eventlog.errors import LogDamaged, LogError
from eventlog.port import Entry, LogReader
from projections import (
    clock,
    consent_history,
    consents,
    contexts,
    counts,
    customers,
    erasures,
    forgetting,
    heads,
    identifiers,
    parking,
    preferences,
    profile,
    rules,
    tallies,
    timeline,
)
from projections.errors import CheckpointMoved, FoldFailed, PoisonEvent, ReadSideError
from projections.facts_session import FactsSession
from projections.row_keys import RowKeys
from projections.rows import OpenRows, RowCodec, Sealed, SealedRows, TaggedRows
from projections.segments import (
    bitmaps,
    candidates,
    definitions,
    journal,
    membership,
    timers,
    trait_indexes,
)
from projections.segments.session import Session
from projections.tables import Checkpoint, Tables, Transaction

Begin = Callable[[Tables], FactsSession]
"""Begins what goes along with a fold: memberships too, or facts alone."""

MODELS = (
    customers,
    erasures,
    identifiers,
    profile,
    contexts,
    preferences,
    consents,
    consent_history,
    tallies,
    rules,
    definitions,
    counts,
)
TABLES: tuple[str, ...] = (
    *(table for model in MODELS for table in model.TABLES),
    *timeline.TABLES,  # `tallies` puts what it counts
    *parking.TABLES,
    *(table for part in (clock, timers, membership) for table in part.TABLES),
    *heads.TABLES,
)
SEALED: Mapping[str, Sealed] = {
    table: sealed
    for model in (profile, contexts, preferences, consent_history, timeline, tallies)
    for table, sealed in model.SEALED.items()
}
"""What is personal in each table; what is not here stays open."""

LOCAL_TABLES: tuple[str, ...] = tuple(
    table
    for part in (bitmaps, candidates, trait_indexes, customers, journal)
    for table in part.LOCAL_TABLES
)
"""What each replica makes for itself; in no digest."""

SCHEMA_VERSION = 17
"""Raised whenever a fold or a row changes: rows of another version are made again from the log."""

_NOT_THE_EVENTS_FAULT = (ReadSideError, LogError, OSError, MemoryError)


class Times(Protocol):
    """What the log's clock shows, however little of the log is at hand."""

    def after(self, revision: int) -> datetime:
        """Say what it shows after an event."""

    def reached(self, instant: int) -> int:
        """Say by which event it came to an instant, in microseconds since the year 1."""


class Rows(Protocol):
    """What can be folded into: `store.WritableStore` or `memory.MemoryTables`."""

    @property
    def codec(self) -> RowCodec:
        """How its rows are stored."""

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that the rows stand at."""

    def begin(self) -> Transaction:
        """Start the one transaction."""


def row_codec(log: LogReader, *, index_key: bytes | None = None) -> RowCodec:
    """Give the way to store rows made from a log: sealed under its keys, if it has any.

    Without the key of its trait indexes none are kept or read.
    """
    if log.keys is None:
        return OpenRows()
    codec = SealedRows(SEALED, RowKeys(log.keys), index_key=index_key)
    log.keys.listen(codec.forget)  # after its keys were told
    return codec


def memory_codec(log: LogReader) -> RowCodec:
    """Give the way to hold rows in memory, with the digests of those that `row_codec` stores."""
    if log.keys is None:
        return OpenRows()
    codec = TaggedRows(SEALED, RowKeys(log.keys))
    log.keys.listen(codec.forget)
    return codec


def fold_batch(rows: Rows, entries: Sequence[Entry]) -> Checkpoint:
    """Fold entries that continue the checkpoint, and end with an append; give the next one.

    A failing event costs further tries of its append alone, after all before it was stored.
    """
    try:
        return _fold_once(rows, entries, {})
    except FoldFailed:
        for append in _appends(entries):
            _parking_faults(partial(_fold_once, rows, append), len(append))
        return rows.checkpoint


def fold_excerpt(rows: Rows, entries: Sequence[Entry], begin: Begin = Session) -> Checkpoint:
    """Fold events of some streams in order, whatever lies between them; D(r) stays as it was.

    Begun with `FactsSession` it judges nobody, and the rows are the same but for memberships.
    """
    fold = partial(_fold_excerpt_once, rows, entries, begin=begin)
    return _parking_faults(fold, len(entries))


def fold_share(rows: Rows, entries: Sequence[Entry], times: Times) -> None:
    """Fold what a log says of some customers and of the workspace, in order, decisions whole.

    Of what it says of others only the times are known, to which that moved the clock. Rows that
    hold something of everybody hold only what these entries brought.
    """
    until = times.after(entries[-1].revision)
    begin = partial(Session, reached=times.reached, until=until)
    fold = partial(_fold_excerpt_once, rows, entries, begin=begin, times=times)
    _parking_faults(fold, len(entries))


def fold_part(
    tables: Tables,
    entries: Sequence[Entry],
    times: Times,
    *,
    until: int,
    concerns: Callable[[RecordId], bool],
) -> None:
    """Fold what a batch that ends with a revision says of some customers, whom it `concerns`.

    The rows that there are of everybody else stand by as they were. Raises `FoldFailed`.
    """
    end = times.after(until)
    session = Session(tables, times.reached, until=end, concerns=concerns)
    _fold_entries(tables, entries, session, faults={}, times=times, until=until)


def let_time_pass(
    rows: Rows,
    to: datetime,
    begin: Begin = Session,
    *,
    revision: int | None = None,
) -> None:
    """Move the clock on with nothing else happening; only replays do, whose rows are their own.

    The rows stand at `revision` then, up to which the log says nothing more that they could hold.
    """
    with transaction_of(rows) as transaction:
        session = begin(transaction)
        session.pass_time(to, transaction.checkpoint.revision)
        session.finish()
        stands = transaction.checkpoint
        transaction.commit(
            revision=revision or stands.revision,
            event_digest=stands.event_digest,
            log_digest=stands.log_digest,
        )


def _parking_faults(fold: Callable[[Mapping[int, str]], Checkpoint], faults_max: int) -> Checkpoint:
    """Fold again, with each event parked that failed, until none fails."""
    faults: dict[int, str] = {}
    for _ in range(faults_max):
        try:
            return fold(faults)
        except FoldFailed as failed:
            faults[failed.revision] = failed.fault
    return fold(faults)


def _fold_once(rows: Rows, entries: Sequence[Entry], faults: Mapping[int, str]) -> Checkpoint:
    with transaction_of(rows) as transaction:
        log_digest = extend(transaction.checkpoint, entries)
        _fold_entries(transaction, entries, Session(transaction), faults=faults)
        last = entries[-1]
        return transaction.commit(
            revision=last.revision, event_digest=last.digest, log_digest=log_digest
        )


def _fold_excerpt_once(
    rows: Rows,
    entries: Sequence[Entry],
    faults: Mapping[int, str],
    *,
    begin: Begin,
    times: Times | None = None,
) -> Checkpoint:
    with transaction_of(rows) as transaction:
        _fold_entries(transaction, entries, begin(transaction), faults=faults, times=times)
        last, log_digest = entries[-1], transaction.checkpoint.log_digest
        return transaction.commit(
            revision=last.revision, event_digest=last.digest, log_digest=log_digest
        )


@contextmanager
def transaction_of(rows: Rows) -> Iterator[Transaction]:
    """Start a transaction, and abort it where anything fails before it was committed."""
    transaction = rows.begin()
    try:
        with collector_at_rest():
            yield transaction
    except BaseException:
        transaction.abort()
        raise


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Look for no garbage meanwhile: all that a transaction makes lives until its end.

    To look through it again and again takes a tenth of the time. Whoever had it off keeps it off.
    """
    was_at_work = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_at_work:
            gc.enable()


def _fold_entries(
    tables: Tables,
    entries: Sequence[Entry],
    session: FactsSession,
    *,
    faults: Mapping[int, str],
    times: Times | None = None,
    until: int | None = None,
) -> None:
    """Fold entries; with `times`, of a log of which only these are at hand, and up to `until`."""
    session.need_keys(entries)
    for entry in entries:
        heads.note(tables, entry)
        _fold_entry(tables, session, entry, faults, times)
        if times is None:  # of a share, it tells nothing of others
            session.passed(entry.revision)
    try:
        if times is not None and until is not None:
            session.end_append()
            session.pass_time(times.after(until), until)
        session.finish()
    except _NOT_THE_EVENTS_FAULT:
        raise
    except Exception as error:  # whatever a fold raises parks, and stops nobody else
        raise _fold_failed(session.revision, error) from error


def _fold_entry(
    tables: Tables,
    session: FactsSession,
    entry: Entry,
    faults: Mapping[int, str],
    times: Times | None,
) -> None:
    event = entry.event
    fault = faults.get(entry.revision) if event else entry.fault or "unreadable"
    blamed = session.revision  # what a decision touched fails on its last event
    try:
        if times is not None and entry.revision > session.revision + 1:
            session.end_append()  # something of others came between
        if event is not None:
            session.settle(event)
            blamed = entry.revision
            session.advance(event)
        if times is not None:
            session.pass_time(times.after(entry.revision), entry.revision)
        if event is None or fault is not None:
            _park(tables, entry, fault or "unreadable")
            session.hold_back(entry)
        elif session.is_anybody_parked and parking.is_held_back(tables, event):
            session.hold_back(entry)
        else:
            _apply(tables, event)
            session.after(event)
        if entry.ends_append:  # also before what cannot be read, which names no decision
            blamed = session.revision
            session.end_append()
    except _NOT_THE_EVENTS_FAULT:
        raise
    except Exception as error:  # as above
        raise _fold_failed(blamed, error) from error


def _fold_failed(revision: int, error: Exception) -> FoldFailed:
    # The class alone: the text of an error may hold what the person wrote.
    return FoldFailed(revision, f"fold: {type(error).__name__}")


def extend(checkpoint: Checkpoint, entries: Sequence[Entry]) -> bytes:
    """Give D(r) after these entries; they must follow each other and the checkpoint."""
    revision, log_digest = checkpoint.revision, checkpoint.log_digest
    if entries[0].revision <= revision:
        raise CheckpointMoved(f"the rows stand at {revision}, before {entries[0].revision} was due")
    for entry in entries:
        revision += 1
        if entry.revision != revision:
            raise LogDamaged(f"revision {entry.revision} stands where {revision} should")
        log_digest = extend_log_digest(log_digest, revision, entry.digest)
    return log_digest


def _appends(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    append: list[Entry] = []
    for entry in entries:
        append.append(entry)
        if entry.ends_append:
            yield append
            append = []
    if append:
        yield append


def _park(tables: Tables, entry: Entry, fault: str) -> None:
    if entry.stream.kind in (StreamKind.WORKSPACE, StreamKind.CLOCK):
        raise PoisonEvent(entry.revision, fault)
    parking.park(tables, entry.stream, revision=entry.revision, reason=fault)


def _apply(tables: Tables, event: Recorded[Event]) -> None:
    for apply in _hearing(type(event.body)):
        apply(tables, event)


@cache
def _hearing(body: type[Event]) -> tuple[Callable[[Tables, Recorded[Event]], None], ...]:
    """Name who folds events of a class, in order; there are as many as the registry has."""
    return tuple(m.apply for m in (forgetting, *MODELS) if issubclass(body, m.HEARS))
