"""Read model: the definitions of segments, as `domain.segments` folds them.

Table `segments`: segment -> {latest, active, is_archived}. Table `segment_rules`: one row, {digest:
of every event of the workspace's stream, so that what was compiled for it can be kept; sources:
those whose word stands on any record}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from hashlib import sha256

from domain.event import Event, Recorded
from domain.ids import StreamKind
from domain.segments import Definition, Segment, evolve_segments
from domain.workspace_events import SegmentEvent
from projections.rows import Row
from projections.tables import ReadTables, Tables

SEGMENTS = "segments"
SEGMENT_RULES = "segment_rules"
TABLES = (SEGMENTS, SEGMENT_RULES)
HEARS = (Event,)
_KEY = b"workspace"
_FIELDS = tuple(field.name for field in fields(Definition))


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event."""
    source = getattr(event.body, "source", None)
    if event.stream.kind is StreamKind.RECORD and source is not None:
        _hear(tables, source)
    if event.stream.kind is not StreamKind.WORKSPACE:
        return
    row = _rules(tables)
    told = f"{row['digest']}{type(event.body).__name__}{event.body.model_dump_json()}"
    tables.put(SEGMENT_RULES, _KEY, {**row, "digest": sha256(told.encode()).hexdigest()})
    if isinstance(event.body, SegmentEvent):
        _evolve(tables, event.body)


def read_segments(tables: ReadTables) -> dict[str, Segment]:
    """Read every segment that was ever defined, by name."""
    return {name.decode(): _segment(row) for name, row in tables.scan(SEGMENTS, b"")}


def read_active(tables: ReadTables) -> dict[str, Definition]:
    """Read the definitions in effect, by name."""
    rows = tables.scan(SEGMENTS, b"")
    return {name.decode(): _definition(row["active"]) for name, row in rows if row["active"]}


def read_segment(tables: ReadTables, name: str) -> Segment | None:
    """Read one segment."""
    row = tables.get(SEGMENTS, name.encode())
    return None if row is None else _segment(row)


def rules_digest(tables: ReadTables) -> str:
    """Digest everything that the workspace's stream has said."""
    return str(_rules(tables)["digest"])


def sure_until(
    names: Iterable[str], due: Mapping[str, int], *, read: Callable[[str], Segment | None]
) -> int | None:
    """Give the first instant of what is evaluated by these names, and of what segments use.

    `due` are the instants of a row of `memberships`; `read` gives a segment by its name.
    """
    met, waiting = set[str](), [*names]
    while waiting:
        if (one := waiting.pop()) not in met:
            met.add(one)
            segment = read(one)
            if segment is not None and segment.active is not None:
                waiting += segment.active.uses
    return min((due[one] for one in met & due.keys()), default=None)


def heard_sources(tables: ReadTables) -> frozenset[str]:
    """Name the sources whose word stands on any record."""
    return frozenset(_rules(tables)["sources"])


def _rules(tables: ReadTables) -> Row:
    return tables.get(SEGMENT_RULES, _KEY) or {"digest": "", "sources": []}


def _hear(tables: Tables, source: str) -> None:
    row = _rules(tables)
    if source not in row["sources"]:
        sources = sorted([*row["sources"], source])
        tables.put(SEGMENT_RULES, _KEY, {**row, "sources": sources})


def _evolve(tables: Tables, body: SegmentEvent) -> None:
    before = read_segment(tables, body.segment)
    known = {} if before is None else {body.segment: before}
    after = evolve_segments(known, body).get(body.segment)
    if after is not None:
        tables.put(SEGMENTS, body.segment.encode(), _row(after))


def _row(segment: Segment) -> Row:
    return {
        "latest": _definition_row(segment.latest),
        "active": _definition_row(segment.active) if segment.active else None,
        "is_archived": segment.is_archived,
    }


def _definition_row(definition: Definition) -> Row:
    return {name: getattr(definition, name) for name in _FIELDS}


def _segment(row: Row) -> Segment:
    active = _definition(row["active"]) if row["active"] else None
    return Segment(_definition(row["latest"]), active, row["is_archived"])


def _definition(row: Row) -> Definition:
    lists = {name: tuple(row[name]) for name in ("purposes", "uses")}
    return Definition(**{**row, **lists})
