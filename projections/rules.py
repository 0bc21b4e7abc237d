"""Read model: the workspace's rules, as `domain.rules` folds them.

Table `rules`: one row, {version, purposes: {name: {basis, description}},
sources: {name: {purposes, priority}}}.
"""

from __future__ import annotations

from domain.consent import LawfulBasis
from domain.event import Event, Recorded
from domain.ids import StreamKind
from domain.rules import Purpose, Rules, Source, evolve_rules
from projections.rows import Row
from projections.tables import ReadTables, Tables

RULES = "rules"
TABLES = (RULES,)
_KEY = b"workspace"


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event."""
    if event.stream.kind is StreamKind.WORKSPACE:
        tables.put(RULES, _KEY, _row(evolve_rules(read_rules(tables), event)))


def read_rules(tables: ReadTables) -> Rules:
    """Read the rules."""
    row = tables.get(RULES, _KEY)
    if row is None:
        return Rules()
    purposes = {
        name: Purpose(name, LawfulBasis(purpose["basis"]), purpose["description"])
        for name, purpose in row["purposes"].items()
    }
    sources = {
        name: Source(name, frozenset(source["purposes"]), source["priority"])
        for name, source in row["sources"].items()
    }
    return Rules(row["version"], purposes, sources)


def _row(rules: Rules) -> Row:
    return {
        "version": rules.version,
        "purposes": {
            purpose.name: {"basis": purpose.basis.value, "description": purpose.description}
            for purpose in rules.purposes.values()
        },
        "sources": {
            source.name: {"purposes": sorted(source.purposes), "priority": source.priority}
            for source in rules.sources.values()
        },
    }
