"""The part `projection`: folding a log into LMDB with 50 segments standing, rows sealed.

The log is in memory, so what is measured is the fold; the raw limit does for each event what any
projector of sealed rows must: unseal one body, seal one row, put it, in transactions of one size.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import lmdb
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.happenings import Happenings
from benchmarks.measuring import Metric, Metrics, Rounds, alternate, rate_of
from domain.ids import RecordId
from eventlog.keys.port import DataKey
from eventlog.port import Entry
from projections.fold import SEALED, fold_batch
from projections.rows import SealedRows
from projections.store import Store

BATCH_EVENTS = 5_000
BODY_BYTES = 300
NONCE_BYTES = 12


class DerivedKeys:
    """A key for every record, at hand at once."""

    def key_of(self, record_id: RecordId) -> DataKey:
        """Give a record's key."""
        return DataKey(sha256(record_id.encode()).digest())

    async def fetch(self, record_ids: Iterable[RecordId]) -> None:
        """Load nothing."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much is measured."""

    rounds: Rounds = Rounds(5, seconds_max=240.0)  # noqa: RUF009  # frozen
    events: int = 100_000
    customers: int = 20_000
    segments: int = 50


QUICK = Load(rounds=Rounds(3, seconds_max=60.0), events=10_000, customers=2_000)


async def measure(is_quick: bool) -> Metrics:  # noqa: FBT001  # what every part takes
    """Measure the part."""
    return await measure_load(QUICK if is_quick else Load())


async def measure_load(load: Load) -> Metrics:
    """Measure with a load of one's own."""
    happenings = Happenings()
    happenings.rules()
    happenings.segments(load.segments)
    happenings.signals(load.events, customers=load.customers)
    entries = happenings.entries

    async def ours() -> list[float]:
        return await rate_of(len(entries), asyncio.to_thread(_project, entries))

    async def raw() -> list[float]:
        return await rate_of(len(entries), asyncio.to_thread(_put_sealed, len(entries)))

    found = await alternate(load.rounds, ours=ours, raw=raw)
    metric = Metric(found["ours"], "events/s", raw=found["raw"], ratio_at_least=0.3)
    return {"project_events_per_second": metric}


def _project(entries: list[Entry]) -> None:
    with TemporaryDirectory() as folder:
        store = Store.open_writer(Path(folder), SealedRows(SEALED, DerivedKeys()))
        for first in range(0, len(entries), BATCH_EVENTS):
            fold_batch(store, entries[first : first + BATCH_EVENTS])
        store.close()


def _put_sealed(events: int) -> None:
    key = AESGCM(bytes(32))
    nonce = bytes(NONCE_BYTES)
    body = key.encrypt(nonce, os.urandom(BODY_BYTES), None)
    with TemporaryDirectory() as folder:
        environment = lmdb.open(folder, map_size=1 << 34)
        for first in range(0, events, BATCH_EVENTS):
            with environment.begin(write=True) as transaction:
                for number in range(first, min(events, first + BATCH_EVENTS)):
                    plain = key.decrypt(nonce, body, None)
                    place = sha256(number.to_bytes(8, "big")).digest()
                    transaction.put(place, key.encrypt(place[:NONCE_BYTES], plain, None))
        environment.close()
