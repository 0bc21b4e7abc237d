"""What `select_events` and `select_notifications` choose among the events of a stream.

Both kinds of recorder, of an application and of a workspace, read through these two functions; how
an entry becomes a stored event or a notification is theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from eventlog.errors import LogDamaged
from eventlog.recorder.history import PAGE_EVENTS_MAX, History, RawEntry

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Versions:
    """Which versions of a subject are wanted, and how many, from which end."""

    gt: int | None
    lte: int | None
    desc: bool
    limit: int | None

    def __contains__(self, version: int) -> bool:
        is_after = self.gt is None or version > self.gt
        return is_after and (self.lte is None or version <= self.lte)


async def select_gapless(
    history: History, subject: str, wanted: Versions, *, first_versions: Collection[int]
) -> list[RawEntry]:
    """Choose among versions that follow each other; `LogDamaged` where they do not."""
    head = await history.head(subject)
    if head is None or wanted.limit == 0:
        return []
    last = head.readable_envelope.version
    if wanted.desc and wanted.limit == 1 and last in wanted:
        return [head]
    if wanted.gt is not None and last <= wanted.gt:
        return []
    kept: deque[RawEntry] = deque(maxlen=wanted.limit if wanted.desc else None)
    expected: Collection[int] = first_versions
    pages = history.of_subject(subject, last_revision=head.revision)
    async with aclosing(pages):
        async for entries in pages:
            for entry in entries:
                if entry.version not in expected:
                    raise LogDamaged(f"revision {entry.revision} has version {entry.version}")
                expected = (entry.version + 1,)
                if entry.version in wanted:
                    kept.append(entry)
            if _has_all(kept, wanted, read_to=entries[-1].version):
                break
    return _in_order(kept, wanted)


async def select_with_gaps(
    history: History, subject: str, wanted: Versions, *, highest: Callable[[RawEntry | None], int]
) -> list[RawEntry]:
    """Choose among versions that were recorded in any order, and of which some are not there."""
    head = await history.head(subject)
    if head is None or wanted.limit == 0:
        return []
    is_latest = head.version == highest(head)
    if wanted.desc and wanted.limit == 1 and is_latest and head.version in wanted:
        return [head]
    pages = history.of_subject(subject, last_revision=head.revision)
    found = [entry async for entries in pages for entry in entries if entry.version in wanted]
    return _in_order(sorted(found, key=lambda entry: entry.version), wanted)


async def select_range(
    history: History,
    convert: Callable[[RawEntry], T],
    *,
    first: int,
    last: int | None,
    limit: int,
    is_wanted: Callable[[T], bool],
) -> list[T]:
    """Choose the first so many of a range of revisions, up to the stream's end as of now."""
    end = await history.last_revision()
    end = end if last is None else min(end, last)
    found: list[T] = []
    if limit < 1 or first > end:
        return found
    pages = history.of_range(first, end, page_events_max=min(max(limit, 1), PAGE_EVENTS_MAX))
    async with aclosing(pages):
        async for entries in pages:
            found += filter(is_wanted, map(convert, entries))
            if len(found) >= limit:
                break
    return found[:limit]


def _has_all(kept: deque[RawEntry], wanted: Versions, *, read_to: int) -> bool:
    if wanted.lte is not None and read_to >= wanted.lte:
        return True
    return not wanted.desc and wanted.limit is not None and len(kept) >= wanted.limit


def _in_order(entries: deque[RawEntry] | list[RawEntry], wanted: Versions) -> list[RawEntry]:
    ordered = list(reversed(entries)) if wanted.desc else list(entries)
    return ordered if wanted.limit is None else ordered[: wanted.limit]
