"""Many customers in slices, each no larger than what a process holds keys for at a time.

For whoever looks at everybody, or at as many as happen to be concerned: a change of the rules, an
instant at which a window closes for many, a back-fill, a preview. What was judged of a slice is put
away (`make_room`) before the next, so that neither keys nor rows grow with the customers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from domain.ids import RecordId
from projections.rows import Row
from projections.segments.membership import MEMBERSHIPS
from projections.tables import ReadTables

RECORDS_AHEAD_MAX = 2_000
"""Records whose keys are loaded before their customers are looked at; one customer at least. Also
the customers of a slice, should they need no keys.
"""

T = TypeVar("T")


def in_slices(
    tables: ReadTables, found: Iterable[T], members_of: Callable[[T], Iterable[str]]
) -> Iterator[list[T]]:
    """Yield customers in slices, the keys of the records that are named of them at hand."""
    part: list[T] = []
    wanted: set[RecordId] = set()
    for item in found:
        part.append(item)
        wanted.update(map(RecordId, members_of(item)))
        if max(len(part), len(wanted)) >= RECORDS_AHEAD_MAX:
            tables.need(wanted)
            yield part
            part, wanted = [], set()
    if part:
        tables.need(wanted)
        yield part


def everybody(tables: ReadTables) -> Iterator[list[tuple[RecordId, Row]]]:
    """Yield the row of every customer that is not parked, in order and in slices, keys at hand.

    Rows may be written between two slices: each is read when its time has come.
    """
    start = b""
    while rows := _slice(tables, start):
        yield rows
        start = rows[-1][0].encode() + b"\0"


def _slice(tables: ReadTables, start: bytes) -> list[tuple[RecordId, Row]]:
    rows: list[tuple[RecordId, Row]] = []
    wanted: set[RecordId] = set()
    for key, row in tables.scan(MEMBERSHIPS, b"", start=start):
        rows.append((RecordId(key.decode()), row))
        wanted.update(map(RecordId, row["members"]))
        if len(wanted) >= RECORDS_AHEAD_MAX:
            break
    tables.need(wanted)
    return rows
