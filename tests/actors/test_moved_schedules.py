"""Random commands while identifiers change hands, each sent again at any time and to any host.

Whatever happens in between, a command is carried out once, and a message is recorded once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.host import HostLimits
from domain.commands import PersonCommand, UndoMerge
from domain.identity import Identifier
from domain.identity_rules import DEFAULT_IDENTITY_RULES, IdentityRules
from domain.replies import Done
from tests.actors.house import (
    CLOCK,
    WIDE,
    Workspace,
    asked,
    consent,
    identify,
    loyalty,
    track,
    traits,
    user,
    workspace,
)
from tests.actors.test_moved_identifiers import erase, link, readmit, second_router, unlink

IDENTIFIERS = [user("a"), loyalty("b"), user("c"), loyalty("d")]


class Step(NamedTuple):
    """What is sent, with which identifiers, to which host, and which earlier one is sent again."""

    kind: str
    whom: tuple[int, ...]
    host: int
    earlier: int


MAKE: dict[str, Callable[..., PersonCommand]] = {
    "identify": lambda number, *whom: identify(*whom, traits={"x": number}, seconds=60),
    "traits": lambda _, first, *_more: traits(first, seconds=60),
    "link": lambda _, *whom: link(*whom),
    "consent": lambda _, *whom: consent("given", *whom, seconds=60),
    "track": lambda number, *whom: track(f"m{number}", *whom, seconds=60),
    "unlink": lambda _, first, *_more: unlink(first),
    "erase": lambda _, first, *_more: erase(first),
    "readmit": lambda _, first, *_more: readmit(first),
}
KINDS = ["identify", "traits", "link", "consent", "undo"] + ["unlink", "again"] * 4
ERASING = ["erase", "readmit", "readmit"]
"""Not beside signals alone: they are known by their messages, which nobody knows once erased."""


def steps(kinds: list[str]) -> st.SearchStrategy[list[Step]]:
    return st.lists(
        st.builds(
            Step,
            st.sampled_from(kinds),
            st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True).map(tuple),
            st.integers(0, 1),
            st.integers(0, 20),
        ),
        min_size=4,
        max_size=16,
    )


async def run(course: list[Step], identity: IdentityRules) -> None:
    """Send everything, then all of it again, before and after a restart."""
    limits = HostLimits(customers_max=3)
    async with workspace(doubled=True, limits=limits, identity=identity) as house:
        routers = [house.router, second_router(house)]
        sent: list[PersonCommand] = []
        merges: list[tuple[str | None, str]] = []
        for number, step in enumerate(course):
            command = command_of(number, step, sent, merges)
            sent.append(command)
            reply = await routers[step.host].execute(command)
            if isinstance(reply, Done):
                merges += [(reply.customer_id, merge_id) for merge_id in reply.merge_ids]

        async def again() -> None:
            for command in sent:
                await house.router.execute(command)
            await once(house)

        await house.both_ways(again)


def command_of(
    number: int, step: Step, sent: list[PersonCommand], merges: list[tuple[str | None, str]]
) -> PersonCommand:
    whom: list[Identifier] = [IDENTIFIERS[place] for place in step.whom]
    if step.kind == "undo" and merges:
        customer_id, merge_id = merges[step.earlier % len(merges)]
        ids = {"new_record_id": CLOCK.new_id(), "record_id": customer_id, "merge_id": merge_id}
        return UndoMerge(**asked({"seconds": 60}), **ids)
    if step.kind == "again" and sent:
        return sent[step.earlier % len(sent)]
    return MAKE.get(step.kind, MAKE["traits"])(number, *whom)


async def once(house: Workspace) -> None:
    """Require that each command is one decision, and each message stands in the log once."""
    decisions = defaultdict(set)
    for event in await house.events():
        decisions[event.command_id].add(event.decision_id)
    assert [command for command, made in decisions.items() if len(made) > 1] == []
    assert [m for m, times in (await house.messages()).items() if times > 1] == []


PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@pytest.mark.parametrize("identity", [WIDE, DEFAULT_IDENTITY_RULES], ids=["wide", "strict"])
@given(steps([*KINDS, "track", "track"]))
@PROPERTY
def test_whatever_is_sent_again_is_carried_out_once(
    identity: IdentityRules, course: list[Step]
) -> None:
    asyncio.run(run(course, identity))


@given(steps([*KINDS, *ERASING]))
@PROPERTY
def test_and_so_it_is_past_erasures(course: list[Step]) -> None:
    asyncio.run(run(course, WIDE))
