"""`IngestStream` over a real server: the outcomes of `Ingest`, many requests in flight on one call.

Whatever ends a stream, what was answered is stored, and what was not may be sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from domain.signal_events import SignalsRecorded
from eventlog.memory import MemoryEventLog
from koseki.v1 import ingest_service_pb2, ingest_service_pb2_grpc
from services.client import reason_of
from services.exchanges import ExchangeLimits
from tests.services.edge import SECONDS, Edge, edge_over, refused, signal, user
from tests.services.test_ingest import BAD, DUPLICATE, INVALID, RECORDED
from tests.support.proxy import proxy_to
from tests.support.waiting import until, until_async


class Stream:
    """One call of `IngestStream`, and the numbers of its requests."""

    def __init__(self, edge: Edge, channel: grpc.aio.Channel | None = None) -> None:
        stub = ingest_service_pb2_grpc.IngestServiceStub(channel or edge.channel)
        self.call = stub.IngestStream(timeout=SECONDS)
        self.sent = 0

    async def send(self, *signals: Any, **fields: Any) -> int:
        """Send a request of the shop; give its number."""
        self.sent += 1
        batch = ingest_service_pb2.IngestRequest(**{"source": "shop", "signals": signals} | fields)
        request = ingest_service_pb2.IngestStreamRequest(sequence=self.sent, batch=batch)
        await self.call.write(request)
        return self.sent

    async def answer(self) -> ingest_service_pb2.IngestStreamResponse:
        """Wait for an answer."""
        answer = await self.call.read()
        assert isinstance(answer, ingest_service_pb2.IngestStreamResponse), "the stream has ended"
        return answer

    async def rest(self) -> dict[int, ingest_service_pb2.IngestStreamResponse]:
        """Close this side, and give what was still answered, by the request."""
        await self.call.done_writing()
        answers = {}
        while isinstance(answer := await self.call.read(), ingest_service_pb2.IngestStreamResponse):
            answers[answer.sequence] = answer
        return answers

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """Wait for the stream's end; give its status and reason."""
        found = await refused(self.call.read())
        assert found is not None, "the stream goes on"
        return found.code, found.reason


@asynccontextmanager
async def limited(folder: Path, **limits: Any) -> AsyncIterator[Edge]:
    """Serve under other limits."""
    log = MemoryEventLog("test")
    async with edge_over(log, folder / "read-side", limits=ExchangeLimits(**limits)) as edge:
        await edge.define_rules()
        yield edge


async def stored_messages(edge: Edge) -> list[str]:
    """List the message ids in the log, as often as each stands there."""
    bodies = [event.body for event in await edge.house.events()]
    recorded = [body for body in bodies if isinstance(body, SignalsRecorded)]
    return sorted(signal.message_id for body in recorded for signal in body.signals)


def results(answer: ingest_service_pb2.IngestStreamResponse) -> Sequence[int]:
    """Give what became of the signals of a request."""
    assert answer.WhichOneof("outcome") == "done", answer
    return [outcome.result for outcome in answer.done.outcomes]


async def test_every_request_is_answered_by_its_number_and_durable_then(
    jetstream_edge: Edge,
) -> None:
    stream = Stream(jetstream_edge)
    for n in range(50):
        await stream.send(signal(f"m{n}", user(str(n % 7)), cds=1))
    answers = await stream.rest()
    assert answers.keys() == set(range(1, 51))
    assert {result for answer in answers.values() for result in results(answer)} == {RECORDED}
    assert await stored_messages(jetstream_edge) == sorted(f"m{n}" for n in range(50))
    last = max(o.revision for answer in answers.values() for o in answer.done.outcomes)
    seen = await jetstream_edge.get(user("3"), at_least_revision=last)
    assert [dict(tally.sums) for tally in seen.signals] == [{"cds": "7"}]


