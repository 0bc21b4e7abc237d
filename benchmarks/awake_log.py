"""The log for `awake.py`: customers with all that one has usually, and others with next to nothing.

Those who are to be awake have 10 identifiers, 20 traits, 5 acts of consent and 50 signals, in four
events; the others one identifier and one signal, in two. Everybody is named by the record's id, so
nobody claims identifiers: who wakes a customer has looked them up before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from benchmarks import load
from benchmarks.scale_log import record_of
from domain.consent import ConsentState, LawfulBasis
from domain.consent_events import ChoiceMade, ChoicesRecorded
from domain.event import Event
from domain.identity_events import IdentifiersLinked
from domain.ids import WORKSPACE_STREAM
from domain.signal_events import SignalsRecorded, TraitsSet
from domain.workspace_events import PurposeDefined, SourceRegistered
from eventlog.jetstream import JetStreamEventLog
from eventlog.port import EMPTY, Attempt, Draft, Stored

IDENTIFIERS, TRAITS, ACTS, SIGNALS = 10, 20, 5, 50
EVENTS_PER_APPEND = 500
APPENDS_AT_ONCE = 3
APPEND_SECONDS_MAX = 60.0
PURPOSES = tuple(f"purpose_{number}" for number in range(ACTS))


@dataclass(frozen=True, slots=True)
class Population:
    """How many are to be awake, and how many others there are; numbered in this order."""

    awake: int
    asleep: int

    def drafts(self) -> Iterator[list[Draft]]:
        """Yield the events of one customer after another."""
        for number in range(self.awake + self.asleep):
            bodies = _usual(number) if number < self.awake else _scarce(number)
            stream = record_of(number)
            yield [load.draft(stream, body) for body in bodies]


async def append_population(log: JetStreamEventLog, population: Population) -> int:
    """Append the rules and everybody; give the number of events."""
    rules = [load.draft(WORKSPACE_STREAM, body) for body in _rules()]
    events = await _append(log, rules)
    customers = population.drafts()

    async def append() -> int:
        appended = 0
        while some := _some(customers):
            appended += await _append(log, some)
        return appended

    return events + sum(await asyncio.gather(*(append() for _ in range(APPENDS_AT_ONCE))))


def _some(customers: Iterator[list[Draft]]) -> list[Draft]:
    """Take the events of as many customers as fit one append."""
    taken: list[Draft] = []
    for drafts in customers:
        taken += drafts
        if len(taken) + len(drafts) > EVENTS_PER_APPEND:
            break
    return taken


async def _append(log: JetStreamEventLog, drafts: Sequence[Draft]) -> int:
    expected = {draft.stream: EMPTY for draft in drafts}
    outcome = await log.append(Attempt(tuple(drafts), expected), timeout_seconds=APPEND_SECONDS_MAX)
    if not isinstance(outcome, Stored):
        raise TypeError(f"an append ended as {outcome}")
    return len(drafts)


def _rules() -> list[Event]:
    basis = LawfulBasis
    purposes = [PurposeDefined(purpose=name, basis=basis.CONSENT) for name in PURPOSES]
    service = PurposeDefined(purpose="service", basis=basis.CONTRACT)
    return [*purposes, service, SourceRegistered(source="shop", purposes=("service", *PURPOSES))]


def _usual(number: int) -> list[Event]:
    items = tuple(chain.from_iterable(load.birth().identifiers for _ in range(IDENTIFIERS)))
    keys = tuple(item.key for item in items)
    traits = {f"trait_{place}": f"value {number * place % 9_973}" for place in range(TRAITS)}
    acts = tuple(
        ChoiceMade(
            act_id=load.new_id(), purpose=name, state=ConsentState.GIVEN, happened_at=load.NOON
        )
        for name in PURPOSES
    )
    return [
        IdentifiersLinked(source="shop", keys=keys, identifiers=items),
        TraitsSet(source="shop", traits=dict(traits)),
        ChoicesRecorded(source="shop", acts=acts),
        _purchases(number, SIGNALS),
    ]


def _scarce(number: int) -> list[Event]:
    return [load.birth(), _purchases(number, 1)]


_PURCHASE = load.purchase().signals[0]


def _purchases(number: int, times: int) -> SignalsRecorded:
    signals = tuple(replace(_PURCHASE, message_id=f"{number}-{place}") for place in range(times))
    return SignalsRecorded(source="shop", signals=signals)
