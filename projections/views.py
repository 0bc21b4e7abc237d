"""Customers as readers see them: the rows of a customer's records, combined for one purpose (R12).

Pure reads over `ReadTables`, called by queries and replays. Only what a source that declares the
purpose has said is seen, and only while the purpose is open for the person; `audit` sees all. Of a
closed customer nothing personal is given. A parked customer raises `CustomerParked` (R10).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain

from domain.consent import Standing
from domain.gate import Gate
from domain.ids import IdentifierKey, RecordId
from domain.rules import AUDIT, Purpose, Rules
from projections import consents, customers, identifiers, preferences, profile, tallies
from projections.clock import read_clock
from projections.consent_history import ConsentTransition, consent_history
from projections.contexts import ContextClaim, contexts
from projections.customers import Component
from projections.errors import CustomerErased, CustomerParked
from projections.parking import identifier_parked_since, parked_since
from projections.preferences import StatedPreference
from projections.profile import KnownIdentifier, TraitClaim
from projections.rules import read_rules
from projections.tables import ReadTables
from projections.tallies import Tally


@dataclass(frozen=True, slots=True)
class Trait:
    """A trait: what stands, and every other word on it, the nearest to winning first."""

    name: str
    winner: TraitClaim
    losers: tuple[TraitClaim, ...]


@dataclass(frozen=True, slots=True)
class PurposeStanding:
    """Where one purpose stands for the customer, by the acts on all its records (R9)."""

    purpose: Purpose
    standing: Standing


@dataclass(frozen=True, slots=True)
class Household:
    """A household that the customer is of, and all customers of it whom the purpose may see."""

    household_id: str
    customers: tuple[RecordId, ...]


@dataclass(frozen=True, slots=True)
class CustomerView:
    """A customer as a purpose may see it, as of a revision.

    `consents` covers every defined purpose, but only the one asked for where that is closed.
    """

    customer_id: RecordId
    revision: int
    purpose: str
    is_open: bool
    members: tuple[RecordId, ...]
    consents: tuple[PurposeStanding, ...]
    identifiers: tuple[KnownIdentifier, ...] = ()
    traits: tuple[Trait, ...] = ()
    tallies: tuple[Tally, ...] = ()
    context: tuple[ContextClaim, ...] = ()
    preferences: tuple[StatedPreference, ...] = ()
    households: tuple[Household, ...] = ()
    sure_until: datetime | None = None
    """The instant at which it would be seen otherwise with nothing else happening."""


@dataclass(frozen=True, slots=True)
class HistoryView:
    """Every transition of consent that a purpose may see, the oldest first, as of a revision."""

    customer_id: RecordId
    revision: int
    transitions: tuple[ConsentTransition, ...]


@dataclass(frozen=True, slots=True)
class _Sight:
    """Whose word a reader may see; no sources named: everything, as an auditor does."""

    rules: Rules
    purpose: str
    sources: frozenset[str] | None

    def sees(self, *sources: str) -> bool:
        return self.sources is None or not self.sources.isdisjoint(sources)

    def rank(self, claim: TraitClaim) -> tuple[object, ...]:
        source = self.rules.sources.get(claim.source)
        priority = -1 if source is None else source.priority
        return (priority, claim.effective_at, claim.event_id)


def customer_view(
    tables: ReadTables, record_id: RecordId, purpose: str, *, now: datetime | None = None
) -> CustomerView | None:
    """See a customer by any id it ever had; None for nobody.

    Judged as of the later of `now` and the log's clock; without `now` by that alone, as replays do.
    Raises `NotFound` / UNKNOWN_PURPOSE, `CustomerErased` and `CustomerParked`.
    """
    rules = rules_for(tables, purpose)
    customer = _unparked(tables, record_id)
    if customer is None:
        return None
    tables.need(customer.members)
    at = judged_at(tables, now)
    standings = customer_standings(tables, rules, customer.members, at=at)
    ends = _ends_of_consent(tables, customer.members)
    asked = [place for place in standings if place.purpose.name == purpose]
    is_open = purpose == AUDIT or all(place.standing.is_open for place in asked)
    revision = tables.checkpoint.revision
    if not is_open:
        return CustomerView(
            customer_id=customer.root,
            revision=revision,
            purpose=purpose,
            is_open=False,
            members=customer.members,
            consents=tuple(asked),
            sure_until=_next_of(ends, at),
        )
    sources = None if purpose == AUDIT else rules.sources_serving(purpose)
    sight = _Sight(rules, purpose, sources)
    context = _context(tables, customer.members, sight, at=at)
    housemates = _housemates(tables, customer.members, sight)
    for other in _judged(housemates, sight):
        ends += _ends_of_consent(tables, other.members)
    return CustomerView(
        customer_id=customer.root,
        revision=revision,
        purpose=purpose,
        is_open=True,
        members=customer.members,
        consents=standings,
        identifiers=_identifiers(tables, customer.members, sight),
        traits=_traits(tables, customer.members, sight),
        tallies=_tallies(tables, customer.members, sight),
        context=context,
        preferences=preferences.preferences(tables, customer.members),
        households=_households(tables, housemates, sight, of=customer.root, at=at),
        sure_until=_next_of([*ends, *(claim.expires_at for claim in context)], at),
    )


def judged_at(tables: ReadTables, now: datetime | None) -> datetime:
    """Give the time that a view is judged as of: the later of a clock's and the log's."""
    clock = read_clock(tables)
    return clock if now is None else max(now, clock)


def history_view(
    tables: ReadTables, record_id: RecordId, purpose: str, *, now: datetime | None = None
) -> HistoryView | None:
    """See the transitions of a customer's consent; of a closed purpose, its own without evidence.

    Raises as `customer_view`.
    """
    seen = customer_view(tables, record_id, purpose, now=now)
    if seen is None:
        return None
    transitions = consent_history(tables, seen.members)
    if not seen.is_open:
        transitions = tuple(
            replace(transition, method=None, evidence={})
            for transition in transitions
            if transition.purpose == purpose
        )
    return HistoryView(seen.customer_id, seen.revision, transitions)


def rules_for(tables: ReadTables, purpose: str) -> Rules:
    """Give the rules. Raises `NotFound` / UNKNOWN_PURPOSE, whoever is asked about."""
    rules = read_rules(tables)
    if purpose != AUDIT:
        rules.purpose(purpose)
    return rules


def customer_view_by_identifier(
    tables: ReadTables, key: IdentifierKey, purpose: str, *, now: datetime | None = None
) -> CustomerView | None:
    """See the customer who holds an identifier; None for nobody. Raises as `customer_view`."""
    rules_for(tables, purpose)
    record_id = record_holding(tables, key)
    return None if record_id is None else customer_view(tables, record_id, purpose, now=now)


def record_holding(tables: ReadTables, key: IdentifierKey) -> RecordId | None:
    """Find the record that holds an identifier. Raises `CustomerParked` and `CustomerErased`."""
    since = identifier_parked_since(tables, key)
    if since is not None:
        raise CustomerParked(since)
    if identifiers.is_of_erased(tables, key):
        raise CustomerErased
    return identifiers.holder(tables, key)


def customer_of(tables: ReadTables, record_id: RecordId) -> RecordId | None:
    """Name the customer of a record; None for nobody.

    Raises `CustomerParked` and `CustomerErased`.
    """
    customer = _unparked(tables, record_id)
    return None if customer is None else customer.root


def customer_standings(
    tables: ReadTables, rules: Rules, members: Iterable[RecordId], *, at: datetime
) -> tuple[PurposeStanding, ...]:
    """Judge every defined purpose for the customer that these records form, by name."""
    gate = Gate(rules, {member: consents.acts(tables, member) for member in members}, at)
    return tuple(
        PurposeStanding(purpose, gate.standing(purpose))
        for _name, purpose in sorted(rules.purposes.items())
    )


def _unparked(tables: ReadTables, record_id: RecordId) -> Component | None:
    customer = customers.component(tables, record_id)
    members = customer.members if customer else ()
    if customers.erased_since(tables, record_id) is not None:
        raise CustomerErased
    for member in (record_id, *members):
        since = parked_since(tables, member)
        if since is not None:
            raise CustomerParked(since)
    return customer


def _ends_of_consent(tables: ReadTables, members: Iterable[RecordId]) -> list[datetime]:
    acts = (act for member in members for act in consents.acts(tables, member))
    return [act.valid_until for act in acts if act.valid_until is not None]


def _next_of(ends: Iterable[datetime], at: datetime) -> datetime | None:
    return min((end for end in ends if end > at), default=None)


def _identifiers(
    tables: ReadTables, members: Iterable[RecordId], sight: _Sight
) -> tuple[KnownIdentifier, ...]:
    seen = (
        identifier
        for member in members
        for identifier in profile.identifiers(tables, member)
        if sight.sees(*identifier.sources)
    )
    return tuple(sorted(seen, key=lambda known: (known.namespace, known.value, known.record_id)))


def _traits(tables: ReadTables, members: Iterable[RecordId], sight: _Sight) -> tuple[Trait, ...]:
    claims: defaultdict[str, list[TraitClaim]] = defaultdict(list)
    for member in members:
        for claim in profile.claims(tables, member):
            if sight.sees(claim.source):
                claims[claim.trait].append(claim)
    traits = []
    for name in sorted(claims):
        winner, *losers = sorted(claims[name], key=sight.rank, reverse=True)
        traits.append(Trait(name, winner, tuple(losers)))
    return tuple(traits)


def _tallies(tables: ReadTables, members: Iterable[RecordId], sight: _Sight) -> tuple[Tally, ...]:
    return tuple(tally for tally in tallies.combined(tables, members) if sight.sees(tally.source))


def _context(
    tables: ReadTables, members: Iterable[RecordId], sight: _Sight, *, at: datetime
) -> tuple[ContextClaim, ...]:
    """Give of each key of the fast context the newest word that still holds."""
    newest: dict[str, ContextClaim] = {}
    for member in members:
        for claim in contexts(tables, member, at=at):
            known = newest.get(claim.key)
            rank = (claim.effective_at, claim.event_id)
            if sight.sees(claim.source) and (
                known is None or (known.effective_at, known.event_id) < rank
            ):
                newest[claim.key] = claim
    return tuple(newest[key] for key in sorted(newest))


def _housemates(
    tables: ReadTables, members: Iterable[RecordId], sight: _Sight
) -> dict[str, list[Component]]:
    """Find each household with its customers, as far as a source that is seen told of them."""
    linked = {
        household
        for household, sources in preferences.households(tables, members).items()
        if sight.sees(*sources)
    }
    return {household: _linked_to(tables, household, sight) for household in sorted(linked)}


def _linked_to(tables: ReadTables, household: str, sight: _Sight) -> list[Component]:
    found: dict[RecordId, Component] = {}
    for record_id in preferences.household_members(tables, household):
        customer = customers.component(tables, record_id)
        if customer is None or customer.root in found:
            continue
        sources = preferences.households(tables, customer.members).get(household)
        if sources and sight.sees(*sources):
            found[customer.root] = customer
    return [found[root] for root in sorted(found)]


def _judged(housemates: Mapping[str, list[Component]], sight: _Sight) -> Iterable[Component]:
    """Give those by whose consent it is decided whether they are named; none for auditors."""
    return () if sight.purpose == AUDIT else chain.from_iterable(housemates.values())


def _households(
    tables: ReadTables,
    housemates: Mapping[str, list[Component]],
    sight: _Sight,
    *,
    of: RecordId,
    at: datetime,
) -> tuple[Household, ...]:
    """Name of each household the customer and the others for whom the purpose is open too."""
    hidden = {
        other.root
        for other in _judged(housemates, sight)
        if other.root != of and not _is_open_for(tables, other, sight, at=at)
    }
    return tuple(
        Household(household, tuple(known.root for known in all_ if known.root not in hidden))
        for household, all_ in housemates.items()
    )


def _is_open_for(tables: ReadTables, other: Component, sight: _Sight, *, at: datetime) -> bool:
    """Judge the purpose for somebody else; of a parked one nothing is sure, so it is closed."""
    if any(parked_since(tables, member) is not None for member in other.members):
        return False
    acts = {member: consents.acts(tables, member) for member in other.members}
    return Gate(sight.rules, acts, at).standing(sight.rules.purpose(sight.purpose)).is_open
