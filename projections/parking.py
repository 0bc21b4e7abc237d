"""Who waits after an event that cannot be folded, the same way each time (R10).

The whole customer waits: every record of it, and whoever is merged with it later. Table `parked`:
record id, or key of an identifier that nobody holds yet -> {revision, reason}; `waiting`: record
id/revision -> {}: the events that were not folded. I/O faults never come here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from domain.erasure_events import ErasureRequested
from domain.event import Event, Recorded
from domain.identity_events import CustomersMerged, IdentifiersLinked
from domain.ids import IdentifierKey, RecordId, Stream, StreamKind
from projections.customers import component, root
from projections.identifiers import holder
from projections.tables import ReadTables, Tables

PARKED = "parked"
WAITING = "waiting"
TABLES = (PARKED, WAITING)

JOINED_PARKED = "joined a parked customer"


@dataclass(frozen=True, slots=True)
class Parked:
    """A record or identifier that waits: since which event, and why."""

    key: str
    revision: int
    reason: str


def parked_since(tables: ReadTables, record_id: RecordId) -> int | None:
    """Say since which revision a record, or the root that it leads to, is parked."""
    return parked_with(tables, record_id, root(tables, record_id))


def parked_with(tables: ReadTables, record_id: RecordId, found: RecordId | None) -> int | None:
    """Say what `parked_since` does of a record whose root is at hand."""
    row = tables.get(PARKED, record_id.encode())
    if row is None and found is not None and found != record_id:
        row = tables.get(PARKED, found.encode())
    return None if row is None else int(row["revision"])


def identifier_parked_since(tables: ReadTables, key: IdentifierKey) -> int | None:
    """Say since which revision an identifier that nobody held is parked."""
    row = tables.get(PARKED, key.encode())
    return None if row is None else int(row["revision"])


def park(tables: Tables, stream: Stream, *, revision: int, reason: str) -> None:
    """Let the customer of a record, or the holder of an identifier, wait from a revision on."""
    if stream.kind is StreamKind.IDENTIFIER:
        record_id = holder(tables, IdentifierKey(stream.key))
        if record_id is None:
            _note(tables, stream.key, revision=revision, reason=reason)
            return
    else:
        record_id = RecordId(stream.key)
        _wait(tables, record_id, revision)
    _park_customer(tables, record_id, revision=revision, reason=reason)


def is_held_back(tables: Tables, event: Recorded[Event]) -> bool:
    """Hold back an event of a record that is parked, or that the event joins to one that is."""
    if event.stream.kind is not StreamKind.RECORD:
        return False
    if isinstance(event.body, ErasureRequested):
        return False  # nobody waits to be erased
    record_id = RecordId(event.stream.key)
    body, revision = event.body, event.revision
    joined = {record_id}
    is_held = _parked(tables, record_id)
    if isinstance(body, CustomersMerged):
        joined.update(RecordId(other) for other in (body.root, *body.component))
        is_held = is_held or any(_parked(tables, other) for other in joined)
    elif isinstance(body, IdentifiersLinked):
        is_held = is_held or any(tables.get(PARKED, key.encode()) for key in body.keys)
    if not is_held:
        return False
    for other in joined:
        _park_customer(tables, other, revision=revision, reason=JOINED_PARKED)
    _wait(tables, record_id, revision)
    return True


def release(tables: Tables, record_id: RecordId) -> int:
    """Let a record wait no more, for it is erased; give how many of its events were not folded."""
    tables.delete(PARKED, record_id.encode())
    waited = waiting(tables, record_id)
    for revision in waited:
        tables.delete(WAITING, f"{record_id}/{revision:020d}".encode())
    return len(waited)


def parked(tables: ReadTables) -> Iterator[Parked]:
    """Yield everyone who waits, in order of ids."""
    for key, row in tables.scan(PARKED, b""):
        yield Parked(key.decode(), row["revision"], row["reason"])


def is_anybody_parked(tables: ReadTables) -> bool:
    """Say whether anyone waits."""
    return next(parked(tables), None) is not None


def waiting(tables: ReadTables, record_id: RecordId) -> tuple[int, ...]:
    """Name the revisions on a record that were not folded."""
    prefix = f"{record_id}/".encode()
    return tuple(int(key.removeprefix(prefix)) for key, _ in tables.scan(WAITING, prefix))


def _parked(tables: ReadTables, record_id: RecordId) -> bool:
    return parked_since(tables, record_id) is not None


def _park_customer(tables: Tables, record_id: RecordId, *, revision: int, reason: str) -> None:
    customer = component(tables, record_id)
    members = customer.members if customer else ()
    for member in {record_id, *members}:
        _note(tables, member, revision=revision, reason=reason)


def _note(tables: Tables, key: str, *, revision: int, reason: str) -> None:
    if tables.get(PARKED, key.encode()) is None:
        tables.put(PARKED, key.encode(), {"revision": revision, "reason": reason})


def _wait(tables: Tables, record_id: RecordId, revision: int) -> None:
    tables.put(WAITING, f"{record_id}/{revision:020d}".encode(), {})
