"""Whom identifiers mean, as far as a router knows: a bounded memory over identifier streams.

Nothing here has to be right: a host that is told wrong finds out from the log (R1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from actors.messages import Routed
from actors.slots import slot_of
from domain.commands import PersonCommand
from domain.identity_events import IdentifierClaimed
from domain.ids import IdentifierKey, RecordId, identifier_stream
from domain.replies import Done, Moved
from eventlog.port import EventLog

ENTRIES_MAX = 200_000

K = TypeVar("K")
V = TypeVar("V")


class _Recent(Generic[K, V]):
    """A mapping that forgets what was not used for long: what half of `entries_max` came after.

    Two maps, of which the older is dropped when the younger is full: to keep all in the order of
    their use would cost every signal five moves.
    """

    def __init__(self, entries_max: int) -> None:
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._young_max = entries_max // 2

    def get(self, key: K) -> V | None:
        value = self._young.get(key)
        if value is None and (value := self._old.get(key)) is not None:
            self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        self._young[key] = value
        if len(self._young) >= self._young_max:
            self._young, self._old = {}, self._young

    def drop(self, key: K) -> None:
        self._young.pop(key, None)
        self._old.pop(key, None)


class Directory:
    """Remember who holds identifiers, and which customer a record belongs to."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._owner: _Recent[IdentifierKey, RecordId] = _Recent(ENTRIES_MAX)
        self._root: _Recent[RecordId, RecordId] = _Recent(ENTRIES_MAX)
        self._expected: _Recent[IdentifierKey, RecordId] = _Recent(ENTRIES_MAX)

    async def look_up(self, commands: Sequence[PersonCommand]) -> None:
        """Ask the log, in one go, for every identifier that is not known yet. Raises `LogError`."""
        keys = {item.key for command in commands for item in command.identifiers}
        unknown = [identifier_stream(key) for key in keys if self._owner.get(key) is None]
        if not unknown:
            return
        for stream, entry in (await self._log.last_entries(unknown)).items():
            if entry.event is not None and isinstance(entry.event.body, IdentifierClaimed):
                self._owner.put(IdentifierKey(stream.key), RecordId(entry.event.body.record_id))

    def route(self, command: PersonCommand) -> tuple[Routed, RecordId]:
        """Say who holds each identifier, and which customer's host should get the command.

        For somebody unknown that is the record about to be created: the same one for every command
        that comes with the same unknown identifier, so that they meet in one host.
        """
        keys = [item.key for item in command.identifiers]
        owners = {key: owner for key in keys if (owner := self._owner.get(key)) is not None}
        named = {*owners.values(), *command.named_records}
        known = [self.root_of(record_id) for record_id in named]
        root = min(known) if known else self._expect(keys, command)
        return Routed(command, owners, slot_of(root)), root

    def root_of(self, record_id: RecordId) -> RecordId:
        """Name the customer of a record: itself, unless something else was learned."""
        return self._root.get(record_id) or record_id

    def learn_done(self, command: PersonCommand, done: Done) -> None:
        """Note what a command came to: who holds its identifiers now, and who joined or parted."""
        customer_id = None if done.customer_id is None else RecordId(done.customer_id)
        unused = {item.key for item in done.left_out}
        if customer_id is not None:
            for item in command.identifiers:
                if item.key not in unused:
                    self._owner.put(item.key, customer_id)
            if self._root.get(customer_id) != customer_id:
                self._root.put(customer_id, customer_id)
        for customer in done.consequences.customers if done.consequences else ():
            for record_id in customer.record_ids:
                self._root.put(RecordId(record_id), RecordId(customer.customer_id))

    def forget_owner(self, key: IdentifierKey) -> None:
        """Forget who holds an identifier."""
        self._owner.drop(key)

    def learn_moved(self, command: PersonCommand, moved: Moved) -> None:
        """Note what a host knew better: who holds identifiers, and to whom records belong.

        Who is not named in its `owners` is held by nobody.
        """
        for item in command.identifiers:
            owner = moved.owners.get(item.key)
            if owner is None:
                self._owner.drop(item.key)
            else:
                self._owner.put(item.key, owner)
        for record_id, root in moved.roots.items():
            self._root.put(record_id, root)
        self._root.put(RecordId(moved.root), RecordId(moved.root))

    def _expect(self, keys: list[IdentifierKey], command: PersonCommand) -> RecordId:
        expected = next((r for key in keys if (r := self._expected.get(key))), None)
        record_id = expected or RecordId(command.new_record_id)
        for key in keys:
            self._expected.put(key, record_id)
        return record_id
