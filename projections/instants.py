"""Times as rows hold them: UTC texts of one width, so that texts sort as the times do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EARLIEST = datetime.min.replace(tzinfo=UTC)
SECONDS_A_DAY = 86_400
_LATEST = datetime.max.replace(tzinfo=UTC)


def instant_text(time: datetime) -> str:
    """Write an aware time; one that UTC cannot express is moved to the nearest that it can."""
    try:
        utc = time.astimezone(UTC)
    except OverflowError:
        utc = _EARLIEST if time.year == 1 else _LATEST
    return utc.isoformat(timespec="microseconds")


def instant(text: str) -> datetime:
    """Read a time that `instant_text` wrote."""
    return datetime.fromisoformat(text)


def microseconds(time: datetime) -> int:
    """Give an aware time in microseconds of UTC since the year 1, never negative."""
    try:
        utc = time if time.tzinfo is UTC else time.astimezone(UTC)
    except OverflowError:
        utc = _EARLIEST if time.year == 1 else _LATEST
    since = utc - _EARLIEST
    return (since.days * SECONDS_A_DAY + since.seconds) * 1_000_000 + since.microseconds


def time_of(count: int) -> datetime:
    """Give the time that `microseconds` counted."""
    return _EARLIEST + timedelta(microseconds=count)
