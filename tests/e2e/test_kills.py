"""Any one process killed while clients go on: nothing acknowledged is lost or counted twice."""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import count
from pathlib import Path

import pytest

from app.processes import is_alive
from koseki.v1 import common_pb2, ingest_service_pb2, query_service_pb2
from tests.actors.house import CLOCK
from tests.e2e.installation import (
    CALL_SECONDS,
    READY_SECONDS_MAX,
    RETRY_SECONDS_MAX,
    Caller,
    Installation,
    are_ready,
    installed,
    order,
    person,
    run_koseki,
)
from tests.support.waiting import until

PARTS = (
    "host-0",
    "ingest-worker",
    "projector",
    "gateway",
    "nats-server",
    "raylet",
    "gcs_server",
    "runtime",
)
CLIENTS = 4
PEOPLE = 41
"""Prime, so that everybody gets signals and consents."""
SIGNALS_PER_CALL = 500
CHILDREN_SECONDS_MAX = 75.0
"""Of a raylet that was killed, Ray's agents see it within a minute."""
DUPLICATE = ingest_service_pb2.SIGNAL_RESULT_DUPLICATE


class Traffic:
    """Clients that send without pause for people of their own; notes what was acknowledged."""

    def __init__(self, caller: Caller, name: str) -> None:
        self._caller = caller
        self._name = name
        self._numbers = count()
        self.signals: dict[str, list[str]] = {f"{name}-{number}": [] for number in range(PEOPLE)}
        self.consents: dict[str, int] = {}

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._send_for_ever())

    async def _send_for_ever(self) -> None:
        for number in self._numbers:
            who = f"{self._name}-{number % PEOPLE}"
            if number % 5 == 0:
                done = await self._caller.consent(person(who), command_id=CLOCK.new_id())
                self.consents[who] = max(done.revision, self.consents.get(who, 0))
            else:
                message_id = f"{self._name}-{number}"
                [outcome] = await self._caller.ingest(order(message_id, person(who), cds=1))
                assert outcome.revision
                self.signals[who].append(message_id)

    @property
    def acknowledged(self) -> int:
        """Count the signals that were acknowledged."""
        return sum(map(len, self.signals.values()))


async def kill(installation: Installation, part: str) -> None:
    """Kill a process, and wait until every part is ready again, with another process for it."""
    before = installation.parts()
    pid = installation.pid_of(part)
    os.kill(pid, signal.SIGKILL)
    restarts_ray = part in {"raylet", "gcs_server", "runtime"}

    def is_back() -> bool:
        now = installation.parts()
        if restarts_ray and now["runtime"]["pid"] == before["runtime"]["pid"]:
            return False
        return are_ready(now) and pid not in {one.get("pid") for one in now.values()}

    await until(is_back, timeout_seconds=READY_SECONDS_MAX)


@pytest.mark.timeout(600)
async def test_each_process_in_turn_is_killed_and_nothing_acknowledged_is_lost(
    installation: Installation, caller: Caller
) -> None:
    traffic = Traffic(caller, "killed")
    running = asyncio.create_task(traffic.run())
    for part in PARTS:
        acknowledged = traffic.acknowledged
        await kill(installation, part)
        await until(
            lambda: traffic.acknowledged > acknowledged or running.done(),  # noqa: B023  # awaited here
            timeout_seconds=RETRY_SECONDS_MAX,
        )
        assert not running.done(), (part, running)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await everything_is_there(installation, caller, traffic)


@pytest.mark.timeout(600)
async def test_a_host_that_is_paused_is_done_without_and_comes_back_to_no_harm(
    installation: Installation, caller: Caller
) -> None:
    traffic = Traffic(caller, "paused")
    running = asyncio.create_task(traffic.run())
    await until(lambda: traffic.acknowledged > 0, timeout_seconds=RETRY_SECONDS_MAX)
    pid = installation.pid_of("host-0")
    os.kill(pid, signal.SIGSTOP)
    try:
        # Every person in turn, so the paused host's too.
        acknowledged = traffic.acknowledged
        await until(lambda: traffic.acknowledged > acknowledged + PEOPLE, timeout_seconds=60)
    finally:
        os.kill(pid, signal.SIGCONT)
    acknowledged = traffic.acknowledged
    await until(lambda: traffic.acknowledged > acknowledged + PEOPLE, timeout_seconds=60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await until(lambda: are_ready(installation.parts()), timeout_seconds=READY_SECONDS_MAX)
    await everything_is_there(installation, caller, traffic)


async def everything_is_there(installation: Installation, caller: Caller, traffic: Traffic) -> None:
    """Compare what was acknowledged with what is read, and prove what is read."""
    proof = await asyncio.to_thread(installation.json, "verify")
    status = await asyncio.to_thread(installation.json, "status")
    assert proof["holds"]
    assert proof["signals_duplicated"] == 0
    assert are_ready(status["processes"])
    for who, message_ids in traffic.signals.items():
        results = await send_again(caller, who, message_ids)
        seen = await caller.get(person(who), at_least_revision=traffic.consents.get(who, 0))
        [tally] = seen.signals
        # Of the call under way at the end nobody knows; all others were answered.
        assert len(message_ids) <= tally.count <= len(message_ids) + CLIENTS
        assert tally.sums["cds"] == str(tally.count)
        assert results == {DUPLICATE}
        if who in traffic.consents:
            verdict = await caller.query.CheckConsent(
                query_service_pb2.CheckConsentRequest(
                    identifiers=[person(who)], purpose="marketing"
                ),
                timeout=CALL_SECONDS,
            )
            assert verdict.open
            assert verdict.state == common_pb2.CONSENT_STATE_GIVEN


async def send_again(caller: Caller, who: str, message_ids: list[str]) -> set[int]:
    """Send signals of one person once more; give what became of them."""
    results: set[int] = set()
    for start in range(0, len(message_ids), SIGNALS_PER_CALL):
        some = message_ids[start : start + SIGNALS_PER_CALL]
        outcomes = await caller.ingest(*(order(one, person(who), cds=1) for one in some))
        results |= {outcome.result for outcome in outcomes}
    return results


async def test_a_killed_supervisor_takes_all_along_and_the_next_one_has_everything_until_ctrl_c(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with installed(data) as first:
        caller = Caller(first)
        await caller.define_rules()
        [stored] = await caller.ingest(order("m1", person("1"), cds=7))
        await caller.channel.close()
        below = first.look()
        first.process.kill()
        first.process.wait()
        await until(lambda: not any(map(is_alive, below)), timeout_seconds=CHILDREN_SECONDS_MAX)
        status, printed, errors = await asyncio.to_thread(
            run_koseki, "status", "--data", str(data), "--json"
        )
        assert (status, printed) == (2, "")
        assert errors.startswith("nothing runs on ")
    with installed(data) as second:
        caller = Caller(second)
        seen = await caller.get(person("1"), at_least_revision=stored.revision)
        again = await caller.ingest(order("m1", person("1"), cds=7))
        await caller.channel.close()
        assert second.json("verify")["holds"]
        second.interrupt()
        assert not (data / "running.json").exists()
        assert second.left_behind() == set()
        assert first.left_behind() == set()
    assert seen.customer_id == stored.customer_id == again[0].customer_id
    assert [(tally.count, tally.sums["cds"]) for tally in seen.signals] == [(1, "7")]
