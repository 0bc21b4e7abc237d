"""Read Koseki's customers with the `eventsourcing` library's own tools: nothing is written.

A projection learns which records there are, a repository folds them. Run it beside `koseki up`;
`koseki status` says where NATS is, `eventlog/recorder/__init__.py` lists the environment:

    KOSEKI_NATS_URL=nats://127.0.0.1:4222 KOSEKI_WORKSPACE=shop python examples/read_customers.py
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, cast
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import Tracking
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner

from domain.ids import RecordId, StreamKind
from domain.record import Record, fold, unborn
from eventlog.recorder.workspace_recorder import KosekiEvent

CATCH_UP_SECONDS_MAX = 600.0


class Customers(Application[UUID]):
    """Koseki's log as an application of the library; `KOSEKI_WORKSPACE` says which."""

    env: ClassVar[dict[str, str]] = {"PERSISTENCE_MODULE": "eventlog.recorder.factory"}

    def record(self, record_id: UUID) -> Record:
        """Fold one record from its events."""
        projector: Any = _fold_events  # Any: a Record is folded, and knows no aggregate of theirs
        return cast(Record, self.repository.get(record_id, projector_func=projector))

    def customer(self, root: Record) -> list[Record]:
        """Give all records of the customer whose root this is."""
        return [root if key == root.id else self.record(UUID(key)) for key in root.component]


class Records(POPOTrackingRecorder):
    """A view in memory: how many events each record has."""

    def __init__(self) -> None:
        super().__init__()
        self.events: dict[UUID, int] = {}

    def count(self, record_id: UUID, tracking: Tracking) -> None:
        """Count an event and track it, together or not at all."""
        with self._database_lock:
            self._assert_tracking_uniqueness(tracking)
            self._insert_tracking(tracking)
            self.events[record_id] = self.events.get(record_id, 0) + 1

    def counts(self) -> dict[UUID, int]:
        """Give the number of events of every record so far."""
        with self._database_lock:
            return dict(self.events)


class CountRecords(Projection[Records]):
    """Count the events of every record."""

    name = "records"

    def process_event(self, domain_event: KosekiEvent, tracking: Tracking) -> None:
        """Count it, if it lies on a record; else only track it."""
        if domain_event.recorded.stream.kind is StreamKind.RECORD:
            self.view.count(domain_event.originator_id, tracking)
        else:
            self.view.insert_tracking(tracking)


def read_customers(env: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yield a line for each customer of the workspace; names and numbers, nothing personal."""
    runner = ProjectionRunner(
        application_class=Customers,
        projection_class=CountRecords,
        view_class=Records,
        env={"RECORDS_PERSISTENCE_MODULE": "eventsourcing.popo", **(env or {})},
    )
    with runner:
        last = runner.app.recorder.max_notification_id()
        runner.wait(last, timeout=CATCH_UP_SECONDS_MAX)
        events = runner.view.counts()
        for record_id in events:
            root = runner.app.record(record_id)
            if root.component:
                records = runner.app.customer(root)
                count = sum(events.get(UUID(record.id), 0) for record in records)
                yield _line(records, events=count)


def _line(records: list[Record], *, events: int) -> str:
    identifiers = sum(len(record.identifiers) for record in records)
    traits = sorted({name for record in records for name in record.traits})
    return (
        f"{records[0].root}: {len(records)} records, {identifiers} identifiers,"
        f" {events} events, traits: {', '.join(traits) or 'none'}"
    )


def _fold_events(record: Record | None, events: Iterable[KosekiEvent]) -> Record | None:
    for event in events:
        recorded = event.recorded
        record = fold(record or unborn(RecordId(recorded.stream.key)), [recorded])
    return record


if __name__ == "__main__":
    for line in read_customers():
        print(line)
