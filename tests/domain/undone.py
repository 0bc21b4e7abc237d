"""R6 once more, slowly: customers from the bare log, as if what was undone had never been decided.

Imports nothing of the domain's logic: it takes events as data, and scans all of them each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from domain.consent import LawfulBasis
from tests.domain.r9 import FOR_EVER, Joined, Said, is_closing, is_open, members


@dataclass(frozen=True)
class Fact:
    """One event of a record's stream: on which record, when it happened, when we knew."""

    record: int
    kind: str
    body: dict[str, Any]
    happened_at: datetime
    revision: int
    event_id: str
    said_to: int | None = None


class Told:
    """What a log comes to."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self.facts = facts
        self.removed = {e["merge_id"] for f in facts for e in f.body.get("removed", ())}
        self.records = {fact.record for fact in facts}
        self.edges = [edge for edge, merge_id in self._merges() if merge_id not in self.removed]

    def people(self) -> set[frozenset[int]]:
        """Give the records of each customer over the merges that were not undone."""
        return {frozenset(self.customer(record)) for record in self.records}

    def customer(self, record: int) -> set[int]:
        """Give the records of one customer."""
        return members(record, self.edges, at_revision=FOR_EVER - 1)

    def identifiers(self, record: int) -> set[str]:
        """Give the keys that a record holds."""
        held: set[str] = set()
        for fact in self._on(record):
            if fact.kind == "IdentifiersLinked":
                held |= set(fact.body["keys"])
            if fact.kind == "IdentifiersUnlinked":
                held -= set(fact.body["keys"])
        return held

    def traits(self, customer: Iterable[int]) -> dict[str, Any]:
        """Give what stands of each trait: the newest by event time, then event id."""
        said: dict[str, tuple[datetime, str, Any]] = {}
        for fact in self.facts:
            if fact.kind != "TraitsSet" or fact.record not in customer:
                continue
            for trait, value in fact.body["traits"].items():
                place = (fact.happened_at, fact.event_id, value)
                said[trait] = max(said.get(trait, place), place, key=lambda p: p[:2])
        return {trait: value for trait, (_, _, value) in said.items()}

    def messages(self, record: int) -> dict[tuple[str, str], str]:
        """Say of each message what became of it on a record."""
        fates: dict[tuple[str, str], str] = {}
        for fact in self._on(record):
            if fact.kind == "SignalsRecorded":
                for signal in fact.body["signals"]:
                    fates.setdefault((fact.body["source"], signal["message_id"]), "recorded")
            if fact.kind == "SignalsDeclined":
                for message_id in fact.body["message_ids"]:
                    fates.setdefault((fact.body["source"], message_id), "declined")
        return fates

    def is_open(
        self, customer: Iterable[int], purpose: str, basis: LawfulBasis, *, at: datetime
    ) -> bool:
        """Judge a purpose: closing acts on all that they bound, others where they were said."""
        inside = set(customer)
        acts = []
        for fact in self.facts:
            if fact.said_to != fact.record or fact.body.get("purpose") != purpose:
                continue
            said = _said(fact)
            bound = self._bound(fact) if is_closing(said) else {fact.record}
            acts += [replace(said, record=r) for r in bound & inside]
        return is_open(basis, acts, self.edges, at=int(at.timestamp()))

    def copies(self, act: Fact) -> set[int]:
        """Give the records on which an act stands."""
        return {f.record for f in self.facts if f.body.get("act_id") == act.body["act_id"]}

    def _bound(self, act: Fact) -> set[int]:
        """Give the members of the customer at an act's revision, undone merges included."""
        undone = {
            edge["merge_id"]
            for fact in self.facts
            if fact.revision < act.revision
            for edge in fact.body.get("removed", ())
        }
        then = [edge for edge, merge_id in self._merges() if merge_id not in undone]
        return members(act.record, then, at_revision=act.revision)

    def _merges(self) -> list[tuple[Joined, str]]:
        """Give every merge that was ever decided, with the revision of its first event."""
        found: dict[str, Joined] = {}
        for fact in self.facts:
            for edge in fact.body.get("edges", ()):
                joined = Joined(number(edge["older"]), number(edge["newer"]), fact.revision)
                found.setdefault(edge["merge_id"], joined)
        return [(joined, merge_id) for merge_id, joined in found.items()]

    def _on(self, record: int) -> list[Fact]:
        return [fact for fact in self.facts if fact.record == record]


def _said(fact: Fact) -> Said:
    until = fact.body["valid_until"]
    return Said(
        fact.record,
        fact.kind.removeprefix("Consent").lower(),
        int(fact.happened_at.timestamp()),
        fact.revision,
        imported=fact.body["is_imported"],
        until=int(until.timestamp()) if until else FOR_EVER,
    )


def number(record_id: str) -> int:
    """Read the number of a record of the scenarios."""
    return int(record_id[:8], 16)
