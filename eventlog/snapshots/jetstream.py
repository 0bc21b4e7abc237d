"""Snapshots in a JetStream stream of their own, the newest one of each record and no more.

A batch is one atomic batch, so it costs one sync of the disk. Nothing is expected of what stood
there before: two hosts that save the same record at once are both right.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from domain.ids import RecordId
from eventlog.connection import Connection
from eventlog.direct_get import last_messages
from eventlog.erasing import erase
from eventlog.errors import UnsafeStream
from eventlog.incoming import BATCH_COMMIT, BATCH_ID, BATCH_SEQUENCE
from eventlog.jetstream_api import JetStreamApi, Json, checked
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.port import NoKey
from eventlog.snapshots.port import Snapshot
from eventlog.snapshots.seal import SCHEMA, SealedSnapshot, seal, unseal
from eventlog.stream_config import UNCAPPED, unsafe_settings
from eventlog.stream_making import find_or_make
from eventlog.subjects import Subjects
from eventlog.wire import Outbound

BATCH_SNAPSHOTS_MAX = 100
BATCH_BYTES_MAX = 4_194_304
SAVE_SECONDS_MAX = 10.0
LEADER_REQUESTS_MAX = 256
HEADER_BYTES_MAX = 1_024
"""What headers and subject of a snapshot take at most."""

_REQUIRED = {
    "retention": "limits",
    "storage": "file",
    "discard": "old",
    "max_msgs_per_subject": 1,
    "allow_atomic": True,
    "allow_direct": True,
    "deny_delete": False,
    "compression": "none",
}
_UNCAPPED = tuple(name for name in UNCAPPED if name not in _REQUIRED)


class JetStreamSnapshotStore:
    """Keep one workspace's snapshots in a JetStream stream. `open` comes first."""

    def __init__(self, connection: Connection, workspace: str, *, keys: KeyRing) -> None:
        self.name = f"koseki-{Subjects(workspace).workspace}-snapshots"
        self._api = JetStreamApi(connection)
        self._prefix = f"koseki.{workspace}.snapshot."
        self._keys = keys
        self._batches = 0
        self._batch_prefix = f"{random.getrandbits(96):024x}"
        self._leader = asyncio.Semaphore(LEADER_REQUESTS_MAX)

    async def open(self, *, replicas: int = 1) -> None:
        """Create the stream, or check the one there is; `UnsafeStream` says what to change."""
        answer = await find_or_make(self._api, self._config(replicas))
        subjects = [f"{self._prefix}*"]
        faults = unsafe_settings(
            answer["config"], subjects, replicas=replicas, required=_REQUIRED, uncapped=_UNCAPPED
        )
        if named := list(faults):
            raise UnsafeStream(f"stream {self.name}: {'; '.join(named)}")

    async def load(
        self, record_ids: Iterable[RecordId], *, schema: str
    ) -> Mapping[RecordId, Snapshot]:
        """Give the snapshot of each record that has one of this schema which can be opened."""
        wanted = list(dict.fromkeys(record_ids))
        # The key and the snapshot of a cold record are asked for in one piece.
        begun = await self._keys.begin_load(wanted)
        messages = await last_messages(
            self._api.connection, self.name, [self._prefix + r for r in wanted]
        )
        keys = await self._keys.finish_load(begun)
        found = {}
        for message in messages:
            record_id = RecordId(message.subject[len(self._prefix) :])
            key = keys[record_id]
            if isinstance(key, NoKey) or message.headers.get(SCHEMA) != schema:
                continue
            snapshot = unseal(record_id, SealedSnapshot(message.headers, message.body), key)
            if snapshot is not None:
                found[record_id] = snapshot
        return found

    async def save(self, snapshots: Collection[Snapshot]) -> None:
        """Keep these in place of the ones before, but none without a key, and none too large."""
        distinct = {snapshot.record_id: snapshot for snapshot in snapshots}
        keys = await self._keys.load(distinct)
        bytes_max = self._api.connection.payload_bytes_max - HEADER_BYTES_MAX
        messages = []
        for record_id, snapshot in distinct.items():
            key = keys[record_id]
            if isinstance(key, NoKey) or len(snapshot.state) > bytes_max:
                continue
            headers, body = seal(snapshot, key)
            messages.append(Outbound(self._prefix + record_id, headers, body))
        for batch in _batches(messages):
            await self._publish(batch)

    async def remove(self, record_ids: Iterable[RecordId]) -> None:
        """Erase the bytes of the newest snapshots, as the leader knows them."""
        found = await asyncio.gather(*map(self._sequence, dict.fromkeys(record_ids)))
        await erase(self._api, self.name, [sequence for sequence in found if sequence])

    async def _sequence(self, record_id: RecordId) -> int:
        async with self._leader:
            query = {"last_by_subj": self._prefix + record_id}
            message = await self._api.message(self.name, query)
        return message.revision if message else 0

    async def _publish(self, batch: Sequence[Outbound]) -> None:
        self._batches += 1
        batch_id = f"{self._batch_prefix}-{self._batches}"
        answers = await self._api.connection.request_all(
            [*_atomic(batch, batch_id)] if len(batch) > 1 else batch,
            timeout_seconds=SAVE_SECONDS_MAX,
        )
        checked(answers[0].data)

    def _config(self, replicas: int) -> Json:
        return {
            "name": self.name,
            "subjects": [f"{self._prefix}*"],
            "num_replicas": replicas,
            "max_consumers": -1,
            "duplicate_window": 1_000_000_000,
            **{name: 0 if name == "max_age" else -1 for name in _UNCAPPED},
            **_REQUIRED,
        }


def _batches(messages: Sequence[Outbound]) -> Iterator[list[Outbound]]:
    """Cut messages into batches of limited number and size."""
    batch: list[Outbound] = []
    size = 0
    for message in messages:
        if batch and (
            len(batch) == BATCH_SNAPSHOTS_MAX or size + len(message.body) > BATCH_BYTES_MAX
        ):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += len(message.body)
    if batch:
        yield batch


def _atomic(batch: Sequence[Outbound], batch_id: str) -> Iterator[Outbound]:
    for number, message in enumerate(batch, start=1):
        headers = {**message.headers, BATCH_ID: batch_id, BATCH_SEQUENCE: str(number)}
        if number == len(batch):
            headers[BATCH_COMMIT] = "1"
        yield message._replace(headers=headers)
