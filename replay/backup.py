"""Backups of a log: into an archive, onward from where that ends, and back onto a new server.

Events stay sealed, and keys are no part of it. The log's shape and the archive's own ends are
compared first, so a log that lost events, or another one, never goes on in an archive of this one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from itertools import islice

from eventlog.codec import EventMapper
from eventlog.envelope import event_digest
from eventlog.errors import LogDamaged
from eventlog.incoming import Incoming, Raw, ends_append
from eventlog.jetstream import JetStreamEventLog
from eventlog.restoring import Restoration
from eventlog.subjects import Subjects
from replay.archive import CHUNK_BYTES_MAX, Archive, ArchiveFault, Chunk, Mark
from replay.chain import ChainCheck
from replay.fold import READ_EVENTS_MAX, Progress, silent


async def back_up(
    log: JetStreamEventLog,
    archive: Archive,
    *,
    chunk_bytes_max: int = CHUNK_BYTES_MAX,
    progress: Progress = silent,
) -> Mark:
    """Add to an archive what the log holds beyond it, up to the last whole append as of now.

    Raises `ArchiveFault`, `LogDamaged`, `LogUnavailable` and `OSError`; what is written by then
    stays, and the next call goes on after it.
    """
    end = archive.end()
    await _require_same_log(log, archive, end)
    writer = archive.writer(end)
    try:
        reading = log.read_stored(after_revision=end.revision, batch_events_max=READ_EVENTS_MAX)
        unfinished: list[Raw] = []
        async with aclosing(reading) as batches:
            async for batch in batches:
                whole, unfinished = _whole_appends([*unfinished, *batch])
                writer.add(whole)
                progress(writer.mark.revision)
                if writer.size >= chunk_bytes_max:
                    writer = archive.writer(writer.finish())
        return writer.finish()
    except BaseException:
        writer.drop()
        raise


async def restore(
    archive: Archive,
    restoration: Restoration,
    log: JetStreamEventLog,
    *,
    replicas: int = 1,
    once_checked: Callable[[], Awaitable[None]] | None = None,
    progress: Progress = silent,
) -> Mark:
    """Fill the empty log of a server from an archive, and prove that it is the same log.

    `once_checked` is done before the first event is there, once the archive is known to be whole
    and the log to be empty. A restore that was interrupted is taken up where it ended. Until all is
    proved, the stream says that it is being restored, and nothing starts on it. Raises
    `RestoreRefused`, `ArchiveFault` and `LogError`.
    """
    end = archive.require_whole()
    if not end.revision:
        raise ArchiveFault(f"{archive.folder} holds no backup")
    begun = await restoration.begin(end.revision, replicas=replicas)
    if once_checked is not None:
        await once_checked()
    for chunk in archive.chunks():
        if chunk.last_revision > begun:
            await _send(archive, chunk, begun, restoration, progress=progress)
    await _require_restored(archive, log, progress=progress)
    await restoration.finish()
    return end


def check_archive(archive: Archive, *, progress: Progress = silent) -> Mark:
    """Prove an archive by itself: bytes, order, digests, versions and chains.

    Raises `ArchiveFault` or `LogDamaged`.
    """
    incoming = Incoming(Subjects(archive.workspace), EventMapper())
    chain = ChainCheck()
    mark = Mark()
    events = archive.checked_events()
    while run := list(islice(events, READ_EVENTS_MAX)):
        chain.check(
            [incoming.entry(e.subject, e.revision, headers=e.headers, body=e.body) for e, _ in run]
        )
        mark = run[-1][1]
        progress(mark.revision)
    return mark


async def _require_same_log(log: JetStreamEventLog, archive: Archive, end: Mark) -> None:
    """Compare the shape, and the last event of every chunk."""
    shape = await log.shape()
    if shape.faults:
        raise LogDamaged(f"the log's shape does not hold: {', '.join(shape.faults)}")
    if shape.last_revision < end.revision:
        raise ArchiveFault(
            f"the log ends at revision {shape.last_revision}, the backup at {end.revision}: "
            "it has lost events, or is another log"
        )
    for chunk in archive.chunks():
        last = archive.end_of(chunk)
        found = await log.stored(last.revision)
        if found is None or _digest(found) != last.event_digest:
            raise ArchiveFault(f"revision {last.revision} of the log is not that of the backup")


async def _send(
    archive: Archive, chunk: Chunk, begun: int, restoration: Restoration, *, progress: Progress
) -> None:
    for append in _appends(archive.events(chunk)):
        if append[-1].revision > begun:
            await restoration.write(append)
            progress(append[-1].revision)
    await restoration.flush()


async def _require_restored(
    archive: Archive, log: JetStreamEventLog, *, progress: Progress
) -> None:
    """Read everything back, and compare event by event, grouping included."""
    events = archive.checked_events()
    reading = log.read_stored(batch_events_max=READ_EVENTS_MAX)
    async with aclosing(reading) as batches:
        async for batch in batches:
            for found in batch:
                wanted = next(events, None)
                if wanted is None or not _is_same(found, *wanted):
                    raise LogDamaged(f"revision {found.revision} is not that of the backup")
            progress(batch[-1].revision)
    missing = next(events, None)
    if missing is not None:
        raise LogDamaged(f"revision {missing[0].revision} of the backup is not in the log")


def _is_same(found: Raw, wanted: Raw, mark: Mark) -> bool:
    return (
        found.revision == mark.revision
        and _digest(found) == mark.event_digest
        and ends_append(found.headers) == ends_append(wanted.headers)
    )


def _digest(event: Raw) -> bytes:
    return event_digest(event.subject, event.headers, event.body)


def _whole_appends(events: list[Raw]) -> tuple[list[Raw], list[Raw]]:
    """Part events after the last one that ends an append: a reader may see half of a batch."""
    end = len(events)
    while end and not ends_append(events[end - 1].headers):
        end -= 1
    return events[:end], events[end:]


def _appends(events: Iterator[Raw]) -> Iterator[list[Raw]]:
    append: list[Raw] = []
    for event in events:
        append.append(event)
        if ends_append(event.headers):
            yield append
            append = []
    if append:
        raise ArchiveFault(f"revision {append[-1].revision} does not end its append")
