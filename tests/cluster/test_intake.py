"""Intake and dead letters on three servers, through a change of their leader."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

from actors.intake.dead_letters import JetStreamDeadLetters
from actors.intake.jetstream import JetStreamIntake
from actors.intake.port import RejectedMessage
from actors.intake.publisher import IntakePublisher
from eventlog.connection import Connection
from eventlog.errors import LogUnavailable
from eventlog.jetstream_api import JetStreamApi
from eventlog.keys.memory import MemoryKeyStore
from tests.support.cluster import Cluster
from tests.support.nats import new_workspace
from tests.support.waiting import until_async

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SIGNALS = 300


async def test_every_acknowledged_signal_is_delivered_through_a_change_of_leader(
    cluster: Cluster, connection: Connection
) -> None:
    workspace = new_workspace()
    queue = JetStreamIntake(connection, workspace=workspace, replicas=3, ack_wait_seconds=1.0)
    await queue.open()
    there = await cluster.connect(cluster.members[1])
    publisher = IntakePublisher(there, workspace=workspace, source="web")
    name = f"koseki-{workspace}-intake"
    seen: set[int] = set()

    async def publish_all() -> None:
        for start in range(0, SIGNALS, 50):
            async with asyncio.TaskGroup() as publishing:
                for number in range(start, start + 50):
                    signal = publisher.publish(str(number), {"type": "track"}, time=NOW)
                    publishing.create_task(signal)
            if start % 100 == 0:
                with suppress(LogUnavailable):  # asked in the middle of a change, nobody answers
                    await JetStreamApi(there).call(f"STREAM.LEADER.STEPDOWN.{name}")

    async def is_drained() -> bool:
        try:
            messages = await queue.pull(
                batch_messages_max=100, wait_seconds=0.2, gather_seconds=0.01
            )
            await queue.ack(messages)
            seen.update(message.sequence for message in messages)
            return publishing.done() and (await queue.stats()).is_drained
        except LogUnavailable:
            return False

    publishing = asyncio.create_task(publish_all())
    await until_async(is_drained, timeout_seconds=40)
    await publishing
    assert publisher.counters.acknowledged == SIGNALS
    assert seen == set(range(1, len(seen) + 1))
    assert len(seen) >= SIGNALS
    trimmed = 0

    async def is_trimmed() -> bool:
        nonlocal trimmed  # a server may hear of the last acknowledgements a little later
        with suppress(LogUnavailable):
            trimmed += await queue.trim(settled_before=datetime.now(UTC))
        return trimmed == len(seen)

    await until_async(is_trimmed, timeout_seconds=10)
    await queue.close()
    await there.close()


async def test_dead_letters_are_kept_on_three_servers(connection: Connection) -> None:
    workspace = new_workspace()
    letters = JetStreamDeadLetters(
        connection, workspace=workspace, keys=MemoryKeyStore(), replicas=3
    )
    await letters.open()
    for number in range(3):
        subject = f"koseki.{workspace}.ingest.web"
        await letters.put(RejectedMessage(str(number), "TOO_LARGE", subject, {}, b"x", NOW))
        await letters.put(RejectedMessage(str(number), "TOO_LARGE", subject, {}, b"x", NOW))
    assert [letter.sequence for letter in await letters.list()] == [1, 2, 3]
