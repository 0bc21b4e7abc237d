"""Make a round of commands ready to be decided: wake whom they mean, set wrong owners right, fence.

Called by the host, once a round and after a conflict. What a router said of owners is only a hint;
what is read here from the log decides. Nothing here is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from actors.awake import AwakeCustomers, AwakeRecord
from actors.identifier_streams import read_identifiers
from actors.messages import failed
from actors.rounds import IdentifierStream, Waiting
from actors.rules import RulesKeeper
from actors.waking import Waker
from domain.commands import CheckConsent, ReadmitIdentifier, RecordSignals
from domain.errors import Kind
from domain.identity import PastHolder
from domain.ids import (
    WORKSPACE_STREAM,
    CommandId,
    IdentifierKey,
    RecordId,
    Stream,
    identifier_stream,
    record_stream,
)
from domain.past_holders import holders_before
from domain.record import RememberedCommand, remembered
from eventlog.port import EventLog

FENCE_PASSES_MAX = 4
"""How often a check's customers are read on until they are as new as the leader was."""

Unreadable = set[RecordId | IdentifierKey]
"""Records, and identifiers, with an event that cannot be read."""


class Readiness:
    """Keep the awake customers in step with what the commands of a round need."""

    def __init__(
        self, log: EventLog, *, awake: AwakeCustomers, rules: RulesKeeper, waker: Waker
    ) -> None:
        self._log = log
        self._awake = awake
        self._rules = rules
        self._waker = waker

    async def prepare(self, batch: Sequence[Waiting]) -> Unreadable:
        """Wake everybody, check the owners, fence the checks. Raises `LogError`."""
        # Nearly all that a busy host takes on is ready as it comes: one look shows it.
        batch = [waiting for waiting in batch if not self._is_at_hand(waiting)]
        if not batch:
            return set()
        unreadable = await self.wake(batch)
        unreadable |= await self._correct_owners(batch)
        unreadable |= await self.look_up(
            [w for w in batch if w.is_about_identifier or w.is_erasure]
        )
        unreadable |= await self._fence(batch, unreadable)
        await self._wake_others(batch)
        return unreadable

    def _is_at_hand(self, waiting: Waiting) -> bool:
        """Whether a command brings signals of one customer, of whom nothing has to be read."""
        command = waiting.routed.command
        if not isinstance(command, RecordSignals) or command.record_id or waiting.streams:
            return False
        return self._awake.is_one_at_hand(waiting.routed.owners)

    async def wake(self, batch: Iterable[Waiting]) -> Unreadable:
        """Load every customer that a command names and that is not awake."""
        wanted = {record_id for waiting in batch for record_id in waiting.named}
        return await self._load({r for r in wanted if self._awake.root_of(r) is None}, known={})

    async def refresh(self, record_ids: Iterable[RecordId]) -> Unreadable:
        """Read on, from what is known, the streams of every customer that holds one of these."""
        wanted = set(record_ids)
        roots = {root for r in wanted if (root := self._awake.root_of(r)) is not None}
        known = {m: a for root in roots for m, a in self._awake.records_of(root).items()}
        return await self._load({*wanted, *known}, known=known)

    async def look_up(self, batch: Sequence[Waiting]) -> Unreadable:
        """Ask the log who holds the identifiers that were thought free; wake the holders."""
        for waiting in batch:
            if waiting.is_erasure:
                waiting.held = frozenset(self._held_by(waiting))
        wanted = {identifier_stream(key) for waiting in batch for key in waiting.uncertain}
        if not wanted:
            return set()
        whole = {
            identifier_stream(key)
            for waiting in batch
            if isinstance(waiting.routed.command, ReadmitIdentifier)
            for key in waiting.uncertain
        }
        told = await read_identifiers(self._log, wanted, whole=whole)
        for waiting in batch:
            _tell(waiting, told.owners, told.streams)
        return {*told.unreadable, *await self.wake(batch)}

    async def recall(self, commands: Sequence[Waiting]) -> None:
        """Look in the records' own streams for commands that memory had no room for."""
        wanted = {waiting.routed.command.command_id for waiting in commands}
        records = {r: rev for w in commands for r, rev in w.forgotten_by.items()}
        found: dict[CommandId, dict[RecordId, RememberedCommand]] = {c: {} for c in wanted}
        streams = {record_stream(record_id) for record_id in records}
        async for entries in self._log.read(
            after_revision=min(records.values()) - 1, streams=streams
        ):
            for event in (entry.event for entry in entries if entry.event is not None):
                if event.command_id in wanted:
                    known, record_id = found[event.command_id], RecordId(event.stream.key)
                    known[record_id] = remembered(known.get(record_id), event)
        for waiting in commands:
            waiting.recalled = found[waiting.routed.command.command_id]

    async def _wake_others(self, batch: Sequence[Waiting]) -> None:
        """Wake who parted from whom the commands mean, or held their identifiers, not long ago.

        Their memory counts too. Who cannot be read is no reason to refuse another's command.
        """
        parted: set[RecordId] = set()
        for waiting in batch:
            known: list[PastHolder] = []
            for root in self._roots(waiting):
                parted.update(self._awake.parted_from(root))
                known += self._awake.past_holders(root)
            command = waiting.routed.command
            if (known or waiting.streams) and not isinstance(command, CheckConsent):
                freed = {key: stream.past_holders for key, stream in waiting.streams.items()}
                waiting.before = holders_before(known, command, freed=freed)
        await self._load({r for r in parted if self._awake.root_of(r) is None}, known={})
        if any(waiting.before for waiting in batch):
            await self._read_past_holders([waiting for waiting in batch if waiting.before])

    async def _read_past_holders(self, commands: Sequence[Waiting]) -> None:
        """Read on who held identifiers before, each once for each: up to where they let go."""
        before = {holder for waiting in commands for holder in waiting.before}
        behind = [holder for holder in before if not self._awake.has_let_go(holder)]
        await self.refresh(RecordId(holder.record_id) for holder in behind)
        for waiting in commands:
            if any(self._still_holds(waiting, holder) for holder in waiting.before):
                text = "who held an identifier before could not be read up to where they let go"
                waiting.reply(failed(Kind.UNAVAILABLE, "LOG_UNAVAILABLE", text))
                behind = [holder for holder in behind if holder not in waiting.before]
        for holder in behind:
            self._awake.note_let_go(holder)

    def _still_holds(self, waiting: Waiting, holder: PastHolder) -> bool:
        """Whether a past holder is known as it was when it held what is another's now."""
        owner, record_id = waiting.routed.owners.get(holder.key), RecordId(holder.record_id)
        if owner is None or not self._awake.holds(record_id, holder.key):
            return False
        return self._awake.root_of(owner) != self._awake.root_of(record_id)

    async def _load(
        self, wanted: set[RecordId], *, known: dict[RecordId, AwakeRecord]
    ) -> Unreadable:
        if not wanted:
            return set()
        loaded, unreadable = await self._waker.wake(wanted, known)
        # A record without events is nobody: it must not be kept awake as if it were somebody.
        self._awake.keep(item for item in loaded if item.head.version)
        for record_id in unreadable:
            self._awake.forget(record_id)
        return set(unreadable)

    async def _correct_owners(self, batch: Sequence[Waiting]) -> Unreadable:
        """Find in the log the owners of identifiers that are not held where the router said."""
        doubtful = [waiting for waiting in batch if self._misplaced(waiting)]
        if not doubtful:
            return set()
        unreadable = await self.refresh(r for w in doubtful for r in self._misplaced(w).values())
        for waiting in doubtful:
            wrong = self._misplaced(waiting)
            owners = waiting.routed.owners
            waiting.own({key: r for key, r in owners.items() if key not in wrong})
        return unreadable | await self.look_up(doubtful)

    def _misplaced(self, waiting: Waiting) -> dict[IdentifierKey, RecordId]:
        owners = waiting.routed.owners
        return {key: r for key, r in owners.items() if not self._awake.holds(r, key)}

    async def _fence(self, batch: Sequence[Waiting], unreadable: Unreadable) -> Unreadable:
        """Bring to the leader's heads, read from here on, what is decided on and not written to.

        That is whoever is asked about (R13), and each of several customers that a command means:
        nothing is stored on one that is left out, so no expectation tells that it has changed.
        """
        fenced = [w for w in batch if self._means_several(w) or _is_check(w)]
        required: dict[Stream, int] = {}
        found: Unreadable = set()
        for _pass in range(FENCE_PASSES_MAX):
            fenced = [w for w in fenced if not is_unreadable(w, unreadable | found)]
            if not fenced:
                return found
            await self._ask_leader(fenced, required)
            late = [w for w in fenced if self._is_behind(w, required)]
            if not late:
                return found
            found |= await self.refresh(r for w in late for r in w.named)
            found |= await self._correct_owners(late)
            found |= await self.look_up(late)
        for waiting in fenced:
            if self._is_behind(waiting, required):
                text = "the log could not be read up to where its leader is"
                waiting.reply(failed(Kind.UNAVAILABLE, "LOG_UNAVAILABLE", text))
        return found

    def _means_several(self, waiting: Waiting) -> bool:
        return len(waiting.named) > 1 and len(self._roots(waiting)) > 1

    async def _ask_leader(self, fenced: Sequence[Waiting], required: dict[Stream, int]) -> None:
        streams = {stream: None for w in fenced for stream in self._fenced_streams(w)}
        fresh = [stream for stream in streams if stream not in required]
        if WORKSPACE_STREAM not in required:
            fresh.append(WORKSPACE_STREAM)
        if fresh:
            required.update(zip(fresh, await self._log.leader_revisions(fresh), strict=True))
        await self._rules.refresh(at_least_revision=required[WORKSPACE_STREAM])

    def _is_behind(self, waiting: Waiting, required: dict[Stream, int]) -> bool:
        """Whether something that is decided on is newer in the log, or was not asked for."""
        if self._rules.revision < required[WORKSPACE_STREAM]:
            return True
        heads = {record_stream(r): self._awake.head_of(r).revision for r in self._roots(waiting)}
        known = waiting.streams.items()
        heads |= {identifier_stream(key): stream.head.revision for key, stream in known}
        return any(required.get(s, 1) > heads.get(s, 0) for s in self._fenced_streams(waiting))

    def _fenced_streams(self, waiting: Waiting) -> list[Stream]:
        claims = [identifier_stream(key) for key in waiting.unheld]
        return [*(record_stream(root) for root in self._roots(waiting)), *claims]

    def _held_by(self, waiting: Waiting) -> Iterator[IdentifierKey]:
        """Yield every identifier of whom a command means, as far as they are awake."""
        for root in {self._awake.root_of(r) for r in waiting.named}:
            if root is not None:
                for awake in self._awake.records_of(root).values():
                    yield from awake.record.identifiers

    def _roots(self, waiting: Waiting) -> set[RecordId]:
        """Name the customers that a command means; a record that is not awake stands for itself."""
        return {self._awake.root_of(r) or r for r in waiting.named}


def _tell(
    waiting: Waiting,
    owners: Mapping[IdentifierKey, RecordId],
    streams: Mapping[IdentifierKey, IdentifierStream],
) -> None:
    """Let a command know what the log said of its identifiers."""
    uncertain = waiting.uncertain
    waiting.streams |= {key: streams[key] for key in uncertain if key in streams}
    found = {key: owners[key] for key in uncertain if key in owners}
    freed = {key for key in uncertain if key in streams and key not in owners}
    if found or freed & waiting.routed.owners.keys():
        kept = {key: r for key, r in waiting.routed.owners.items() if key not in freed}
        waiting.own({**kept, **found})


def _is_check(waiting: Waiting) -> bool:
    return isinstance(waiting.routed.command, CheckConsent)


def is_unreadable(waiting: Waiting, unreadable: Unreadable) -> bool:
    """Whether a command names a record, or comes with an identifier, that cannot be read."""
    if not unreadable:
        return False
    return not unreadable.isdisjoint([*waiting.named, *waiting.unheld, *waiting.held])
