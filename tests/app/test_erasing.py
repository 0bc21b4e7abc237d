"""The steward erases, whenever it is killed; then there is one receipt to be checked (R14)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.packing import pack, schema
from app.erasing import ErasureDuty, ErasureTimes
from domain.commands import EraseCustomer
from domain.erasure_events import CustomerErased
from domain.ids import RecordId
from domain.record import unborn
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.memory import MemoryKeyStore
from eventlog.keys.port import NoKey
from eventlog.memory import MemoryEventLog
from eventlog.port import EventLog, Head
from eventlog.snapshots.memory import MemorySnapshotStore
from eventlog.snapshots.port import Snapshot
from projections.erasures import erasure_of
from projections.fold import fold_batch, row_codec
from projections.memory import MemoryTables
from projections.row_keys import with_keys
from projections.rows import RowCodec
from projections.tables import ReadTables
from replay.erasure_receipt import receipt_of
from replay.verify import verify
from tests.actors.house import (
    HandClock,
    Workspace,
    identify,
    loyalty,
    person,
    track,
    user,
    workspace,
)

A, B = user("a"), loyalty("b")
TIMES = ErasureTimes(intake=10.0, dead_letters=20.0, turn_over=0.0, has_replicas=True)
KEY = Ed25519PrivateKey.generate()


class Killed(Exception):
    """The steward was killed here."""


@dataclass
class Kills:
    """Kills the steward at one of the places that it passes, counted from 1."""

    at: int = 0
    passed: int = 0

    def pass_by(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            raise Killed

    def around(self, step: Callable[..., Any]) -> Callable[..., Any]:
        async def carried_out(*args: Any, **said: Any) -> Any:
            self.pass_by()
            done = await step(*args, **said)
            self.pass_by()
            return done

        return carried_out


class ReadSide:
    """A read side in memory, which folds when it is told to."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.tables = MemoryTables(row_codec(log))

    @property
    def codec(self) -> RowCodec:
        return self.tables.codec

    @contextmanager
    def snapshot(self) -> Iterator[ReadTables]:
        yield self.tables

    async def catch_up(self) -> None:
        after = self.tables.checkpoint.revision
        async for entries in self._log.read(after_revision=after):

            async def fold() -> None:
                fold_batch(self.tables, entries)  # noqa: B023  # done before the next

            await with_keys(self.codec, fold)


@dataclass
class Scene:
    """A customer of two records who asked to be erased, and what the steward works on."""

    house: Workspace
    keys: KeyRing
    snapshots: MemorySnapshotStore
    read_side: ReadSide
    customer: RecordId
    records: list[RecordId]

    def duty(self, kills: Kills | None = None, **said: Any) -> ErasureDuty:
        """Start a steward that knows nothing yet."""
        kills = kills or Kills()
        log, keys, snapshots = self.house.memory, self.keys, self.snapshots
        return ErasureDuty(
            _killable(log, kills, "append"),
            _killable(keys, kills, "destroy"),
            _killable(snapshots, kills, "remove"),
            read_sides=said.pop("read_sides", [self.read_side]),
            clock=self.house.clock,
            signing_key=KEY,
            times=said.pop("times", TIMES),
        )

    async def assert_erased(self) -> CustomerErased:
        """Require that all is done, once."""
        await self.read_side.catch_up()
        assert set((await self.keys.load(self.records)).values()) == {NoKey.DESTROYED}
        assert not await self.snapshots.load(self.records, schema=schema())
        events = await self.house.events()
        [erased] = [e.body for e in events if isinstance(e.body, CustomerErased)]
        erasure = erasure_of(self.read_side.tables, self.customer)
        assert erasure is not None
        assert erasure.receipt == erased
        return erased


class _Killable:
    """A port of which one step may be the last thing that is called."""

    def __init__(self, port: Any, kills: Kills, step: str) -> None:
        self._port = port
        self._kills = kills
        self._step = step

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name == "store":
            return _Killable(found, self._kills, "turn_over")
        return self._kills.around(found) if name == self._step else found


