"""What each role may do with signals and dead letters on servers of the shipped configuration."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from actors.intake.jetstream import JetStreamIntake
from actors.intake.letter_seal import FAMILY, LetterSeal, OutdatedLetters
from actors.intake.port import RejectedMessage
from actors.intake.publisher import IntakePublisher
from actors.intake.streams import INTAKE_STREAMS, stream_name
from eventlog.connection import Connection
from eventlog.keys.jetstream import JetStreamKeyStore
from tests.cluster.in_roles import KEYS, LOG, SOURCE, info_of, is_denied, letters_of, roles, servers
from tests.cluster.shipped import WORKSPACE, Roles
from tests.support.events import new_id
from tests.support.waiting import until_async

__all__ = ["roles", "servers"]

CALL = {"type": "track"}
KEYS_TRIED = 24
"""So many keys come to every stream of intake."""
PROMPT_SECONDS = 2.0
"""Less than a request waits that is denied."""
NOW = datetime(2026, 3, 1, tzinfo=UTC)


async def test_a_signal_goes_from_its_publisher_to_a_worker(roles: Roles) -> None:
    connection = await roles.connect("worker")
    queue = JetStreamIntake(connection, workspace=WORKSPACE)
    await queue.open()
    publisher = IntakePublisher(await roles.connect("publisher"), workspace=WORKSPACE, source="web")
    await asyncio.wait_for(publisher.publish("1", {"type": "track"}, time=NOW), 5)
    [message] = await queue.pull(batch_messages_max=10, wait_seconds=2, gather_seconds=0.01)
    letters = await letters_of(connection)
    await letters.open()
    await letters.put(
        RejectedMessage(str(message.sequence), "TOO_LARGE", message.subject, {}, b"", NOW)
    )
    assert [letter.reason for letter in await letters.list()] == ["TOO_LARGE"]
    await queue.ack([message])

    async def is_settled() -> bool:
        return (await queue.stats()).is_drained

    await until_async(is_settled)
    await queue.close()


async def test_a_worker_overwrites_what_is_settled_in_every_stream_of_intake(roles: Roles) -> None:
    queue = JetStreamIntake(await roles.connect("worker"), workspace=WORKSPACE)
    await queue.open()
    publisher = IntakePublisher(await roles.connect("publisher"), workspace=WORKSPACE, source="web")

    async def publish(name: str) -> None:
        for number in range(KEYS_TRIED):
            told = publisher.publish(f"{name}{number}", CALL, time=NOW, key=f"k{number}")
            await asyncio.wait_for(told, 5)

    async def is_settled() -> bool:
        found = await queue.pull(batch_messages_max=50, wait_seconds=0.2, gather_seconds=0.01)
        seen.update(message.stream for message in found if message.subject.count(".") > 3)
        await queue.ack(found)
        return (await queue.stats()).is_drained

    seen: set[str] = set()
    await publish("old")
    await until_async(is_settled)
    assert seen == {stream_name(WORKSPACE, place) for place in range(INTAKE_STREAMS)}
    await publish("new")
    assert await queue.trim(settled_before=datetime.now(UTC)) >= KEYS_TRIED
    assert (await queue.stats()).kept_messages == KEYS_TRIED
    await queue.close()


async def test_a_steward_destroys_the_keys_of_dead_letters_and_a_worker_cannot(
    roles: Roles,
) -> None:
    worker, steward = await roles.connect("worker"), await roles.connect("steward")
    letters = await letters_of(worker)
    await letters.put(RejectedMessage("9", "TOO_LARGE", "s", {}, b"", NOW))
    assert await letters.list()
    stream = f"koseki-{WORKSPACE}-letterkeys"
    assert await is_denied(worker, f"koseki.{WORKSPACE}.letterkey.day-1-1.destroyed", b"")
    assert await is_denied(worker, f"$JS.API.STREAM.MSG.DELETE.{stream}", b'{"seq": 1}')
    assert await is_denied(worker, f"$JS.API.STREAM.MSG.GET.{KEYS}", b'{"seq": 1}')
    keys = JetStreamKeyStore(steward, WORKSPACE, source=SOURCE, family=FAMILY)
    await keys.open()
    assert await OutdatedLetters(keys).destroy(datetime.now(UTC) + timedelta(days=8)) == 1
    assert await (await letters_of(worker)).list() == []


async def test_a_steward_rotates_the_keys_of_dead_letters_and_a_worker_goes_on_under_them(
    roles: Roles,
) -> None:
    worker, steward, reader = [await roles.connect(r) for r in ("worker", "steward", "reader")]
    keys, rotating, counting = [
        JetStreamKeyStore(connection, WORKSPACE, source=SOURCE, family=FAMILY)
        for connection in (worker, steward, reader)
    ]
    await keys.open()
    await rotating.open()
    sealed = await LetterSeal(keys, kept_seconds=1e6).seal(b"before")
    SOURCE.renew()
    assert await rotating.rotate() > 0
    async with asyncio.timeout(PROMPT_SECONDS):
        await LetterSeal(keys, kept_seconds=2e6).seal(b"after")
    await counting.open()
    census = await counting.census()
    assert (list(census.by_version), census.rotation_is_due) == ([SOURCE.keys.newest], False)
    assert await LetterSeal(keys, kept_seconds=1e6).open(sealed) == b"before"


async def test_a_gateway_hands_signals_on(roles: Roles) -> None:
    gateway = IntakePublisher(await roles.connect("gateway"), workspace=WORKSPACE, source="app")
    await asyncio.wait_for(gateway.publish("2", {"type": "track"}, time=NOW), 5)


async def test_a_publisher_cannot_have_an_answer_written_to_the_log(roles: Roles) -> None:
    operator, publisher = await roles.connect("operator"), await roles.connect("publisher")
    before = (await info_of(operator, LOG))["state"]["last_seq"]
    received = sum(await received_by(operator))
    subject = f"koseki.{WORKSPACE}.ingest.web"
    await publisher.publish(subject, b"{}", reply=f"koseki.{WORKSPACE}.record.{new_id()}")

    async def is_received() -> bool:
        return sum(await received_by(operator)) > received

    await until_async(is_received)
    await publisher.request(subject, b"{}", timeout_seconds=5)
    assert (await info_of(operator, LOG))["state"]["last_seq"] == before


async def received_by(operator: Connection) -> list[int]:
    """Say how many messages each stream of intake has received."""
    names = [stream_name(WORKSPACE, place) for place in range(INTAKE_STREAMS)]
    return [int((await info_of(operator, name))["state"]["last_seq"]) for name in names]


async def test_the_servers_spread_signals_over_the_streams_those_of_one_key_to_one(
    roles: Roles,
) -> None:
    operator, connection = await roles.connect("operator"), await roles.connect("publisher")
    publisher = IntakePublisher(connection, workspace=WORKSPACE, source="web")
    before = await received_by(operator)
    for number in range(40):
        await publisher.publish(f"s{number}", {"type": "track"}, time=NOW)
    spread = await received_by(operator)
    assert all(after > then for then, after in zip(before, spread, strict=True))
    for number in range(5):
        await publisher.publish(f"k{number}", {"type": "track"}, time=NOW, key="k")
    more = [after - then for then, after in zip(spread, await received_by(operator), strict=True)]
    assert sorted(more) == [0, 0, 0, 5]
