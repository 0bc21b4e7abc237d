"""Definitions that wait for their activation, evaluated beside what is active, slice by slice.

An answer is kept while nothing of the customer changes: the ledger forgets it with every write of
the customer's row. The activation takes the answers, and evaluates whom none is held for. Local
table `candidates`: `~known` -> {segment: fingerprint}; segment/{known, in, timed} -> bitmaps;
segment/due/number -> the instant up to which the answer holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

import orjson
from pyroaring import BitMap

from domain.ids import RecordId
from domain.rules import Rules
from projections.rules import read_rules
from projections.segments import definitions
from projections.segments.active import EVERYONE, Standing
from projections.segments.bitmaps import number_of, read_bitmap
from projections.segments.effective import sight_of
from projections.segments.errors import InvalidExpression
from projections.segments.evaluation import Answer
from projections.segments.language import read_expression
from projections.sets import read_set
from projections.tables import ReadTables, Tables

CANDIDATES = "candidates"
LOCAL_TABLES = (CANDIDATES,)

SLICE_CUSTOMERS_MAX = 2_000
"""Evaluated between two batches of events; so many may be left to the activation itself."""

SETS_CACHED_MAX = 4
_KNOWN = b"~known"
_DUE_BYTES = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """The latest definition of a segment, which is not in effect."""

    standing: Standing
    number: int
    fingerprint: str


class Answers:
    """The answers held for one definition, as one transaction changes them."""

    def __init__(self, tables: Tables, name: str) -> None:
        self._tables = tables
        self._name = name
        self.known = self._load("known")
        """For whom an answer is held."""
        self.belonging = self._load("in")
        self.timed = self._load("timed")
        """Whose answer holds up to an instant only."""

    def keep(self, number: int, answer: Answer) -> None:
        """Hold an answer."""
        self.known.add(number)
        (self.belonging.add if answer.is_in else self.belonging.discard)(number)
        if answer.due is not None:
            self.timed.add(number)
            self._tables.store(CANDIDATES, self._place(number), _due_bytes(answer.due))
        elif number in self.timed:
            self._drop_due(number)

    def forget(self, number: int) -> None:
        """Hold no answer for a customer."""
        self.known.discard(number)

    def answer(self, number: int, *, now: int) -> Answer | None:
        """Give the answer for a customer, if one is held that is still good."""
        if number not in self.known:
            return None
        due = None
        if number in self.timed:
            stored = self._tables.load(CANDIDATES, self._place(number))
            due = int.from_bytes(stored or b"", "big")
            if due <= now:
                return None
        return Answer(number in self.belonging, due)

    def store(self) -> None:
        """Hand the sets to the transaction."""
        for part, numbers in self._parts():
            self._tables.store(CANDIDATES, _part(self._name, part), numbers.serialize())

    def clear(self) -> None:
        """Drop everything."""
        for number in list(self.timed):
            self._drop_due(number)
        for part, numbers in self._parts():
            numbers.clear()
            self._tables.store(CANDIDATES, _part(self._name, part), None)

    def _parts(self) -> tuple[tuple[str, BitMap], ...]:
        return (("known", self.known), ("in", self.belonging), ("timed", self.timed))

    def _drop_due(self, number: int) -> None:
        self.timed.discard(number)
        self._tables.store(CANDIDATES, self._place(number), None)

    def _load(self, part: str) -> BitMap:
        return _read_set(self._tables, self._name, part)

    def _place(self, number: int) -> bytes:
        return f"{self._name}/due/{number}".encode()


class Candidates:
    """Every definition that answers are held for."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._fingerprints = _read_known(tables)
        self._opened: dict[str, Answers] = {}

    def forget(self, root: RecordId) -> None:
        """Hold no answers for a customer: something of it has changed."""
        if not self._fingerprints:
            return
        number = number_of(self._tables, root)
        if number is not None:
            for name in self._fingerprints:
                self._answers(name).forget(number)

    def answers(self, standing: Standing, rules: Rules) -> Answers | None:
        """Give the answers held for this very definition under these rules, if there are any."""
        if self._fingerprints.get(standing.name) != _fingerprint(standing, rules):
            return None
        return self._answers(standing.name)

    def follow(self, waiting: Mapping[str, Candidate]) -> bool:
        """Hold answers for these definitions, and for no others; true if they were not the same."""
        wanted = {name: candidate.fingerprint for name, candidate in waiting.items()}
        if wanted == self._fingerprints:
            return False
        for name, fingerprint in self._fingerprints.items():
            if wanted.get(name) != fingerprint:
                self._answers(name).clear()
        self._fingerprints = wanted
        self._tables.store(CANDIDATES, _KNOWN, orjson.dumps(wanted))
        return True

    def of(self, candidate: Candidate) -> Answers:
        """Give the answers of a definition that is followed."""
        return self._answers(candidate.standing.name)

    def store(self) -> None:
        """Hand what was touched to the transaction."""
        for name, answers in self._opened.items():
            if name in self._fingerprints:
                answers.store()

    def _answers(self, name: str) -> Answers:
        if name not in self._opened:
            self._opened[name] = Answers(self._tables, name)
        return self._opened[name]


def are_held(tables: ReadTables) -> bool:
    """Say whether there are answers that a change of a customer makes void."""
    return bool(_read_known(tables))


def waiting_candidates(tables: ReadTables) -> Mapping[str, Candidate]:
    """Give what is defined and not in effect, by segment; read anew when the rules have changed."""
    digest = definitions.rules_digest(tables)
    found = _kept.get(digest)
    if found is None:
        found = {candidate.standing.name: candidate for candidate in _waiting(tables)}
        while len(_kept) >= SETS_CACHED_MAX:
            _kept.pop(next(iter(_kept)), None)
        _kept[digest] = found
    return found


_kept: dict[str, Mapping[str, Candidate]] = {}


def is_filled(tables: ReadTables, candidate: Candidate) -> bool:
    """Say whether the activation would have no more to evaluate than a slice."""
    name = candidate.standing.name
    unknown = read_bitmap(tables, EVERYONE)
    if _read_known(tables).get(name) == candidate.fingerprint:
        unknown -= _read_set(tables, name, "known")
    return len(unknown) <= SLICE_CUSTOMERS_MAX


def _waiting(tables: ReadTables) -> Iterator[Candidate]:
    rules = read_rules(tables)
    for name, segment in sorted(definitions.read_segments(tables).items()):
        latest = segment.latest
        if segment.is_archived or segment.active == latest:
            continue
        try:
            expression = read_expression(latest.expression)
        except InvalidExpression:
            continue
        standing = Standing(name, expression, sight_of(rules, latest.purposes, latest.exception))
        yield Candidate(standing, latest.number, _fingerprint(standing, rules))


def _fingerprint(standing: Standing, rules: Rules) -> str:
    """Digest what an answer depends on beside the customer."""
    sight, expression = standing.sight, standing.expression
    told = [
        expression.source,
        None if sight is None else sorted(sight),
        {name: source.priority for name, source in rules.sources.items()},
        repr(sorted(rules.purposes.items())) if expression.purposes else None,
    ]
    return sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _read_known(tables: ReadTables) -> dict[str, str]:
    stored = tables.load(CANDIDATES, _KNOWN)
    known: dict[str, str] = {} if stored is None else orjson.loads(stored)
    return known


def _read_set(tables: ReadTables, name: str, part: str) -> BitMap:
    return read_set(tables.load(CANDIDATES, _part(name, part)))


def _part(name: str, part: str) -> bytes:
    return f"{name}/{part}".encode()


def _due_bytes(due: int) -> bytes:
    return due.to_bytes(_DUE_BYTES, "big")
