"""The steward of `koseki up`: its duties, and what they stand on. Built in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from actors.clock import Clock
from actors.clock_turning import STEWARD, let_time_pass
from actors.intake.jetstream import LEAVES_WITHIN_SECONDS
from actors.intake.letter_seal import DAY_PARTS, OutdatedLetters
from actors.log_clock import LogClock
from actors.rules import RulesKeeper
from actors.steward import Duty, Steward
from app.bootstrap import (
    begin,
    open_clock,
    open_connection,
    open_log,
    open_read_side,
)
from app.closed import accepted_losses
from app.dead_letters import open_letter_keys
from app.erasing import ErasureDuty, ErasureTimes
from app.integrity import open_guard
from app.publishing import OutPublisher
from app.settings import Settings, ensure_attestation_key
from domain.commands import ActivateSegment
from domain.errors import NotFound, Refused
from eventlog.connection import Connection
from eventlog.guard import LogGuard
from eventlog.jetstream import JetStreamEventLog
from eventlog.out_stream import OutStream
from eventlog.snapshots.jetstream import JetStreamSnapshotStore
from projections.instants import time_of
from projections.segments.explaining import ready_for_activation
from projections.segments.timers import first_due
from projections.store import Store

CLOCK_SECONDS = 0.1
"""How often it is looked whether time has to pass: at most ten events a second (R15)."""

ACTIVATION_SECONDS = 0.1
"""How often it is looked whether a definition waits."""

ACTIVATION_SECONDS_MAX = 10.0
PUBLISHING_SECONDS = 0.05
ERASURE_SECONDS = 0.25
"""How often it is looked whether somebody is to be erased."""

LETTERS_SECONDS_MAX = 3_600.0
"""How often it is looked whether a day of dead letters is over."""

_log = structlog.get_logger()


class StewardComponent:
    """The steward, as a process runs it."""

    def __init__(self, steward: Steward, clock: LogClock, guard: LogGuard) -> None:
        self._steward = steward
        self._clock = clock
        self._guard = guard

    async def run(self) -> None:
        """See to every duty for ever."""
        await self._steward.run()

    async def status(self) -> dict[str, Any]:
        """Say how often each duty was done, and what time it is."""
        clock = self._clock.recorded_now().isoformat()
        duties = self._steward.status()
        return {"is_ready": True, "clock": clock, "duties": duties, **self._guard.status()}


async def build_steward(config: bytes, _number: int) -> StewardComponent:
    """Build the workspace's steward."""
    settings = begin(config)
    connection = await open_connection(settings, "steward", role="steward")
    log = await open_log(connection, settings)
    store = await open_read_side(log, settings.read_side_folder)
    guard = open_guard(connection, log, settings, checkpoint=lambda: store.checkpoint)
    await guard.start()
    clock = await open_clock(log, guard)
    rules = RulesKeeper(log, clock, on_damage=guard.condemn)
    out = OutStream(connection, settings.workspace)
    await out.open(replicas=settings.replicas)
    publisher = OutPublisher(
        out, store, workspace=settings.workspace, losses=accepted_losses(settings)
    )
    read_sides = [store, *[await open_read_side(log, f) for f in settings.read_side_folders[1:]]]
    erasing = build_erasing(settings, connection, log, read_sides=read_sides, clock=clock)
    outdated = OutdatedLetters(await open_letter_keys(connection, settings))

    async def letters() -> None:
        await outdated.destroy(datetime.now(UTC))

    letters_seconds = min(LETTERS_SECONDS_MAX, settings.dead_letters_kept_seconds / DAY_PARTS / 2)
    duties = [
        Duty("clock", CLOCK_SECONDS, ClockDuty(log, store, clock).do),
        Duty("activation", ACTIVATION_SECONDS, ActivationDuty(rules, store, clock).do),
        Duty("publishing", PUBLISHING_SECONDS, publisher.do),
        Duty("erasure", ERASURE_SECONDS, erasing.do),
        Duty("dead-letters", letters_seconds, letters),
    ]
    return StewardComponent(Steward(duties), clock, guard)


def build_erasing(
    settings: Settings,
    connection: Connection,
    log: JetStreamEventLog,
    *,
    read_sides: Sequence[Store],
    clock: Clock,
) -> ErasureDuty:
    """Build what carries out erasures; the first read side leads."""
    assert log.keys is not None
    times = ErasureTimes(
        intake=settings.intake_kept_seconds + LEAVES_WITHIN_SECONDS,
        dead_letters=settings.dead_letters_kept_seconds,
        turn_over=settings.turn_over_seconds,
        has_replicas=settings.replicas > 1,
    )
    return ErasureDuty(
        log,
        log.keys,
        JetStreamSnapshotStore(connection, settings.workspace, keys=log.keys),
        read_sides=read_sides,
        clock=clock,
        signing_key=ensure_attestation_key(settings),
        times=times,
    )


class ClockDuty:
    """Let time pass where a timer of the read side is due and nothing has moved the log's clock."""

    def __init__(self, log: JetStreamEventLog, store: Store, clock: LogClock) -> None:
        self._log = log
        self._store = store
        self._clock = clock

    async def do(self) -> None:
        """Advance the clock if that is due. Raises `LogError` or `ReadSideError`."""
        with self._store.snapshot() as tables:
            due = first_due(tables)
        if due is not None and not self._clock.is_manual:
            await let_time_pass(self._log, time_of(due), clock=self._clock)


class ActivationDuty:
    """Let the definitions of segments take effect that wait for nothing else (R16).

    Of several stewards each may try: the rules refuse what was activated, or defined anew, already.
    """

    def __init__(self, rules: RulesKeeper, store: Store, clock: Clock) -> None:
        self._rules = rules
        self._store = store
        self._clock = clock

    async def do(self) -> None:
        """Activate what is ready. Raises `DomainError` or `ReadSideError`."""
        with self._store.snapshot() as tables:
            ready = ready_for_activation(tables)
        for segment, definition in ready:
            command = ActivateSegment(
                command_id=self._clock.new_id(),
                auth_id=STEWARD,
                issued_at=self._clock.recorded_now(),
                deadline=self._clock.now() + timedelta(seconds=ACTIVATION_SECONDS_MAX),
                segment=segment,
                definition=definition,
            )
            try:
                await self._rules.execute(command)
            except (NotFound, Refused) as error:  # the rules have moved on: it is looked again
                _log.info("segment_not_activated", segment=segment, reason=error.reason)
