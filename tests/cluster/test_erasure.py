"""An erasure is complete on three servers only when no server's disk holds the keys (R14)."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.erasing import ErasureDuty, ErasureTimes
from domain.commands import EraseCustomer
from domain.erasure_events import CustomerErased
from domain.ids import RecordId
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.key_stream import KeyStream
from eventlog.keys.port import NoKey
from eventlog.snapshots.jetstream import JetStreamSnapshotStore
from tests.actors.house import Workspace, person, track, user
from tests.app.test_erasing import ReadSide
from tests.cluster.test_turn_over import places_of
from tests.support.cluster import Cluster
from tests.support.nats import new_workspace
from tests.support.sealed import Source

HOUR = 3_600.0


@pytest.mark.timeout(180)
async def test_a_receipt_is_given_when_the_keys_are_on_no_replica(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    connection, workspace = await own_cluster.connect(), new_workspace()
    store = JetStreamKeyStore(connection, workspace, source=Source())
    await store.open(replicas=3)
    ring = KeyRing(store)
    log = JetStreamEventLog(connection, workspace, keys=ring)
    await log.ensure_stream(replicas=3)
    snapshots = JetStreamSnapshotStore(connection, workspace, keys=ring)
    await snapshots.open(replicas=3)
    house = Workspace(log)
    await house.define_rules()
    await house.start()
    customer = RecordId(str((await house.done(track("m1", user("ada"), seconds=30))).customer_id))
    held = await KeyStream(JetStreamApi(connection), workspace).read([customer])
    wrapped = [message.body for message in held[customer]]
    assert places_of(tmp_path, wrapped)
    await house.done(EraseCustomer(**person((user("ada"),), {"seconds": 30})))
    read_side = ReadSide(log)
    await read_side.catch_up()

    def duty(turn_over: float) -> ErasureDuty:
        return ErasureDuty(
            log,
            ring,
            snapshots,
            read_sides=[read_side],
            clock=house.clock,
            signing_key=Ed25519PrivateKey.generate(),
            times=ErasureTimes(HOUR, HOUR, turn_over, has_replicas=True),
        )

    await duty(HOUR).do()
    assert await ring.load([customer]) == {customer: NoKey.DESTROYED}
    assert not await house.count(CustomerErased)
    await duty(0.0).do()
    assert await house.count(CustomerErased) == 1
    assert not places_of(tmp_path, wrapped)
    await house.close()
    await ring.close()
    await connection.close()
