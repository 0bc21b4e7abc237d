"""Intake in several streams: spread by the server, with a key always the same one, in order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from actors.intake.jetstream import JetStreamIntake
from actors.intake.publisher import IntakePublisher
from actors.intake.streams import INTAKE_STREAMS, MAPPINGS
from eventlog.connection import Connection
from eventlog.errors import UnsafeStream
from eventlog.server import EmbeddedServer
from tests.intake.conditions import until
from tests.intake.fakes import RecordingRouter, shape
from tests.intake.messages import PREFIX, RECEIVED_AT, event, track
from tests.intake.running import Intake, intake_on
from tests.support.sealed import files_with


@pytest.fixture
async def spread(tmp_path: Path) -> AsyncIterator[Intake]:
    """Give intake on a server that spreads it, as `koseki up` runs it."""
    async with intake_on(EmbeddedServer(tmp_path / "nats", extra_config=MAPPINGS)) as found:
        yield found


async def published(intake: Intake, source: str, *numbers: int) -> list[str]:
    """Publish messages one after another; name the stream that each came to."""
    streams = []
    for number in numbers:
        body = orjson.dumps(event(track(userId=f"u{number}", messageId=f"m{number}")))
        answer = await intake.connection.request(f"{PREFIX}.{source}", body, timeout_seconds=5)
        streams.append(orjson.loads(answer.data)["stream"])
    return streams


async def test_messages_without_a_key_are_spread_and_all_taken(spread: Intake) -> None:
    streams = await published(spread, "shop", *range(60))
    assert len(set(streams)) == INTAKE_STREAMS
    async with spread.working(router := RecordingRouter()) as worker:
        await until(spread.is_drained)
        assert worker.counters.recorded == 60
    assert len({shape(c)[1][0] for c in router.commands}) == 60
    assert {c.model_dump()["source"] for c in router.commands} == {"shop"}


async def test_messages_with_a_key_come_to_one_stream_and_keep_their_order(spread: Intake) -> None:
    wanted: defaultdict[str, list[str]] = defaultdict(list)
    for number in range(40):
        key = f"k{number % 8}"
        wanted[key].append(f"m{number}")
        assert len(set(await published(spread, f"shop.{key}", number))) == 1
    streams = {
        key: (await published(spread, f"web.{key}", 100 + n))[0] for n, key in enumerate(wanted)
    }
    assert len(set(streams.values())) > 1
    async with spread.working(router := RecordingRouter()):
        await until(spread.is_drained)
    order = [shape(c)[1][0] for c in router.commands]
    for names in wanted.values():
        assert sorted(names, key=order.index) == names


async def test_what_cannot_be_used_is_kept_as_its_publisher_sent_it(spread: Intake) -> None:
    for source in ("shop", "shop.k", "Shop", "shop.a.b"):
        for _ in range(3):
            body = b"{no"
            await spread.connection.request(f"{PREFIX}.{source}", body, timeout_seconds=5)
    async with spread.working(RecordingRouter()):
        await until(spread.is_drained)
    letters = Counter(letter.subject for letter in await spread.dead_letters.list())
    assert letters == {f"{PREFIX}.{s}": 3 for s in ("shop", "shop.k", "Shop", "shop.a.b")}


async def test_a_worker_after_one_that_died_gets_what_that_one_held_at_once_and_first(
    spread: Intake,
) -> None:
    await published(spread, "shop.k", *range(6))
    held = await spread.queue.pull(batch_messages_max=10, wait_seconds=2, gather_seconds=0.1)
    assert len(held) == 6
    await spread.queue.ack(held[1:2])
    await published(spread, "shop.k", 6, 7)
    after = JetStreamIntake(spread.connection, workspace="demo", ack_wait_seconds=2.0)
    await after.open()
    found = await after.pull(batch_messages_max=20, wait_seconds=1, gather_seconds=0.1)
    assert [orjson.loads(m.data)["data"]["messageId"] for m in found] == [f"m{n}" for n in range(8)]
    assert [m.deliveries for m in found] == [2] * 6 + [1] * 2
    await after.ack(found)

    async def settled() -> bool:
        return (await after.stats()).is_drained

    await until(settled)
    await after.close()
    again = JetStreamIntake(spread.connection, workspace="demo", ack_wait_seconds=2.0)
    await again.open()
    assert await again.pull(batch_messages_max=20, wait_seconds=0.2, gather_seconds=0) == []
    await again.close()


async def test_workers_share_the_streams_between_them(spread: Intake) -> None:
    await spread.queue.close()
    numbers: list[int] = []
    workers = [
        JetStreamIntake(spread.connection, workspace="demo", places=range(n, INTAKE_STREAMS, 2))
        for n in range(2)
    ]
    for worker in workers:
        await worker.open()
    await published(spread, "shop", *range(30))
    for worker in workers:
        found = await worker.pull(batch_messages_max=30, wait_seconds=1, gather_seconds=0.1)
        assert found
        numbers += [int(orjson.loads(m.data)["data"]["messageId"][1:]) for m in found]
        await worker.ack(found)
        await worker.close()
    assert sorted(numbers) == list(range(30))


async def test_the_bytes_of_what_was_trimmed_leave_the_disk_of_every_stream(
    spread: Intake, tmp_path: Path
) -> None:
    keys = [f"shop.k{number}" for number in range(24)]
    streams = [(await published(spread, key, n))[0] for n, key in enumerate(keys)]
    assert len(set(streams)) == INTAKE_STREAMS
    async with spread.working(RecordingRouter()):
        await until(spread.is_drained)
    for number, key in enumerate(keys):
        await published(spread, key, 100 + number)
    assert files_with(tmp_path, b'"userId":"u7"')
    assert await spread.queue.trim(settled_before=datetime.now(UTC)) == len(keys)
    assert not any(files_with(tmp_path, b'"userId":"u%d"' % n) for n in range(len(keys)))
    assert files_with(tmp_path, b'"userId":"u107"')
    assert (await spread.queue.stats()).kept_messages == len(keys)


async def test_a_publisher_names_a_key(spread: Intake) -> None:
    publisher = IntakePublisher(spread.connection, workspace="demo", source="shop")
    for number in range(3):
        call = track(messageId=f"m{number}")
        await publisher.publish(f"m{number}", call, time=RECEIVED_AT, key="order-7")
    found = await spread.queue.pull(batch_messages_max=9, wait_seconds=1, gather_seconds=0.1)
    assert {m.subject for m in found} == {f"{PREFIX}.shop.order-7"}
    assert len({m.stream for m in found}) == 1
    with pytest.raises(ValueError, match="key"):
        await publisher.publish("m9", track(), time=RECEIVED_AT, key="a.b")


async def test_a_server_with_too_little_storage_is_refused_with_what_it_lacks(
    tmp_path: Path,
) -> None:
    server = EmbeddedServer(tmp_path / "nats", file_store_bytes_max=100_000_000)
    await server.start()
    connection = await Connection.open(server.url, name="test")
    queue = JetStreamIntake(connection, workspace="small")
    with pytest.raises(UnsafeStream, match="max_file_store has no 4,294,967,296 bytes left"):
        await queue.open_streams()
    await connection.close()
    await server.stop()
