"""Intake on a real nats-server: good and bad messages, redelivery, kills, dead letters."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats
import nats.errors
import orjson
import pytest

from actors.intake.dead_letters import send_again
from actors.intake.jetstream import JetStreamIntake
from actors.intake.port import RejectedMessage
from domain.commands import PersonCommand
from domain.errors import Kind
from domain.replies import Done, Failed
from tests.intake.conditions import until
from tests.intake.fakes import RecordingRouter, done, failed, shape
from tests.intake.messages import PREFIX, RECEIVED_AT, event, track
from tests.intake.running import Intake
from tests.support.sealed import files_with


def unknown_unless_shop(command: PersonCommand) -> Done | Failed:
    if command.model_dump()["source"] != "shop":
        return failed(Kind.NOT_FOUND, "UNKNOWN_SOURCE")
    return done(command)


async def test_the_next_good_message_goes_through_whatever_came_before(intake: Intake) -> None:
    router = RecordingRouter(unknown_unless_shop)
    bad: dict[str, tuple[object, str]] = {
        "MALFORMED_JSON": (b"{not json", "shop"),
        "MISSING_ID": (event(track(), id=None), "shop"),
        "UNKNOWN_SOURCE": (event(track()), "nobody"),
        "EMPTY_IDENTIFIER": (event(track(userId="")), "shop"),
        "INVALID_MESSAGE_ID": (event(track(messageId="a\u0000\u001b")), "shop"),
        "TOO_LARGE": (event(track(properties={"x": "y" * 400_000})), "shop"),
        "INVALID_SOURCE": (event(track()), "*"),
    }
    async with intake.working(router) as worker:
        for reason, (body, source) in bad.items():
            await intake.publish(body, source=source)
            await intake.publish(event(track(messageId=f"after {reason}")))
            await until(intake.is_drained)
            assert worker.counters.dead_lettered[reason] == 1
            assert shape(router.commands[-1]) == ("1", [f"after {reason}"])
        for source in ("sh*p", "shop.a.b", ">", "Shop"):
            await intake.publish(event(track()), source=source)
        await until(intake.is_drained)
    letters = await intake.dead_letters.list()
    assert [letter.reason for letter in letters] == [*bad, *["INVALID_SOURCE"] * 4]


async def test_a_message_larger_than_the_server_takes_is_refused_to_its_publisher(
    intake: Intake,
) -> None:
    publisher = await nats.connect(intake.server.url)
    with pytest.raises(nats.errors.MaxPayloadError):
        await publisher.publish(f"{PREFIX}.shop", b"x" * 2_000_000)
    with pytest.raises(nats.errors.BadSubjectError):
        await publisher.publish(f"{PREFIX}.sh op", b"{}")
    await publisher.close()


async def test_a_message_is_acknowledged_only_after_its_command(intake: Intake) -> None:
    router = RecordingRouter()
    router.gate.clear()
    await intake.publish(event(track()))
    async with intake.working(router):
        await until(lambda: router.at_once == 1)
        stats = await intake.queue.stats()
        assert (stats.pending, stats.ack_pending) == (0, 1)
        router.gate.set()
        await until(intake.is_drained)
    assert len(router.commands) == 1


async def test_what_was_given_back_comes_again_and_is_counted(intake: Intake) -> None:
    tries = 0

    def answer(command: PersonCommand) -> Done | Failed:
        nonlocal tries
        tries += 1
        return done(command) if tries > 2 else failed(Kind.UNAVAILABLE, "AWAY")

    await intake.publish(event(track()))
    async with intake.working(RecordingRouter(answer)) as worker:
        await until(intake.is_drained)
        assert (worker.counters.redelivered, worker.counters.recorded) == (2, 1)


async def test_what_a_dead_worker_held_is_delivered_again(intake: Intake) -> None:
    await intake.publish(event(track(messageId="m1")))
    held = await intake.queue.pull(batch_messages_max=10, wait_seconds=2, gather_seconds=0)
    assert [message.deliveries for message in held] == [1]
    router = RecordingRouter()
    async with intake.working(router) as worker:
        await until(intake.is_drained)
        assert worker.counters.redelivered == 1
    assert len(router.commands) == 1


async def test_a_killed_server_loses_nothing_that_was_published(intake: Intake) -> None:
    router = RecordingRouter()
    for n in range(50):
        await intake.publish(event(track(userId=str(n), messageId=f"m{n}")))
    router.gate.clear()
    async with intake.working(router):
        await until(lambda: router.at_once == 1)
        await intake.server.kill()
        router.gate.set()
        await intake.server.wait_ready(timeout_seconds=20)
        await intake.connection.wait_connected(timeout_seconds=20)
        await intake.publish(event(track(userId="50", messageId="m50")))
        await until(intake.is_drained, timeout_seconds=20)
    assert {command.identifiers[0].value for command in router.commands} == {
        str(n) for n in range(51)
    }


async def test_a_publishers_headers_cannot_pass_for_the_servers(intake: Intake) -> None:
    router = RecordingRouter()
    await intake.publish(event(track()), headers={"Status": "404"})
    async with intake.working(router):
        await until(lambda: len(router.commands) == 1)


async def test_a_full_intake_refuses_instead_of_losing(intake: Intake) -> None:
    small = JetStreamIntake(intake.connection, workspace="small", bytes_max=20_000)
    await small.open()
    body = orjson.dumps(event(track(properties={"x": "y" * 6_000})))
    answers = [
        orjson.loads(
            (
                await intake.connection.request("koseki.small.ingest.shop", body, timeout_seconds=5)
            ).data
        )
        for _ in range(5)
    ]
    stored = [answer for answer in answers if "error" not in answer]
    assert 0 < len(stored) < 5
    messages = await small.pull(batch_messages_max=10, wait_seconds=2, gather_seconds=0)
    assert len(messages) == len(stored)
    await small.ack(messages)

    async def settled() -> bool:
        return (await small.stats()).is_drained

    await until(settled)
    assert await small.trim(settled_before=datetime(2020, 1, 1, tzinfo=UTC)) == len(stored)
    await small.close()


async def test_trimming_forgets_only_what_is_settled_and_old(intake: Intake) -> None:
    for n in range(6):
        await intake.publish(event(track(messageId=f"m{n}")))
    messages = await intake.queue.pull(batch_messages_max=6, wait_seconds=2, gather_seconds=0)
    await intake.queue.ack(messages[:4])

    async def acknowledged() -> bool:
        return (await intake.queue.stats()).ack_pending == 2

    await until(acknowledged)
    assert await intake.queue.trim(settled_before=messages[2].received_at) == 2
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert await intake.queue.trim(settled_before=soon) == 2
    assert await intake.queue.trim(settled_before=soon) == 0
    assert (await intake.queue.stats()).kept_messages == 2


async def test_the_bytes_of_what_was_trimmed_leave_the_disk_with_newer_ones_beside_them(
    intake: Intake, tmp_path: Path
) -> None:
    for n in range(3):
        await intake.publish(event(track(messageId=f"planted-{n}")))
    messages = await intake.queue.pull(batch_messages_max=3, wait_seconds=2, gather_seconds=0)
    await intake.queue.ack(messages)
    await intake.publish(event(track(messageId="newer")))
    assert files_with(tmp_path, b"planted-1")

    async def settled() -> bool:
        return (await intake.queue.stats()).ack_pending == 0

    await until(settled)
    assert await intake.queue.trim(settled_before=datetime.now(UTC)) == 3
    assert not files_with(tmp_path, b"planted-")
    assert files_with(tmp_path, b"newer")
    (left,) = await intake.queue.pull(batch_messages_max=3, wait_seconds=2, gather_seconds=0)
    assert b"newer" in left.data


def rejected(origin: str, data: bytes, **fields: str) -> RejectedMessage:
    return RejectedMessage(
        origin=origin,
        reason=fields.get("reason", "MALFORMED_JSON"),
        subject=f"{PREFIX}.shop",
        headers={"content-type": fields.get("content_type", "application/json")},
        data=data,
        received_at=RECEIVED_AT,
    )


async def test_dead_letters_are_kept_whole_listed_and_shown(intake: Intake) -> None:
    store = intake.dead_letters
    await store.put(rejected("1-0", b"\x00\xff\n{", reason="MALFORMED_JSON"))
    await store.put(rejected("2-0", b"{}", reason="MISSING_ID"))
    await store.put(rejected("2-0", b"{}", reason="MISSING_ID"))
    await store.put(rejected("3-0", b"", reason="not a reason"))
    letters = await store.list()
    assert [letter.reason for letter in letters] == [
        "MALFORMED_JSON",
        "MISSING_ID",
        "UNNAMED_REASON",
    ]
    first = letters[0]
    assert (first.data, first.data_bytes, first.is_truncated) == (b"\x00\xff\n{", 4, False)
    assert (first.subject, first.received_at) == (f"{PREFIX}.shop", RECEIVED_AT)
    assert first.headers == {"content-type": "application/json"}
    assert await store.get(first.sequence) == first
    assert await store.get(99) is None
    assert await store.list(reason="MISSING_ID") == [letters[1]]
    assert await store.list(after_sequence=first.sequence, limit=1) == [letters[1]]


async def test_a_dead_letter_that_does_not_fit_is_cut_and_says_so(intake: Intake) -> None:
    size = intake.connection.payload_bytes_max
    await intake.dead_letters.put(
        rejected("1-0", b"x" * size, reason="TOO_LARGE", content_type="y" * 100_000)
    )
    (letter,) = await intake.dead_letters.list()
    assert letter.is_truncated
    assert letter.data_bytes == size
    assert 900_000 < len(letter.data) < size
    assert letter.headers == {}


async def test_a_dead_letter_is_sent_again_as_it_came_and_marked(intake: Intake) -> None:
    store = intake.dead_letters
    data = orjson.dumps({"specversion": "1.0"})
    sent = rejected("1-0", data, reason="UNKNOWN_SOURCE", content_type="application/cloudevents")
    await store.put(replace(sent, headers={**sent.headers, "Nats-Msg-Id": "theirs"}))
    (letter,) = await store.list()
    assert not await store.is_replayed(letter.sequence)
    await send_again(intake.connection, letter)
    await store.mark_replayed(letter)
    assert await store.is_replayed(letter.sequence)
    assert not await store.is_replayed(letter.sequence + 1)
    assert await store.list() == [letter]
    assert await store.get(letter.sequence + 1) is None
    (taken,) = await intake.queue.pull(batch_messages_max=5, wait_seconds=2, gather_seconds=0)
    assert (taken.subject, taken.data) == (letter.subject, data)
    assert taken.headers["content-type"] == "application/cloudevents"
    assert "Nats-Msg-Id" not in taken.headers
