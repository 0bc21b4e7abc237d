"""The stream that wrapped keys lie in, and the requests that it takes: who, what and where.

A plain stream, since a KV bucket cannot erase (`deny_delete`). Subject `key.<record>.<version>`
holds a key wrapped under that version of the workspace key, `key.<record>.destroyed` says for ever
that there is none, `key.workspace.<version>` that new keys are wrapped under that version. A write
expects the newest message of the whole record, so no two writers can both be right.
"""

from __future__ import annotations

import random
from collections.abc import (
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson
import structlog

from domain.ids import RecordId
from eventlog.asking_again import until_answered
from eventlog.connection import NotSent
from eventlog.direct_get import ask_last_message
from eventlog.erasing import ERASE_SECONDS_MAX, erase_each, erase_once
from eventlog.errors import LogUnavailable, UnsafeStream
from eventlog.incoming import BATCH_COMMIT, BATCH_ID, BATCH_SEQUENCE, Raw
from eventlog.jetstream_api import (
    STREAM_NOT_FOUND,
    ApiError,
    JetStreamApi,
    StoredMessage,
    checked,
)
from eventlog.keys.places import RECORD_KEYS, REQUIRED, Phase, Place, Places
from eventlog.leader import LeaderReader
from eventlog.nats_client import Received
from eventlog.pull_consumer import Delivery, PullConsumer
from eventlog.stream_config import unsafe_settings
from eventlog.stream_making import MAKE_SECONDS_MAX
from eventlog.wire import Outbound

KEYS_PER_REQUEST_MAX = 1_000
REQUEST_SECONDS_MAX = 5.0
SCAN_KEYS_MAX = KEYS_PER_REQUEST_MAX
PADDING_MESSAGES = 20
PADDING_MESSAGE_BYTES = 500_000
"""Together more than a block of the server's, which has 8 MiB."""

PURGE_SECONDS_MAX = 60.0
_MULTI_LAST_MAX = 1_024
"""The server answers no request that finds more."""

DESTROYED = "destroyed"
WORKSPACE = "workspace"
PADDING = "padding"

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_EXPECTED_ON = "Nats-Expected-Last-Subject-Sequence-Subject"
_CONFLICTS = frozenset({10071, 10164})
_TRY_AGAIN = frozenset({10163, 10176, 10210})
_NOT_FOUND = "404"
_TOO_MANY = "413"
_END_OF_BATCH = "204"

_Answer = TypeVar("_Answer")
_logger = structlog.get_logger(__name__)


class KeyMessage(NamedTuple):
    """A message of the stream: whose key, `DESTROYED` or a version, and the wrapped key."""

    owner: RecordId
    mark: str
    sequence: int
    body: bytes

    @property
    def is_tombstone(self) -> bool:
        """Whether it says that the key was destroyed."""
        return self.mark == DESTROYED

    @property
    def version(self) -> int:
        """The version of the workspace key; 0 for a tombstone."""
        return 0 if self.is_tombstone else int(self.mark)


class Extent(NamedTuple):
    """Where a stream begins and ends, and how many messages were ever removed from it."""

    first: int
    last: int
    removed: int


def is_destroyed(messages: Iterable[KeyMessage]) -> bool:
    """Say whether one of an owner's messages is a tombstone."""
    return any(message.is_tombstone for message in messages)


def newest_sequence(messages: Iterable[KeyMessage]) -> int:
    """Give the sequence of the newest of an owner's messages; 0 where there are none."""
    return max((message.sequence for message in messages), default=0)


class KeyDraft(NamedTuple):
    """A message to be written after the newest one of its owner (0: after none)."""

    owner: str
    mark: str
    body: bytes
    expected: int


class KeyStream:
    """Make the requests on one workspace's key stream."""

    def __init__(self, api: JetStreamApi, workspace: str, *, family: str = RECORD_KEYS) -> None:
        self.places = Places(api, workspace, family=family)
        self.tombstones = f"{self.places.prefix}*.{DESTROYED}"
        self._api = api
        self._prefix = self.places.prefix
        self._batches = 0
        self._batch_prefix = f"{random.getrandbits(96):024x}"
        self._look_in(self.places.names[0])

    async def open(self, *, replicas: int) -> None:
        """Create the stream, or check the one there is; `UnsafeStream` says what to change."""

        async def ask(_timeout_seconds: float) -> Place | None:
            return await self.locate()

        connection = self._api.connection
        place = await until_answered(connection, ask, timeout_seconds=MAKE_SECONDS_MAX)
        if place is None:
            await self.places.create(replicas)
            place = await until_answered(connection, ask, timeout_seconds=MAKE_SECONDS_MAX)
        if place is None or place.phase is not Phase.LIVE:
            _logger.warning("key_store_not_turned_over_to_the_end", stream=self.name)
            return
        faults = list(
            unsafe_settings(
                place.config, self.places.subjects, replicas=replicas, required=REQUIRED
            )
        )
        if faults:
            raise UnsafeStream(f"stream {self.name}: {'; '.join(faults)}")

    async def locate(self) -> Place | None:
        """Look in which stream the keys lie now; None where there is none."""
        found = await self.places.find()
        if not found:
            return None
        self._look_in(found[0].name)
        return found[0]

    async def extent(self) -> Extent:
        """Say from where to where the stream goes."""

        async def ask(timeout_seconds: float) -> Extent:
            info = await self._api.call(f"STREAM.INFO.{self.name}", timeout_seconds=timeout_seconds)
            state = info["state"]
            last = int(state["last_seq"])
            return Extent(int(state["first_seq"]), last, last - int(state["messages"]))

        return await self._ask(ask)

    async def destroyed(self) -> list[RecordId]:
        """Name the records that have a tombstone; none where there is no stream."""
        found: list[RecordId] = []
        while True:
            query = {"subjects_filter": self.tombstones, "offset": len(found)}
            try:
                answer = await self._api.call(f"STREAM.INFO.{self.name}", query)
            except ApiError as error:
                if error.code == STREAM_NOT_FOUND:
                    return []
                raise
            page = answer["state"].get("subjects") or {}
            found += map(self.owner_of, page)
            if not page or len(found) >= answer.get("total", 0):
                return found

    async def write(self, drafts: Sequence[KeyDraft]) -> bool:
        """Write all or none; false where an expectation did not hold.

        What may have been written is written again, with the same expectations: false may mean that
        it was. Raises `LogUnavailable`: then it is not known whether they were written.
        """

        async def ask(timeout_seconds: float) -> bool:
            answers = await self._api.connection.request_all(
                list(self._outbound(drafts)), timeout_seconds=timeout_seconds
            )
            try:
                checked(answers[0].data)
            except ApiError as error:
                if error.code in _CONFLICTS:
                    return False
                if error.code in _TRY_AGAIN:
                    raise NotSent("the stream's leader cannot take keys now") from None
                raise
            return True

        return await self._ask(ask)

    async def read(self, owners: Sequence[str]) -> dict[RecordId, list[KeyMessage]]:
        """Read all messages of these owners; a replica that lags may answer."""
        found: dict[RecordId, list[KeyMessage]] = {}
        for start in range(0, len(owners), KEYS_PER_REQUEST_MAX):
            for message in await self._read(owners[start : start + KEYS_PER_REQUEST_MAX]):
                found.setdefault(message.owner, []).append(message)
        return found

    async def read_newest(self, owner: str) -> KeyMessage | None:
        """Read the newest message of an owner; a replica that lags may answer."""

        async def ask(timeout_seconds: float) -> Raw | None:
            return await ask_last_message(
                self._api.connection,
                self.name,
                f"{self._prefix}{owner}.*",
                timeout_seconds=timeout_seconds,
            )

        found = await self._ask(ask)
        return self._message(found.subject, found.revision, found.body) if found else None

    async def newest(self, owner: str) -> KeyMessage | None:
        """Ask the leader for the newest message of an owner; `*` means of any."""
        return (await self.newest_of([owner]))[0]

    async def newest_of(self, owners: Sequence[str]) -> list[KeyMessage | None]:
        """Ask a leader that leads still for the newest message of each owner."""

        async def ask(_timeout_seconds: float) -> list[StoredMessage | None]:
            return await self._leader.newest([f"{self._prefix}{owner}.*" for owner in owners])

        return [
            self._message(found.subject, found.revision, found.body) if found else None
            for found in await self._ask(ask)
        ]

    async def oldest(self, owner: str) -> KeyMessage | None:
        """Ask the leader for the oldest message of an owner."""
        query = {"next_by_subj": f"{self._prefix}{owner}.*", "seq": 1}
        found = await self._api.message(self.name, query)
        if found is None:
            return None
        return self._message(found.subject, found.revision, found.body)

    async def consume(self, first: int) -> PullConsumer:
        """Begin to receive what lies from a sequence on, wherever the keys lie now."""

        async def ask(_timeout_seconds: float) -> PullConsumer:
            consumer = PullConsumer(self._api, self.name, events_max=SCAN_KEYS_MAX)
            try:
                await consumer.create(first)
            except LogUnavailable:
                await consumer.close()
                raise
            return consumer

        return await self._ask(ask)

    def delivered(self, delivery: Delivery) -> KeyMessage:
        """Read what a consumer received."""
        message = delivery.message
        return self._message(message.subject, delivery.revision, message.data)

    async def pad(self) -> None:
        """Write more than a block of nothing, unless there is some."""
        body = bytes(PADDING_MESSAGE_BYTES)
        drafts = [KeyDraft(PADDING, "0", body, 0)] * PADDING_MESSAGES
        await self.write(drafts)

    async def purge(self, before: int) -> None:
        """Drop everything before a sequence; whole blocks go from the server's disk."""
        await self._api.call(
            f"STREAM.PURGE.{self.name}", {"seq": before}, timeout_seconds=PURGE_SECONDS_MAX
        )

    async def page(self, mark: str, after: int, *, size: int) -> list[KeyMessage]:
        """Read messages of one mark (`DESTROYED`, or a version), in the order of the stream."""
        messages, _ = await self._get(
            {"seq": after + 1, "next_by_subj": f"{self._prefix}*.{mark}", "batch": size}
        )
        return [message for message in messages if message.owner != WORKSPACE]

    async def erase(self, sequences: Iterable[int]) -> None:
        """Overwrite messages on the server's disk; what is gone already may be named."""
        await erase_each(sequences, self._erase)

    def owner_of(self, subject: str) -> RecordId:
        """Name the owner of a message by its subject."""
        return RecordId(subject[len(self._prefix) :].partition(".")[0])

    def _look_in(self, name: str) -> None:
        self.name = name
        self._leader = LeaderReader(self._api, name)

    async def _ask(
        self,
        ask: Callable[[float], Awaitable[_Answer]],
        *,
        timeout_seconds: float = REQUEST_SECONDS_MAX,
    ) -> _Answer:
        """Ask until there is an answer, of the stream in which the keys lie by then."""

        async def ask_where_they_lie(seconds: float) -> _Answer:
            try:
                return await ask(seconds)
            except NotSent:
                await self.locate()
                raise
            except ApiError as error:
                if error.code != STREAM_NOT_FOUND:
                    raise
            await self.locate()
            raise LogUnavailable(f"the keys lie in {self.name} now")

        return await until_answered(
            self._api.connection, ask_where_they_lie, timeout_seconds=timeout_seconds
        )

    async def _erase(self, sequence: int) -> None:
        async def ask(timeout_seconds: float) -> None:
            await erase_once(self._api, self.name, sequence, timeout_seconds=timeout_seconds)

        await self._ask(ask, timeout_seconds=ERASE_SECONDS_MAX)

    async def _read(self, owners: Sequence[str]) -> list[KeyMessage]:
        subjects = [f"{self._prefix}{owner}.*" for owner in owners]
        messages, status = await self._get({"multi_last": subjects, "batch": _MULTI_LAST_MAX})
        if status != _TOO_MANY:
            return messages
        # Some have two messages, as in the middle of a rotation.
        half = len(owners) // 2
        return [*await self._read(owners[:half]), *await self._read(owners[half:])]

    async def _get(self, query: Mapping[str, Any]) -> tuple[list[KeyMessage], str]:
        """Make a direct get; give what it found, and the status that it ended with."""

        async def ask(timeout_seconds: float) -> list[Received]:
            return await self._api.connection.request_all(
                [Outbound(f"$JS.API.DIRECT.GET.{self.name}", {}, orjson.dumps(query))],
                is_last=_ends,
                timeout_seconds=timeout_seconds,
            )

        *messages, end = await self._ask(ask)
        status = (end.headers or {}).get("Status", "")
        if status not in (_NOT_FOUND, _TOO_MANY, _END_OF_BATCH):
            raise LogUnavailable("a direct get of keys ended before its time")
        return [self._received(message) for message in messages], status

    def _received(self, message: Received) -> KeyMessage:
        headers = message.headers or {}
        return self._message(headers["Nats-Subject"], int(headers["Nats-Sequence"]), message.data)

    def _message(self, subject: str, sequence: int, body: bytes) -> KeyMessage:
        mark = subject.rpartition(".")[2]
        return KeyMessage(self.owner_of(subject), mark, sequence, body)

    def _outbound(self, drafts: Sequence[KeyDraft]) -> Iterator[Outbound]:
        self._batches += 1
        for number, draft in enumerate(drafts, start=1):
            headers = {}
            if draft.owner != PADDING or number == 1:
                headers[_EXPECTED] = str(draft.expected)
                headers[_EXPECTED_ON] = f"{self._prefix}{draft.owner}.*"
            if len(drafts) > 1:
                headers[BATCH_ID] = f"{self._batch_prefix}-{self._batches}"
                headers[BATCH_SEQUENCE] = str(number)
            if number == len(drafts) > 1:
                headers[BATCH_COMMIT] = "1"
            yield Outbound(f"{self._prefix}{draft.owner}.{draft.mark}", headers, draft.body)


def refuse_encryption(store_folder: Path) -> None:
    """Refuse a server with `jetstream.key`: it could not erase. Raises `UnsafeStream`.

    The server tells no client of it, so only whoever sees its folder can look.
    """
    if next(store_folder.glob("**/meta.key"), None) is not None:
        raise UnsafeStream("the server has jetstream.key set: erased keys would stay on its disk")


def _ends(message: Received) -> bool:
    return not message.data and "Status" in (message.headers or {})