async def test_bad_items_and_bad_requests_hold_up_nothing(edge: Edge) -> None:
    stream = Stream(edge)
    await stream.send(signal("m1", user("1")))
    for wrong, _ in BAD.values():
        await stream.send(signal("before", user("2")), wrong, signal("after", user("2")))
    refused_whole = {
        await stream.send(): "INVALID_FIELD",
        await stream.send(signal("m2", user("1")), source=""): "INVALID_FIELD",
        await stream.send(signal("m2", user("1")), source="nowhere"): "UNKNOWN_SOURCE",
        await stream.send(signal("m2", user("1")), workspace="other"): "UNKNOWN_WORKSPACE",
    }
    last = await stream.send(signal("m3", user("1")))
    answers = await stream.rest()
    for place, (_, reason) in enumerate(BAD.values()):
        before, spoilt, after = answers[place + 2].done.outcomes
        assert (spoilt.result, spoilt.reason) == (INVALID, reason)
        assert {before.result, after.result} <= {RECORDED, DUPLICATE}
    assert {n: answers[n].failure.reason for n in refused_whole} == refused_whole
    assert results(answers[1]) == results(answers[last]) == [RECORDED]
    assert await stored_messages(edge) == ["after", "before", "m1", "m3"]


def hold(edge: Edge) -> asyncio.Event:
    """Hold up what is on its way to the hosts, until the event is set."""
    edge.house.link.gate = asyncio.Event()
    return edge.house.link.gate


async def test_a_request_that_takes_long_holds_up_no_other(edge: Edge) -> None:
    stream = Stream(edge)
    held = hold(edge)
    slow = await stream.send(signal("m1", user("1")))
    quick = await stream.send()  # no host hears of it
    assert (await stream.answer()).sequence == quick
    held.set()
    assert (await stream.answer()).sequence == slow


async def send_many(stream: Stream, requests: int, *, characters: int) -> None:
    """Send requests whose answers are large, and cost no host anything."""
    signals = [signal("x" * characters, user("")) for _ in range(1_000)]
    for _ in range(requests):
        await stream.send(*signals)


async def test_a_caller_that_does_not_read_is_held_up_and_then_told_everything(
    edge: Edge,
) -> None:
    stream = Stream(edge)
    sending = asyncio.create_task(send_many(stream, 80, characters=300))
    done, _ = await asyncio.wait([sending], timeout=1.0)
    assert not done, "the server went on reading"
    answers = [await stream.answer() for _ in range(80)]
    await sending
    assert sorted(answer.sequence for answer in answers) == [*range(1, 81)]
    assert await stream.rest() == {}


async def test_a_caller_that_takes_no_answer_for_too_long_loses_the_stream(tmp_path: Path) -> None:
    async with limited(tmp_path, stalled_seconds=0.2, streams_max=1) as edge:
        stream = Stream(edge)
        await send_many(stream, 8, characters=3_000)
        await until_a_stream_is_free(edge)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await answers_for_ever(stream)
        assert reason_of(ended.value) == "STREAM_STALLED"


async def answers_for_ever(stream: Stream) -> None:
    """Read answers until the stream ends with an error."""
    while True:
        await stream.answer()


async def until_a_stream_is_free(edge: Edge) -> None:
    """Wait until another stream is let in."""

    async def is_free() -> bool:
        other = Stream(edge)
        await other.call.done_writing()
        return await refused(other.call.read()) is None

    await until_async(is_free)


async def test_a_broken_connection_costs_nothing_when_what_was_not_answered_is_sent_again(
    jetstream_edge: Edge,
) -> None:
    messages = [signal(f"m{n:03}", user(str(n % 9)), cds=1) for n in range(200)]
    answered: dict[str, int] = {}
    async with proxy_to(f"grpc://{jetstream_edge.address}") as proxy:
        address = proxy.url.removeprefix("nats://")
        async with grpc.aio.insecure_channel(address) as channel:
            stream = Stream(jetstream_edge, channel)
            for message in messages:
                await stream.send(message)
            for _ in range(20):
                answered |= told(await stream.answer())
            proxy.cut()
            with suppress(grpc.aio.AioRpcError):
                while True:  # what had arrived before
                    answered |= told(await stream.answer())
    assert set(answered) <= set(await stored_messages(jetstream_edge))
    again = Stream(jetstream_edge)
    for message in messages:
        if message.message_id not in answered:
            await again.send(message)
    for answer in (await again.rest()).values():
        answered |= told(answer)
    assert set(answered) == {message.message_id for message in messages}
    assert await stored_messages(jetstream_edge) == sorted(answered)
    last = max(answered.values())
    seen = await jetstream_edge.get(user("0"), at_least_revision=last)
    assert [dict(tally.sums) for tally in seen.signals] == [{"cds": "23"}]


