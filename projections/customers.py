"""Read model: which records form one customer, and where old ids lead.

Table `customers`: record id -> {root}, and on a root also {members, edges}. Each record is led to
its root by its own event, of a merge, of its undo and of an erasure, so that a lost event of the
root cannot leave it standing alone. Of somebody erased `erased` is the revision since when, and the
row is all there is. Table `~partings`: revision -> {members, at} of a customer that parted, and
record id/revision -> {} for each of its records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from domain.erasure_events import ErasureRequested
from domain.event import Event, Recorded
from domain.identity import Edge
from domain.identity_events import CustomersMerged, CustomersParted
from domain.ids import MergeId, RecordId, StreamKind
from projections.clock import read_clock
from projections.instants import microseconds
from projections.rows import Row
from projections.tables import ReadTables, StoredTables, Tables

CUSTOMERS = "customers"
TABLES = (CUSTOMERS,)
HEARS = (Event,)

PARTINGS = "~partings"
LOCAL_TABLES = (PARTINGS,)


@dataclass(frozen=True, slots=True)
class Component:
    """The records of one customer, the oldest first, and the edges between them."""

    root: RecordId
    members: tuple[RecordId, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class Parting:
    """Since when nothing of others is in what is known of a record: a revision and an instant."""

    revision: int
    at: int


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event; any event on a record makes the record known."""
    if event.stream.kind is not StreamKind.RECORD:
        return
    record_id = event.stream.key
    key = record_id.encode()
    if tables.get(CUSTOMERS, key) is None:
        tables.put(CUSTOMERS, key, {"root": record_id, "members": [record_id], "edges": []})
    if isinstance(event.body, CustomersMerged):
        _merge(tables, record_id, event.body)
    elif isinstance(event.body, CustomersParted):
        _note_parting(tables, event, event.body)
        _part(tables, record_id, event.body)
    elif isinstance(event.body, ErasureRequested):
        _erase(tables, event, event.body)


def root(tables: ReadTables, record_id: RecordId) -> RecordId | None:
    """Find the id of the customer that a record belongs to; None for an unknown record."""
    row = tables.get(CUSTOMERS, record_id.encode())
    return None if row is None else _led(tables, record_id, row)


def living(tables: ReadTables, record_id: RecordId) -> tuple[RecordId | None, bool]:
    """Find what `root` does, and say whether its person is not erased."""
    row = tables.get(CUSTOMERS, record_id.encode())
    if row is None:
        return None, True
    return _led(tables, record_id, row), "erased" not in row


def _led(tables: ReadTables, record_id: RecordId, row: Row | None) -> RecordId:
    """Follow a record's row to the root."""
    while row is not None and row["root"] < record_id:
        record_id = RecordId(row["root"])
        row = tables.get(CUSTOMERS, record_id.encode())
    return record_id


def erased_since(tables: ReadTables, record_id: RecordId) -> int | None:
    """Say since which revision a record's person is erased; None for anybody else."""
    row = tables.get(CUSTOMERS, record_id.encode())
    return None if row is None else row.get("erased")


def parted_from(tables: ReadTables, record_ids: Iterable[RecordId]) -> dict[RecordId, Parting]:
    """Name who was once one customer with any of these records, or with who was, until when."""
    found: dict[RecordId, Parting] = {}
    waiting, seen = list(record_ids), set(record_ids)
    while waiting:
        for key, _ in tables.scan(PARTINGS, f"{waiting.pop()}/".encode()):
            revision = key.partition(b"/")[2]
            row = tables.get(PARTINGS, revision)
            assert row is not None  # both are written at once
            parting = Parting(int(revision), row["at"])
            for member in map(RecordId, row["members"]):
                known = found.get(member, parting)
                found[member] = max(known, parting, key=lambda item: item.revision)
                if member not in seen:
                    seen.add(member)
                    waiting.append(member)
    return found


