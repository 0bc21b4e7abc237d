"""The log on JetStream: one stream per workspace, many event streams as its subjects.

`appender.py` writes, `direct_reader.py` reads single streams, `tail.py` the whole log in order,
`stream_config.py` says how the stream must be set. Several logs and consumers share a connection.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain

from domain.ids import DecisionId, RecordId, Stream
from eventlog.appender import Appender, Gate
from eventlog.codec import EventMapper
from eventlog.connection import Connection
from eventlog.direct_reader import DirectReader
from eventlog.envelope import event_digest
from eventlog.excerpt import Excerpt
from eventlog.incoming import Incoming, Raw
from eventlog.jetstream_api import JetStreamApi
from eventlog.keys.key_ring import KeyRing
from eventlog.outgoing import Outgoing
from eventlog.port import EMPTY, Attempt, Entry, Head, Outcome, Shape
from eventlog.prefix import prefix
from eventlog.replicas_read import Range, ReplicaRead, ReplicasRead, ranges_of
from eventlog.stream_config import ensure_stream, require_stream
from eventlog.subjects import Subjects
from eventlog.tail import AsStored, Tail


class JetStreamEventLog:
    """Keep one workspace's log in a JetStream stream; with `keys`, what is personal is sealed.

    No event of a record that is `closed` is decoded: each has a fault, for whoever reads.
    """

    def __init__(
        self,
        connection: Connection,
        workspace: str,
        *,
        keys: KeyRing | None = None,
        closed: Collection[RecordId] = (),
    ) -> None:
        self._subjects = Subjects(workspace)
        self._api = JetStreamApi(connection)
        self._keys = keys
        mapper = EventMapper()
        incoming = Incoming(self._subjects, mapper, keys=keys, closed=closed)
        outgoing = Outgoing(self._subjects, mapper, keys=keys)
        self._appender = Appender(self._api, self._subjects, outgoing)
        self._reader = DirectReader(self._api, self._subjects, incoming)
        self._replicas = ReplicasRead()
        self._tail = Tail(self._api, self._subjects, incoming, replicas=self._replicas)
        self._stored = Tail(self._api, self._subjects, AsStored(), replicas=self._replicas)
        self._incoming = incoming

    @property
    def workspace(self) -> str:
        """The workspace whose log this is."""
        return self._subjects.workspace

    @property
    def keys(self) -> KeyRing | None:
        """The keys that seal what is personal in it; None where bodies are open."""
        return self._keys

    async def ensure_stream(self, *, replicas: int = 1) -> None:
        """Create the stream if it is not there; `UnsafeStream` if it could lose events."""
        await ensure_stream(self._api, self._subjects, replicas=replicas)

    async def require_stream(self, *, replicas: int = 1) -> None:
        """Require that the stream is there, safe, and not being restored. Raises `UnsafeStream`."""
        await require_stream(self._api, self._subjects, replicas=replicas)

    def guard_by(self, gate: Gate) -> None:
        """Ask a gate before each sending, and tell it what was stored before the caller hears."""
        self._appender.gate = gate

    async def append(self, attempt: Attempt, *, timeout_seconds: float) -> Outcome:
        """Store an attempt and settle its outcome."""
        return await self._appender.append(attempt, timeout_seconds=timeout_seconds)

    async def load(self, stream: Stream, *, after: Head = EMPTY) -> list[Entry]:
        """Read a stream after a head that the caller holds, to its end, its chain checked."""
        return await self._reader.load(stream, after)

    async def load_many(
        self,
        streams: Mapping[Stream, Head],
        *,
        concurrency: int = 32,
        recheck: Collection[Stream] = (),
    ) -> dict[Stream, list[Entry]]:
        """Load several streams, each after its head; check the event at some heads again."""
        return await self._reader.load_many(streams, concurrency=concurrency, recheck=recheck)

    async def last_entries(self, streams: Iterable[Stream]) -> dict[Stream, Entry]:
        """Read the last event of each stream that has one, a thousand to a request."""
        return await self._reader.last_entries(streams)

    async def last_heads(self, streams: Iterable[Stream]) -> dict[Stream, Head]:
        """Read the head of each stream that has one, a thousand to a request."""
        return await self._reader.last_heads(streams)

    async def leader_revisions(self, streams: Sequence[Stream]) -> list[int]:
        """Ask the leader for the revision of each stream's last event; 0 for an empty stream."""
        return await self._reader.leader_revisions(streams)

    def read(
        self,
        *,
        after_revision: int = 0,
        through_revision: int | None = None,
        as_of: datetime | None = None,
        streams: Collection[Stream] | None = None,
        batch_events_max: int = 1_000,
    ) -> AsyncGenerator[list[Entry], None]:
        """Yield what lies after a revision, in batches, up to the end or another bound."""
        if streams is None:
            batches = self._tail.read(
                after_revision=after_revision, batch_events_max=batch_events_max
            )
        else:
            excerpt = Excerpt(
                self._api,
                self._subjects,
                self._incoming,
                streams=streams,
                after_revision=after_revision,
            )
            batches = excerpt.read(batch_events_max=batch_events_max)
        return prefix(batches, through_revision=through_revision, as_of=as_of)

    def read_stored(
        self, *, after_revision: int = 0, batch_events_max: int = 1_000
    ) -> AsyncGenerator[list[Raw], None]:
        """Yield what `read` would, as it is stored: sealed, and not checked."""
        return self._stored.read(after_revision=after_revision, batch_events_max=batch_events_max)

    def outline(self, message: Raw) -> tuple[Entry, DecisionId | None]:
        """Give a stored message's place and what its envelope says, without its body or a key."""
        return self._incoming.outline(message)

    async def entries(self, messages: Sequence[Raw]) -> list[Entry]:
        """Decode stored messages. Raises `LogUnavailable` and `LogDamaged`."""
        return await self._incoming.entries(messages)

    async def stored(self, revision: int) -> Raw | None:
        """Ask the leader for one event as it is stored; None where there is none."""
        found = await self._api.message(self._subjects.log_name, {"seq": revision})
        if found is None:
            return None
        return Raw(found.subject, found.revision, found.headers, found.body)

    def follow(
        self, *, after_revision: int, batch_events_max: int = 1_000
    ) -> AsyncGenerator[list[Entry], None]:
        """Yield everything after a revision, in batches, and go on for ever."""
        return self._tail.follow(after_revision=after_revision, batch_events_max=batch_events_max)

    def survey(self) -> AsyncGenerator[list[Entry], None]:
        """Yield whatever can still be read of a damaged log, in order, with its gaps."""
        return self._tail.survey()

    async def replicas_read(self) -> list[ReplicaRead]:
        """Name the servers that the log was read from as a whole, the last one last."""
        info = await self._reader.leader_info()
        here, leader = self._api.connection.server_name, (info.get("cluster") or {}).get("leader")
        is_only = int(info["config"].get("num_replicas", 1)) == 1
        last, lacking = self._replicas.last, self._replicas.lacking
        return [
            ReplicaRead(
                server or here,
                "only" if is_only else "leader" if (server or here) == leader else "follower",
                tuple(lacking.get(server, ())),
            )
            for server in [*(server for server in lacking if server != last), last]
        ]

    async def gaps(self) -> list[Range]:
        """Give the ranges that the leader lacks before its end, or a replica read did not give."""
        state = (await self._reader.leader_info({"deleted_details": True}))["state"]
        lost = (state.get("lost") or {}).get("msgs") or ()
        first = int(state["first_seq"])
        leading = [(1, first - 1)] if first > 1 else []
        inside = ranges_of(r for r in {*(state.get("deleted") or ()), *lost} if r >= first)
        return sorted([*leading, *inside, *chain(*self._replicas.lacking.values())])

    async def shape(self) -> Shape:
        """Ask the leader for the log's shape and its clock."""
        info = await self._reader.leader_info()
        state, time = info["state"], info.get("ts")
        return Shape(
            first_revision=int(state["first_seq"]),
            last_revision=int(state["last_seq"]),
            deleted=int(state.get("num_deleted", 0)),
            lost=len((state.get("lost") or {}).get("msgs") or ()),
            server_time=datetime.fromisoformat(time) if time else None,
        )

    async def digest_at(self, revision: int) -> bytes | None:
        """Ask the leader for the digest of the event at a revision; None where it has none."""
        found = await self._api.message(self._subjects.log_name, {"seq": revision})
        if found is None:
            return None
        return event_digest(found.subject, found.headers, found.body)

    async def close(self) -> None:
        """Let go of the keys; consumers end with their readers, the connection is its owner's."""
        if self._keys is not None:
            await self._keys.close()
