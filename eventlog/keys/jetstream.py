"""The key store on JetStream: bulk, one winner for each key, rotation and destruction that resume.

Nothing here must be done in one go: each step leaves the stream in a state from which calling again
goes on. A record's newest message decides; a tombstone decides for ever.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress

import structlog

from domain.ids import RecordId
from eventlog.connection import Connection
from eventlog.errors import LogError, LogUnavailable, WorkspaceKeyMissing
from eventlog.jetstream_api import JetStreamApi
from eventlog.keys.census import Census
from eventlog.keys.key_stream import (
    DESTROYED,
    KEYS_PER_REQUEST_MAX,
    PADDING,
    WORKSPACE,
    KeyDraft,
    KeyMessage,
    KeyStream,
    is_destroyed,
    newest_sequence,
)
from eventlog.keys.places import RECORD_KEYS
from eventlog.keys.port import DATA_KEY_BYTES, DataKey, KeyAnswer, NoKey, Progress, silent
from eventlog.keys.renewal import Renewal
from eventlog.keys.scanning import read_whole
from eventlog.keys.turn_over import TurnOver
from eventlog.keys.workspace_key import KeySource, WorkspaceKeys, WrappingBroken
from eventlog.pull_consumer import PullConsumer

TRIES_MAX = 20
PAUSE_SECONDS_MAX = 0.05
ROTATION_PAGE_KEYS = 250
FOLLOW_BATCH_MAX = 1_000
REOPEN_SECONDS_MAX = 1.0

_logger = structlog.get_logger(__name__)


class JetStreamKeyStore:
    """Keep one family of a workspace's keys in a JetStream stream. `open` comes first."""

    def __init__(
        self,
        connection: Connection,
        workspace: str,
        *,
        source: KeySource,
        family: str = RECORD_KEYS,
    ) -> None:
        self._api = JetStreamApi(connection)
        self._stream = KeyStream(self._api, workspace, family=family)
        self._source = source
        self._keys = WorkspaceKeys({})
        self._active = 0

    async def open(self, *, replicas: int = 1) -> None:
        """Create or check the stream, and check that the workspace key is the one.

        Raises `UnsafeStream` and `WorkspaceKeyMissing`.
        """
        await self._stream.open(replicas=replicas)
        await self._read_source()
        marker = await self._stream.newest(WORKSPACE)
        if marker is None:
            await self._activate(self._keys.newest, after=0)
            marker = await self._stream.newest(WORKSPACE)
        if marker is None:
            raise LogUnavailable("the key stream does not show what was written to it")
        await self._take_up(marker)

    async def ensure(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, KeyAnswer]:
        """Give the key of each record, made where there was none."""
        answers: dict[RecordId, KeyAnswer] = {}
        for some in _slices(record_ids):
            answers.update(await self._ensure(some))
        return answers

    async def load(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, KeyAnswer]:
        """Give the key of each record, or say why there is none."""
        answers: dict[RecordId, KeyAnswer] = {}
        for some in _slices(record_ids):
            answers.update(await (self._look(some) if len(some) > 1 else self._look_at(*some)))
        # A replica may lag, and a key may be moved while it is read: "never" is the leader's word.
        unsure = [r for r, answer in answers.items() if answer is NoKey.NEVER_MADE]
        return answers | (await self._ask_leader(unsure) if unsure else {})

    async def destroy(self, record_ids: Iterable[RecordId]) -> None:
        """Destroy keys for good: first the word that there is none, then the bytes."""
        for some in _slices(record_ids):
            await self._destroy(some)

    async def rotate(self, *, progress: Progress = silent) -> int:
        """Wrap every key anew under the newest workspace key; say how many were."""
        await self._read_source()
        marker = await self._stream.newest(WORKSPACE)
        if marker is not None and marker.version < self._keys.newest:
            await self._activate(self._keys.newest, after=marker.sequence)
            marker = await self._stream.newest(WORKSPACE)
        await self._take_up(marker)
        renewed = 0
        if await self._is_renewal_due():
            renewed = await Renewal(self._stream, self._redraft, progress=progress).run()
        # Those that were made by somebody who had not yet heard of the new version, and died.
        older = [version for version in self._keys.by_version if version < self._active]
        return renewed + sum([await self._move_all(version) for version in sorted(older)])

    async def census(self, *, progress: Progress = silent) -> Census:
        """Count keys by the version of the workspace key that wraps them, and tombstones."""
        by_version: Counter[int] = Counter()
        async with aclosing(self.messages()) as pages:
            async for page in pages:
                by_version.update(m.version for m in page if m.owner != WORKSPACE)
                progress(by_version.total())
        destroyed = by_version.pop(0, 0)
        return Census(self._active, self._keys.newest, dict(sorted(by_version.items())), destroyed)

    def messages(self) -> AsyncGenerator[list[KeyMessage], None]:
        """Yield pages of all that the store holds, wrapped, as a backup needs it."""
        return read_whole(self._stream)

    async def begins_at(self) -> int:
        """Give the place of the first message: another one once a rotation has moved them all."""
        return (await self._stream.extent()).first

    async def destroyed(self) -> list[RecordId]:
        """Name the records whose keys are destroyed. The store need not be open."""
        return await self._stream.destroyed()

    async def unwrap(self, messages: Sequence[KeyMessage]) -> dict[RecordId, DataKey]:
        """Give the keys in messages of a backup.

        Raises `WorkspaceKeyMissing` where the version that wraps one is not at hand, and
        `WrappingBroken` where it is another key.
        """
        await self._know(messages)
        wrapped = [m for m in messages if not m.is_tombstone and m.owner != WORKSPACE]
        return {m.owner: self._keys.unwrap(m.owner, m.body, m.version) for m in wrapped}

    async def put_back(self, messages: Sequence[KeyMessage]) -> int:
        """Write keys for records that have neither key nor tombstone; say how many were.

        Raises as `unwrap`.
        """
        keys = await self.unwrap(messages)
        for _ in range(TRIES_MAX):
            found = await self._stream.read(list(keys))
            drafts = [
                self._draft(owner, key, self._active, after=0)
                for owner, key in keys.items()
                if owner not in found
            ]
            if not drafts or await self._stream.write(drafts):
                return len(drafts)
            await _pause()
        raise LogUnavailable("others make the same keys all the time")

    async def turn_over(self) -> None:
        """Let what was destroyed or rotated leave the disk of every replica, before this returns.

        While it runs, who makes keys waits. Nothing is to be done where one server keeps them.
        While a server is away nothing is begun: `LogUnavailable`.
        """
        await TurnOver(self._api, self._stream.places).run(self._finish_destructions)
        await self._stream.locate()

    async def finish_turn_over(self) -> None:
        """Go on with a turn-over that was killed."""
        await TurnOver(self._api, self._stream.places).finish()
        await self._stream.locate()

    async def position(self) -> int:
        """Give the place from which `follow` goes on."""
        return (await self._stream.extent()).last

    async def follow(self, after: int) -> AsyncGenerator[list[RecordId], None]:
        """Yield the records whose keys are destroyed, and go on for ever."""
        while True:
            consumer = self._consumer()
            try:
                await consumer.create(after + 1)
                while deliveries := await consumer.receive():
                    after = deliveries[-1].revision
                    yield [self._stream.owner_of(d.message.subject) for d in deliveries]
            except LogError as error:
                _logger.warning("keys_not_followed", reason=error.message)
                with suppress(LogUnavailable):
                    await self._stream.locate()
            finally:
                with suppress(LogUnavailable):
                    await consumer.close()
            await self._api.connection.wait_connected(timeout_seconds=REOPEN_SECONDS_MAX)
            await _pause()

    def _consumer(self) -> PullConsumer:
        return PullConsumer(
            self._api,
            self._stream.name,
            events_max=FOLLOW_BATCH_MAX,
            subjects=[self._stream.tombstones],
        )

    async def _ensure(self, record_ids: Sequence[RecordId]) -> dict[RecordId, KeyAnswer]:
        """Write keys for all, as if there were none; read what another was faster with."""
        answers: dict[RecordId, KeyAnswer] = {}
        missing = list(record_ids)
        for _ in range(TRIES_MAX):
            await self._take_up(await self._stream.read_newest(WORKSPACE))
            version = self._active
            fresh = {r: DataKey(secrets.token_bytes(DATA_KEY_BYTES)) for r in missing}
            drafts = [self._draft(r, key, version, after=0) for r, key in fresh.items()]
            if await self._stream.write(drafts):
                await self._keep_up(missing, version)
                return answers | fresh
            found = await self._look(missing)
            answers |= {r: a for r, a in found.items() if a is not NoKey.NEVER_MADE}
            missing = [r for r in missing if r not in answers]
            if not missing:
                return answers
            await _pause()
        raise LogUnavailable("others make the same keys all the time")

    async def _keep_up(self, record_ids: Sequence[RecordId], version: int) -> None:
        """Wrap anew what was just made, if a rotation began before and may have missed it.

        What this leaves under the older version the next rotation erases: a host may not.
        """
        await self._take_up(await self._stream.newest(WORKSPACE))
        if version < self._active:
            await self._wrap_anew(record_ids)

    async def _look(self, record_ids: Sequence[RecordId]) -> dict[RecordId, KeyAnswer]:
        found = await self._stream.read(record_ids)
        await self._know(message for messages in found.values() for message in messages)
        return {r: self._answer(found.get(r, [])) for r in record_ids}

    async def _look_at(self, record_id: RecordId) -> dict[RecordId, KeyAnswer]:
        """Look for one key in half the time: what is newest of a record decides."""
        newest = await self._stream.read_newest(record_id)
        messages = [newest] if newest else []
        await self._know(messages)
        return {record_id: self._answer(messages)}

    async def _ask_leader(self, record_ids: Sequence[RecordId]) -> dict[RecordId, KeyAnswer]:
        newest = await self._stream.newest_of(record_ids)
        await self._know(message for message in newest if message)
        return {
            record_id: self._answer([message] if message else [])
            for record_id, message in zip(record_ids, newest, strict=True)
        }

    def _answer(self, messages: Collection[KeyMessage]) -> KeyAnswer:
        if not messages:
            return NoKey.NEVER_MADE
        if any(message.is_tombstone for message in messages):
            return NoKey.DESTROYED
        newest = max(messages, key=lambda message: message.version)
        try:
            return self._keys.unwrap(newest.owner, newest.body, newest.version)
        except WrappingBroken:
            return NoKey.DAMAGED

    async def _know(self, messages: Iterable[KeyMessage]) -> None:
        """Read the source again where a version is met that it did not give before."""
        met = {message.version for message in messages if not message.is_tombstone}
        if not met <= self._keys.by_version.keys():
            await self._read_source()

    async def _destroy(self, record_ids: Sequence[RecordId]) -> None:
        for _ in range(TRIES_MAX):
            found = await self._stream.read(record_ids)
            keys = [m for messages in found.values() for m in messages if not m.is_tombstone]
            standing = [r for r in record_ids if not is_destroyed(found.get(r, []))]
            if not standing and not keys:
                return
            tombstones = [
                KeyDraft(r, DESTROYED, b"", newest_sequence(found.get(r, []))) for r in standing
            ]
            if not tombstones or await self._stream.write(tombstones):
                await self._stream.erase(message.sequence for message in keys)
            else:
                await _pause()
        raise LogUnavailable("the keys to be destroyed are written all the time")

    async def _is_renewal_due(self) -> bool:
        """Whether a rotation has begun that is not finished, this one or another."""
        oldest = await self._stream.oldest(WORKSPACE)
        is_rotated = oldest is None or oldest.version >= self._active
        return not is_rotated or await self._stream.newest(PADDING) is not None

    def _redraft(self, held: Sequence[KeyMessage]) -> KeyDraft:
        """Write anew what an owner's messages say; a damaged key stays as it is."""
        newest = max(held, key=lambda message: message.sequence)
        drafts = [] if newest.owner == WORKSPACE else list(self._rewrapped(held))
        mark = DESTROYED if is_destroyed(held) else newest.mark
        body = b"" if is_destroyed(held) else newest.body
        return drafts[0] if drafts else KeyDraft(newest.owner, mark, body, newest.sequence)

    async def _finish_destructions(self) -> None:
        """Erase what a destruction that was killed has left beside its tombstone."""
        after = 0
        while page := await self._stream.page(DESTROYED, after, size=ROTATION_PAGE_KEYS):
            after = page[-1].sequence
            await self._destroy([message.owner for message in page])

    async def _move_all(self, version: int) -> int:
        """Move every key away from a version, until a look from the start finds none that can."""
        moved = 0
        while True:
            after, moved_before = 0, moved
            while page := await self._stream.page(str(version), after, size=ROTATION_PAGE_KEYS):
                after = page[-1].sequence
                moved += await self._move(page)
            if moved == moved_before:
                return moved

    async def _move(self, messages: Sequence[KeyMessage]) -> int:
        """Write keys under the active version, then erase the older; say how many were erased."""
        owners = list(dict.fromkeys(message.owner for message in messages))
        await self._wrap_anew(owners)
        return await self._erase_moved(owners)

    async def _wrap_anew(self, owners: Sequence[RecordId]) -> None:
        """Write keys under the active version, beside the older; ask a replica that lags again."""
        for _ in range(TRIES_MAX):
            found = await self._stream.read(owners)
            await self._know(message for held in found.values() for message in held)
            drafts = [draft for held in found.values() for draft in self._rewrapped(held)]
            if (not drafts or await self._stream.write(drafts)) and len(found) == len(owners):
                return
            await _pause()
        raise LogUnavailable("the keys to be moved are written all the time")

    async def _erase_moved(self, owners: Sequence[RecordId]) -> int:
        found = await self._stream.read(owners)
        old = [
            message.sequence
            for held in found.values()
            for message in held
            if is_destroyed(held) or any(m.version >= self._active for m in held)
            if not message.is_tombstone and (is_destroyed(held) or message.version < self._active)
        ]
        await self._stream.erase(old)
        return len(old)

    def _rewrapped(self, held: Sequence[KeyMessage]) -> Iterator[KeyDraft]:
        if is_destroyed(held) or any(m.version >= self._active for m in held):
            return
        key = self._answer(held)
        if isinstance(key, NoKey):
            _logger.error("key_damaged", sequence=newest_sequence(held))
            return
        yield self._draft(held[0].owner, key, self._active, after=newest_sequence(held))

    def _draft(self, record_id: RecordId, key: DataKey, version: int, *, after: int) -> KeyDraft:
        wrapped = self._keys.wrap(record_id, key, version)
        return KeyDraft(record_id, str(version), wrapped, after)

    async def _activate(self, version: int, *, after: int) -> None:
        """Say that new keys are wrapped under a version; whoever says it first is right."""
        check_value = self._keys.check_value(version)
        await self._stream.write([KeyDraft(WORKSPACE, str(version), check_value, after)])

    async def _take_up(self, marker: KeyMessage | None) -> None:
        """Wrap under a marker's version from now on, unless a replica that lags gave it."""
        if marker is None or marker.version < self._active:
            return
        if marker.version not in self._keys.by_version:
            await self._read_source()
        if not self._keys.passes(marker.body, marker.version):
            raise WorkspaceKeyMissing(
                f"version {marker.version} of the workspace key is not the one that was used here"
            )
        self._active = marker.version

    async def _read_source(self) -> None:
        self._keys = await asyncio.to_thread(self._source)


def _slices(record_ids: Iterable[RecordId]) -> Iterator[list[RecordId]]:
    distinct = list(dict.fromkeys(record_ids))
    for start in range(0, len(distinct), KEYS_PER_REQUEST_MAX):
        yield distinct[start : start + KEYS_PER_REQUEST_MAX]


async def _pause() -> None:
    # Writers that met must not meet again in step.
    await asyncio.sleep(random.uniform(0, PAUSE_SECONDS_MAX))  # noqa: S311  # not a secret