def members(tables: ReadTables, root_id: RecordId) -> tuple[RecordId, ...]:
    """Name the records of the customer with this root, the oldest first."""
    row = tables.get(CUSTOMERS, root_id.encode())
    return (root_id,) if row is None else tuple(row["members"])


def members_of_all(
    tables: StoredTables, record_ids: Iterable[RecordId]
) -> dict[RecordId, tuple[RecordId, ...]]:
    """Name the records of the customer of each of these records that is known, by record."""
    rows: dict[str, Row] = {}
    wanted: set[str] = set(record_ids)
    leading = dict.fromkeys(wanted)
    while wanted:
        found = tables.load_many(CUSTOMERS, [record.encode() for record in wanted])
        read = {key.decode(): tables.codec.read(CUSTOMERS, key, row) for key, row in found.items()}
        rows |= read
        wanted = {row["root"] for row in read.values()} - rows.keys()
    known = (record for record in leading if record in rows)
    return {RecordId(record): _members_in(rows, record) for record in known}


def _members_in(rows: Mapping[str, Row], record: str) -> tuple[RecordId, ...]:
    while (row := rows.get(record)) is not None and row["root"] < record:
        record = row["root"]
    return (RecordId(record),) if row is None else tuple(map(RecordId, row["members"]))


def component(tables: ReadTables, record_id: RecordId) -> Component | None:
    """Find the customer of a record, whichever of its ids is given."""
    found = root(tables, record_id)
    if found is None:
        return None
    row = tables.get(CUSTOMERS, found.encode())
    if row is None:
        return Component(found, (found,), ())
    members = tuple(RecordId(member) for member in row["members"])
    edges = tuple(_read_edge(edge) for edge in row["edges"])
    return Component(found, members, edges)


def _merge(tables: Tables, record_id: str, merge: CustomersMerged) -> None:
    if merge.root != record_id:
        tables.put(CUSTOMERS, record_id.encode(), {"root": merge.root})
        return
    row: Row = {
        "root": record_id,
        "members": sorted({record_id, *merge.component}),
        "edges": [[edge.merge_id, edge.older, edge.newer] for edge in merge.live_edges],
    }
    tables.put(CUSTOMERS, record_id.encode(), row)
    for member in merge.component:
        if member != record_id:
            tables.put(CUSTOMERS, member.encode(), {"root": record_id})


def _part(tables: Tables, record_id: str, parted: CustomersParted) -> None:
    row: Row = {"root": parted.root}
    if parted.root == record_id:
        edges = [[edge.merge_id, edge.older, edge.newer] for edge in parted.live_edges]
        row |= {"members": sorted({record_id, *parted.component}), "edges": edges}
    tables.put(CUSTOMERS, record_id.encode(), row)


def _note_parting(tables: Tables, event: Recorded[Event], parted: CustomersParted) -> None:
    """Note who was one until now; the event of the customer that was comes before the others."""
    if parted.customer != event.stream.key:
        return
    whole = members(tables, RecordId(parted.customer))
    last = event.revision + event.parts - event.part
    revision = f"{last:020d}".encode()
    row: Row = {"members": list(whole), "at": microseconds(read_clock(tables))}
    tables.put(PARTINGS, revision, row)
    for member in whole:
        tables.put(PARTINGS, f"{member}/".encode() + revision, {})


def _erase(tables: Tables, event: Recorded[Event], erased: ErasureRequested) -> None:
    """Leave one row, made of the event alone."""
    row: Row = {"root": erased.root, "erased": event.revision}
    if erased.root == event.stream.key:
        edges = [[edge.merge_id, edge.older, edge.newer] for edge in erased.live_edges]
        row |= {"members": list(erased.component), "edges": edges}
    tables.put(CUSTOMERS, event.stream.key.encode(), row)


def _read_edge(edge: list[str]) -> Edge:
    merge_id, older, newer = edge
    return Edge(merge_id=MergeId(merge_id), older=older, newer=newer)
