"""Histories with undos and erasures, and the log as it reads once the keys are destroyed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from domain.consent import ConsentState
from domain.consent_events import CONSENT_EVENTS
from domain.erasure_events import ErasureRequested
from domain.event import Event
from domain.identity_events import (
    CustomersParted,
    IdentifierReadmitted,
    IdentifierTombstoned,
)
from domain.ids import IdentifierKey, OpenMap, RecordId, Stream, identifier_stream, record_stream
from domain.parting import components
from domain.preference_events import HouseholdLinked, HouseholdUnlinked, Preference, PreferencesSet
from domain.signal_events import SignalsDeclined, SignalsRecorded
from eventlog.port import Entry
from tests.projections.histories import identifier, record_id, signal
from tests.projections.segments.happenings import Happenings

SEGMENTS = {
    "buyers": 'count("Order", "400s") >= 2',
    "quiet": '!seen("Order", "90s")',
    "golden": 'traits.tier == "gold"',
    "spenders": 'sum("Order", "amount", "300s") > 5.0 || segment("golden")',
}


class Erasing(Happenings):
    """People who are merged, part again, and are erased."""

    def __init__(self) -> None:
        super().__init__()
        self.erased: set[RecordId] = set()
        self._held: dict[IdentifierKey, RecordId] = {}

    def hold(self, number: int, value: str) -> None:
        """Link an identifier, unless somebody holds it."""
        item = identifier(value)
        if item.key not in self._held:
            self._held[item.key] = self._known(number)
            self.link(number, item)

    def part(self, number: int, which: int) -> None:
        """Undo one merge of a customer, if it has any."""
        record = self._known(number)
        live = sorted(self.edges[record], key=lambda edge: edge.merge_id)
        if not live:
            return
        removed = live[which % len(live)]
        whole, left = self.components[record], [edge for edge in live if edge != removed]
        parts = components(whole, left)
        facts: list[tuple[Stream, Event]] = []
        for members in parts:
            own = [edge for edge in left if edge.older in members]
            plain = CustomersParted(customer=min(whole), root=members[0], removed=(removed,))
            said = {"roots": tuple(p[0] for p in parts), "component": members}
            full = plain.model_copy(update={**said, "live_edges": tuple(own)})
            for member in members:
                body = full if member == members[0] else plain
                facts.append((record_stream(member), body))
                self.components[member], self.edges[member] = set(members), own
        self.append(*sorted(facts, key=lambda fact: fact[0].key))

    def erase(self, number: int) -> None:
        """Erase a customer, as a host does."""
        members = sorted(self.components[self._known(number)])
        root = members[0]
        plain = ErasureRequested(root=root)
        edges = tuple(self.edges[root])
        whole = plain.model_copy(update={"component": tuple(members), "live_edges": edges})
        facts: list[tuple[Stream, Event]] = [
            (record_stream(m), whole if m == root else plain) for m in members
        ]
        held = sorted(key for key, holder in self._held.items() if holder in members)
        for key in held:
            body = IdentifierTombstoned(record_id=self._held.pop(key))
            facts.append((identifier_stream(key), body))
        self.append(*facts)
        self.erased |= set(members)
        if held and self.now % 3 == 1:
            readmitted = IdentifierReadmitted(reference="ticket")
            self.append((identifier_stream(held[0]), readmitted))

    def after_destruction(self) -> list[Entry]:
        """Give the entries as they read without the keys of who is erased."""
        return [self._without_key(entry) for entry in self.entries]

    def _without_key(self, entry: Entry) -> Entry:
        event = entry.event
        if event is None or entry.stream.key not in self.erased or not event.body.PERSONAL:
            return entry
        body = event.body.model_copy(update=dict(event.body.PERSONAL))
        return replace(entry, event=event._replace(body=body, is_erased=True))


def erasing_history(seed: int, *, steps: int, people: int) -> Erasing:
    """A history of everything that an erasure has to undo, the same for the same seed."""
    drawn = random.Random(seed)
    history = Erasing()
    history.rules()
    for name, expression in SEGMENTS.items():
        history.segment(name, expression)
    gone: set[int] = set()
    for _ in range(steps):
        history.now += drawn.choice((0, 1, 1, 7, 40))
        number = drawn.randrange(people)
        if record_id(number) in history.erased:
            continue
        step(history, drawn, number, [n for n in range(people) if n not in gone])
        gone = {n for n in range(people) if record_id(n) in history.erased}
    history.advance(history.now + 50)
    return history


def step(history: Erasing, drawn: random.Random, number: int, others: Sequence[int]) -> None:
    """Let one thing happen to somebody."""
    record = history._known(number)  # of the class that this one grows
    match drawn.randrange(14):
        case 0:
            history.hold(number, f"v{drawn.randrange(40)}")
        case 1 | 2:
            history.merge(number, drawn.choice(others))
        case 3 | 4:
            history.part(number, drawn.randrange(9))
        case 5:
            history.set(number, tier=drawn.choice(("gold", "tin")), age=drawn.randrange(9))
        case 6:
            state = drawn.choice(sorted(CONSENT_EVENTS))
            history.say(number, drawn.choice(("analytics", "marketing")), ConsentState(state))
        case 7 if drawn.randrange(2):
            yes, no = drawn.sample(("analytics", "marketing"), 2)
            history.choose(number, happened=history.now, **{yes: True, no: False})
        case 7:
            body: Event = SignalsDeclined(source="web", reason="CLOSED", message_ids=("d1", "d2"))
            history.append((record_stream(record), body))
        case 8:
            household = str(UUID(int=drawn.randrange(3)))
            preferred = Preference(channel="email", topic="news", frequency="weekly")
            told = (
                HouseholdLinked(household_id=household, source="shop"),
                HouseholdLinked(household_id=household, source="web"),
                HouseholdUnlinked(household_id=household),
            )
            history.append(
                (record_stream(record), drawn.choice(told)),
                (record_stream(record), PreferencesSet(preferences=(preferred,))),
            )
        case 9 if drawn.randrange(3) == 0:
            history.erase(number)
        case _:
            amounts: OpenMap = {"amount": drawn.randrange(500) / 100}
            sent = tuple(signal(f"m{drawn.randrange(30)}", "Order", amounts) for _ in range(2))
            sent = tuple(replace(s, happened_at=history.time(history.now)) for s in sent)
            history.append(
                (
                    record_stream(record),
                    SignalsRecorded(source="shop", signals=sent, context_ttl_seconds=60),
                )
            )
