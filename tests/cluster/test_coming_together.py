"""Streams are made while a cluster comes together: whoever starts first waits for the others."""

from __future__ import annotations

import asyncio

from actors.intake.dead_letters import JetStreamDeadLetters
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.keys.workspace_key import new_workspace_key
from eventlog.out_stream import OutStream
from eventlog.snapshots.jetstream import JetStreamSnapshotStore
from tests.support.cluster import Cluster
from tests.support.events import draft, new_record, store
from tests.support.nats import new_workspace


async def test_streams_are_made_once_enough_servers_live(own_cluster: Cluster) -> None:
    first, *others = own_cluster.members
    for member in others:
        await member.kill()
    connection, workspace = await own_cluster.connect(first), new_workspace()
    workspace_key = new_workspace_key()
    keys = JetStreamKeyStore(connection, workspace, source=lambda: workspace_key)
    log = JetStreamEventLog(connection, workspace)
    making = asyncio.gather(
        log.ensure_stream(replicas=3),
        keys.open(replicas=3),
        JetStreamSnapshotStore(connection, workspace, keys=KeyRing(keys)).open(replicas=3),
        OutStream(connection, workspace).open(replicas=3),
        JetStreamDeadLetters(
            connection, workspace=workspace, keys=MemoryKeyStore(), replicas=3
        ).open(),
    )
    await asyncio.gather(*(member.start() for member in others))
    await making
    assert (await store(log, draft(new_record()))).revision == 1
    await connection.close()
