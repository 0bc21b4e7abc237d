"""The whole product on three servers of the shipped configuration, each part in its own role."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest_asyncio

from actors.intake.publisher import IntakePublisher
from eventlog.errors import LogUnavailable
from eventlog.jetstream_api import JetStreamApi, Json
from eventlog.stream_config import log_config
from eventlog.subjects import Subjects
from tests.cluster.shipped import WORKSPACE, Roles, shipped_servers
from tests.e2e.installation import Caller, Installation, installed, person, run_koseki
from tests.support.waiting import until, until_async

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PEOPLE, SIGNALS_EACH = 12, 6
LOG = Subjects(WORKSPACE).log_name


class Place:
    """Servers, and what `koseki` is told to reach them."""

    def __init__(self, roles: Roles, folder: Path) -> None:
        self.roles = roles
        self.credentials = folder / "credentials.toml"
        self.nats = ("--nats", ",".join(roles.urls), "--credentials", str(self.credentials))
        self.options = ("--workspace", WORKSPACE, *self.nats)
        roles.write_credentials(self.credentials)


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with shipped_servers(tmp_path / "nats", servers=3) as roles:
        yield Place(roles, tmp_path)


async def publish_all(publisher: IntakePublisher) -> None:
    """Publish what everybody bought, a few at a time."""
    for number in range(SIGNALS_EACH):
        async with asyncio.TaskGroup() as publishing:
            for who in range(PEOPLE):
                call = {
                    "type": "track",
                    "event": "Order Completed",
                    "userId": f"u{who}",
                    "properties": {"cds": number},
                }
                publishing.create_task(publisher.publish(f"{who}-{number}", call, time=NOW))


async def drained(running: Installation) -> None:
    """Wait until everything that was published is settled and folded."""

    async def is_drained() -> bool:
        status = await asyncio.to_thread(running.json, "status")
        is_known = status["log_revision"] is not None and status["mode"] == "cluster"
        return is_known and status["intake"]["is_drained"] and not status["read_side_behind_events"]

    await until_async(is_drained, timeout_seconds=40)


async def counted(caller: Caller) -> list[tuple[int, dict[str, str]]]:
    """Ask how often everybody bought, and how much."""
    answer = await caller.until_answered(
        lambda: caller.get_many([person(f"u{who}") for who in range(PEOPLE)])
    )
    tallies = [result.customer.signals for result in answer.results]
    return [(tally.count, dict(tally.sums)) for [tally] in tallies]


async def leader_of_log(roles: Roles) -> str:
    info = await JetStreamApi(await roles.connect("operator")).call(f"STREAM.INFO.{LOG}")
    leader: str = info["cluster"]["leader"]
    return leader


async def test_nothing_is_lost_when_the_leader_dies_under_an_installation(
    place: Place, tmp_path: Path
) -> None:
    with installed(tmp_path / "data", *place.options) as running:
        assert running.where["mode"] == "cluster"
        caller = Caller(running)
        await caller.define_rules()
        publisher = IntakePublisher(
            await place.roles.connect("publisher"), workspace=WORKSPACE, source="shop"
        )
        publishing = asyncio.create_task(publish_all(publisher))
        await until(lambda: publisher.counters.acknowledged >= PEOPLE)
        await place.roles.kill(await leader_of_log(place.roles))
        agreed = await caller.consent(person("u0"), command_id="")
        await publishing
        assert publisher.counters.acknowledged == PEOPLE * SIGNALS_EACH
        await drained(running)
        seen = await caller.get(person("u0"), at_least_revision=agreed.revision)
        assert seen.customer_id == agreed.customer_id
        total = sum(range(SIGNALS_EACH))
        assert await counted(caller) == [(SIGNALS_EACH, {"cds": str(total)})] * PEOPLE
        proof = running.json("verify")
        assert proof["holds"]
        assert (proof["signals_recorded"], proof["signals_duplicated"]) == (
            PEOPLE * SIGNALS_EACH,
            0,
        )
        file = tmp_path / "attestation.json"
        file.write_bytes(orjson.dumps(running.json("attest")))
        key = running.data / "secrets" / "attestation-key.pub"
        await caller.channel.close()
        running.interrupt()
        assert running.left_behind() == set()
    check = ("verify", "--attestation", str(file), "--public-key", str(key), "--json")
    status, printed, errors = await asyncio.to_thread(run_koseki, *check, *place.nats)
    assert (status, errors) == (0, "")
    assert orjson.loads(printed)["finding"] == "holds"


async def test_up_refuses_streams_that_are_missing_or_could_lose_events_and_says_what_to_change(
    place: Place, tmp_path: Path
) -> None:
    operator = await place.roles.connect("operator")
    api = JetStreamApi(operator)
    config = log_config(Subjects(WORKSPACE), replicas=3)
    await until_async(lambda: _is_made(api, config | {"num_replicas": 1, "max_bytes": 10**9}))
    refused = await refusal(place, tmp_path)
    assert refused == f"stream {LOG}: max_bytes must be unlimited; num_replicas must be at least 3"
    await api.call(f"STREAM.DELETE.{LOG}")
    place.roles.write_credentials(place.credentials, but="operator")
    assert await refusal(place, tmp_path) == f"stream {LOG} is not there"
    place.roles.write_credentials(place.credentials, but="worker")
    assert await refusal(place, tmp_path) == f"{place.credentials} has no table [worker]"


async def refusal(place: Place, folder: Path) -> str:
    """Start, and give the one line that it ends with."""
    status, printed, errors = await asyncio.to_thread(
        run_koseki, "up", "--data", str(folder / "data"), *place.options
    )
    assert (status, printed) == (2, "")
    return errors.rstrip("\n")


async def _is_made(api: JetStreamApi, config: Json) -> bool:
    """Make a stream, as soon as the servers are one cluster."""
    try:
        await api.call(f"STREAM.CREATE.{LOG}", config)
    except LogUnavailable:
        return False
    return True