def _killable(port: Any, kills: Kills, step: str) -> Any:
    return _Killable(port, kills, step)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    keys = KeyRing(MemoryKeyStore())
    async with workspace(log=MemoryEventLog("test", keys=keys)) as house:
        first = await house.done(track("m1", A))
        second = await house.done(track("m2", B))
        await house.done(identify(A, B))
        records = [RecordId(str(done.customer_id)) for done in (first, second)]
        snapshots = MemorySnapshotStore(keys)
        await snapshots.save(
            [Snapshot(r, schema(), Head(1, 1, bytes(32)), pack(unborn(r))) for r in records]
        )
        await house.done(EraseCustomer(**person((A,), {})))
        read_side = ReadSide(house.memory)
        await read_side.catch_up()
        yield Scene(house, keys, snapshots, read_side, records[0], records)


STEPS = 8
"""Before and after each of: keys, snapshots, turn-over, the word in the log."""


@pytest.mark.parametrize("place", range(1, STEPS + 1))
async def test_killed_between_any_two_steps_another_steward_goes_on(place: int) -> None:
    async with scene() as found:
        with pytest.raises(Killed):
            await found.duty(Kills(at=place)).do()
        await found.duty().do()
        await found.assert_erased()
        await found.duty().do()  # and nothing is left to do, or done twice
        await found.assert_erased()


async def test_the_steps_are_as_many_as_are_killed() -> None:
    async with scene() as found:
        kills = Kills()
        await found.duty(kills).do()
        assert kills.passed == STEPS


async def test_the_receipt_counts_and_is_signed_and_the_log_still_verifies() -> None:
    async with scene() as found:
        await found.duty().do()
        erased = await found.assert_erased()
        assert (erased.identifiers, len(erased.records), erased.read_sides) == (2, 2, 1)
        assert erased.intake_gone_by - erased.erased_at == timedelta(seconds=10)
        assert erased.dead_letters_gone_by - erased.erased_at == timedelta(seconds=20)
        receipt = receipt_of("test", found.customer, erased)
        assert receipt.is_signed_by(KEY.public_key())
        assert not receipt.is_signed_by(Ed25519PrivateKey.generate().public_key())
        forged = receipt.model_copy(update={"events": receipt.events + 1})
        assert not forged.is_signed_by(KEY.public_key())
        proof = await verify(found.house.memory, found.read_side.tables)
        assert proof.holds, (proof.faults, proof.first)


async def test_keys_are_not_turned_over_again_for_what_was_told_and_not_folded_yet() -> None:
    async with scene() as found:
        kills = Kills()
        duty = found.duty(kills)
        await duty.do()
        assert kills.passed == STEPS
        await duty.do()
        assert kills.passed == STEPS
        await found.read_side.catch_up()
        await duty.do()
        await found.assert_erased()


async def test_it_waits_until_every_read_side_has_let_go() -> None:
    async with scene() as found:
        late = ReadSide(found.house.memory)
        duty = found.duty(read_sides=[found.read_side, late])
        await duty.do()
        assert not await found.house.count(CustomerErased)
        await late.catch_up()
        await duty.do()
        await found.assert_erased()


async def test_destroyed_keys_rest_in_replicas_no_longer_than_is_said() -> None:
    async with scene() as found:
        hour = ErasureTimes(intake=1.0, dead_letters=1.0, turn_over=3_600.0, has_replicas=True)
        kills = Kills()
        waiting = found.duty(kills, times=hour)
        await waiting.do()
        steps = kills.passed
        await waiting.do()
        assert kills.passed == steps  # what was destroyed is not destroyed again and again
        assert set((await found.keys.load(found.records)).values()) == {NoKey.DESTROYED}
        assert not await found.house.count(CustomerErased)
        later = HandClock()
        later.ahead = timedelta(seconds=1_900)
        found.house.clock = later
        await found.duty(times=hour).do()
        await found.assert_erased()
