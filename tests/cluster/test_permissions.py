"""What each role may do on servers of the shipped configuration, and what none but one may."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from domain.ids import RecordId
from eventlog.errors import LogUnavailable
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.port import NoKey
from eventlog.lanes import LaneName, NatsLanes
from eventlog.port import Head
from eventlog.snapshots.port import Snapshot
from tests.cluster.in_roles import (
    INTAKE,
    KEYS,
    LOG,
    SNAPSHOTS,
    SOURCE,
    info_of,
    is_denied,
    roles,
    servers,
    snapshots_of,
)
from tests.cluster.shipped import WORKSPACE, Roles, shipped_servers
from tests.support.events import draft, new_id, new_record, store
from tests.support.waiting import until_async

__all__ = ["roles", "servers"]

PROMPT_SECONDS = 2.0
"""Less than a request waits that is denied."""


async def test_a_host_appends_reads_and_makes_keys(roles: Roles) -> None:
    connection = await roles.connect("host")
    log = JetStreamEventLog(connection, WORKSPACE)
    await log.ensure_stream()
    one = await store(log, draft(new_record()))
    both = await store(log, draft(new_record()), draft(new_record()))
    assert await log.leader_revisions(list(both.heads)) == [e.revision for e in both.events]
    read = [e.revision async for batch in log.read(after_revision=one.revision) for e in batch]
    assert read == [e.revision for e in both.events]
    keys = JetStreamKeyStore(connection, WORKSPACE, source=SOURCE)
    await keys.open()
    record = RecordId(new_id())
    made = await keys.ensure([record])
    assert await keys.load([record]) == made


async def test_a_host_takes_snapshots_and_a_steward_removes_them(roles: Roles) -> None:
    host = await roles.connect("host")
    store = await snapshots_of(host)
    await store.open()
    records = [RecordId(new_id()), RecordId(new_id())]
    await store._keys.ensure(known=(), new=records)
    saved = [Snapshot(record, "a1", Head(7, 3, bytes(32)), b"state") for record in records]
    await store.save(saved)
    await store.save(saved[:1])
    loaded = await store.load(records, schema="a1")
    assert [loaded[record] for record in records] == saved
    assert await is_denied(host, f"$JS.API.STREAM.MSG.DELETE.{SNAPSHOTS}", b'{"seq":1}')
    steward = await snapshots_of(await roles.connect("steward"))
    await steward.remove(records[:1])
    assert list(await store.load(records, schema="a1")) == records[1:]
    for snapshots in (store, steward):
        await snapshots._keys.close()


async def test_commands_go_from_gateways_to_hosts_and_hosts_are_heard(roles: Roles) -> None:
    serving = NatsLanes(await roles.connect("host"), WORKSPACE)
    asking = NatsLanes(await roles.connect("gateway"), WORKSPACE)
    worker = NatsLanes(await roles.connect("worker"), WORKSPACE)
    other = NatsLanes(await roles.connect("host"), WORKSPACE)
    epoch, heard = new_id(), dict[str, str]()

    async def execute(batch: bytes) -> bytes:
        return batch.upper()

    await serving.serve(epoch, {"command": execute, "bulk": execute})
    await asking.listen(lambda _number, said: heard.update(gateway=said.epoch))
    await other.listen(lambda _number, said: heard.update(host=said.epoch))
    await worker.listen(lambda _number, said: heard.update(worker=said.epoch))
    deadline = datetime.now(UTC) + timedelta(seconds=5)

    async def is_answered() -> bool:
        await serving.announce(3, epoch, is_asked=True)
        return len(heard) == 3

    await until_async(is_answered)
    assert heard == {"gateway": epoch, "worker": epoch, "host": epoch}

    async def answer(lanes: NatsLanes, lane: LaneName) -> bytes:
        return await lanes.request(lane, 1, epoch=epoch, batch=b"batch", deadline=deadline)

    assert await answer(asking, "command") == b"BATCH"
    assert await answer(asking, "bulk") == await answer(worker, "bulk") == b"BATCH"
    for role in ("reader", "worker", "steward", "publisher"):
        subject = f"koseki.{WORKSPACE}.command.1.{epoch}"
        assert await is_denied(await roles.connect(role), subject)


@pytest.mark.parametrize("role", ["reader", "gateway", "worker", "steward"])
async def test_who_reads_the_log_reads_it_in_every_way(roles: Roles, role: str) -> None:
    stream = new_record()
    host = JetStreamEventLog(await roles.connect("host"), WORKSPACE)
    stored = await store(host, draft(stream))
    log = JetStreamEventLog(await roles.connect(role), WORKSPACE)
    assert [e.head for e in await log.load(stream)] == [stored.heads[stream]]
    assert [e.head for e in (await log.last_entries([stream])).values()] == [stored.heads[stream]]
    assert await log.leader_revisions([stream]) == [stored.revision]
    assert (await log.shape()).last_revision == stored.revision
    followed = await anext(aiter(log.follow(after_revision=stored.revision - 1)))
    assert [e.head for e in followed] == [stored.heads[stream]]


async def test_a_steward_destroys_and_rotates_keys_and_a_host_cannot(roles: Roles) -> None:
    host, steward = await roles.connect("host"), await roles.connect("steward")
    making = JetStreamKeyStore(host, WORKSPACE, source=SOURCE)
    destroying = JetStreamKeyStore(steward, WORKSPACE, source=SOURCE)
    for keys in (making, destroying):
        await keys.open()
    record = RecordId(new_id())
    await making.ensure([record])
    tombstone = f"koseki.{WORKSPACE}.key.{record}.destroyed"
    assert await is_denied(host, tombstone, b"")
    assert await is_denied(host, f"$JS.API.STREAM.MSG.DELETE.{KEYS}", b'{"seq": 1}')
    await destroying.destroy([record])
    assert await making.load([record]) == {record: NoKey.DESTROYED}
    kept = await making.ensure([other := RecordId(new_id())])
    SOURCE.renew()
    assert await destroying.rotate() > 0
    assert await making.load([record, other]) == {record: NoKey.DESTROYED, **kept}


async def test_after_a_rotation_a_host_makes_keys_at_once_and_under_its_version(
    roles: Roles,
) -> None:
    steward, reader = await roles.connect("steward"), await roles.connect("reader")
    making = JetStreamKeyStore(await roles.connect("host"), WORKSPACE, source=SOURCE)
    rotating = JetStreamKeyStore(steward, WORKSPACE, source=SOURCE)
    for keys in (making, rotating):
        await keys.open()
    await making.ensure([RecordId(new_id())])
    SOURCE.renew()
    await rotating.rotate()
    async with asyncio.timeout(PROMPT_SECONDS):
        await making.ensure([RecordId(new_id())])
    counting = JetStreamKeyStore(reader, WORKSPACE, source=SOURCE)
    await counting.open()
    census = await counting.census()
    assert (list(census.by_version), census.rotation_is_due) == ([SOURCE.keys.newest], False)


@pytest.mark.parametrize("role", ["publisher", "host", "reader", "gateway", "worker", "steward"])
async def test_nobody_but_the_operator_takes_anything_from_the_log(roles: Roles, role: str) -> None:
    operator = await roles.connect("operator")
    host = JetStreamEventLog(await roles.connect("host"), WORKSPACE)
    await store(host, draft(new_record()))
    before = await info_of(operator, LOG)
    connection = await roles.connect(role)
    requests = {
        f"STREAM.DELETE.{LOG}": {},
        f"STREAM.PURGE.{LOG}": {},
        f"STREAM.MSG.DELETE.{LOG}": {"seq": 1},
        f"STREAM.UPDATE.{LOG}": before["config"] | {"max_msgs": 1},
        f"STREAM.RESTORE.{LOG}": {"config": before["config"], "state": before["state"]},
        f"STREAM.CREATE.{LOG}-copy": {"name": f"{LOG}-copy", "mirror": {"name": LOG}},
        "ACCOUNT.PURGE.shop": {},
        f"STREAM.DELETE.{INTAKE}": {},
        f"STREAM.UPDATE.{INTAKE}": {"name": INTAKE, "subjects": [f"koseki.{WORKSPACE}.ingest.a"]},
    }
    if role != "steward":
        requests |= {
            f"STREAM.DELETE.{KEYS}": {},
            f"STREAM.MSG.DELETE.{KEYS}": {"seq": 1},
            f"STREAM.PURGE.{KEYS}": {},
            f"STREAM.UPDATE.{KEYS}": {"name": KEYS, "subjects": [f"koseki.{WORKSPACE}.key.a.b"]},
        }
    denied = await asyncio.gather(
        *(is_denied(connection, f"$JS.API.{n}", orjson.dumps(b)) for n, b in requests.items())
    )
    assert all(denied), dict(zip(requests, denied, strict=True))
    after = await info_of(operator, LOG)
    assert (after["config"], after["state"]) == (before["config"], before["state"])
    assert await info_of(operator, INTAKE)
    assert await info_of(operator, KEYS)


RECORD = f"record.{new_id()}"
MAY_APPEND = {
    "gateway": {"workspace"},  # it keeps the rules
    "steward": {"workspace", "clock", RECORD},  # it lets time pass, and ends what falls due
}


@pytest.mark.parametrize("role", ["publisher", "reader", "gateway", "worker", "steward"])
async def test_nobody_but_hosts_appends_to_what_customers_decide(roles: Roles, role: str) -> None:
    operator, connection = await roles.connect("operator"), await roles.connect(role)
    before = (await info_of(operator, LOG))["state"]["last_seq"]
    subjects = {RECORD, "identifier.p1.c2Vjb25k", "workspace", "clock"}
    subjects -= MAY_APPEND.get(role, set())
    denied = await asyncio.gather(
        *(is_denied(connection, f"koseki.{WORKSPACE}.{subject}") for subject in subjects)
    )
    assert all(denied)
    assert (await info_of(operator, LOG))["state"]["last_seq"] == before


async def test_the_operator_may_do_what_no_role_may(roles: Roles) -> None:
    operator = await roles.connect("operator")
    settings = (await info_of(operator, LOG))["config"]
    requests = {f"UPDATE.{LOG}": settings, f"PURGE.{LOG}": {}, f"MSG.DELETE.{LOG}": {"seq": 9**9}}
    for name, body in requests.items():
        assert not await is_denied(operator, f"$JS.API.STREAM.{name}", orjson.dumps(body))
    # The stream's own settings still forbid it.
    assert (await info_of(operator, LOG))["state"].get("num_deleted", 0) == 0


async def test_no_role_hears_what_another_is_answered(roles: Roles) -> None:
    heard: list[object] = []

    def hear(message: object) -> None:
        heard.append(message)

    reader, host = await roles.connect("reader"), await roles.connect("host")
    for subject in ("_INBOX_host.>", "_INBOX.>", f"koseki.{WORKSPACE}.>", ">"):
        await reader.subscribe(subject, hear)
    await store(JetStreamEventLog(host, WORKSPACE), draft(new_record()))
    await info_of(reader, LOG)
    assert not heard


async def test_three_servers_of_the_shipped_configuration_keep_a_log_and_turn_keys_over(
    tmp_path: Path,
) -> None:
    async with shipped_servers(tmp_path, servers=3) as roles:
        log = JetStreamEventLog(await roles.connect("operator"), WORKSPACE)

        async def is_made() -> bool:
            try:
                await log.ensure_stream(replicas=3)
            except LogUnavailable:
                return False
            return True

        await until_async(is_made, timeout_seconds=30)
        host = JetStreamEventLog(await roles.connect("host"), WORKSPACE)
        await host.ensure_stream(replicas=3)
        stored = await store(host, draft(new_record()), draft(new_record()))
        assert await host.leader_revisions(list(stored.heads)) == [1, 2]
        stores = {
            role: JetStreamKeyStore(await roles.connect(role), WORKSPACE, source=SOURCE)
            for role in ("operator", "steward", "host")
        }
        for keys in stores.values():
            await keys.open(replicas=3)
        hosts, stewards = stores["host"], stores["steward"]
        made = dict(await hosts.ensure([kept := RecordId(new_id()), gone := RecordId(new_id())]))
        await stewards.destroy([gone])
        await stewards.turn_over()
        assert await hosts.load([kept, gone]) == made | {gone: NoKey.DESTROYED}
        assert await hosts.ensure([RecordId(new_id())])
