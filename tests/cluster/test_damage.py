"""One replica's files damaged while it is down: Koseki is right, or notices; and the way back (R3).

What nats-server 2.15.1 does (measured): a replica that was killed rebuilds its index, cuts its log
at the damage and gets the rest from the leader. One that was stopped cleanly believes its index: it
comes back with the damage, is not healed, and may be made leader.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from eventlog import pull_consumer
from eventlog.connection import Connection
from eventlog.errors import LogUnavailable
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.subjects import Subjects
from replay.verify import Verification
from tests.damage import stored_bytes
from tests.damage.scene import Office, Written, left_of, office, project
from tests.damage.stored_bytes import Damage, messages_folder
from tests.support.cluster import Cluster, Member
from tests.support.waiting import until_async

WORKSPACE = "replicated"
NAME = Subjects(WORKSPACE).log_name
LEADING_SECONDS_MAX = 30.0


class Scene:
    """A workspace on three replicas, and one of them that is to be damaged."""

    def __init__(self, cluster: Cluster, data: Path) -> None:
        self.cluster = cluster
        self.data = data
        self.written = Written()

    async def write(self) -> None:
        connection = await self.cluster.connect()
        await JetStreamEventLog(connection, WORKSPACE).ensure_stream(replicas=3)
        await self.cluster.wait_current(JetStreamApi(connection), NAME)
        async with office(connection, self.data, WORKSPACE) as opened:
            await opened.write()
            self.written = await project(opened.log, opened.settings.read_side_folder)
        leader = await self.cluster.leader_of(JetStreamApi(connection), NAME)
        self.victim: Member = self.cluster.others(leader)[0]
        await connection.close()

    def damage(self, damage: Damage) -> None:
        damage(messages_folder(self.victim.server._folder, WORKSPACE), random.Random(4))

    async def return_victim(self) -> None:
        """Start it, and make it the leader."""
        await self.victim.start()
        async with self._connected() as connection:
            api = JetStreamApi(connection)
            await self.cluster.wait_current(api, NAME)

            async def leads() -> bool:
                if await self.cluster.leader_of(api, NAME) is self.victim:
                    return True
                placement = {"placement": {"preferred": self.victim.name}}
                with suppress(LogUnavailable):
                    await api.call(f"STREAM.LEADER.STEPDOWN.{NAME}", placement)
                return False

            await until_async(leads, timeout_seconds=LEADING_SECONDS_MAX)

    @asynccontextmanager
    async def reopened(self) -> AsyncIterator[Office]:
        async with (
            self._connected() as connection,
            office(connection, self.data, WORKSPACE) as opened,
        ):
            yield opened

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        connection = await self.cluster.connect(self.cluster.others(self.victim)[0])
        try:
            yield connection
        finally:
            await connection.close()


@pytest.fixture
async def scene(own_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(pull_consumer, "PULL_SECONDS", 0.5)
    made = Scene(own_cluster, tmp_path / "data")
    await made.write()
    return made


async def require_whole(scene: Scene) -> Verification:
    """Require that every event is there, on a leader that all agree on, and proved."""
    async with scene.reopened() as opened:
        left = await left_of(opened.log, scene.written)
        assert left == {entry.revision: entry.digest for entry in scene.written.entries}
        assert opened.guard.is_sound
        found = await opened.verify()
        for server, role, lacking in await opened.log.replicas_read():
            assert server in {member.name for member in scene.cluster.members}
            assert (role == "leader") == (server == scene.victim.name)
            assert not lacking
        return found


def require_named(written: Written, left: dict[int, bytes], found: Verification) -> None:
    """Require that what the leader lacks is named, whichever replica was read."""
    assert not found.holds
    assert found.damage is not None
    named = {r for first, last in found.damage.lost for r in range(first, last + 1)}
    gone = [entry for entry in written.entries if entry.revision not in left]
    assert named == {entry.revision for entry in gone}
    touched = {entry.stream.key for entry in gone if entry.stream.kind == "record"}
    assert {record.record_id for record in found.damage.records} == touched


async def require_the_gap_named(scene: Scene, opened: Office) -> None:
    """Read until the damaged replica was read, and require that what it lacks is said of it."""
    left = await left_of(opened.log, scene.written)
    [gone] = {entry.revision for entry in scene.written.entries} - left.keys()

    async def is_named() -> bool:
        await opened.verify()
        lacking = {r.server: r.lacking for r in await opened.log.replicas_read()}
        assert {server for server, ranges in lacking.items() if ranges} <= {scene.victim.name}
        return lacking.get(scene.victim.name) == ((gone, gone),)

    await until_async(is_named, timeout_seconds=30)


async def test_a_replica_that_is_killed_and_damaged_is_healed_by_its_leader(scene: Scene) -> None:
    await scene.victim.kill()
    scene.damage(stored_bytes.flip_a_bit_of_the_last_block)
    await scene.return_victim()
    assert (await require_whole(scene)).holds


@pytest.mark.parametrize("damage", [stored_bytes.remove_the_first_block, stored_bytes.flip_a_bit])
async def test_a_damaged_replica_that_leads_harms_nobody_and_is_made_again_from_the_others(
    scene: Scene, damage: Damage
) -> None:
    await scene.victim.stop()
    scene.damage(damage)
    await scene.return_victim()
    async with scene.reopened() as opened:
        await opened.require_no_harm(scene.written)
        if damage is stored_bytes.remove_the_first_block:
            left = await left_of(opened.log, scene.written)
            assert len(left) < scene.written.last_revision, "the replica was healed"
            assert not opened.guard.is_sound
            for _ in range(3):  # the server chooses which replica is read
                require_named(scene.written, left, await opened.verify())
        else:
            await require_the_gap_named(scene, opened)
    await scene.victim.stop()
    # All of it: of a stream whose Raft state is left, the replica would not ask for what it lacks.
    shutil.rmtree(scene.victim.server._folder / "data")
    await scene.return_victim()
    async with scene.reopened() as opened:
        assert opened.guard.is_sound
        left = await left_of(opened.log, scene.written)
        assert left == {entry.revision: entry.digest for entry in scene.written.entries}
        assert (await opened.verify()).holds
        await opened.require_no_harm(scene.written)
