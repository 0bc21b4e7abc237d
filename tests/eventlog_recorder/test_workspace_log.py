"""A workspace's log, read with the library's tools: everything is there, nothing can be written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

import pytest
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import (
    ApplicationRecorder,
    MapperDeserialisationError,
    Notification,
    NotSupportedError,
    Tracking,
)
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.utils import Environment

from domain.consent import LawfulBasis
from domain.event import Event, Recorded
from domain.identity_events import IdentifierClaimed
from domain.ids import (
    CLOCK_STREAM,
    WORKSPACE_STREAM,
    IdentifierKey,
    RecordId,
    Stream,
    identifier_stream,
)
from domain.record import Record, fold, unborn
from domain.signal_events import TraitsSet
from domain.workspace_events import ClockAdvanced, PurposeDefined
from eventlog.jetstream import JetStreamEventLog
from eventlog.port import Draft, Stored
from eventlog.recorder.errors import (
    LogRefuses,
    NotDecodable,
    SnapshotsNotOffered,
    WorkspaceLogIsReadOnly,
)
from eventlog.recorder.factory import JetStreamFactory
from eventlog.recorder.workspace_recorder import KosekiEvent, WorkspaceRecorder
from tests.eventlog_recorder.reading import event
from tests.eventlog_recorder.servers import Servers, factory, variables
from tests.support.events import NOON, draft, new_record, store, traits
from tests.support.nats import new_workspace

HOLDER = identifier_stream(IdentifierKey("v1_email." + "ab" * 32))


class Shop:
    """A workspace with a few events: a record, an identifier, a purpose and the clock."""

    def __init__(self, log: JetStreamEventLog) -> None:
        self.log = log
        self.workspace = log.workspace
        self.record = new_record()
        self.record_id = UUID(self.record.key)
        self.stored: list[Recorded[Event]] = []

    async def store(self, *drafts: Draft, after: Stored | None = None) -> Stored:
        stored = await store(self.log, *drafts, after=after)
        self.stored += stored.events
        return stored

    def environment(self, **changes: str) -> dict[str, str]:
        return variables(KOSEKI_APPLICATION="", KOSEKI_WORKSPACE=self.workspace, **changes)

    def uuid_of(self, subject: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"koseki.{self.workspace}.{subject}")


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    connection = await Servers.connect()
    log = JetStreamEventLog(connection, new_workspace())
    await log.ensure_stream(replicas=int(Servers.replicas))
    found = Shop(log)
    purpose = PurposeDefined(purpose="ads", basis=LawfulBasis.CONSENT)
    await found.store(draft(WORKSPACE_STREAM, purpose))
    first = await found.store(
        draft(HOLDER, IdentifierClaimed(record_id=found.record.key), part=1, parts=2),
        draft(found.record, traits(city="Kyoto"), part=2, parts=2),
    )
    later = NOON + timedelta(milliseconds=1)
    await found.store(draft(found.record, traits(city="Nara"), happened_at=later), after=first)
    await found.store(draft(CLOCK_STREAM, ClockAdvanced(to=NOON)))
    yield found
    await connection.close()


@pytest.fixture
def made(shop: Shop) -> Iterator[JetStreamFactory]:
    found = JetStreamFactory(Environment("Test", shop.environment()))
    yield found
    found.close()


@pytest.fixture
def recorder(made: JetStreamFactory) -> WorkspaceRecorder:
    found = made.application_recorder()
    assert isinstance(found, WorkspaceRecorder)
    return found


def test_every_message_is_a_notification_and_its_id_the_revision(
    shop: Shop, recorder: WorkspaceRecorder
) -> None:
    found = recorder.select_notifications(start=1, limit=100)
    assert [n.id for n in found] == [event.revision for event in shop.stored] == [1, 2, 3, 4, 5]
    assert recorder.max_notification_id() == 5
    assert [n.topic for n in found] == [
        "koseki.workspace.purpose-defined.v1",
        "koseki.identifier.claimed.v1",
        "koseki.record.traits-set.v1",
        "koseki.record.traits-set.v1",
        "koseki.clock.advanced.v1",
    ]


def test_originators_are_records_or_the_uuids_of_their_subjects(
    shop: Shop, recorder: WorkspaceRecorder
) -> None:
    found = recorder.select_notifications(start=1, limit=100)
    assert [n.originator_id for n in found] == [
        shop.uuid_of("workspace"),
        shop.uuid_of(f"identifier.{HOLDER.key}"),
        shop.record_id,
        shop.record_id,
        shop.uuid_of("clock"),
    ]
    assert [n.originator_version for n in found] == [1, 1, 1, 2, 1]


@pytest.mark.parametrize("stream", [WORKSPACE_STREAM, HOLDER, CLOCK_STREAM])
def test_what_is_not_a_record_is_selected_by_its_uuid(
    recorder: WorkspaceRecorder, stream: Stream
) -> None:
    found = recorder.select_events(recorder.originator_id(stream))
    assert [e.originator_version for e in found] == [1]


def test_a_record_is_selected_by_versions(shop: Shop, recorder: WorkspaceRecorder) -> None:
    def select(**wanted: Any) -> list[int]:
        return [e.originator_version for e in recorder.select_events(shop.record_id, **wanted)]

    assert select() == [1, 2]
    assert select(gt=1) == [2]
    assert select(lte=1) == [1]
    assert select(desc=True, limit=1) == [2]
    assert recorder.select_events(uuid4()) == []
    assert recorder.select_events(uuid5(NAMESPACE_URL, "koseki.another.clock")) == []


def test_the_mapper_decodes_with_the_closed_registry(
    shop: Shop, made: JetStreamFactory, recorder: WorkspaceRecorder
) -> None:
    mapper = made.mapper()
    notifications = recorder.select_notifications(start=1, limit=100)
    decoded = [mapper.to_domain_event(n) for n in notifications]
    for found, stored in zip(decoded, shop.stored, strict=True):
        assert isinstance(found, KosekiEvent)
        assert found.recorded == stored
        assert found.originator_version == stored.version
    again = [mapper.to_domain_event(e) for e in recorder.select_events(shop.record_id)]
    assert again == decoded[2:4]


def test_no_topic_is_resolved_to_a_class(made: JetStreamFactory) -> None:
    mapper = made.mapper()
    foreign = Notification(uuid4(), 1, "os:system", b"{}", id=1)
    with pytest.raises(NotDecodable):
        mapper.to_domain_event(foreign)


async def test_an_event_that_the_registry_does_not_hold_is_not_decoded(
    shop: Shop, made: JetStreamFactory, recorder: WorkspaceRecorder
) -> None:
    found = recorder.select_notifications(start=5, limit=1)[0]
    object.__setattr__(found, "topic", "koseki.clock.advanced.v9")
    with pytest.raises(MapperDeserialisationError, match="revision 5"):
        made.mapper().to_domain_event(found)


def test_nothing_can_be_written(shop: Shop, made: JetStreamFactory) -> None:
    class Person(Aggregate):
        pass

    for recorder in (made.application_recorder(), made.aggregate_recorder()):
        with pytest.raises(WorkspaceLogIsReadOnly):
            recorder.insert_events([event(shop.record_id, 3)])
        with pytest.raises(WorkspaceLogIsReadOnly):
            recorder.insert_events([])
    with Application[UUID](shop.environment()) as app, pytest.raises(NotSupportedError):
        app.save(Person())
    assert made.application_recorder().max_notification_id() == 5


def test_kosekis_snapshots_are_its_own(shop: Shop, made: JetStreamFactory) -> None:
    with pytest.raises(SnapshotsNotOffered):
        made.aggregate_recorder("snapshots")


def test_a_workspace_that_is_not_there_is_not_made() -> None:
    env = variables(KOSEKI_APPLICATION="", KOSEKI_WORKSPACE=new_workspace())
    with Application[UUID](env) as app, pytest.raises(LogRefuses):
        app.recorder.max_notification_id()


def test_an_application_cannot_have_a_workspaces_name(shop: Shop) -> None:
    with factory(KOSEKI_APPLICATION=shop.workspace) as made:
        with pytest.raises(LogRefuses, match="subjects must be"):
            made.application_recorder()
        made.close()


async def test_a_subscription_follows_the_log(shop: Shop, recorder: ApplicationRecorder) -> None:
    with recorder.subscribe(gt=3) as subscription:
        assert [next(subscription).id, next(subscription).id] == [4, 5]
        waiting = asyncio.create_task(asyncio.to_thread(next, subscription))
        await shop.store(draft(new_record()))
        assert (await asyncio.wait_for(waiting, 15)).id == 6


def person(record: Record | None, events: Iterable[KosekiEvent]) -> Record | None:
    found = list(events)
    if not found:
        return record
    return fold(
        record or unborn(RecordId(str(found[0].originator_id))), [e.recorded for e in found]
    )


def test_a_repository_folds_a_record(shop: Shop) -> None:
    with Application[UUID](shop.environment()) as app:
        found: Any = app.repository.get(shop.record_id, projector_func=person)  # type: ignore[type-var]  # a record is no aggregate of the library's
        before: Any = app.repository.get(shop.record_id, version=1, projector_func=person)  # type: ignore[type-var]  # as above
        with pytest.raises(AggregateNotFoundError):
            app.repository.get(uuid4(), projector_func=person)  # type: ignore[type-var]  # as above
    assert found.traits["city"]["shop"].value == "Nara"
    assert before.traits["city"]["shop"].value == "Kyoto"


class Cities(POPOTrackingRecorder):
    def __init__(self) -> None:
        super().__init__()
        self.by_record: dict[UUID, object] = {}

    def put(self, record_id: UUID, city: object, tracking: Tracking) -> None:
        with self._database_lock:
            self._assert_tracking_uniqueness(tracking)
            self._insert_tracking(tracking)
            self.by_record[record_id] = city


class CitiesProjection(Projection[Cities]):
    name = "cities"
    topics = ("koseki.record.traits-set.v1",)

    def process_event(self, domain_event: KosekiEvent, tracking: Tracking) -> None:
        body = domain_event.recorded.body
        assert isinstance(body, TraitsSet)
        self.view.put(domain_event.originator_id, body.traits["city"], tracking)


async def test_a_projection_runs_on_a_workspace(shop: Shop) -> None:
    env = shop.environment(CITIES_PERSISTENCE_MODULE="eventsourcing.popo")
    runner = ProjectionRunner(
        application_class=Application[UUID],
        projection_class=CitiesProjection,
        view_class=Cities,
        env=env,
    )
    with runner:
        await asyncio.to_thread(runner.wait, 4, 15)
        assert runner.projection.view.by_record == {shop.record_id: "Nara"}
        another = new_record()
        stored = await shop.store(draft(another, traits(city="Tokyo")))
        await asyncio.to_thread(runner.wait, stored.revision, 15)
        assert runner.projection.view.by_record[UUID(another.key)] == "Tokyo"
