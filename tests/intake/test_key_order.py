"""Messages with a key keep their order, whatever comes again; others wait for nobody."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest

from actors.intake.port import IntakeMessage
from domain.commands import PersonCommand
from domain.errors import Kind
from domain.replies import Done, Failed
from tests.intake.conditions import until
from tests.intake.fakes import RecordingRouter, done, failed, shape
from tests.intake.messages import PREFIX, event, message, track
from tests.intake.test_worker import Scene

KEYS = ("a", "b", "c")


def keyed(number: int, key: str, *, user: str | None = None) -> IntakeMessage:
    """Make a message with a key; each of another person unless one is named."""
    call = track(userId=user or f"u{number}", messageId=f"m{number}")
    return message(event(call), subject=f"{PREFIX}.shop.{key}", sequence=number)


async def test_messages_of_one_key_go_one_after_another_though_of_other_people() -> None:
    router = RecordingRouter()
    messages = [keyed(1, "a"), keyed(2, "a"), keyed(3, "b"), keyed(4, "a")]
    await Scene(messages, router).settle(4)
    assert [[shape(c)[1] for c in call] for call in router.calls] == [
        [["m1"], ["m3"]],
        [["m2"]],
        [["m4"]],
    ]


async def test_a_later_round_waits_for_an_earlier_one_of_its_key_alone() -> None:
    router = RecordingRouter()
    router.gate.clear()
    messages = [keyed(1, "a"), keyed(2, "a"), keyed(3, "b")]
    scene = Scene(messages, router, round_messages_max=1, rounds_in_flight_max=3)
    async with scene.running():
        await until(lambda: router.at_once == 2)
        assert [shape(c)[1] for c in router.commands] == [["m1"], ["m3"]]
        router.gate.set()
        await until(lambda: len(scene.queue.settled) == 3)
    assert [shape(c)[1] for c in router.commands] == [["m1"], ["m3"], ["m2"]]


async def test_who_is_behind_one_that_comes_again_comes_again_too() -> None:
    tries: Counter[str] = Counter()

    def answer(command: PersonCommand) -> Done | Failed:
        [name] = shape(command)[1]
        tries[name] += 1
        return (
            done(command) if name != "m1" or tries[name] > 2 else failed(Kind.UNAVAILABLE, "AWAY")
        )

    router = RecordingRouter(answer)
    messages = [keyed(1, "a"), keyed(2, "a"), keyed(3, "b")]
    scene = Scene(messages, router, round_messages_max=1, nak_delay_seconds=0.0)
    await scene.settle(3)
    names = [shape(c)[1][0] for c in router.commands]
    assert [name for name in names if name != "m3"] == ["m1", "m1", "m1", "m2"]
    assert names.count("m3") == 1


async def test_a_dead_letter_holds_up_nobody() -> None:
    bad = message(b"{no", subject=f"{PREFIX}.shop.a", sequence=1)
    scene = Scene([bad, keyed(2, "a")], router := RecordingRouter())
    await scene.settle(2)
    assert [shape(c)[1] for c in router.commands] == [["m2"]]
    assert scene.dead_letters.reasons == {"1-0": "MALFORMED_JSON"}


@pytest.mark.parametrize("seed", range(5))
async def test_the_order_holds_whatever_fails_and_however_messages_come(seed: int) -> None:
    die = random.Random(seed)
    numbers: dict[str, list[str]] = {key: [] for key in KEYS}
    messages = []
    for number in range(1, 61):
        key = die.choice(KEYS)
        numbers[key].append(f"m{number}")
        messages.append(keyed(number, key, user=die.choice("xyz")))

    def answer(command: PersonCommand) -> Done | Failed:
        return failed(Kind.UNAVAILABLE, "AWAY") if die.random() < 0.3 else done(command)

    router = RecordingRouter(answer)
    scene = Scene(messages, router, round_messages_max=7, nak_delay_seconds=0.0)
    carried_out: defaultdict[str, list[str]] = defaultdict(list)
    key_of = {name: key for key, names in numbers.items() for name in names}

    def noted(command: PersonCommand) -> Done | Failed:
        reply = answer(command)
        if isinstance(reply, Done):
            for name in shape(command)[1]:
                carried_out[key_of[name]].append(name)
        return reply

    router.answer = noted
    await scene.settle(60)
    for key in KEYS:
        firsts = list(dict.fromkeys(carried_out[key]))
        assert firsts == numbers[key]
