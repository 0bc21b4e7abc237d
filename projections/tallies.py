"""Read model: how often each signal came, and exact sums of the numbers that it carried (R8).

A signal counts once on a record and once in a customer, whatever the log holds. Tables: `tallies`:
record id/digest of (source, name) -> {source, name, count, sums: {property: {count, sum}}};
`duplicates`: record id -> {count} of what came again; `signal_totals`: one row. It counts what the
event has put on the record's timeline; when records are combined the copies that do not count are
taken off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b

from domain.event import Event, Recorded
from domain.ids import OpenMap, RecordId
from domain.signal_events import SignalsRecorded
from domain.signals import EXACT, exact_number
from projections import copies, timeline
from projections.rows import Row, Sealed, owned_by_key
from projections.tables import ReadTables, Tables
from projections.timeline import TimedSignal

TALLIES = "tallies"
TOTALS = "signal_totals"
DUPLICATES = "duplicates"
TABLES = (TALLIES, TOTALS, DUPLICATES)
HEARS = (SignalsRecorded,)
SEALED = {TALLIES: Sealed({"name": "", "count": 0, "sums": {}}, owned_by_key)}

EXPONENT_MAX = 308
"""Of a number that is summed: what an IEEE double can hold, and `EXACT` adds without rounding."""

INTEGER_BITS_MAX = 1_024
NAMES_CACHED_MAX = 8_192
_KEY = b"workspace"


@dataclass(frozen=True, slots=True)
class Totals:
    """Signals of a workspace: counted on their records, and copies that were not."""

    counted: int = 0
    duplicates: int = 0


@dataclass(slots=True)
class Sum:
    """How many signals carried a property, and the exact sum."""

    count: int = 0
    total: Decimal = Decimal(0)


@dataclass(slots=True)
class Tally:
    """How often a signal of one source and name came, and the sums of its numbers by property."""

    source: str
    name: str
    count: int = 0
    sums: dict[str, Sum] = field(default_factory=dict)


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event: put its signals on the timeline, and count those that are new there."""
    body = event.body
    if not isinstance(body, SignalsRecorded):
        return
    counted = 0
    for signal in timeline.put(tables, event, body):
        _count(tables, event.stream.key, signal)
        counted += 1
    totals = tables.get(TOTALS, _KEY) or {"counted": 0, "duplicates": 0}
    totals["counted"] += counted
    again = len(body.signals) - counted
    totals["duplicates"] += again
    tables.put(TOTALS, _KEY, totals)
    if again:
        record_id = event.stream.key
        known = tables.get(DUPLICATES, record_id.encode()) or {"count": 0}
        tables.put(DUPLICATES, record_id.encode(), {"count": known["count"] + again})


def forget(tables: Tables, record_id: RecordId, keys: Sequence[str]) -> None:
    """Leave nothing of a record, whose signals are named: as if they had never come."""
    for key in keys:
        copies.take_away(tables, record_id, key)
    for place, _ in list(tables.scan(TALLIES, f"{record_id}/".encode())):
        tables.delete(TALLIES, place)
    totals = tables.get(TOTALS, _KEY)
    if totals is not None:
        again = tables.get(DUPLICATES, record_id.encode()) or {"count": 0}
        totals["counted"] -= len(keys)
        totals["duplicates"] -= again["count"]
        tables.put(TOTALS, _KEY, totals)
    tables.delete(DUPLICATES, record_id.encode())


def read_totals(tables: ReadTables) -> Totals:
    """Read how many signals were counted."""
    row = tables.get(TOTALS, _KEY)
    return Totals() if row is None else Totals(**row)


def combined(tables: ReadTables, record_ids: Iterable[RecordId]) -> list[Tally]:
    """Tally the customer that these records form, by source and name."""
    members = tuple(record_ids)
    tallies: dict[tuple[str, str], Tally] = {}
    for record_id in members:
        for _, row in tables.scan(TALLIES, f"{record_id}/".encode()):
            _add(tallies, row)
    for copy in timeline.counted_twice(tables, members):
        _take_off(tallies[copy.source, copy.name], copy)
    kept = (tallies[key] for key in sorted(tallies))
    return [tally for tally in kept if tally.count]


def _amounts(properties: OpenMap) -> Iterator[tuple[str, Decimal]]:
    for name, value in properties.items():
        if isinstance(value, int) and value.bit_length() > INTEGER_BITS_MAX:
            continue
        number = exact_number(value)
        if number is not None and number.adjusted() <= EXPONENT_MAX:
            yield name, number


def _count(tables: Tables, record_id: str, signal: Row) -> None:
    source, name = signal["source"], signal["name"]
    key = f"{record_id}/{_name_digest(source, name)}".encode()
    row = tables.get(TALLIES, key)
    if row is None:
        row = {"source": source, "name": name, "count": 0, "sums": {}}
    row["count"] += 1
    sums = row["sums"]
    for summed, amount in _amounts(signal["properties"]):
        known = sums.get(summed)
        if known is None:
            known = sums[summed] = {"count": 0, "sum": "0"}
        known["count"] += 1
        known["sum"] = format(EXACT.add(Decimal(known["sum"]), amount), "f")
    tables.put(TALLIES, key, row)


@lru_cache(maxsize=NAMES_CACHED_MAX)
def _name_digest(source: str, name: str) -> str:
    return blake2b(f"{source}\0{name}".encode(), digest_size=16).hexdigest()


def _add(tallies: dict[tuple[str, str], Tally], row: Row) -> None:
    place = (row["source"], row["name"])
    tally = tallies.setdefault(place, Tally(*place))
    tally.count += row["count"]
    for name, known in row["sums"].items():
        total = tally.sums.setdefault(name, Sum())
        total.count += known["count"]
        total.total = EXACT.add(total.total, Decimal(known["sum"]))


def _take_off(tally: Tally, copy: TimedSignal) -> None:
    tally.count -= 1
    for name, amount in _amounts(copy.properties):
        total = tally.sums[name]
        total.count -= 1
        total.total = EXACT.subtract(total.total, amount)
        if not total.count:
            del tally.sums[name]
