"""The recorder of an application's own log: aggregates, and the sequence of all their events."""

from __future__ import annotations

from collections.abc import Sequence

from eventsourcing.persistence import Notification, StoredEvent

from eventlog.recorder.aggregate_recorder import JetStreamAggregateRecorder
from eventlog.recorder.history import RawEntry
from eventlog.recorder.sequence_recorder import SequenceRecorder


class JetStreamApplicationRecorder(JetStreamAggregateRecorder, SequenceRecorder):
    """Insert, select and follow the events of one application."""

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: object
    ) -> Sequence[int] | None:
        """Store events together or not at all; give their notification ids."""
        return self._insert(stored_events, **kwargs)

    def _notification(self, entry: RawEntry) -> Notification:
        return self._ids.notification(entry)
