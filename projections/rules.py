"""Read model: the workspace's rules, as `domain.rules` folds them.

Table `rules`: one row, {version, purposes: {name: {basis, description}},
sources: {name: {purposes, priority}}, identity: as in the event, or absent until one set it}.
"""

from __future__ import annotations

from functools import lru_cache

import orjson

from domain.consent import LawfulBasis
from domain.event import Event, Recorded
from domain.identity_rules import DEFAULT_IDENTITY_RULES as DEFAULT
from domain.identity_rules import IdentityRules
from domain.ids import StreamKind
from domain.rules import Purpose, Rules, Source, evolve_rules
from projections.rows import Row
from projections.tables import ReadTables, Tables

RULES = "rules"
TABLES = (RULES,)
_KEY = b"workspace"
IDENTITY_RULES_CACHED_MAX = 8


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
    identity = _read_identity(orjson.dumps(row["identity"])) if "identity" in row else DEFAULT
    return Rules(row["version"], purposes, sources, identity=identity)


@lru_cache(maxsize=IDENTITY_RULES_CACHED_MAX)
def _read_identity(encoded: bytes) -> IdentityRules:
    return IdentityRules.model_validate_json(encoded)


def _row(rules: Rules) -> Row:
    row: Row = {
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
    if rules.identity != DEFAULT:
        row["identity"] = rules.identity.model_dump(mode="json")
    return row
