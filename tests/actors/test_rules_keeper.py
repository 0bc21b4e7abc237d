"""The rules at hand: changed by a command, read from the log, honest about what is not known."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from actors.rules import (
    KNOWN_SECONDS_MAX,
    REFRESH_EVERY_SECONDS,
    RulesKeeper,
    RulesUnavailable,
)
from domain.commands import DefinePurpose, PublishNotice, RegisterSource
from domain.consent import LawfulBasis
from domain.errors import Invalid, Kind
from domain.ids import Stream
from domain.replies import Done
from eventlog.errors import LogDamaged, LogUnavailable
from eventlog.memory import MemoryEventLog
from eventlog.port import Attempt, Outcome
from tests.actors.house import CLOCK, Workspace, asked, consent, identify, track, user
from tests.actors.logs import JitteryLog, WatchedLog


def define(purpose: str, basis: LawfulBasis = LawfulBasis.CONSENT) -> DefinePurpose:
    return DefinePurpose(**asked({"purpose": purpose, "basis": basis}))


async def test_a_change_is_known_at_once_and_to_a_keeper_that_starts_later() -> None:
    log = MemoryEventLog("test")
    keeper = RulesKeeper(log, CLOCK)
    reply = await keeper.execute(define("news"))
    assert reply.revision == keeper.revision == 1
    assert (await keeper.execute(define("news"))).revision == 1
    other = RulesKeeper(log, CLOCK)
    assert not other.rules.purposes
    await other.refresh()
    assert other.rules == keeper.rules


async def test_another_change_under_the_id_of_one_is_refused() -> None:
    log = MemoryEventLog("test")
    command = define("news")
    first = await RulesKeeper(log, CLOCK).execute(command)
    said = {"command_id": command.command_id, "source": "shop", "purposes": ("news",)}
    keeper = RulesKeeper(log, CLOCK)
    with pytest.raises(Invalid) as caught:
        await keeper.execute(RegisterSource(**asked(said)))
    assert caught.value.reason == "COMMAND_ID_REUSED"
    assert await keeper.execute(command) == first


async def test_two_keepers_at_once_lose_no_change() -> None:
    log = JitteryLog(1)
    keepers = [RulesKeeper(log, CLOCK), RulesKeeper(log, CLOCK)]
    await asyncio.gather(*(keepers[n % 2].execute(define(f"p{n}")) for n in range(10)))
    for keeper in keepers:
        await keeper.refresh()
        assert set(keeper.rules.purposes) == {f"p{n}" for n in range(10)}


async def test_a_change_that_keeps_losing_is_a_conflict() -> None:
    log = WatchedLog()
    log.conflicts = 10_000
    with pytest.raises(RulesUnavailable) as caught:
        await RulesKeeper(log, CLOCK).execute(define("news"))
    assert (caught.value.kind, caught.value.reason) == (Kind.CONFLICT, "CONFLICT_BUDGET_SPENT")


async def test_an_unknown_outcome_is_said_to_be_unknown() -> None:
    log = MemoryEventLog("test")
    log.answer_unknown(1, stored=True)
    keeper = RulesKeeper(log, CLOCK)
    with pytest.raises(RulesUnavailable) as caught:
        await keeper.execute(define("news"))
    assert caught.value.kind is Kind.UNKNOWN_OUTCOME
    assert (await keeper.execute(define("news"))).revision == 1


async def test_a_change_that_is_stored_is_done_even_if_it_cannot_be_read_back() -> None:
    class GoneAfterAppend(MemoryEventLog):
        async def append(self, attempt: Attempt, *, timeout_seconds: float) -> Outcome:
            outcome = await super().append(attempt, timeout_seconds=timeout_seconds)
            self.is_available = False
            return outcome

    log = GoneAfterAppend("test")
    keeper = RulesKeeper(log, CLOCK)
    assert (await keeper.execute(define("news"))).revision == 1
    with pytest.raises(RulesUnavailable) as caught:
        await keeper.execute(define("more"))
    assert caught.value.kind is Kind.UNAVAILABLE
    log.is_available = True
    await keeper.refresh()
    assert "news" in keeper.rules.purposes


async def test_a_rule_that_cannot_be_read_stops_the_keeper() -> None:
    log = MemoryEventLog("test")
    keeper = RulesKeeper(log, CLOCK)
    await keeper.execute(define("news"))
    log.damage_body(1, b"{")
    with pytest.raises(LogDamaged):
        await RulesKeeper(log, CLOCK).refresh()
    assert "news" in keeper.rules.purposes


async def test_what_the_domain_refuses_is_raised_as_it_is() -> None:
    with pytest.raises(Invalid) as caught:
        await RulesKeeper(MemoryEventLog("test"), CLOCK).execute(define("audit"))
    assert caught.value.reason == "RESERVED_PURPOSE"


async def test_a_change_sent_again_is_not_made_again_though_another_came_between() -> None:
    log = MemoryEventLog("test")
    keeper = RulesKeeper(log, CLOCK)
    first = define("news")
    await keeper.execute(first)
    await keeper.execute(define("news", LawfulBasis.CONTRACT))
    for asked_again in (keeper, RulesKeeper(log, CLOCK)):
        assert (await asked_again.execute(first)).revision == 1
        assert asked_again.rules.purposes["news"].basis is LawfulBasis.CONTRACT


async def test_what_was_not_asked_for_a_while_is_asked_before_it_is_decided_by() -> None:
    log = MemoryEventLog("test")
    other, keeper = RulesKeeper(log, CLOCK), RulesKeeper(log, CLOCK)
    await keeper.keep_up()
    await other.execute(define("news"))
    await keeper.keep_up()
    assert not keeper.rules.purposes
    await asyncio.sleep(KNOWN_SECONDS_MAX)
    await keeper.keep_up()
    assert keeper.rules == other.rules


async def test_rules_that_lag_behind_the_leader_are_not_decided_by() -> None:
    class Lagging(MemoryEventLog):
        async def leader_revisions(self, streams: Sequence[Stream]) -> list[int]:
            return [7 for _ in streams]

    with pytest.raises(LogUnavailable):
        await RulesKeeper(Lagging("test"), CLOCK).keep_up()


@pytest.mark.parametrize("refreshes_every", [REFRESH_EVERY_SECONDS, 60.0])
async def test_what_comes_after_a_change_was_answered_is_judged_by_it(
    monkeypatch: pytest.MonkeyPatch, *, refreshes_every: float
) -> None:
    monkeypatch.setattr("actors.rules.REFRESH_EVERY_SECONDS", refreshes_every)
    house = Workspace(MemoryEventLog("shop"))
    await house.define_rules()
    await house.start()
    await house.done(identify(user("a")))
    for number, purpose in enumerate(("marketing", "service", "marketing")):
        changed = RegisterSource(**asked({"source": "shop", "purposes": (purpose,)}))
        await house.rules.execute(changed)
        (reply,) = await house.router.execute_many([track(f"m{number}", user("a"))])
        assert isinstance(reply, Done)
        assert reply.signals == ("declined" if purpose == "marketing" else "recorded",)
    await house.close()


async def test_a_notice_may_be_agreed_to_as_soon_as_it_is_published() -> None:
    house = Workspace(MemoryEventLog("shop"))
    await house.define_rules()
    await house.start()
    for version in ("1", "2", "3"):
        said = {"purpose": "marketing", "version": version, "language": "en", "text": version}
        await house.rules.execute(PublishNotice(**asked(said)))
        await house.done(consent("given", user("a"), notice_version=version))
    await house.close()
