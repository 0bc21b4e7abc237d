"""Read model: the workspace's rules, as `domain.rules` folds them.

Table `rules`: one row, {version, purposes: {name: {basis, description, parent, jurisdictions,
notices: [[version, language, digest]]}}, sources: {name: {purposes, priority, consent_categories,
tcf_purposes, context_ttl_seconds}}, identity: as in the event, or absent until one set it,
trait_indexes: {trait: {number, purposes, open_reason, is_dropped}}, or absent until there is one}.
"""

from __future__ import annotations

from functools import lru_cache

import orjson

from domain.consent import LawfulBasis
from domain.event import Event, Recorded
from domain.identity_rules import DEFAULT_IDENTITY_RULES as DEFAULT
from domain.identity_rules import IdentityRules
from domain.ids import StreamKind
from domain.notices import Notice
from domain.rules import Purpose, Rules, Source, evolve_rules
from domain.trait_indexes import TraitIndex
from domain.workspace_events import SegmentEvent
from projections.rows import Row
from projections.tables import ReadTables, Tables

RULES = "rules"
TABLES = (RULES,)
HEARS = (Event,)
_KEY = b"workspace"
IDENTITY_RULES_CACHED_MAX = 8


def apply(tables: Tables, event: Recorded[Event]) -> None:
    """Fold one event."""
    if event.stream.kind is not StreamKind.WORKSPACE:
        return
    row = tables.get(RULES, _KEY)
    if row is not None and isinstance(event.body, SegmentEvent):  # `definitions` has segments
        tables.put(RULES, _KEY, {**row, "version": event.version})
    else:
        tables.put(RULES, _KEY, _row(evolve_rules(read_rules(tables), event)))


def read_rules(tables: ReadTables) -> Rules:
    """Read the rules."""
    row = tables.get(RULES, _KEY)
    if row is None:
        return Rules()
    purposes = {name: _read_purpose(name, purpose) for name, purpose in row["purposes"].items()}
    sources = {name: _read_source(name, source) for name, source in row["sources"].items()}
    identity = _read_identity(orjson.dumps(row["identity"])) if "identity" in row else DEFAULT
    indexes = {t: _read_index(t, index) for t, index in row.get("trait_indexes", {}).items()}
    return Rules(row["version"], purposes, sources, identity=identity, trait_indexes=indexes)


@lru_cache(maxsize=IDENTITY_RULES_CACHED_MAX)
def _read_identity(encoded: bytes) -> IdentityRules:
    return IdentityRules.model_validate_json(encoded)


def _read_purpose(name: str, row: Row) -> Purpose:
    return Purpose(
        name=name,
        basis=LawfulBasis(row["basis"]),
        description=row["description"],
        parent=row["parent"],
        jurisdictions=tuple(row["jurisdictions"]),
        notices=tuple(Notice(*notice) for notice in row["notices"]),
    )


def _read_source(name: str, row: Row) -> Source:
    return Source(
        name=name,
        purposes=frozenset(row["purposes"]),
        priority=row["priority"],
        consent_categories={c: tuple(named) for c, named in row["consent_categories"].items()},
        tcf_purposes={int(n): tuple(named) for n, named in row["tcf_purposes"].items()},
        context_ttl_seconds=row["context_ttl_seconds"],
    )


def _read_index(trait: str, row: Row) -> TraitIndex:
    return TraitIndex(trait, **{**row, "purposes": tuple(row["purposes"])})


def _row(rules: Rules) -> Row:
    row: Row = {
        "version": rules.version,
        "purposes": {purpose.name: _purpose_row(purpose) for purpose in rules.purposes.values()},
        "sources": {source.name: _source_row(source) for source in rules.sources.values()},
    }
    if rules.identity != DEFAULT:
        row["identity"] = rules.identity.model_dump(mode="json")
    if rules.trait_indexes:
        row["trait_indexes"] = {t: _index_row(index) for t, index in rules.trait_indexes.items()}
    return row


def _index_row(index: TraitIndex) -> Row:
    return {
        "number": index.number,
        "purposes": list(index.purposes),
        "open_reason": index.open_reason,
        "is_dropped": index.is_dropped,
    }


def _purpose_row(purpose: Purpose) -> Row:
    return {
        "basis": purpose.basis.value,
        "description": purpose.description,
        "parent": purpose.parent,
        "jurisdictions": list(purpose.jurisdictions),
        "notices": [[notice.version, notice.language, notice.digest] for notice in purpose.notices],
    }


def _source_row(source: Source) -> Row:
    return {
        "purposes": sorted(source.purposes),
        "priority": source.priority,
        "consent_categories": {c: list(named) for c, named in source.consent_categories.items()},
        "tcf_purposes": {str(n): list(named) for n, named in source.tcf_purposes.items()},
        "context_ttl_seconds": source.context_ttl_seconds,
    }
