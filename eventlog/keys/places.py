"""The two streams in which a workspace's keys may lie, and how each must be set.

Keys lie in one of them; in the other only while they are turned over (`turn_over.py`), and after
that in the other alone. A stream that is closed takes no more keys, and holds all; one that is a
copy follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

from eventlog.jetstream_api import STREAM_NOT_FOUND, ApiError, JetStreamApi, Json
from eventlog.stream_config import UNCAPPED
from eventlog.stream_making import find_or_make
from eventlog.subjects import Subjects

REQUIRED = {
    "retention": "limits",
    "storage": "file",
    "discard": "new",
    "allow_atomic": True,
    "allow_direct": True,
    "deny_delete": False,
    "deny_purge": False,
    "compression": "none",
}
_NOT_OF_A_COPY = frozenset({"allow_atomic", "duplicate_window", "subjects"})
FIND_SECONDS_MAX = 3.0

TURNOVER = "turnover"
"""The owner, as it were, of what a turn-over writes."""

_TURNED_OVER = {"koseki-turned-over": "yes"}


RECORD_KEYS = "key"
"""The keys of records; other families lie beside them, in streams of their own."""


class Phase(IntEnum):
    """What a stream is for; the least is where to look for keys."""

    LIVE = 0
    CLOSED = 1
    COPY = 2


class Place(NamedTuple):
    """One of the streams, as its leader describes it."""

    name: str
    phase: Phase
    config: Json
    state: Json
    created: datetime
    is_replicated_everywhere: bool

    @property
    def replicas(self) -> int:
        """How many servers keep it."""
        return int(self.config.get("num_replicas", 1))

    @property
    def was_turned_over(self) -> bool:
        """Whether its keys came from the other stream."""
        return bool(_TURNED_OVER.items() <= (self.config.get("metadata") or {}).items())

    def holds(self, other: Place) -> bool:
        """Whether a copy has all of a closed stream; it may hold what was erased there since."""
        whole, own = other.state, self.state
        is_through = int(own["last_seq"]) == int(whole["last_seq"])
        return is_through and int(own["messages"]) >= int(whole["messages"])


class Places:
    """Find, make and change the streams of one workspace's keys."""

    def __init__(self, api: JetStreamApi, workspace: str, *, family: str = RECORD_KEYS) -> None:
        self.prefix = f"koseki.{workspace}.{family}."
        first = f"koseki-{Subjects(workspace).workspace}-{family}s"
        self.names = (first, f"{first}-b")
        self._api = api

    @property
    def subjects(self) -> list[str]:
        """Give what a live stream takes."""
        return [f"{self.prefix}*.*"]

    @property
    def barrier(self) -> str:
        """Name the subject that a closed stream takes, and nobody but a turn-over writes to."""
        return f"{self.prefix}{TURNOVER}.barrier"

    async def find(self) -> Sequence[Place]:
        """Give those that are there, where to look for keys first."""
        found = [await self._find(name) for name in self.names]
        return sorted((place for place in found if place), key=lambda place: place.phase)

    async def create(self, replicas: int) -> None:
        """Make the first stream, if nobody else did meanwhile."""
        await find_or_make(self._api, self._config(replicas))

    async def close(self, place: Place) -> None:
        """Let a live stream take no more keys."""
        await self._api.call(
            f"STREAM.UPDATE.{place.name}", place.config | {"subjects": [self.barrier]}
        )

    async def create_copy(self, place: Place) -> None:
        """Let the other stream follow this one."""
        [name] = set(self.names) - {place.name}
        config = {k: v for k, v in self._config(place.replicas).items() if k not in _NOT_OF_A_COPY}
        mirror = {"mirror": {"name": place.name}, "metadata": _TURNED_OVER}
        await find_or_make(self._api, config | mirror | {"name": name})

    async def promote(self, place: Place) -> None:
        """Make a copy the live stream."""
        config = self._config(place.replicas) | {"name": place.name, "metadata": _TURNED_OVER}
        await self._api.call(f"STREAM.UPDATE.{place.name}", config)

    async def delete(self, place: Place) -> None:
        """Delete a stream, with all that its replicas ever wrote down."""
        try:
            await self._api.call(f"STREAM.DELETE.{place.name}")
        except ApiError as error:
            if error.code != STREAM_NOT_FOUND:
                raise

    async def _find(self, name: str) -> Place | None:
        try:
            info = await self._api.call(f"STREAM.INFO.{name}", timeout_seconds=FIND_SECONDS_MAX)
        except ApiError as error:
            if error.code == STREAM_NOT_FOUND:
                return None
            raise
        config = info["config"]
        phase = Phase.CLOSED if config.get("subjects") == [self.barrier] else Phase.LIVE
        others = (info.get("cluster") or {}).get("replicas") or ()
        return Place(
            name,
            Phase.COPY if config.get("mirror") else phase,
            config,
            info["state"],
            datetime.fromisoformat(info["created"]),
            all(replica.get("current") for replica in others),
        )

    def _config(self, replicas: int) -> Json:
        return {
            "name": self.names[0],
            "subjects": self.subjects,
            "num_replicas": replicas,
            "max_consumers": -1,
            "duplicate_window": 1_000_000_000,
            **REQUIRED,
            **{name: 0 if name == "max_age" else -1 for name in UNCAPPED},
        }
