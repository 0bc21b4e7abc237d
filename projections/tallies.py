"""Read model: how often each signal came, and exact sums of the numbers that it carried (R8).

A signal counts once on a record and once in a customer, whatever the log holds. Tables: `signals`:
signal key -> its first copy anywhere, and in `also` the further records that hold one;
`repeats`: record id/signal key -> its copy on a further record; `duplicates`: record id -> {count}
of what came again; `tallies`: record id/digest of (source, name) -> {source, name, count, sums:
{property: {count, sum}}}; `signal_totals`: one row. Of a customer's copies the first counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b

from pydantic import JsonValue

from domain.event import Event, Recorded
from domain.ids import RecordId
from domain.signal_events import SignalsRecorded
from domain.signals import EXACT, SignalKey, add_exactly, exact_number, signal_key
from projections.rows import Row, Sealed, owned_by_key, owned_by_row
from projections.tables import ReadTables, Tables

SIGNALS = "signals"
REPEATS = "repeats"
TALLIES = "tallies"
TOTALS = "signal_totals"
DUPLICATES = "duplicates"
TABLES = (SIGNALS, REPEATS, TALLIES, TOTALS, DUPLICATES)
_COPY: dict[str, object] = {"name": "", "amounts": {}}
SEALED = {
    SIGNALS: Sealed(_COPY, owned_by_row),
    REPEATS: Sealed(_COPY, owned_by_key),
    TALLIES: Sealed({"name": "", "count": 0, "sums": {}}, owned_by_key),
}

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
    """Fold one event; a signal that the record holds already changes nothing."""
    body = event.body
    if not isinstance(body, SignalsRecorded):
        return
    record_id = event.stream.key
    counted = 0
    for signal in body.signals:
        copy: Row = {
            "record": record_id,
            "revision": event.revision,
            "source": body.source,
            "name": signal.name,
            "amounts": _amounts(signal.properties),
        }
        if _keep(tables, signal_key(body.source, signal.message_id), copy):
            _count(tables, copy)
            counted += 1
    totals = tables.get(TOTALS, _KEY) or {"counted": 0, "duplicates": 0}
    totals["counted"] += counted
    again = len(body.signals) - counted
    totals["duplicates"] += again
    tables.put(TOTALS, _KEY, totals)
    if again:
        known = tables.get(DUPLICATES, record_id.encode()) or {"count": 0}
        tables.put(DUPLICATES, record_id.encode(), {"count": known["count"] + again})


def forget(tables: Tables, record_id: RecordId, keys: Sequence[str]) -> None:
    """Leave nothing of a record, whose signals are named: as if they had never come."""
    for key in keys:
        _take_away(tables, record_id, key)
    for place, _ in list(tables.scan(TALLIES, f"{record_id}/".encode())):
        tables.delete(TALLIES, place)
    totals = tables.get(TOTALS, _KEY)
    if totals is not None:
        again = tables.get(DUPLICATES, record_id.encode()) or {"count": 0}
        totals["counted"] -= len(keys)
        totals["duplicates"] -= again["count"]
        tables.put(TOTALS, _KEY, totals)
    tables.delete(DUPLICATES, record_id.encode())


def holds(tables: ReadTables, record_id: str, key: SignalKey) -> bool:
    """Say whether a record holds a copy of a signal."""
    first = tables.get(SIGNALS, key.encode())
    if first is None:
        return False
    if first["record"] == record_id:
        return True
    return tables.get(REPEATS, f"{record_id}/{key}".encode()) is not None


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
    for copy in _surplus_copies(tables, members):
        _take_off(tallies[copy["source"], copy["name"]], copy)
    kept = (tallies[key] for key in sorted(tallies))
    return [tally for tally in kept if tally.count]


def _amounts(properties: dict[str, JsonValue]) -> dict[str, str]:
    amounts = {}
    for name, value in properties.items():
        if isinstance(value, int) and value.bit_length() > INTEGER_BITS_MAX:
            continue
        number = exact_number(value)
        if number is not None and number.adjusted() <= EXPONENT_MAX:
            amounts[name] = str(number)
    return amounts


def _keep(tables: Tables, key: SignalKey, copy: Row) -> bool:
    """Note a copy of a signal; false where its record holds one."""
    first = tables.get(SIGNALS, key.encode())
    if first is None:
        tables.put(SIGNALS, key.encode(), copy)
        return True
    if first["record"] == copy["record"]:
        return False
    repeat = f"{copy['record']}/{key}".encode()
    if tables.get(REPEATS, repeat) is not None:
        return False
    tables.put(REPEATS, repeat, copy)
    first["also"] = [*first.get("also", ()), copy["record"]]
    tables.put(SIGNALS, key.encode(), first)
    return True


def _take_away(tables: Tables, record_id: RecordId, key: str) -> None:
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


def _count(tables: Tables, copy: Row) -> None:
    key = f"{copy['record']}/{_name_digest(copy['source'], copy['name'])}".encode()
    row = tables.get(TALLIES, key)
    if row is None:
        row = {"source": copy["source"], "name": copy["name"], "count": 0, "sums": {}}
    row["count"] += 1
    sums = row["sums"]
    for name, amount in copy["amounts"].items():
        known = sums.get(name)
        if known is None:
            known = sums[name] = {"count": 0, "sum": "0"}
        known["count"] += 1
        known["sum"] = add_exactly(known["sum"], amount)
    tables.put(TALLIES, key, row)


@lru_cache(maxsize=NAMES_CACHED_MAX)
def _name_digest(source: str, name: str) -> str:
    return blake2b(f"{source}\0{name}".encode(), digest_size=16).hexdigest()


def _surplus_copies(tables: ReadTables, members: tuple[RecordId, ...]) -> Iterator[Row]:
    """Yield every copy of a signal on these records but the one with the lowest revision."""
    copies: defaultdict[bytes, list[Row]] = defaultdict(list)
    for record_id in members:
        prefix = f"{record_id}/".encode()
        for key, copy in tables.scan(REPEATS, prefix):
            copies[key.removeprefix(prefix)].append(copy)
    for key, repeats in copies.items():
        first = tables.get(SIGNALS, key)
        if first is not None and first["record"] in members:
            repeats.append(first)
        yield from sorted(repeats, key=lambda copy: int(copy["revision"]))[1:]


def _add(tallies: dict[tuple[str, str], Tally], row: Row) -> None:
    place = (row["source"], row["name"])
    tally = tallies.setdefault(place, Tally(*place))
    tally.count += row["count"]
    for name, known in row["sums"].items():
        total = tally.sums.setdefault(name, Sum())
        total.count += known["count"]
        total.total = EXACT.add(total.total, Decimal(known["sum"]))


def _take_off(tally: Tally, copy: Row) -> None:
    tally.count -= 1
    for name, amount in copy["amounts"].items():
        total = tally.sums[name]
        total.count -= 1
        total.total = EXACT.subtract(total.total, Decimal(amount))
        if not total.count:
            del tally.sums[name]
