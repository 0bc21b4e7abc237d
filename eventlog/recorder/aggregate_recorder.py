"""The recorder of an application's aggregates: of their events, or of their snapshots.

The factory makes it; `application_recorder.py` adds the sequence of the whole application.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from eventsourcing.persistence import AggregateRecorder, StoredEvent

from eventlog.recorder.errors import TrackingNotOffered
from eventlog.recorder.foreign_stream import ForeignSubjects, OriginatorIds
from eventlog.recorder.history import History, RawEntry
from eventlog.recorder.selection import Versions, select_gapless, select_with_gaps
from eventlog.recorder.session import Session
from eventlog.recorder.writer import FIRST_VERSIONS, Writer, highest_version
from eventlog.stream_config import ensure_stream
from eventlog.subjects import Subjects


class JetStreamAggregateRecorder(AggregateRecorder):
    """Insert and select the events of single aggregates."""

    def __init__(
        self,
        session: Session,
        subjects: ForeignSubjects,
        ids: OriginatorIds,
        *,
        allows_gaps: bool,
        replicas: int = 1,
    ) -> None:
        """Create the stream if it is not there; refuse one that could lose events."""
        self._session = session
        self._subjects: Subjects = subjects
        self._ids = ids
        self._allows_gaps = allows_gaps
        self._history = History(session.api, subjects)
        self._writer = Writer(session.api, subjects, ids, allows_gaps=allows_gaps)
        session.call(lambda: ensure_stream(session.api, subjects, replicas=replicas))

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: object
    ) -> Sequence[int] | None:
        """Store events together or not at all."""
        self._insert(stored_events, **kwargs)
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Read an aggregate's events by version, as the leader holds them now."""
        subject = self._subjects.subject_of(self._ids.stream_of(originator_id))
        wanted = Versions(gt, lte, desc, limit)
        entries = self._session.call(lambda: self._select(subject, wanted))
        return [self._ids.stored_event(entry) for entry in entries]

    def _insert(self, stored_events: Sequence[StoredEvent], **kwargs: object) -> list[int]:
        if kwargs.get("tracking") is not None:
            raise TrackingNotOffered
        seconds = self._session.timeout_seconds
        return self._session.settle(
            lambda: self._writer.insert(stored_events, timeout_seconds=seconds)
        )

    async def _select(self, subject: str, wanted: Versions) -> list[RawEntry]:
        if self._allows_gaps:
            return await select_with_gaps(self._history, subject, wanted, highest=highest_version)
        return await select_gapless(self._history, subject, wanted, first_versions=FIRST_VERSIONS)
