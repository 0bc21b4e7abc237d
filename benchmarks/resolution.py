"""Of the part `identity`: who is found to be whom, against an independent closure and the truth.

The population and the closure over it are `examples/population`'s and know nothing of Koseki; the
records with known duplicates are FEBRL's, in `data/febrl/`. Other files of that form are measured,
together, by `python -m benchmarks.resolution FILE ...`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Hashable, Sequence
from itertools import islice
from pathlib import Path

from benchmarks.hosts import CLOCK, Hosts, started_hosts
from benchmarks.measuring import Metric, Metrics
from benchmarks.playing import Play
from benchmarks.report import print_table
from domain.event import Event, Recorded
from domain.identity_events import IdentifierClaimed
from domain.identity_rules import DEFAULT_IDENTITY_RULES
from domain.signal_events import SignalsRecorded, TraitsSet
from examples.febrl import RECORD, FebrlRecord, read_records
from examples.febrl import RULES as FEBRL_RULES
from examples.population.agreement import Agreement, agreement, named, share_undecidable
from examples.population.closure import Closure, Identifier, Namespace
from examples.population.delivery import STARTS_AT, Delivery, Population, populate
from examples.population.lives import SHOP
from examples.population.people import Shares

FEBRL = Path(__file__).parent / "data" / "febrl" / "dataset1.csv"
PEOPLE = 20_000
PEOPLE_QUICK = 2_000
DELIVERIES_AT_ONCE = 4_000
SEED = 4
SHARES = Shares(shared_devices=0.01, second_accounts=0.05, erasures=0.0)
RULES = tuple(Namespace(n.name, n.values_max) for n in DEFAULT_IDENTITY_RULES.namespaces)
"""The rules of a new workspace, as plain data for the closure."""


async def measure(is_quick: bool) -> Metrics:  # noqa: FBT001  # what every part takes
    """Measure resolution."""
    people = await measure_people(PEOPLE_QUICK if is_quick else PEOPLE)
    return {**people, **await measure_febrl()}


async def measure_febrl(paths: Sequence[Path] = (FEBRL,)) -> Metrics:
    """Measure on FEBRL files, through what decodes and normalises a publisher's calls."""
    records = [record for path in paths for record in read_records(path)]
    async with started_hosts(FEBRL_RULES) as hosts:
        await _play(hosts, [_call(record) for record in records])
        found = await _found(hosts, await hosts.events())
    judged = agreement(
        {record.number: found[record.number] for record in records},
        {record.number: record.person for record in records},
    )
    beside = {"precision": judged.precision, "records": len(records)}
    return {"febrl": Metric(judged.recall, "recall", beside=beside)}


def _call(record: FebrlRecord) -> Delivery:
    named = {"externalIds": [{"type": RECORD, "id": record.number}]}
    return Delivery(
        delivered_at=STARTS_AT,
        happened_at=STARTS_AT,
        kind="call",
        message_id=record.number,
        source=SHOP,
        body={"type": "identify", "traits": dict(record.traits), "context": named},
        person=int(record.person),
    )


async def measure_people(people: int, *, seed: int = SEED) -> Metrics:
    """Measure with so many people."""
    population = populate(people, seed=seed, shares=SHARES)
    async with started_hosts() as hosts:
        play = await _play(hosts, population.deliveries)
        events = await hosts.events()
        found = await _found(hosts, events)
    closure = Closure(RULES)
    play.retell(events, closure)
    return {"resolution": _metric(population, play, closure=closure, found=found)}


async def _play(hosts: Hosts, deliveries: Sequence[Delivery]) -> Play:
    play = Play(hosts.normaliser, CLOCK)
    arriving = iter(deliveries)
    while some := list(islice(arriving, DELIVERIES_AT_ONCE)):
        for wave in play.waves(some):
            await hosts.carry_out(wave)
    return play


async def _found(hosts: Hosts, events: Sequence[Recorded[Event]]) -> dict[Hashable, str]:
    """Give what the hosts say is the customer of each message and of each identifier's key."""
    held = {str(key): record for key, record in _records(events).items()}
    customers = await hosts.customers_of(sorted(set(held.values())))
    return {key: customers[record] for key, record in held.items()}


def _records(events: Sequence[Recorded[Event]]) -> dict[str, str]:
    """Give the record of each message and of each identifier's key, as the log says."""
    records: dict[str, str] = {}
    for event in events:
        match event.body:
            case IdentifierClaimed(record_id=record_id):
                records[event.stream.key] = record_id
            case SignalsRecorded(signals=signals):
                records |= {signal.message_id: event.stream.key for signal in signals}
            case TraitsSet(message_id=str(message_id)):
                records[message_id] = event.stream.key
            case _:
                pass
    return records


def _metric(
    population: Population, play: Play, *, closure: Closure, found: dict[Hashable, str]
) -> Metric:
    calls = [delivery for delivery in population.deliveries if delivery.kind == "call"]
    wanted: dict[Hashable, str] = {
        d.message_id: closure.customer_of_message(d.message_id) for d in calls
    }
    for identifier in {name for delivery in calls for name in named(delivery)}:
        customer = closure.customer_of(identifier)
        if customer is not None:
            wanted[_key(play, identifier)] = customer
    against_closure = agreement(found, wanted)
    against_people: Agreement = agreement(
        {d.message_id: found[d.message_id] for d in calls}, {d.message_id: d.person for d in calls}
    )
    beside = {
        "pairs": against_closure.wanted,
        "pairs_that_differ": against_closure.differing,
        "people_f1": against_people.f1,
        "people_precision": against_people.precision,
        "people_recall": against_people.recall,
        "undecidable_share": share_undecidable(calls),
        "messages": len({d.message_id for d in calls}),
        "customers": len(set(wanted.values())),
    }
    return Metric(against_closure.f1, "F1", beside=beside)


def _key(play: Play, identifier: Identifier) -> str:
    namespace, value = identifier
    return play.normaliser.normalise(namespace, value).key


if __name__ == "__main__":
    files = [Path(name) for name in sys.argv[1:]] or [FEBRL]
    print_table({"identity": asyncio.run(measure_febrl(files))})
