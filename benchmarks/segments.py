"""The part `segments`: counts over bitmaps, windows that close, and the back-fill of a segment.

Each stands beside the bare operation on the same data: the pyroaring expression on decoded bitmaps,
one CEL program over the same customers' decoded rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import cel

from benchmarks.happenings import SIGNAL_NAMES, START, Happenings
from benchmarks.measuring import Metric, Metrics, Rounds, alternate
from benchmarks.projection import BATCH_EVENTS, DerivedKeys
from benchmarks.segment_lag import LagLoad, measure_lag
from eventlog.port import Entry
from projections.fold import SEALED, fold_batch
from projections.profile import PROFILES
from projections.rows import Row, SealedRows
from projections.segments.audience_parts import AllOf, Audience, InSegment, NoneOf
from projections.segments.audiences import Sets, count_audience
from projections.segments.bitmaps import read_bitmap
from projections.segments.filling import fill_slice
from projections.store import Store, WritableStore

SETS = 12
CUSTOMERS_A_SIGNAL = 10
MICROSECONDS = 1_000_000.0
MILLISECONDS = 1_000.0


@dataclass(frozen=True, slots=True)
class Load:
    """How much is measured."""

    rounds: Rounds = Rounds(7, seconds_max=120.0)  # noqa: RUF009  # frozen
    customers: int = 100_000
    counts: int = 400


QUICK = Load(rounds=Rounds(3, seconds_max=30.0), counts=100)


async def measure(is_quick: bool) -> Metrics:  # noqa: FBT001  # what every part takes
    """Measure the part."""
    folds = await measure_load(QUICK if is_quick else Load())
    return {**folds, **await measure_lag(LagLoad(seconds=4.0) if is_quick else LagLoad())}


async def measure_load(load: Load) -> Metrics:
    """Measure with a load of one's own."""
    happenings = Happenings()
    happenings.rules()
    for place in range(SETS):
        happenings.segment(f"set_{place}", f"has(traits.tier) && traits.tier >= {place % 4 + 1}")
    happenings.segment("fresh", f'seen("{SIGNAL_NAMES[0]}", "1d")')
    happenings.people(load.customers)
    with TemporaryDirectory() as folder:
        store = Store.open_writer(Path(folder), SealedRows(SEALED, DerivedKeys()))
        for first in range(0, len(happenings.entries), BATCH_EVENTS):
            fold_batch(store, happenings.entries[first : first + BATCH_EVENTS])
        counted = await _count(store, load)
        filled = await _backfill(store, happenings, load)
        folded = _expire(store, happenings, load)
        beside = {"windowed": _backfill_windowed(store, happenings, load)}
        store.close()
    return {
        "count_audience_us": counted,
        "backfill_customers_per_second": replace(filled, beside=beside),
        "window_fold_ms": folded,
    }


async def _count(store: WritableStore, load: Load) -> Metric:
    sets = Sets()
    names = [f"set_{place}" for place in range(SETS)]
    chosen = list(product(names, names, names))[: load.counts]

    async def ours() -> list[float]:
        with store.snapshot() as tables:
            begun = perf_counter()
            for one, other, without in chosen:
                parts: tuple[Audience, ...] = (InSegment(one), InSegment(other))
                audience = AllOf((*parts, NoneOf((InSegment(without),))))
                count_audience(tables, sets, audience, purpose="service")
            return [(perf_counter() - begun) / len(chosen) * MICROSECONDS]

    with store.snapshot() as tables:
        decoded = {name: read_bitmap(tables, name) for name in names}
        everyone = read_bitmap(tables, "~everyone")
        open_to = read_bitmap(tables, "~purpose.service")

    async def raw() -> list[float]:
        begun = perf_counter()
        for one, other, without in chosen:
            found = decoded[one] & decoded[other] & (everyone - decoded[without])
            found.intersection_cardinality(open_to)
        return [(perf_counter() - begun) / len(chosen) * MICROSECONDS]

    found = await alternate(load.rounds, ours=ours, raw=raw)
    return Metric(found["ours"], "us", raw=found["raw"], ratio_at_most=10.0)


async def _backfill(store: WritableStore, happenings: Happenings, load: Load) -> Metric:
    number = 0

    async def ours() -> list[float]:
        nonlocal number
        number += 1
        country = f'traits.country == "JP" && traits.tier > {number % 3}'
        seconds = _fill_segment(store, happenings, f"filled_{number}", country)
        return [load.customers / seconds]

    async def raw() -> list[float]:
        program, row = cel.compile('traits.country == "JP" && traits.tier > 1'), dict[str, Row]()
        context = cel.Context()
        context.set_variable_resolver(row.get)
        begun = perf_counter()
        with store.snapshot() as tables:
            for key, stored in tables.scan_stored(PROFILES, b""):
                traits = store.codec.read(PROFILES, key, stored)["traits"]
                row["traits"] = {
                    "country": traits["country"]["shop"]["value"],
                    "tier": traits["tier"]["shop"]["value"],
                }
                program.execute(context)
        return [load.customers / (perf_counter() - begun)]

    found = await alternate(load.rounds, ours=ours, raw=raw)
    return Metric(found["ours"], "customers/s", raw=found["raw"], ratio_at_least=0.4)


def _backfill_windowed(store: WritableStore, happenings: Happenings, load: Load) -> float:
    """Fill a segment that counts signals in a window, of which some customers have one."""
    known = len(happenings.entries)
    happenings.signals(load.customers // CUSTOMERS_A_SIGNAL, customers=load.customers)
    fold_batch(store, happenings.entries[known:])
    windowed = f'count("{SIGNAL_NAMES[1]}", "30d") >= 1'
    return load.customers / _fill_segment(store, happenings, "windowed", windowed)


def _fill_segment(
    store: WritableStore, happenings: Happenings, name: str, expression: str
) -> float:
    """Define a segment, fill it beside and let it take effect; how many seconds that takes."""
    known = len(happenings.entries)
    happenings.segment(name, expression)
    defined, activated = happenings.entries[known : known + 1], happenings.entries[known + 1 :]
    begun = perf_counter()
    fold_batch(store, defined)
    while fill_slice(store):
        pass
    fold_batch(store, activated)
    return perf_counter() - begun


def _expire(store: WritableStore, happenings: Happenings, load: Load) -> Metric:
    """Time the fold of the clock's event at which a customer's window closes, to its commit."""
    known = len(happenings.entries)
    happenings.signals(load.counts, customers=load.customers)
    fold_batch(store, happenings.entries[known:])
    samples = []
    for number in range(load.counts):
        at = START + timedelta(days=1, seconds=known + number + 1)
        entry: Entry = happenings.advance(at)
        begun = perf_counter()
        fold_batch(store, [entry])
        samples.append((perf_counter() - begun) * MILLISECONDS)
    return Metric(sorted(samples)[int(len(samples) * 0.99)], "ms")
