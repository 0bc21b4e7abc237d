"""Times in rows: texts that sort as the times do, and never fail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from projections.instants import instant, instant_text

TIMES = st.datetimes(
    min_value=datetime(2, 1, 1),  # noqa: DTZ001  # the zone is drawn beside it
    max_value=datetime(9998, 1, 1),  # noqa: DTZ001
    timezones=st.timezones(),
)


@given(TIMES, TIMES)
def test_texts_sort_as_the_times_do(one: datetime, other: datetime) -> None:
    # Python calls an hour that a zone has twice unequal to itself elsewhere: compare in UTC.
    utc_one, utc_other = one.astimezone(UTC), other.astimezone(UTC)
    assert instant(instant_text(one)) == utc_one
    assert instant_text(one) == utc_one.isoformat(timespec="microseconds")
    assert (instant_text(one) < instant_text(other)) == (utc_one < utc_other)


def test_a_time_that_utc_cannot_express_is_moved_to_the_nearest() -> None:
    east, west = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
    assert instant_text(datetime.min.replace(tzinfo=east)).startswith("0001-01-01T00:00:00")
    assert instant_text(datetime.max.replace(tzinfo=west)).startswith("9999-12-31T23:59:59")
