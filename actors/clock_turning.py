"""Turn the log's clock (R15): by hand where it is manual, by the steward where time just passes."""

from __future__ import annotations

from datetime import datetime

from actors.clock import Clock
from actors.log_clock import last_entry
from domain.ids import CLOCK_STREAM, CommandId, DecisionId, EventId
from domain.workspace_events import ClockAdvanced
from eventlog.errors import LogUnavailable
from eventlog.port import EMPTY, Attempt, Conflict, Draft, Entry, EventLog, Stored

APPEND_SECONDS_MAX = 10.0
TRIES_MAX = 16
STEWARD = "steward"
OPERATOR = "operator"


class ClockNotTurned(Exception):
    """Why the clock cannot be turned like that."""


async def begin_manual_clock(log: EventLog, start: datetime, *, clock: Clock) -> None:
    """Make the clock of a new log a manual one; an earlier such log only goes on.

    Raises `ClockNotTurned` for a log that has begun with the machine's clock, and `LogError`.
    """
    turned = await _last_turn(log)
    if turned is not None and _body(turned).is_manual:
        return
    if await last_entry(log) is not None:
        raise ClockNotTurned("only a new workspace can have a manual clock")
    if not await _turn(log, turned, start, is_manual=True, auth_id=OPERATOR, clock=clock):
        raise LogUnavailable("the log did not take the start of the clock")


async def turn_manual_clock(log: EventLog, to: datetime, *, clock: Clock) -> int:
    """Turn a manual clock on to a time; give the revision at which it stands there.

    Raises `ClockNotTurned` and `LogError`.
    """
    for _ in range(TRIES_MAX):
        turned = await _last_turn(log)
        if turned is None or not _body(turned).is_manual:
            raise ClockNotTurned("the clock of this workspace is not turned by hand")
        if _body(turned).to == to:
            return turned.revision
        if _body(turned).to > to:
            raise ClockNotTurned("the clock stands at a later time already")
        revision = await _turn(log, turned, to, is_manual=True, auth_id=OPERATOR, clock=clock)
        if revision:
            return revision
    raise LogUnavailable("the clock is being turned by somebody else all the time")


async def let_time_pass(log: EventLog, due: datetime, *, clock: Clock) -> bool:
    """Advance a log whose clock has not reached an instant that the machine's clock has.

    Give whether this call did it; a manual clock is left alone, and of several stewards one wins.
    Raises `LogError`.
    """
    now = clock.now()
    if due > now:
        return False
    turned = await _last_turn(log)
    if turned is not None and (_body(turned).is_manual or _body(turned).to >= due):
        return False
    return bool(await _turn(log, turned, now, is_manual=False, auth_id=STEWARD, clock=clock))


async def _last_turn(log: EventLog) -> Entry | None:
    return (await log.last_entries([CLOCK_STREAM])).get(CLOCK_STREAM)


def _body(turned: Entry) -> ClockAdvanced:
    if turned.event is None or not isinstance(turned.event.body, ClockAdvanced):
        raise LogUnavailable("the last turn of the clock cannot be read")
    return turned.event.body


async def _turn(
    log: EventLog,
    turned: Entry | None,
    to: datetime,
    *,
    is_manual: bool,
    auth_id: str,
    clock: Clock,
) -> int:
    """Append one turn on what was read; give its revision, 0 where somebody else came first."""
    command_id = CommandId(clock.new_id())
    draft = Draft(
        stream=CLOCK_STREAM,
        event_id=EventId(clock.new_id()),
        body=ClockAdvanced(to=to, is_manual=is_manual),
        happened_at=to,
        recorded_at=to,
        command_id=command_id,
        correlation_id=command_id,
        decision_id=DecisionId(clock.new_id()),
        part=1,
        parts=1,
        auth_id=auth_id,
    )
    head = EMPTY if turned is None else turned.head
    attempt = Attempt((draft,), {CLOCK_STREAM: head})
    outcome = await log.append(attempt, timeout_seconds=APPEND_SECONDS_MAX)
    match outcome:
        case Stored():
            return outcome.revision
        case Conflict():
            return 0
        case _:
            raise LogUnavailable("the log did not take the turn of the clock")
