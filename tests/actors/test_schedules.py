"""Random commands through two doubled hosts, with lost answers, against a sequential oracle."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.host import HostLimits
from domain.commands import PersonCommand
from domain.ids import StreamKind
from domain.replies import Done
from domain.signal_events import SignalsRecorded
from tests.actors.house import (
    Workspace,
    check,
    consent,
    identify,
    loyalty,
    track,
    user,
    workspace,
)
from tests.actors.logs import JitteryLog
from tests.actors.oracle import Oracle, tell

START = datetime(2026, 1, 1, tzinfo=UTC)
IDENTIFIERS = [user("a"), loyalty("b"), user("c"), loyalty("d"), user("e")]


class Step(NamedTuple):
    """One command of a schedule: what, on whom, when it happened, and how often it is sent."""

    kind: Literal["track", "identify", "given", "withdrawn", "refused"]
    whom: tuple[int, ...]
    minute: int
    sent: int


STEPS = st.builds(
    Step,
    st.sampled_from(["track", "track", "identify", "given", "withdrawn", "refused"]),
    st.lists(st.integers(0, 4), min_size=1, max_size=2, unique=True).map(tuple),
    st.integers(0, 9),
    st.integers(1, 2),
)


def command_of(number: int, step: Step) -> PersonCommand:
    whom = [IDENTIFIERS[place] for place in step.whom]
    match step.kind:
        case "track":
            return track(f"m{number}", *whom, seconds=60)
        case "identify":
            return identify(*whom, traits={"x": number}, seconds=60)
        case state:
            at = START + timedelta(minutes=step.minute)
            return consent(state, *whom, happened_at=at, seconds=60)


async def until_done(house: Workspace, command: PersonCommand) -> None:
    """Send a command until it is done, through a router of its own."""
    router = house.new_router()
    for _ in range(200):
        if isinstance(await router.execute(command), Done):
            return
    raise AssertionError("the command was never done")


async def run(steps: list[Step], *, seed: int, together: int) -> None:
    """Run a schedule, some commands at once, and compare; restart, and compare again."""
    log = JitteryLog(seed)
    limits = HostLimits(customers_max=2, tries_max=4)
    in_bulk = seed % 2 == 1
    async with workspace(log=log, doubled=True, in_bulk=in_bulk, limits=limits) as house:
        log.trouble = 0.25
        commands = [command_of(number, step) for number, step in enumerate(steps)]
        for start in range(0, len(steps), together):
            batch = zip(commands, steps, strict=True)
            await asyncio.gather(
                *(
                    until_done(house, command)
                    for command, step in list(batch)[start : start + together]
                    for _ in range(step.sent)
                )
            )
        log.trouble = 0.0
        oracle = tell(commands, await house.events())
        await house.both_ways(lambda: compare(house, oracle, steps))


async def compare(house: Workspace, oracle: Oracle, steps: list[Step]) -> None:
    """Compare what both hosts answer with the oracle."""
    answers = {}
    for item in IDENTIFIERS:
        if item.value not in oracle.numbers:
            assert await house.customer_of(item) is None
            continue
        reply = await house.done(check(item))
        assert reply.verdict is not None
        assert reply.verdict.is_open == oracle.is_open(oracle.same_as(item.value)), item
        answers[item.value] = reply.customer_id
    people = defaultdict(set)
    for value, customer in answers.items():
        people[customer].add(value)
    assert {frozenset(values) for values in people.values()} == oracle.people()
    await compare_messages(house, oracle, people)
    tracked = {f"m{number}" for number, step in enumerate(steps) if step.kind == "track"}
    assert await house.messages() == dict.fromkeys(tracked, 1)


async def compare_messages(
    house: Workspace, oracle: Oracle, people: dict[str | None, set[str]]
) -> None:
    """Compare the messages of each person, found by the records that hold them."""
    found: dict[str | None, set[str]] = defaultdict(set)
    for event in await house.events():
        if event.stream.kind is StreamKind.RECORD and isinstance(event.body, SignalsRecorded):
            customer = (await house.done(check(record_id=event.stream.key))).customer_id
            found[customer] |= {signal.message_id for signal in event.body.signals}
    expected = {customer: oracle.messages_of(values) for customer, values in people.items()}
    assert dict(found) == {customer: m for customer, m in expected.items() if m}


@given(st.lists(STEPS, min_size=1, max_size=14), st.integers(0, 10**6), st.integers(1, 8))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
def test_any_schedule_comes_to_what_its_order_in_the_log_says(
    steps: list[Step], seed: int, together: int
) -> None:
    asyncio.run(run(steps, seed=seed, together=together))