def told(answer: ingest_service_pb2.IngestStreamResponse) -> dict[str, int]:
    """Give the messages that an answer says are stored, with their revisions."""
    assert set(results(answer)) <= {RECORDED, DUPLICATE}
    return {outcome.message_id: outcome.revision for outcome in answer.done.outcomes}


async def test_a_cancelled_stream_may_be_sent_again_whole(edge: Edge) -> None:
    stream = Stream(edge)
    await stream.send(signal("m1", user("1")))
    first = await stream.answer()
    held = hold(edge)
    for n in range(2, 10):
        await stream.send(signal(f"m{n}", user("1")))
    await until(lambda: edge.house.link.calls > 1)
    stream.call.cancel()
    held.set()
    again = Stream(edge)
    for n in range(1, 10):
        await again.send(signal(f"m{n}", user("1")))
    answers = await again.rest()
    assert results(first) == [RECORDED]
    assert {r for answer in answers.values() for r in results(answer)} <= {RECORDED, DUPLICATE}
    assert await stored_messages(edge) == [f"m{n}" for n in range(1, 10)]


async def test_a_server_that_stops_answers_what_is_in_flight_and_says_so(edge: Edge) -> None:
    stream, held = Stream(edge), hold(edge)
    in_flight = await stream.send(signal("m1", user("1")))
    await until(lambda: edge.house.link.calls > 0)
    stopping = asyncio.create_task(edge.server.stop())
    held.set()
    answer = await stream.answer()
    assert (answer.sequence, results(answer)) == (in_flight, [RECORDED])
    assert await stream.end() == (grpc.StatusCode.UNAVAILABLE, "SERVER_STOPPING")
    await stopping
    assert await stored_messages(edge) == ["m1"]


async def test_a_stream_on_which_nothing_comes_is_ended(tmp_path: Path) -> None:
    async with limited(tmp_path, idle_seconds=0.1) as edge:
        stream = Stream(edge)
        assert await stream.end() == (grpc.StatusCode.UNAVAILABLE, "STREAM_IDLE")


async def test_a_stream_that_waits_for_an_answer_is_not_idle(tmp_path: Path) -> None:
    async with limited(tmp_path, idle_seconds=0.1) as edge:
        stream, held = Stream(edge), hold(edge)
        await stream.send(signal("m1", user("1")))
        reading = asyncio.create_task(stream.answer())
        await asyncio.wait([reading], timeout=0.3)
        held.set()
        assert results(await reading) == [RECORDED]


async def test_more_streams_than_may_be_are_refused(tmp_path: Path) -> None:
    async with limited(tmp_path, streams_max=1) as edge:
        one = Stream(edge)
        await one.send(signal("m1", user("1")))
        assert results(await one.answer()) == [RECORDED]
        other = Stream(edge)
        assert await other.end() == (grpc.StatusCode.UNAVAILABLE, "TOO_MANY_STREAMS")
        await one.rest()
        await until_a_stream_is_free(edge)


@pytest.mark.parametrize("sequence", [0, 1, 2])
async def test_a_number_that_cannot_name_its_answer_ends_the_stream_after_what_is_in_flight(
    edge: Edge, sequence: int
) -> None:
    stream, held = Stream(edge), hold(edge)
    for n in range(2):
        await stream.send(signal(f"m{n}", user("1")))
    await stream.call.write(ingest_service_pb2.IngestStreamRequest(sequence=sequence))
    held.set()
    answers = [await stream.answer(), await stream.answer()]
    assert [results(answer) for answer in answers] == [[RECORDED], [RECORDED]]
    assert await stream.end() == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
