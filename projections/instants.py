"""Times as rows hold them: UTC texts of one width, so that texts sort as the times do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson

_EARLIEST = datetime.min.replace(tzinfo=UTC)
SECONDS_A_DAY = 86_400
_LATEST = datetime.max.replace(tzinfo=UTC)
_SECONDS_END = len("0001-01-01T00:00:00")


def instant_text(time: datetime) -> str:
    """Write an aware time; one that UTC cannot express is moved to the nearest that it can."""
    utc = _in_utc(time)
    # A fifth of what `isoformat` takes; it leaves out a fraction of zero.
    text = orjson.dumps(utc)[1:-1].decode()
    return text if utc.microsecond else f"{text[:_SECONDS_END]}.000000{text[_SECONDS_END:]}"


def instant(text: str) -> datetime:
    """Read a time that `instant_text` wrote."""
    return datetime.fromisoformat(text)


def microseconds(time: datetime) -> int:
    """Give an aware time in microseconds of UTC since the year 1, never negative."""
    since = _in_utc(time) - _EARLIEST
    return (since.days * SECONDS_A_DAY + since.seconds) * 1_000_000 + since.microseconds


def time_of(count: int) -> datetime:
    """Give the time that `microseconds` counted."""
    return _EARLIEST + timedelta(microseconds=count)


def _in_utc(time: datetime) -> datetime:
    """Give an aware time in UTC, or the nearest that UTC can express."""
    if time.tzinfo is UTC:
        return time
    try:
        return time.astimezone(UTC)
    except OverflowError:
        return _EARLIEST if time.year == 1 else _LATEST
