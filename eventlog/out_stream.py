"""The stream that tells the outside of changes, each exactly once, whoever dies while it is told.

Each message names its position in what is told. A publisher reads the last one and appends what
follows on the condition that it still is the last; so of two publishers one wins, and what one did
not hear the answer to it finds at its next look. The stream is limited by size alone, never by age:
its last message, which says where to go on, stays for ever.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from eventlog.connection import Connection
from eventlog.errors import LogUnavailable, UnsafeStream
from eventlog.incoming import BATCH_COMMIT, BATCH_ID, BATCH_SEQUENCE
from eventlog.jetstream_api import ApiError, JetStreamApi, Json, checked
from eventlog.leader import LeaderReader
from eventlog.stream_making import find_or_make
from eventlog.subjects import Subjects
from eventlog.wire import Outbound

OUT_BYTES_MAX = 1_073_741_824
"""What is kept: some three million changes; the oldest go first."""

BATCH_CHANGES_MAX = 500
APPEND_SECONDS_MAX = 10.0
DUPLICATE_WINDOW_SECONDS = 1
POSITION = "koseki-position"
LOSSES = "koseki-losses"
EXPECTED_LAST = "Nats-Expected-Last-Sequence"

_REQUIRED = {
    "storage": "file",
    "retention": "limits",
    "discard": "old",
    "max_age": 0,
    "allow_atomic": True,
    "deny_delete": True,
}


class OutMoved(LogUnavailable):
    """Somebody else has told what follows: look again."""


class OutMessage(NamedTuple):
    """A change to tell: its subject below `out.`, its CloudEvent, its position.

    A position is one of the log as it is after so many accepted losses, for a loss frees revisions.
    """

    subject: str
    headers: Mapping[str, str]
    body: bytes
    position: str
    losses: int = 0


class OutEnd(NamedTuple):
    """The end of what was told; no position: nothing was, or an operator took it away."""

    sequence: int
    position: str | None
    losses: int = 0


class OutStream:
    """The changes of one workspace, as told. `open` comes first."""

    def __init__(self, connection: Connection, workspace: str) -> None:
        self.name = f"koseki-{Subjects(workspace).workspace}-out"
        self._api = JetStreamApi(connection)
        self._prefix = f"koseki.{workspace}.out."
        self._leader = LeaderReader(self._api, self.name)
        self._batch_prefix = f"{random.getrandbits(96):024x}"
        self._batches = 0

    async def open(self, *, replicas: int = 1) -> None:
        """Create the stream, or check the one there is. Raises `UnsafeStream`."""
        config = (await find_or_make(self._api, self._config(replicas)))["config"]
        faults = [name for name, wanted in _REQUIRED.items() if config.get(name, 0) != wanted]
        if config.get("num_replicas", 1) < replicas:
            faults.append("num_replicas")
        if faults:
            raise UnsafeStream(f"stream {self.name}: look at {', '.join(faults)}")

    async def end(self) -> OutEnd:
        """Find the end, as the leader knows it. Raises `LogUnavailable`."""
        [last] = await self._leader.newest([f"{self._prefix}>"])
        if last is not None:
            losses = int(last.headers.get(LOSSES, 0))
            return OutEnd(last.revision, last.headers.get(POSITION), losses)
        info = await self._leader.info()
        return OutEnd(int(info["state"]["last_seq"]), None)

    async def append(self, messages: Sequence[OutMessage], *, after: int) -> int:
        """Append changes, all or none, behind a sequence; give the last one's sequence.

        At most `BATCH_CHANGES_MAX`. Raises `OutMoved` where that is not the end, and
        `LogUnavailable`, after which nobody knows: look for the end again.
        """
        assert 0 < len(messages) <= BATCH_CHANGES_MAX
        answers = await self._api.connection.request_all(
            [*self._outbound(messages, after)], timeout_seconds=APPEND_SECONDS_MAX
        )
        try:
            return int(checked(answers[0].data)["seq"])
        except ApiError as error:
            raise OutMoved(f"changes were not told (error {error.code})") from None

    def _outbound(self, messages: Sequence[OutMessage], after: int) -> Iterator[Outbound]:
        self._batches += 1
        for number, message in enumerate(messages, start=1):
            headers = {
                **message.headers,
                POSITION: message.position,
                LOSSES: str(message.losses),
            }
            if number == 1:
                headers[EXPECTED_LAST] = str(after)
            if len(messages) > 1:
                headers[BATCH_ID] = f"{self._batch_prefix}-{self._batches}"
                headers[BATCH_SEQUENCE] = str(number)
                if number == len(messages):
                    headers[BATCH_COMMIT] = "1"
            yield Outbound(self._prefix + message.subject, headers, message.body)

    def _config(self, replicas: int) -> Json:
        return {
            "name": self.name,
            "subjects": [f"{self._prefix}>"],
            "num_replicas": replicas,
            "max_bytes": OUT_BYTES_MAX,
            "max_consumers": -1,
            "duplicate_window": DUPLICATE_WINDOW_SECONDS * 1_000_000_000,
            "allow_direct": True,
            **_REQUIRED,
        }
