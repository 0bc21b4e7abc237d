"""Which record holds which signal, so that each counts once: on a record, and in a customer (R8).

Tables: `signals`: signal key -> its first copy anywhere, and in `also` the further records that
hold one; `repeats`: record id/signal key -> its copy on a further record. A copy is {record,
revision, place: where in the record's timeline it stands}. Nothing personal is in them.
`timeline.py` notes copies; where records are combined the one with the lowest revision counts, and
`repeats` alone leads to the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from domain.ids import RecordId
from domain.signals import SignalKey
from projections.rows import Row
from projections.tables import ReadTables, Tables

SIGNALS = "signals"
REPEATS = "repeats"
TABLES = (SIGNALS, REPEATS)


class Copy(NamedTuple):
    """A signal as one record holds it, and where in the timeline."""

    record_id: RecordId
    key: SignalKey
    revision: int
    place: str


def note(tables: Tables, copy: Copy) -> bool:
    """Note a copy of a signal; false where its record holds one."""
    row: Row = {"record": copy.record_id, "revision": copy.revision, "place": copy.place}
    first = tables.get(SIGNALS, copy.key.encode())
    if first is None:
        tables.put(SIGNALS, copy.key.encode(), row)
        return True
    if first["record"] == copy.record_id:
        return False
    repeat = f"{copy.record_id}/{copy.key}".encode()
    if tables.get(REPEATS, repeat) is not None:
        return False
    tables.put(REPEATS, repeat, row)
    first["also"] = [*first.get("also", ()), copy.record_id]
    tables.put(SIGNALS, copy.key.encode(), first)
    return True


def take_away(tables: Tables, record_id: RecordId, key: str) -> None:
    """Take away a record's copy of a signal; of the first one, the next takes the place."""
    first = tables.get(SIGNALS, key.encode())
    if first is None:
        return
    also = [record for record in first.pop("also", ()) if record != record_id]
    if first["record"] != record_id:
        tables.delete(REPEATS, f"{record_id}/{key}".encode())
    elif also:
        repeat = f"{also.pop(0)}/{key}".encode()
        first = tables.get(REPEATS, repeat) or first
        tables.delete(REPEATS, repeat)
    else:
        tables.delete(SIGNALS, key.encode())
        return
    tables.put(SIGNALS, key.encode(), {**first, "also": also} if also else first)


def surplus(tables: ReadTables, members: tuple[RecordId, ...]) -> Iterator[Copy]:
    """Yield every copy of a signal on these records but the one with the lowest revision."""
    if len(members) == 1:
        return
    copies: defaultdict[bytes, list[Row]] = defaultdict(list)
    for record_id in members:
        prefix = f"{record_id}/".encode()
        for key, copy in tables.scan(REPEATS, prefix):
            copies[key.removeprefix(prefix)].append(copy)
    for key, repeats in copies.items():
        first = tables.get(SIGNALS, key)
        if first is not None and first["record"] in members:
            repeats.append(first)
        for row in sorted(repeats, key=lambda copy: int(copy["revision"]))[1:]:
            signal = SignalKey(key.decode())
            yield Copy(RecordId(row["record"]), signal, row["revision"], row["place"])
