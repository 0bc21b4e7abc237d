"""A change of identity rules, tried on the whole log: who would join, who would part.

Each decision of the log is taken once more, in its order, by the domain's own functions under the
other rules, on customers that exist only here; at the end both are compared. Nothing is written:
what is handed in can only be read. What people decided (explicit merges, undos, released and erased
identifiers) stays decided.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

from actors.intake.identifiers import IdentifierNormaliser
from domain.errors import DomainError, Invalid
from domain.identity import Edge, Identifier, LeftOutReason
from domain.ids import IdentifierKey, RecordId
from eventlog.port import LogReader
from replay.fold import Progress, read_checked, silent
from replay.identity_evidence import Deciding, Evidence, gather
from replay.identity_world import World

LISTED_MAX = 1_000
"""Customers that are named, of those who would join, and of those who would part."""

ERASED = "erased"
"""Stands for the namespace of an identifier whose value was erased."""


@dataclass(frozen=True, slots=True)
class Joining:
    """Customers who would be one, and the namespaces of identifiers in which they would meet."""

    customers: tuple[RecordId, ...]
    would_be: RecordId
    met_in: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parting:
    """A customer who would be several: the records of each."""

    customer: RecordId
    into: tuple[tuple[RecordId, ...], ...]


@dataclass(frozen=True, slots=True)
class Losing:
    """A customer who would not hold some of its identifiers, and their namespaces.

    Whoever came with one of them alone would have been another customer: which of its messages
    came so, the log does not tell.
    """

    customer: RecordId
    namespaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What other rules would come to; `joining`, `parting`, `losing` count all, also those unnamed.

    `unheld` counts, by namespace, identifiers that nobody would hold; `unknown_records`
    records that nobody would have been created for. `untold` counts identifiers that were left out
    and whose values no record holds, by reason: what other rules make of them, the log cannot tell.
    """

    revision: int
    records: int
    customers: int
    customers_then: int
    joining: int
    parting: int
    losing: int
    would_join: tuple[Joining, ...]
    would_part: tuple[Parting, ...]
    would_lose: tuple[Losing, ...]
    unheld: dict[str, int]
    unknown_records: int
    untold: dict[str, int]


