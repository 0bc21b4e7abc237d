"""Puts events back into a new stream at the very revisions that they had.

Each message expects the stream to end right before it, so it gets its old revision or none. Appends
are joined into atomic batches (a small one costs the server as much as a large one), their bounds
kept in a header. The stream says in its metadata that it is being restored, until `finish`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise

from eventlog.asking_again import until_answered
from eventlog.connection import Connection
from eventlog.errors import LogDamaged, LogError, LogUnavailable
from eventlog.incoming import (
    APPEND_END,
    BATCH_COMMIT,
    BATCH_ID,
    BATCH_SEQUENCE,
    Raw,
    ends_append,
)
from eventlog.jetstream_api import (
    API_TIMEOUT_SECONDS,
    STREAM_NOT_FOUND,
    ApiError,
    JetStreamApi,
    Json,
    checked,
)
from eventlog.stream_config import RESTORING, log_config, unsafe_settings
from eventlog.subjects import Subjects
from eventlog.wire import MessageTooLarge, Outbound

BATCH_EVENTS_MAX = 1_000
BATCH_BYTES_MAX = 4_194_304
BATCHES_IN_FLIGHT_MAX = 4
WRITE_SECONDS_MAX = 30.0
PATIENCE_SECONDS = 60.0
"""How long a restore waits for a server that is away before it stops; it can be taken up again."""

PAUSE_SECONDS = 0.25
_EXPECTED_LAST = "Nats-Expected-Last-Sequence"


class RestoreRefused(LogError):
    """The stream is not one to restore into."""

    def __init__(self, message: str) -> None:
        super().__init__("RESTORE_REFUSED", message)


class Restoration:
    """Fill one workspace's log: `begin`, then `write` and `flush`, then `finish`."""

    def __init__(self, connection: Connection, workspace: str) -> None:
        self._api = JetStreamApi(connection)
        self._subjects = Subjects(workspace)
        self._name = self._subjects.log_name
        self._batch: list[Raw] = []
        self._batch_bytes = 0
        self._waiting: list[list[Raw]] = []
        self._batches = 0
        self._batch_prefix = f"{random.getrandbits(96):024x}"

    async def begin(self, last_revision: int, *, replicas: int) -> int:
        """Make the stream, or take up one that a restore of as much has begun; say how far it is.

        Raises `RestoreRefused` for a stream that holds anything else, and `LogUnavailable`.
        """
        try:
            info = await self._call("INFO")
        except ApiError as error:
            if error.code != STREAM_NOT_FOUND:
                raise
            config = log_config(self._subjects, replicas=replicas)
            info = await self._call("CREATE", _marked(config, last_revision))
        begun = int(info["state"]["last_seq"])
        mark = (info["config"].get("metadata") or {}).get(RESTORING)
        if begun and mark != str(last_revision):
            raise RestoreRefused(
                f"stream {self._name} is not empty: a backup is restored into a new stream"
            )
        self._require_safe(info["config"], replicas=replicas)
        if mark != str(last_revision):
            await self._update(_marked(info["config"], last_revision))
        return begun

    async def write(self, append: Sequence[Raw]) -> None:
        """Store an append whole, after all those before it; it is there after the next `flush`."""
        size = sum(len(e.body) for e in append)
        is_full = len(self._batch) + len(append) > BATCH_EVENTS_MAX
        if self._batch and (is_full or self._batch_bytes + size > BATCH_BYTES_MAX):
            await self._close_batch()
        self._batch += append
        self._batch_bytes += size

    async def flush(self) -> None:
        """Have everything stored that was written. Raises `LogUnavailable` or `LogDamaged`."""
        await self._close_batch()
        await self._send_waiting()

    async def finish(self) -> None:
        """Say that the stream is whole: from now on it is a log like any other."""
        config = (await self._call("INFO"))["config"]
        metadata = {k: v for k, v in config["metadata"].items() if k != RESTORING}
        await self._update(config | {"metadata": metadata})

    def _require_safe(self, config: Json, *, replicas: int) -> None:
        faults = list(unsafe_settings(config, self._subjects.filters, replicas=replicas))
        if faults:
            raise RestoreRefused(f"stream {self._name}: {'; '.join(faults)}")

    async def _update(self, config: Json) -> None:
        await self._call("UPDATE", config)

    async def _call(self, verb: str, payload: Json | None = None) -> Json:
        """Ask for what may be asked for twice, until there is an answer."""

        async def ask(timeout_seconds: float) -> Json:
            return await self._api.call(
                f"STREAM.{verb}.{self._name}",
                payload,
                timeout_seconds=min(timeout_seconds, API_TIMEOUT_SECONDS),
            )

        connection = self._api.connection
        return await until_answered(connection, ask, timeout_seconds=PATIENCE_SECONDS)

    async def _close_batch(self) -> None:
        if self._batch:
            self._waiting.append(self._batch)
            self._batch, self._batch_bytes = [], 0
        if len(self._waiting) >= BATCHES_IN_FLIGHT_MAX:
            await self._send_waiting()

    async def _send_waiting(self) -> None:
        """Send until the stream ends where the last of the waiting batches does."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        while self._waiting:
            sent = await asyncio.gather(*map(self._send, self._waiting), return_exceptions=True)
            failure = next((each for each in sent if each is not None), None)
            if failure is None:
                self._waiting.clear()
                return
            if not isinstance(failure, LogUnavailable) or loop.time() > deadline:
                raise failure
            await asyncio.sleep(PAUSE_SECONDS)
            await self._drop_stored()

    async def _drop_stored(self) -> None:
        """Forget the batches that are in the stream though nobody said so."""
        try:
            info = await self._api.call(f"STREAM.INFO.{self._name}")
        except LogUnavailable:
            return
        last = int(info["state"]["last_seq"])
        bounds = {self._waiting[0][0].revision - 1, *(b[-1].revision for b in self._waiting)}
        if last not in bounds:
            raise LogDamaged(f"somebody else writes to stream {self._name}: it ends at {last}")
        self._waiting = [batch for batch in self._waiting if batch[-1].revision > last]

    async def _send(self, batch: Sequence[Raw]) -> None:
        try:
            answers = await self._api.connection.request_all(
                self._outbound(batch), timeout_seconds=WRITE_SECONDS_MAX
            )
        except MessageTooLarge as error:
            raise RestoreRefused(str(error)) from None
        stored = int(checked(answers[0].data)["seq"])
        if stored != batch[-1].revision:
            raise LogDamaged(f"revision {batch[-1].revision} was stored as {stored}")

    def _outbound(self, batch: Sequence[Raw]) -> list[Outbound]:
        self._batches += 1
        messages = []
        for number, event in enumerate(batch, start=1):
            headers = _lasting(event.headers)
            if number == 1:
                headers[_EXPECTED_LAST] = str(event.revision - 1)
            if len(batch) > 1:
                headers[BATCH_ID] = f"{self._batch_prefix}-{self._batches}"
                headers[BATCH_SEQUENCE] = str(number)
            if number == len(batch) > 1:
                headers[BATCH_COMMIT] = "1"
            elif len(batch) > 1 and ends_append(event.headers):
                headers[APPEND_END] = "1"
            messages.append(Outbound(event.subject, headers, event.body))
        assert all(a.revision + 1 == b.revision for a, b in pairwise(batch))
        return messages


def _marked(config: Json, last_revision: int) -> Json:
    return config | {"metadata": (config.get("metadata") or {}) | {RESTORING: str(last_revision)}}


def _lasting(headers: Mapping[str, str]) -> dict[str, str]:
    """Give the headers that are the event's own, not those of the append that stored it."""
    return {
        name: value
        for name, value in headers.items()
        if not name.startswith("Nats-") and name != APPEND_END
    }
