"""The ingest worker: what it asks for, in which order, and when it settles a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from actors.intake.cloud_events import decode_message
from actors.intake.port import CommandRouter, IntakeMessage
from actors.intake.worker import IngestWorker, WorkerLimits
from domain.commands import Identify, PersonCommand, RecordSignals
from domain.errors import Kind
from domain.replies import Done, Failed, SignalResult
from tests.intake.conditions import until
from tests.intake.fakes import (
    CountingClock,
    MemoryDeadLetters,
    MemoryQueue,
    RecordingRouter,
    done,
    failed,
    shape,
)
from tests.intake.messages import NORMALISER, PREFIX, event, identify, message, track

BATCH = {"content-type": "application/cloudevents-batch+json"}


class Scene:
    """A worker among ports in memory."""

    def __init__(
        self,
        messages: Sequence[IntakeMessage],
        router: CommandRouter,
        *,
        ack_wait_seconds: float = 30.0,
        **limits: Any,
    ) -> None:
        self.queue = MemoryQueue(messages, ack_wait_seconds=ack_wait_seconds)
        self.dead_letters = MemoryDeadLetters()
        self.worker = IngestWorker(
            self.queue,
            self.dead_letters,
            router=router,
            decode=partial(decode_message, normaliser=NORMALISER),
            clock=CountingClock(),
            subject_prefix=PREFIX,
            limits=WorkerLimits(**{"pull_wait_seconds": 0.05, "gather_seconds": 0.0, **limits}),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.worker.run())
        try:
            yield
        finally:
            self.worker.stop()
            await asyncio.wait_for(task, 10)

    async def settle(self, count: int) -> None:
        async with self.running():
            await until(lambda: len(self.queue.settled) >= count)


def tracks(*users: str) -> list[IntakeMessage]:
    return [
        message(event(track(userId=user, messageId=f"m{n}")), sequence=n)
        for n, user in enumerate(users, start=1)
    ]


async def test_signals_of_one_person_in_a_round_become_one_command() -> None:
    router = RecordingRouter()
    await Scene(tracks("1", "2", "1", "1"), router).settle(4)
    assert [shape(c) for c in router.commands] == [("1", ["m1", "m3", "m4"]), ("2", ["m2"])]
    command = router.commands[0]
    assert isinstance(command, RecordSignals)
    assert (command.source, command.auth_id) == ("shop", "intake")
    assert (command.deadline - command.issued_at).total_seconds() == 30


async def test_what_shares_an_identifier_is_never_reordered() -> None:
    both = {"userId": "1", "anonymousId": "a"}
    calls = [
        track(userId="1", messageId="m1"),
        identify(**both, messageId="m2", traits={"x": 1}),
        track(userId="1", messageId="m3"),
        track(userId=None, anonymousId="a", messageId="m4"),
        track(userId="2", messageId="m5"),
        track(**both, messageId="m6"),
        track(userId="1", messageId="m7"),
    ]
    messages = [message(event(call), sequence=n) for n, call in enumerate(calls, start=1)]
    router = RecordingRouter()
    await Scene(messages, router).settle(7)
    assert [[shape(c)[1] for c in call] for call in router.calls] == [
        [["m1"], ["m5"]],
        [["identify m2"]],
        [["m3"], ["m4"]],
        [["m6"]],
        [["m7"]],
    ]
    identified = router.calls[1][0]
    assert isinstance(identified, Identify)
    assert identified.on_closed == "decline"
    assert identified.traits == {"x": 1}


async def test_sources_and_large_groups_are_kept_apart() -> None:
    batch = [event(track(messageId=f"m{n}")) for n in range(501)]
    messages = [
        message(batch, headers=BATCH),
        message(event(track(messageId="other")), subject=f"{PREFIX}.web", sequence=2),
    ]
    router = RecordingRouter()
    await Scene(messages, router).settle(2)
    sizes = [len(c.signals) for c in router.commands if isinstance(c, RecordSignals)]
    assert sizes == [500, 1, 1]
    assert router.commands[2].model_dump()["source"] == "web"


async def test_a_command_stays_below_what_one_event_can_hold() -> None:
    call = track(properties={"text": "x" * 150_000})
    messages = [message(event({**call, "messageId": f"m{n}"}), sequence=n) for n in range(1, 6)]
    router = RecordingRouter()
    await Scene(messages, router).settle(5)
    assert [len(shape(c)[1]) for c in router.commands] == [2, 2, 1]


async def test_results_are_counted_by_what_became_of_each_message() -> None:
    def answer(command: PersonCommand) -> Done:
        results: dict[str, SignalResult] = {"1": "recorded", "2": "duplicate", "3": "declined"}
        return done(command, results[shape(command)[0]])

    scene = Scene(tracks("1", "2", "3", "3"), RecordingRouter(answer))
    await scene.settle(4)
    report = scene.worker.counters.report()
    assert (report.received, report.recorded, report.duplicates) == (4, 1, 1)
    assert report.declined == {"shop/PURPOSE_CLOSED": 2}
    assert (report.redelivered, report.retried, report.in_flight) == (0, 0, 0)
    assert report.as_dict()["dead_lettered"] == {}


async def test_what_cannot_be_used_is_kept_with_its_reason_and_the_rest_goes_on() -> None:
    messages = [
        message(b"{", sequence=1),
        message(event(track()), subject=f"{PREFIX}.*", sequence=2),
        message(
            [event(track(messageId="good")), event(track(userId=""))], headers=BATCH, sequence=3
        ),
        message(event(track(), id=None), sequence=4),
        message(event(track(messageId="last")), sequence=5),
    ]
    router = RecordingRouter()
    scene = Scene(messages, router)
    await scene.settle(5)
    assert scene.dead_letters.reasons == {
        "1-0": "MALFORMED_JSON",
        "2-0": "INVALID_SOURCE",
        "3-1": "EMPTY_IDENTIFIER",
        "4-0": "MISSING_ID",
    }
    assert [shape(c)[1] for c in router.commands] == [["good", "last"]]
    assert scene.worker.counters.dead_lettered["MALFORMED_JSON"] == 1


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Kind.NOT_FOUND, "UNKNOWN_SOURCE"), (Kind.INVALID, "X"), (Kind.REFUSED, "IDENTIFIER_LIMIT")],
)
async def test_a_final_failure_becomes_a_dead_letter(kind: Kind, reason: str) -> None:
    scene = Scene(tracks("1", "1"), RecordingRouter(lambda _: failed(kind, reason)))
    await scene.settle(2)
    assert scene.dead_letters.reasons == {"1-0": reason, "2-0": reason}


async def test_one_refused_signal_does_not_take_its_neighbours_with_it() -> None:
    def answer(command: PersonCommand) -> Done | Failed:
        return failed(Kind.INVALID, "BAD") if "m37" in shape(command)[1] else done(command)

    router = RecordingRouter(answer)
    scene = Scene(tracks(*["1"] * 100), router)
    await scene.settle(100)
    assert scene.dead_letters.reasons == {"37-0": "BAD"}
    assert scene.worker.counters.recorded == 99
    assert len(router.calls) < 20


@pytest.mark.parametrize("kind", [Kind.CONFLICT, Kind.UNAVAILABLE, Kind.UNKNOWN_OUTCOME])
async def test_what_may_still_succeed_comes_again_and_is_not_acknowledged_before(
    kind: Kind,
) -> None:
    tries = 0

    def answer(command: PersonCommand) -> Done | Failed:
        nonlocal tries
        if shape(command)[0] == "2":
            return done(command)
        tries += 1
        return done(command) if tries > 2 else failed(kind, "NOT_NOW")

    scene = Scene(tracks("1", "2"), RecordingRouter(answer), nak_delay_seconds=0.5)
    await scene.settle(2)
    assert [m.sequence for m in scene.queue.settled] == [2, 1]
    assert scene.queue.naks == [(1, 0.5), (1, 1.0)]
    counters = scene.worker.counters
    assert (counters.received, counters.redelivered, counters.retried) == (4, 2, 2)
    assert scene.dead_letters.kept == {}


async def test_nothing_overtakes_what_comes_again() -> None:
    tries = 0

    def answer(command: PersonCommand) -> Done | Failed:
        nonlocal tries
        tries += 1
        return failed(Kind.UNAVAILABLE, "AWAY") if tries == 1 else done(command)

    router = RecordingRouter(answer)
    first, second = tracks("1", "1")
    second = message(event(identify(messageId="m2")), sequence=2)
    await Scene([first, second], router).settle(2)
    assert [shape(c)[1] for c in router.commands] == [["m1"], ["m1"], ["identify m2"]]


async def test_a_message_waits_for_every_item_of_it() -> None:
    tries = 0

    def answer(command: PersonCommand) -> Done | Failed:
        nonlocal tries
        if shape(command)[0] == "1":
            return done(command)
        tries += 1
        return done(command) if tries > 1 else failed(Kind.UNAVAILABLE, "AWAY")

    items = [event(track(userId=user, messageId=user or "x")) for user in ("1", "2", "")]
    scene = Scene([message(items, headers=BATCH)], RecordingRouter(answer))
    await scene.settle(1)
    assert [m.deliveries for m in scene.queue.settled] == [2]
    assert scene.dead_letters.reasons == {"1-2": "EMPTY_IDENTIFIER"}
    assert scene.worker.counters.dead_lettered.total() == 1


async def test_a_dead_letter_that_cannot_be_kept_is_not_acknowledged() -> None:
    scene = Scene([message(b"{")], RecordingRouter())
    scene.dead_letters.puts_failing = 1
    await scene.settle(1)
    assert scene.queue.settled[0].deliveries == 2
    assert scene.dead_letters.reasons == {"1-0": "MALFORMED_JSON"}


async def test_a_router_that_breaks_loses_nothing() -> None:
    class Broken(RecordingRouter):
        async def execute_many(self, commands: Sequence[PersonCommand]) -> Sequence[Done | Failed]:
            if not self.calls:
                self.calls.append([])
                raise RuntimeError
            return await super().execute_many(commands)

    scene = Scene(tracks("1", "2"), Broken())
    await scene.settle(2)
    assert [m.deliveries for m in scene.queue.settled] == [2, 2]


async def test_a_queue_that_was_away_is_asked_again() -> None:
    scene = Scene(tracks("1"), RecordingRouter())
    scene.queue.pulls_failing = 2
    await scene.settle(1)


async def test_answers_are_sent_again_when_the_queue_is_back() -> None:
    router = RecordingRouter()
    scene = Scene(tracks("1"), router)
    scene.queue.answers_failing = 2
    await scene.settle(1)
    assert [m.deliveries for m in scene.queue.settled] == [1]
    assert len(router.commands) == 1


async def test_rounds_overlap_up_to_their_limit_and_long_ones_ask_for_time() -> None:
    router = RecordingRouter()
    router.gate.clear()
    people = [str(n) for n in range(10)]
    scene = Scene(
        tracks(*people), router, round_messages_max=2, rounds_in_flight_max=3, ack_wait_seconds=0.06
    )
    async with scene.running():
        await until(lambda: len(scene.queue.prolonged) >= 12)
        assert scene.worker.counters.in_flight == 6
        assert scene.queue.settled == []
        assert set(scene.queue.prolonged) == {1, 2, 3, 4, 5, 6}
        router.gate.set()
        await until(lambda: len(scene.queue.settled) == 10)
    assert router.at_once_max == 3


async def test_stopping_finishes_what_is_in_flight() -> None:
    router = RecordingRouter()
    router.gate.clear()
    scene = Scene(tracks("1"), router)
    task = asyncio.create_task(scene.worker.run())
    await until(lambda: router.at_once == 1)
    scene.worker.stop()
    router.gate.set()
    await asyncio.wait_for(task, 10)
    assert len(scene.queue.settled) == 1
