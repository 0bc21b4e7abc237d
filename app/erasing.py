"""Carries out what `EraseCustomer` asked for: a duty of the steward, resumable at every step (R14).

Keys first, for with them everything sealed is gone at once; then snapshots; then it waits until
every read side has let go, and until the keys have left the disks of all servers. What is left to
do stands in the log: killed anywhere, it is done again from the start, and each step may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.clock import Clock
from actors.clock_turning import STEWARD
from domain.erasure_events import CustomerErased
from domain.ids import CommandId, DecisionId, EventId, RecordId, derived_id, record_stream
from eventlog.errors import LogUnavailable
from eventlog.keys.key_ring import KeyRing
from eventlog.port import Attempt, Conflict, Draft, EventLog, Stored
from eventlog.snapshots.port import SnapshotStore
from projections.erasures import Erasure, pending
from projections.row_keys import Readable
from replay.erasure_receipt import ErasureReceipt, sign_receipt

ERASURES_AT_ONCE_MAX = 200
ERASURES_PENDING_MAX = 10_000
"""The oldest ones that wait for a turn-over; those behind them are seen after it."""

APPEND_SECONDS_MAX = 10.0
UNSIGNED = {"public_key": "0" * 64, "signature": "0" * 128}

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ErasureTimes:
    """Within which times data leaves what is not sealed under a person's key, in seconds.

    `turn_over` is how long destroyed keys may rest in the logs of replicas; without replicas they
    do not rest at all.
    """

    intake: float
    dead_letters: float
    turn_over: float
    has_replicas: bool


class ErasureDuty:
    """Carry out the erasures of one workspace; the first of its read sides leads."""

    def __init__(
        self,
        log: EventLog,
        keys: KeyRing,
        snapshots: SnapshotStore,
        *,
        read_sides: Sequence[Readable],
        clock: Clock,
        signing_key: Ed25519PrivateKey,
        times: ErasureTimes,
    ) -> None:
        self._log = log
        self._keys = keys
        self._snapshots = snapshots
        self._read_sides = tuple(read_sides)
        self._clock = clock
        self._signing_key = signing_key
        self._times = times
        self._sealed_off: set[RecordId] = set()
        self._told: set[RecordId] = set()

    async def do(self) -> None:
        """Go on with every erasure that is not complete. Raises `LogError` and `ReadSideError`."""
        with self._read_sides[0].snapshot() as tables:
            waiting = list(islice(pending(tables), ERASURES_PENDING_MAX))
        self._sealed_off &= {erasure.root for erasure in waiting}
        self._told &= self._sealed_off
        fresh = [erasure for erasure in waiting if erasure.root not in self._sealed_off]
        if fresh:
            await self._seal_off(fresh[:ERASURES_AT_ONCE_MAX])
        let_go = self._revision_of_all_read_sides() if waiting else 0
        begun = self._sealed_off - self._told  # of what was told the read side may not have heard
        done = [e for e in waiting if e.root in begun and e.revision <= let_go]
        if not done or not self._is_turn_over_due(done):
            return
        await self._keys.store.turn_over()
        for erasure in done:
            await self._complete(erasure)
            self._told.add(erasure.root)

    async def _seal_off(self, erasures: Sequence[Erasure]) -> None:
        """Destroy keys and snapshots; a steward that knows that it did need not do it again."""
        records = [record for erasure in erasures for record in erasure.records]
        await self._keys.destroy(records)
        await self._snapshots.remove(records)
        self._sealed_off |= {erasure.root for erasure in erasures}

    def _revision_of_all_read_sides(self) -> int:
        """Say up to where every read side has folded."""
        reached = []
        for read_side in self._read_sides:
            with read_side.snapshot() as tables:
                reached.append(tables.checkpoint.revision)
        return min(reached)

    def _is_turn_over_due(self, done: Sequence[Erasure]) -> bool:
        """Whether destroyed keys have rested long enough: a turn-over serves all that wait.

        It begins at half of the time within which they are to be gone, and has the other half.
        """
        if not self._times.has_replicas:
            return True
        oldest = min(erasure.requested_at for erasure in done)
        rested = self._clock.recorded_now() - oldest
        return rested * 2 >= timedelta(seconds=self._times.turn_over)

    async def _complete(self, erasure: Erasure) -> None:
        """Say in the log that it is done, unless that was said."""
        stream = record_stream(erasure.root)
        entries = await self._log.load(stream)
        if any(entry.event and isinstance(entry.event.body, CustomerErased) for entry in entries):
            return
        receipt = await self._receipt(erasure)
        draft = self._draft(erasure, receipt.event(), recorded_at=self._clock.recorded_now())
        attempt = Attempt((draft,), {stream: entries[-1].head})
        outcome = await self._log.append(attempt, timeout_seconds=APPEND_SECONDS_MAX)
        match outcome:
            case Stored():
                _log.info("customer_erased", customer_id=erasure.root, revision=outcome.revision)
            case Conflict():
                _log.info("erasure_completed_elsewhere", customer_id=erasure.root)
            case _:
                raise LogUnavailable("the log did not take the end of an erasure")

    async def _receipt(self, erasure: Erasure) -> ErasureReceipt:
        heads = await self._log.last_heads(map(record_stream, erasure.records))
        now = self._clock.now()
        unsigned = ErasureReceipt(
            workspace=self._log.workspace,
            customer=erasure.root,
            records=erasure.records,
            events=sum(head.version for head in heads.values()),
            identifiers=erasure.identifiers,
            read_sides=len(self._read_sides),
            requested_revision=erasure.revision,
            requested_at=erasure.requested_at,
            erased_at=now,
            intake_gone_by=now + timedelta(seconds=self._times.intake),
            dead_letters_gone_by=now + timedelta(seconds=self._times.dead_letters),
            **UNSIGNED,
        )
        return sign_receipt(unsigned, self._signing_key)

    def _draft(self, erasure: Erasure, body: CustomerErased, *, recorded_at: datetime) -> Draft:
        command_id = CommandId(derived_id(erasure.root, "erased"))
        return Draft(
            stream=record_stream(RecordId(erasure.root)),
            event_id=EventId(self._clock.new_id()),
            body=body,
            happened_at=recorded_at,
            recorded_at=recorded_at,
            command_id=command_id,
            correlation_id=command_id,
            decision_id=DecisionId(self._clock.new_id()),
            part=1,
            parts=1,
            auth_id=STEWARD,
        )