@dataclass(slots=True)
class _Rehearsing:
    evidence: Evidence
    normaliser: IdentifierNormaliser
    world: World
    homes: dict[RecordId, RecordId] = field(default_factory=dict)
    _names: dict[IdentifierKey, Identifier | None] = field(default_factory=dict)

    def take(self, deciding: Deciding) -> None:
        """Take one decision again, under the other rules."""
        for key, stone in deciding.tombstoned.items():
            self.world.tombstone(self._key(key), stone)
        for key in deciding.readmitted:
            self.world.readmit(self._key(key))
        for key in deciding.released:
            self.world.release(self._key(key))
        if deciding.is_explicit:
            for edge in self._at_home(deciding.joined):
                self.world.merge(edge, command_id=deciding.command_id)
        elif deciding.removed:
            for edge in self._at_home(deciding.removed):
                self.world.part(edge)
        elif deciding.home is not None:
            self._resolve(deciding, deciding.home)

    def _at_home(self, edges: Iterable[Edge]) -> list[Edge]:
        """Give merges as they would be of the records that are here."""
        found = []
        for edge in edges:
            one, other = (self.homes.get(RecordId(end)) for end in (edge.older, edge.newer))
            if one is not None and other is not None:
                ends = {"older": min(one, other), "newer": max(one, other)}
                found.append(edge.model_copy(update=ends))
        return found

    def _resolve(self, deciding: Deciding, home: RecordId) -> None:
        came = self._used(deciding, home) + self._composed(deciding)
        if not came:
            return
        found = self.world.resolve(
            came,
            record_id=self._met_first(deciding, came),
            new_record_id=home,
            joined=self._at_home(deciding.joined),
            command_id=deciding.command_id,
        )
        if found is not None:
            self.homes.setdefault(home, found)

    def _used(self, deciding: Deciding, home: RecordId) -> list[Identifier]:
        """Give the identifiers that came, those that were left out too where they can be judged.

        No rule can be tried on somebody erased: whom it kept apart from others it still does.
        """
        came = {key: item for key in deciding.came if (item := self._named(key)) is not None}
        if not deciding.left_out:
            return [*came.values()]
        met = {home, *self.world.met_by(came.values(), named=self.homes.get(home))}
        known = () if met & self.evidence.erased else self.evidence.values
        out = {key for key in deciding.left_out if key not in known}
        return [item for key, item in came.items() if key not in out]

    def _met_first(self, deciding: Deciding, came: Iterable[Identifier]) -> RecordId | None:
        """Name the record that was met before others, by its id or by what came."""
        if deciding.named is not None:
            return self.homes.get(deciding.named)
        first = None if deciding.address is None else self.homes.get(deciding.address)
        is_met = first is not None and (not deciding.joined or first in self.world.met_by(came))
        return first if is_met else None

    def _composed(self, deciding: Deciding) -> list[Identifier]:
        found = []
        for rule in self.normaliser.rules.namespaces:
            parts = {part.name: deciding.traits.get(part.name) for part in rule.parts}
            texts = {name: text for name, text in parts.items() if isinstance(text, str)}
            if not parts or len(texts) < len(parts):
                continue
            try:
                found.append(self.normaliser.compose(rule.name, texts))
            except Invalid:
                continue
        return found

    def _key(self, key: IdentifierKey) -> IdentifierKey:
        named = self._named(key)
        return key if named is None else named.key

    def _named(self, key: IdentifierKey) -> Identifier | None:
        """Give an identifier as the other rules write it; None where they admit none."""
        if key not in self._names:
            self._names[key] = self._renamed(key)
        return self._names[key]

    def _renamed(self, key: IdentifierKey) -> Identifier | None:
        known = self.evidence.values.get(key)
        if known is None:
            # Of somebody erased: without its value it stays what it was.
            was_held = key in self.evidence.holders
            return Identifier(namespace=ERASED, value="", key=key) if was_held else None
        rule = self.normaliser.rules.namespace(known.namespace)
        try:
            if rule is not None and rule.parts:
                names = [part.name for part in rule.parts]
                values = json.loads(known.value)
                return self.normaliser.compose(rule.name, dict(zip(names, values, strict=True)))
            return self.normaliser.normalise(known.namespace, known.value)
        except (Invalid, ValueError, TypeError):
            return None  # blocked, of no namespace any more, or a composite of other parts

    def compare(self) -> Rehearsal:
        """Compare who is whom with who would be."""
        then = {r: self.world.root_of(home) for r, home in self.homes.items()}
        joining = _joining(self.evidence.roots, then, self.world)
        parting = _parting(self.evidence.roots, then)
        losing, unheld = self._losing(then)
        untold = Counter(
            reason.value
            for key, reason in self.evidence.left_out.items()
            if key not in self.evidence.values and reason is not LeftOutReason.ERASED
        )
        return Rehearsal(
            revision=self.evidence.revision,
            records=len(self.evidence.roots),
            customers=len(set(self.evidence.roots.values())),
            customers_then=len(set(then.values())),
            joining=len(joining),
            parting=len(parting),
            losing=len(losing),
            would_join=tuple(joining[:LISTED_MAX]),
            would_part=tuple(parting[:LISTED_MAX]),
            would_lose=tuple(losing[:LISTED_MAX]),
            unheld=dict(sorted(unheld.items())),
            unknown_records=sum(r not in then for r in self.evidence.roots),
            untold=dict(sorted(untold.items())),
        )

    def _losing(self, then: dict[RecordId, RecordId]) -> tuple[list[Losing], Counter[str]]:
        sides: defaultdict[RecordId, set[RecordId]] = defaultdict(set)
        for record_id, root in then.items():
            sides[self.evidence.roots[record_id]].add(root)
        lost: defaultdict[RecordId, set[str]] = defaultdict(set)
        unheld: Counter[str] = Counter()
        for key, held_by in self.evidence.holders.items():
            if held_by is None:
                continue
            customer, known = self.evidence.roots[held_by], self.evidence.values.get(key)
            named = self._named(key)
            holder = None if named is None else self.world.holder_of(named.key)
            if holder is None or holder not in sides[customer]:
                namespace = ERASED if known is None else known.namespace
                lost[customer].add(namespace)
                unheld[namespace] += holder is None
        losing = [Losing(customer, tuple(sorted(names))) for customer, names in lost.items()]
        return sorted(losing, key=lambda one: one.customer), +unheld


async def rehearse(
    log: LogReader, normaliser: IdentifierNormaliser, *, progress: Progress = silent
) -> Rehearsal:
    """Try the rules of a normaliser on a log. Its pepper is that of the workspace."""
    parts = frozenset(part.name for rule in normaliser.rules.namespaces for part in rule.parts)
    async with aclosing(read_checked(log, progress=progress)) as batches:
        evidence = await gather(batches, parts=parts)
    rehearsing = _Rehearsing(evidence, normaliser, World(normaliser.rules))
    for deciding in evidence.decisions:
        try:
            rehearsing.take(deciding)
        except DomainError:
            continue  # As it would have been then: refused, and nothing came of it.
    return rehearsing.compare()


def _joining(
    now: dict[RecordId, RecordId], then: dict[RecordId, RecordId], world: World
) -> list[Joining]:
    groups: defaultdict[RecordId, set[RecordId]] = defaultdict(set)
    for record_id, root in then.items():
        groups[root].add(now[record_id])
    return [
        Joining(tuple(sorted(customers)), root, world.met_in(root))
        for root, customers in sorted(groups.items())
        if len(customers) > 1
    ]


def _parting(now: dict[RecordId, RecordId], then: dict[RecordId, RecordId]) -> list[Parting]:
    groups: defaultdict[RecordId, defaultdict[RecordId, list[RecordId]]]
    groups = defaultdict(lambda: defaultdict(list))
    for record_id, root in then.items():
        groups[now[record_id]][root].append(record_id)
    return [
        Parting(customer, _sides(sides.values()))
        for customer, sides in sorted(groups.items())
        if len(sides) > 1
    ]


def _sides(sides: Iterable[list[RecordId]]) -> tuple[tuple[RecordId, ...], ...]:
    return tuple(sorted(tuple(sorted(side)) for side in sides))
