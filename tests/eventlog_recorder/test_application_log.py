"""A foreign application's log: what lies in it, which versions it takes, what it answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import IntegrityError, OperationalError, Tracking

from eventlog.envelope import event_digest, extend_log_digest, parse_headers
from eventlog.jetstream_api import JetStreamApi
from eventlog.port import ZERO_DIGEST
from eventlog.recorder.errors import (
    LogAway,
    LogBroken,
    LogRefuses,
    Misconfigured,
    NotStorable,
    RecorderClosed,
    TrackingNotOffered,
    VersionConflict,
    VersionGap,
)
from eventlog.recorder.factory import JetStreamFactory
from eventlog.server import EmbeddedServer
from tests.eventlog_recorder.reading import event, events, on_nats, stored_messages
from tests.eventlog_recorder.servers import factory, new_application, variables

IN_TIME_SECONDS = 20.0
"""Far above the second or less that each call is given, on a machine that is busy with others."""


@pytest.fixture
def name() -> str:
    return new_application()


@pytest.fixture
def made(name: str) -> Iterator[JetStreamFactory]:
    with factory(KOSEKI_APPLICATION=name) as found:
        yield found
        found.close()


def test_nothing_but_the_events_lies_in_the_stream(name: str, made: JetStreamFactory) -> None:
    order, other = uuid4(), uuid4()
    recorder = made.application_recorder()
    recorder.insert_events([*events(order, 1, 2), event(other)])
    recorder.insert_events(events(order, 3))

    messages = stored_messages(f"koseki-{name}-log")

    assert [message.subject for message in messages] == [
        f"koseki.{name}.record.{originator}" for originator in (order, order, other, order)
    ]
    assert [message.revision for message in messages] == [1, 2, 3, 4]
    assert {message.body for message in messages} == {b"{}"}


def test_the_envelope_says_what_kosekis_own_says(name: str, made: JetStreamFactory) -> None:
    order = uuid4()
    made.application_recorder().insert_events(events(order, 1, 2))

    first, second = (parse_headers(m.headers) for m in stored_messages(f"koseki-{name}-log"))

    assert first.event_type == "shop.orders:Order.Placed"
    assert (first.workspace, first.auth_id) == (name, f"application:{name}")
    assert (first.version, second.version) == (1, 2)
    assert (first.part, second.part, second.parts) == (1, 2, 2)
    assert first.decision_id == second.decision_id
    assert len({first.event_id, second.event_id}) == 2
    assert first.key_id == "none"


def test_every_event_names_the_digest_before_it_and_the_log_has_one(
    name: str, made: JetStreamFactory
) -> None:
    recorder = made.application_recorder()
    first, second = uuid4(), uuid4()
    recorder.insert_events([*events(first, 0, 1), *events(second, 1)])
    recorder.insert_events([*events(second, 2), *events(first, 2)])

    heads: dict[str, bytes] = {}
    log_digest = ZERO_DIGEST
    for message in stored_messages(f"koseki-{name}-log"):
        previous = parse_headers(message.headers).previous
        assert previous == heads.get(message.subject, ZERO_DIGEST)
        digest = event_digest(message.subject, message.headers, message.body)
        heads[message.subject] = digest
        log_digest = extend_log_digest(log_digest, message.revision, digest)
    assert len(heads) == 2
    assert log_digest != ZERO_DIGEST


@pytest.mark.parametrize("first", [0, 1])
def test_the_first_version_is_0_or_1(made: JetStreamFactory, first: int) -> None:
    order = uuid4()
    recorder = made.application_recorder()
    recorder.insert_events(events(order, first))
    recorder.insert_events(events(order, first + 1))
    versions = [found.originator_version for found in recorder.select_events(order)]
    assert versions == [first, first + 1]


@pytest.mark.parametrize("versions", [(2,), (1, 3), (-1,), (1, 2, 4)])
def test_a_gap_is_refused(made: JetStreamFactory, versions: tuple[int, ...]) -> None:
    order = uuid4()
    recorder = made.application_recorder()
    with pytest.raises(VersionGap):
        recorder.insert_events(events(order, *versions))
    assert recorder.select_events(order) == []


def test_version_0_after_1_is_refused(made: JetStreamFactory) -> None:
    order = uuid4()
    recorder = made.application_recorder()
    recorder.insert_events(events(order, 1))
    with pytest.raises(VersionConflict):
        recorder.insert_events(events(order, 0))


def test_one_conflict_stores_nothing_of_the_insert(made: JetStreamFactory) -> None:
    recorder = made.application_recorder()
    taken, fresh = uuid4(), uuid4()
    recorder.insert_events(events(taken, 1))
    with pytest.raises(IntegrityError):
        recorder.insert_events([*events(fresh, 1, 2), *events(taken, 1)])
    assert recorder.select_events(fresh) == []
    assert recorder.max_notification_id() == 1


def test_of_many_writers_of_a_version_one_wins(made: JetStreamFactory) -> None:
    order = uuid4()
    recorder = made.application_recorder()

    def write(number: int) -> bool:
        try:
            recorder.insert_events([event(order, 1, state=str(number).encode())])
        except IntegrityError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(write, range(16)))
    assert won.count(True) == 1
    assert [e.state for e in recorder.select_events(order)] == [str(won.index(True)).encode()]


def test_an_insert_of_a_thousand_events_is_one_append(name: str, made: JetStreamFactory) -> None:
    recorder = made.application_recorder()
    ids = recorder.insert_events(events(uuid4(), *range(1, 1_001)))
    assert ids == list(range(1, 1_001))
    with pytest.raises(NotStorable):
        recorder.insert_events(events(uuid4(), *range(1, 1_002)))


def test_an_event_over_the_servers_limit_is_refused(made: JetStreamFactory) -> None:
    recorder = made.application_recorder()
    with pytest.raises(NotStorable):
        recorder.insert_events([event(state=bytes(20_000_000))])
    assert recorder.max_notification_id() is None


def test_selections_of_a_long_history(made: JetStreamFactory) -> None:
    order = uuid4()
    recorder = made.application_recorder()
    for start in range(0, 2_500, 500):
        recorder.insert_events(events(order, *range(start, start + 500)))

    def select(**wanted: int | bool) -> list[int]:
        found = recorder.select_events(order, **wanted)  # type: ignore[arg-type]  # by name
        return [e.originator_version for e in found]

    assert select() == list(range(2_500))
    assert select(gt=2_400) == list(range(2_401, 2_500))
    assert select(lte=3) == [0, 1, 2, 3]
    assert select(limit=2) == [0, 1]
    assert select(desc=True, limit=3) == [2_499, 2_498, 2_497]
    assert select(desc=True, limit=1) == [2_499]
    assert select(desc=True, limit=2, lte=1_000) == [1_000, 999]
    assert select(gt=10, lte=1_600, limit=2) == [11, 12]
    assert select(gt=2_499) == []
    assert select(gt=-1, limit=1) == [0]


def test_notifications_over_several_pages(made: JetStreamFactory) -> None:
    recorder = made.application_recorder()
    for _ in range(3):
        recorder.insert_events(events(uuid4(), *range(1, 701)))
    found = recorder.select_notifications(start=None, limit=5_000)
    assert [n.id for n in found] == list(range(1, 2_101))
    assert recorder.select_notifications(start=2_101, limit=1) == []
    assert len(recorder.select_notifications(1, 5_000, topics=["another"])) == 0


def test_snapshots_keep_every_version_in_any_order(name: str, made: JetStreamFactory) -> None:
    order = uuid4()
    recorder = made.aggregate_recorder("snapshots")
    for version in (10, 50, 20):
        recorder.insert_events(events(order, version))
    with pytest.raises(VersionConflict):
        recorder.insert_events(events(order, 20))
    recorder.insert_events(events(order, 60))

    def select(**wanted: int | bool) -> list[int]:
        found = recorder.select_events(order, **wanted)  # type: ignore[arg-type]  # by name
        return [e.originator_version for e in found]

    assert select() == [10, 20, 50, 60]
    assert select(desc=True, limit=1) == [60]
    assert select(desc=True, limit=1, lte=49) == [20]
    assert select(gt=10, lte=50) == [20, 50]
    subjects = {m.subject for m in stored_messages(f"koseki-{name}-snapshots")}
    assert subjects == {f"koseki.{name}.snapshots.{order}"}


def test_a_latest_snapshot_that_is_not_the_last_is_found(made: JetStreamFactory) -> None:
    order = uuid4()
    recorder = made.aggregate_recorder("snapshots")
    recorder.insert_events(events(order, 50))
    recorder.insert_events(events(order, 20))
    assert recorder.select_events(order, desc=True, limit=1)[0].originator_version == 50


def test_tracking_is_refused_and_nothing_is_stored(made: JetStreamFactory) -> None:
    recorder = made.application_recorder()
    with pytest.raises(TrackingNotOffered):
        recorder.insert_events([event()], tracking=Tracking("upstream", 1))
    assert recorder.max_notification_id() is None


def test_an_id_that_is_no_uuid_is_refused_unless_ids_are_text(made: JetStreamFactory) -> None:
    with pytest.raises(NotStorable):
        made.application_recorder().insert_events([event("order.*.>")])
    with factory(ORIGINATOR_ID_TYPE="text") as text:
        recorder = text.application_recorder()
        for originator in ("order.*.>", "雪 1%", "a/b"):
            recorder.insert_events([event(originator)])
            assert recorder.select_events(originator)[0].originator_id == originator
        with pytest.raises(NotStorable):
            recorder.insert_events([event("é" * 200)])
        text.close()


def test_a_foreign_message_in_the_stream_is_not_passed_over(
    name: str, made: JetStreamFactory
) -> None:
    order = uuid4()
    recorder = made.application_recorder()
    recorder.insert_events(events(order, 1))

    async def intrude(api: JetStreamApi) -> None:
        await api.connection.request(f"koseki.{name}.record.{order}", b"{}", timeout_seconds=5)

    on_nats(intrude)
    with pytest.raises(LogBroken):
        recorder.select_notifications(start=1, limit=10)
    with pytest.raises(LogBroken):
        recorder.select_events(order)
    with pytest.raises(LogBroken):
        recorder.insert_events(events(order, 2))


def test_a_stream_that_could_lose_events_is_refused(name: str, made: JetStreamFactory) -> None:
    async def create(api: JetStreamApi) -> None:
        config = {
            "name": f"koseki-{name}-log",
            "subjects": [f"koseki.{name}.record.*"],
            "max_age": 3_600_000_000_000,
        }
        await api.call(f"STREAM.CREATE.{config['name']}", config)

    on_nats(create)
    with pytest.raises(LogRefuses, match="max_age must be unlimited"):
        made.application_recorder()


def test_a_closed_factory_says_so(made: JetStreamFactory) -> None:
    recorder = made.application_recorder()
    made.close()
    made.close()
    with pytest.raises(RecorderClosed):
        recorder.insert_events([event()])
    with pytest.raises(RecorderClosed):
        recorder.max_notification_id()
    with pytest.raises(RecorderClosed):
        made.application_recorder()


@pytest.mark.parametrize("url", ["nats://127.0.0.1:1", "nats://127.0.0.1:port"])
def test_a_server_that_is_not_there_is_reported_in_time(url: str) -> None:
    with factory(KOSEKI_NATS_URL=url, KOSEKI_TIMEOUT_SECONDS="0.5") as made:
        begun = time.monotonic()
        with pytest.raises(LogAway):
            made.application_recorder()
        assert time.monotonic() - begun < IN_TIME_SECONDS


async def test_a_lost_server_ends_calls_at_their_deadline(own_server: EmbeddedServer) -> None:
    with factory(
        KOSEKI_NATS_URL=own_server.url, KOSEKI_REPLICAS="1", KOSEKI_TIMEOUT_SECONDS="1"
    ) as made:
        recorder = made.application_recorder()
        recorder.insert_events([event()])
        await own_server.stop()
        for call in (
            recorder.max_notification_id,
            lambda: recorder.insert_events([event()]),
            lambda: recorder.select_events(uuid4()),
        ):
            begun = time.monotonic()
            with pytest.raises(OperationalError):
                call()
            assert time.monotonic() - begun < IN_TIME_SECONDS
        made.close()


class Basket(Aggregate):
    def __init__(self) -> None:
        self.items = 0


def test_another_process_sees_what_an_application_saved() -> None:
    env = variables()
    basket = Basket()
    with Application[UUID](env) as app:
        app.save(basket)
    with Application[UUID](env) as app:
        again: Basket = app.repository.get(basket.id)
    assert (again.id, again.items) == (basket.id, 0)


def test_snapshots_and_log_are_not_made_under_another_purposes_name(
    made: JetStreamFactory,
) -> None:
    with pytest.raises(Misconfigured):
        made.aggregate_recorder("../log")
