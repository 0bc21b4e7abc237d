"""Who shares a turn, who waits, and who may go when it is over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.messages import Routed
from actors.rounds import COMMANDS_PER_TURN_MAX, Answers, TurnKeeper, Waiting
from domain.ids import RecordId
from domain.replies import Failed
from tests.actors.house import track, user


@pytest.fixture
def keeper() -> TurnKeeper:
    return TurnKeeper()


def waiting(*roots: str, new: str = "", **said: Any) -> Waiting:
    """Make a command that means customers, and perhaps an identifier that nobody holds."""
    identifiers = (user(new),) if new else ()
    command = track("m", *identifiers)
    owned = Waiting(Routed(command=command, owners={}), Answers(1), 0, **said)
    owned.roots = frozenset(RecordId(root) for root in roots)
    return owned


async def test_commands_on_different_customers_take_turns_of_their_own(
    keeper: TurnKeeper,
) -> None:
    a, b = waiting("a"), waiting("b")
    assert [turn.commands for turn in keeper.form([a, b])] == [[a], [b]]
    assert keeper.is_busy("a")
    assert not keeper.is_busy("c")


async def test_commands_on_one_customer_share_a_turn_in_their_order(keeper: TurnKeeper) -> None:
    commands = [waiting("a") for _ in range(5)]
    (turn,) = keeper.form(commands)
    assert turn.commands == commands


async def test_commands_with_the_same_unheld_identifier_share_a_turn(keeper: TurnKeeper) -> None:
    (turn,) = keeper.form([waiting(new="x"), waiting(new="x")])
    assert len(turn.commands) == 2


async def test_a_command_on_two_customers_brings_their_turns_together(keeper: TurnKeeper) -> None:
    a, b, both = waiting("a"), waiting("b"), waiting("a", "b")
    (turn,) = keeper.form([a, b, both])
    assert turn.commands in ([a, b, both], [b, a, both])
    assert turn.keys == {"a", "b"}


async def test_turns_brought_together_hold_64_commands_and_no_more(keeper: TurnKeeper) -> None:
    half = COMMANDS_PER_TURN_MAX // 2
    for extra in (0, 1):
        fresh = TurnKeeper()
        crowd = [waiting("a") for _ in range(half)]
        crowd += [waiting("b") for _ in range(half - 1 + extra)]
        formed = fresh.form([*crowd, waiting("a", "b")])
        assert max(len(turn.commands) for turn in formed) <= COMMANDS_PER_TURN_MAX
        assert len(formed) == 1 + extra
        assert fresh.waiting == extra


def bulk(*roots: str, tries: int = 0) -> Waiting:
    """Make a command that came in bulk."""
    return waiting(*roots, is_bulk=True, tries=tries)


async def test_bulk_on_different_customers_shares_turns_of_64_commands(keeper: TurnKeeper) -> None:
    commands = [bulk(str(number)) for number in range(2 * COMMANDS_PER_TURN_MAX + 1)]
    formed = keeper.form(commands)
    assert [len(turn.commands) for turn in formed] == [64, 64, 1]
    assert [c for turn in formed for c in turn.commands] == commands
    assert all(
        turn.keys == {*map(str, range(n, n + 64))} for turn, n in zip(formed, (0, 64), strict=False)
    )


async def test_what_met_a_conflict_or_is_waited_for_takes_a_turn_of_its_own(
    keeper: TurnKeeper,
) -> None:
    a, b, again, urgent, c = bulk("a"), bulk("b"), bulk("x", tries=1), waiting("y"), bulk("c")
    formed = [turn.commands for turn in keeper.form([a, b, again, urgent, c])]
    assert formed == [[a, b, c], [again], [urgent]]


async def test_whoever_meets_a_shared_turn_joins_it_and_brings_others_along(
    keeper: TurnKeeper,
) -> None:
    again, a, b = bulk("x", tries=1), bulk("a"), bulk("b")
    both, c = bulk("x", "a"), bulk("c")
    (turn,) = keeper.form([again, a, b, both, c])
    assert sorted(map(id, turn.commands)) == sorted(map(id, [again, a, b, both, c]))
    assert turn.keys == {"x", "a", "b", "c"}


@given(
    st.lists(
        st.tuples(
            st.sets(st.integers(0, 90), min_size=1, max_size=3), st.booleans(), st.integers(0, 1)
        ),
        max_size=200,
    )
)
def test_every_command_has_one_turn_or_waits_and_no_two_turns_share_a_key(
    drawn: list[tuple[set[int], bool, int]],
) -> None:
    asyncio.run(form_and_check(drawn))


async def form_and_check(drawn: list[tuple[set[int], bool, int]]) -> None:
    keeper = TurnKeeper()
    commands = [
        waiting(*map(str, roots), is_bulk=is_bulk, tries=tries) for roots, is_bulk, tries in drawn
    ]
    formed = keeper.form(commands)
    taken = [command for turn in formed for command in turn.commands]
    assert len({*map(id, taken)}) == len(taken) == len(commands) - keeper.waiting
    held = [key for turn in formed for key in turn.keys]
    assert len(held) == len(set(held))
    assert all(command.keys <= turn.keys for turn in formed for command in turn.commands)
    assert all(len(turn.commands) <= COMMANDS_PER_TURN_MAX for turn in formed)
    behind = [command for turn in formed for command in keeper.end(turn)]
    assert {*map(id, behind)} == {*map(id, commands)} - {*map(id, taken)}
    assert keeper.waiting == 0


async def test_who_meets_a_turn_waits_behind_it_and_goes_on_when_it_is_over(
    keeper: TurnKeeper,
) -> None:
    (turn,) = keeper.form([waiting("a")])
    behind = [waiting("a"), waiting("a", "c"), waiting("a")]
    free = waiting("b")
    assert [t.commands for t in keeper.form([*behind, free])] == [[free]]
    assert keeper.waiting == 3
    assert keeper.end(turn) == behind
    assert keeper.waiting == 0
    assert not keeper.is_busy("a")
    assert len(keeper.form(behind)) == 1


async def test_an_answer_is_given_once(keeper: TurnKeeper) -> None:
    command = waiting("a")
    first = Failed(kind="refused", reason="FIRST", message="")
    command.reply(first)
    command.reply(Failed(kind="refused", reason="SECOND", message=""))
    assert command.is_answered
    assert command.answers.replies == [first]
    assert command.answers.given.done()
    gone = waiting("a")
    gone.answers.given.cancel()
    gone.reply(first)
    assert gone.is_answered
    assert gone.answers.replies == [None]


async def test_a_batch_is_answered_with_its_last_command() -> None:
    answers = Answers(2)
    second = Failed(kind="refused", reason="SECOND", message="")
    first = Failed(kind="refused", reason="FIRST", message="")
    answers.give(1, second)
    answers.give(1, first)
    assert not answers.given.done()
    assert (answers.has(0), answers.has(1)) == (False, True)
    answers.give(0, first)
    assert answers.given.done()
    assert answers.replies == [first, second]
