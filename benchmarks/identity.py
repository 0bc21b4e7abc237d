"""The part `identity`: signals through gRPC `Ingest`, gate and sealing on, durable, two hosts.

The raw limit stores the same number of opaque bodies by atomic batches of 500, on the same server,
taking turns with ours. The projector stands still meanwhile; beside it stands the rate where it
runs, with segments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count

import nats

from actors.intake.jetstream import CONSUMER
from actors.intake.publisher import IntakePublisher
from actors.intake.streams import INTAKE_STREAMS, stream_name
from benchmarks import load
from benchmarks.installation import SOURCE, Installation, installation
from benchmarks.measuring import ROUNDS_MIN, Metric, Metrics, Rounds, alternate, rate_of
from benchmarks.raw import RawStream
from eventlog.codec import JsonTranscoder
from eventlog.connection import Connection
from eventlog.jetstream_api import JetStreamApi
from koseki.v1 import common_pb2, ingest_service_pb2

BATCH = 500
CALLS_AT_ONCE = 8
OUTSTANDING = 256
SEGMENTS = 10
INTAKE_SECONDS_MAX = 60.0
POLL_SECONDS = 0.02
WORKSPACE = "main"


@dataclass(frozen=True, slots=True)
class Load:
    """How much is measured."""

    rounds: Rounds = Rounds(7, seconds_max=120.0)  # noqa: RUF009  # frozen
    people: int = 5_000
    batches: int = 80
    intake_messages: int = 4_000


QUICK = Load(rounds=Rounds(4, seconds_max=25.0), batches=48, intake_messages=1_000)


class Publisher:
    """Requests of fresh signals of known people, made before the clock runs."""

    def __init__(self, people: int) -> None:
        self._people = people
        self._numbers = count()

    def person(self, number: int) -> common_pb2.Identifier:
        """Name one of the people."""
        return common_pb2.Identifier(namespace="user_id", value=f"person-{number % self._people}")

    def request(self, size: int = BATCH) -> ingest_service_pb2.IngestRequest:
        """Make a request of purchases, each of another person."""
        return ingest_service_pb2.IngestRequest(
            source=SOURCE, signals=[self._signal(next(self._numbers)) for _ in range(size)]
        )

    def _signal(self, number: int) -> ingest_service_pb2.Signal:
        made = ingest_service_pb2.Signal(
            message_id=f"message-{number}",
            name="Order Completed",
            identifiers=[self.person(number)],
        )
        made.properties.update({"order_id": str(number), "total": number % 100})
        made.context.update({"page": "/checkout/thank-you", "locale": "ja-JP"})
        return made

    async def make_known(self, opened: Installation) -> None:
        """Let everybody be known, so that identifiers have owners."""
        for _ in range(0, self._people, BATCH):
            await opened.ingest(self.request())


async def measure(is_quick: bool) -> Metrics:  # noqa: FBT001  # what every part takes
    """Measure the part."""
    return await measure_load(QUICK if is_quick else Load())


async def measure_load(size: Load) -> Metrics:
    """Measure with a load of one's own."""
    async with installation() as opened:
        client = await nats.connect(opened.nats_url)
        publisher = Publisher(size.people)
        await publisher.make_known(opened)
        await opened.define_segments(SEGMENTS)
        body = JsonTranscoder().encode(load.purchase().model_dump())
        raw = RawStream(client, "raw", subjects=1_024, body=body)
        await raw.create()
        try:
            with opened.without("projector"):
                alone = await _ingest(opened, publisher, raw, size)
                intake = await _intake(opened, raw, size)
            beside = {"with_projector": await _ingest_beside_projector(opened, publisher, size)}
        finally:
            await client.close()
        return {
            "signals_per_second": replace(alone, beside=beside),
            "intake_messages_per_second": intake,
        }


async def send_all(
    opened: Installation, requests: Sequence[ingest_service_pb2.IngestRequest]
) -> None:
    """Send requests, a few at once, and wait until every signal of them is recorded."""
    left = iter(requests)

    async def send() -> None:
        for request in left:
            await opened.ingest(request)

    await asyncio.gather(*(send() for _ in range(CALLS_AT_ONCE)))


async def _ingest(opened: Installation, publisher: Publisher, raw: RawStream, size: Load) -> Metric:
    signals = size.batches * BATCH

    async def ours() -> list[float]:
        requests = [publisher.request() for _ in range(size.batches)]
        return await rate_of(signals, send_all(opened, requests))

    async def in_batches() -> list[float]:
        return await rate_of(signals, raw.atomic_batches(size.batches, size=BATCH))

    found = await alternate(size.rounds, ours=ours, raw=in_batches)
    return Metric(found["ours"], "signals/s", found["raw"], ratio_at_least=0.15)


async def _ingest_beside_projector(opened: Installation, publisher: Publisher, size: Load) -> float:
    """Ingest while the projector applies what came before, as fast as it can."""

    async def ours() -> list[float]:
        requests = [publisher.request() for _ in range(size.batches)]
        return await rate_of(size.batches * BATCH, send_all(opened, requests))

    return (await alternate(Rounds(ROUNDS_MIN, seconds_max=0.0), ours=ours))["ours"]


async def _intake(opened: Installation, raw: RawStream, size: Load) -> Metric:
    """Publish single messages to intake, and wait until their signals are acknowledged by hosts."""
    connection = await Connection.open(opened.nats_url, name="bench")
    publisher = IntakePublisher(connection, workspace=WORKSPACE, source=SOURCE)
    api, numbers = JetStreamApi(connection), count()

    async def publish_all(made: Sequence[int]) -> None:
        now = datetime.now(UTC)
        await asyncio.gather(
            *(publisher.publish(f"i-{n}", _track(n, size.people), time=now) for n in made)
        )
        async with asyncio.timeout(INTAKE_SECONDS_MAX):
            while not await _is_settled(api):  # noqa: ASYNC110  # the server tells nobody
                await asyncio.sleep(POLL_SECONDS)

    async def ours() -> list[float]:
        made = [next(numbers) for _ in range(size.intake_messages)]
        return await rate_of(len(made), publish_all(made))

    async def plain() -> list[float]:
        messages = size.intake_messages
        return await rate_of(messages, raw.plain_publishes(messages, outstanding=OUTSTANDING))

    found = await alternate(size.rounds, ours=ours, raw=plain)
    await connection.close()
    return Metric(found["ours"], "messages/s", found["raw"])


def _track(number: int, people: int) -> dict[str, object]:
    return {
        "type": "track",
        "event": "Order Completed",
        "userId": f"person-{number % people}",
        "messageId": f"intake-{number}",
        "properties": {"order_id": str(number), "total": number % 100},
    }


async def _is_settled(api: JetStreamApi) -> bool:
    """Whether the workers have acknowledged every message that intake holds."""
    for place in range(INTAKE_STREAMS):
        told = await api.call(f"CONSUMER.INFO.{stream_name(WORKSPACE, place)}.{CONSUMER}")
        if told["num_pending"] or told["num_ack_pending"]:
            return False
    return True
