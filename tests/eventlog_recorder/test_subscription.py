"""A subscription blocks, goes on over faults, keeps its bounds, and ends when it is told to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from eventsourcing.persistence import ApplicationRecorder, Notification

from eventlog.recorder.errors import LogBroken
from eventlog.recorder.factory import JetStreamFactory
from eventlog.recorder.subscription import READ_EVENTS_MAX, WAITING_MAX, JetStreamSubscription
from eventlog.server import EmbeddedServer
from tests.eventlog_recorder.reading import PATIENCE_SECONDS, event, events, until
from tests.eventlog_recorder.servers import factory


@pytest.fixture
def made() -> Iterator[JetStreamFactory]:
    found = factory()
    yield found
    found.close()


@pytest.fixture
def recorder(made: JetStreamFactory) -> ApplicationRecorder:
    return made.application_recorder()


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_reader_that_waits_gets_what_is_recorded_later(recorder: ApplicationRecorder) -> None:
    found: list[Notification] = []
    with recorder.subscribe() as subscription:
        thread = in_thread(lambda: found.append(next(subscription)))
        recorder.insert_events([event()])
        thread.join(PATIENCE_SECONDS)
    assert [n.id for n in found] == [1]


def test_stopping_wakes_a_reader_that_waits(recorder: ApplicationRecorder) -> None:
    subscription = recorder.subscribe()
    thread = in_thread(lambda: list(subscription))
    subscription.stop()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def test_closing_the_factory_ends_its_subscriptions(
    made: JetStreamFactory, recorder: ApplicationRecorder
) -> None:
    recorder.insert_events([event()])
    subscription = recorder.subscribe()
    assert next(subscription).id == 1
    thread = in_thread(lambda: list(subscription))
    made.close()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert list(subscription) == []


def test_a_dropped_subscription_reads_no_more(recorder: ApplicationRecorder) -> None:
    subscription = recorder.subscribe()
    assert isinstance(subscription, JetStreamSubscription)
    feed = subscription._feed
    del subscription
    assert feed.has_ended.wait(PATIENCE_SECONDS)


def test_a_slow_reader_holds_the_reading_up(recorder: ApplicationRecorder) -> None:
    events_in_all = 3 * WAITING_MAX
    for _ in range(events_in_all // 1_000):
        recorder.insert_events(events(uuid4(), *range(1, 1_001)))
    with recorder.subscribe() as subscription:
        assert isinstance(subscription, JetStreamSubscription)
        waiting = subscription._feed._waiting
        until(lambda: len(waiting) > WAITING_MAX)
        found = []
        for notification in subscription:
            found.append(notification.id)
            assert len(waiting) <= WAITING_MAX + 1_000 + READ_EVENTS_MAX
            if notification.id == events_in_all:
                break
    assert found == list(range(1, events_in_all + 1))


def test_only_the_topics_asked_for(recorder: ApplicationRecorder) -> None:
    recorder.insert_events([event(), event()])
    with recorder.subscribe(gt=1, topics=["shop.orders:Order.Placed"]) as subscription:
        assert next(subscription).id == 2


def test_a_place_past_the_end_is_a_log_that_lost_events(recorder: ApplicationRecorder) -> None:
    recorder.insert_events([event()])
    with recorder.subscribe(gt=7) as subscription, pytest.raises(LogBroken):
        next(subscription)


def test_many_readers_see_one_order(recorder: ApplicationRecorder) -> None:
    def read() -> list[int]:
        with recorder.subscribe() as subscription:
            return [next(subscription).id for _ in range(200)]

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        for _ in range(50):
            pool.submit(recorder.insert_events, events(uuid4(), 1, 2, 3, 4))
        for reader in readers:
            assert reader.result(PATIENCE_SECONDS) == list(range(1, 201))


async def test_a_subscription_goes_on_after_the_server_was_killed(
    own_server: EmbeddedServer,
) -> None:
    with factory(KOSEKI_NATS_URL=own_server.url, KOSEKI_REPLICAS="1") as made:
        recorder = made.application_recorder()
        recorder.insert_events([event()])
        subscription = recorder.subscribe()
        assert (await asyncio.to_thread(next, subscription)).id == 1
        await own_server.kill()
        await own_server.wait_ready(timeout_seconds=30)
        await asyncio.to_thread(recorder.insert_events, [event()])
        assert (await asyncio.to_thread(next, subscription)).id == 2
        made.close()
