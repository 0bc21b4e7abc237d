"""A metric beside its raw limit, and the rounds that measure both.

Every part measures through this module. The machine is never quiet, so ours and raw take turns in
short rounds, and medians are compared: what disturbs the one disturbs the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import TypedDict

DIGITS = 4
"""Significant digits in a report; the measurements are good to two."""

ROUNDS_MIN = 3
"""Rounds that are measured however slow the machine is."""

MILLISECONDS = 1_000.0

Operation = Callable[[], Awaitable[Sequence[float]]]
"""One round of a measurement: its samples, in the metric's unit."""


class MetricFields(TypedDict):
    """A metric as JSON; raw and ratio are null where there is no raw limit."""

    value: float
    unit: str
    raw: float | None
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One number with its unit, the same of its raw limit, and what the ratio should be.

    `beside` holds further numbers that are reported with it, by name.
    """

    value: float
    unit: str
    raw: float | None = None
    ratio_at_least: float | None = None
    ratio_at_most: float | None = None
    beside: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """The value as a multiple of its raw limit."""
        return self.value / self.raw if self.raw else None

    @property
    def is_as_wanted(self) -> bool:
        """Whether the ratio lies within its bounds."""
        ratio = self.ratio
        if ratio is None:
            return True
        low, high = self.ratio_at_least, self.ratio_at_most
        return (low is None or ratio >= low) and (high is None or ratio <= high)

    def as_fields(self) -> MetricFields:
        """Give the metric as JSON, with what is reported beside it under its own names."""
        fields = MetricFields(
            value=rounded(self.value),
            unit=self.unit,
            raw=None if self.raw is None else rounded(self.raw),
            ratio=None if self.ratio is None else rounded(self.ratio),
        )
        beside = {name: rounded(number) for name, number in self.beside.items()}
        return fields | beside  # type: ignore[return-value]  # names beside are the part's own


Metrics = Mapping[str, Metric]
Part = Callable[[bool], Coroutine[None, None, Metrics]]
"""Measures one part; true asks for a quick run."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """How many rounds are measured; once the seconds are over, only as many as must be."""

    number: int
    seconds_max: float


async def alternate(rounds: Rounds, **operations: Operation) -> dict[str, float]:
    """Run the operations in turn, so many rounds after one to warm up; the median of each.

    Every other round runs in the opposite order, so that none always comes after the same one.
    """
    samples: dict[str, list[float]] = {name: [] for name in operations}
    begun = perf_counter()
    for number in range(rounds.number + 1):
        if number > ROUNDS_MIN and perf_counter() - begun > rounds.seconds_max:
            break
        names = list(operations) if number % 2 else list(reversed(operations))
        for name in names:
            found = await operations[name]()
            if number:
                samples[name].extend(found)
    return {name: median(found) for name, found in samples.items()}


async def rate_of(count: int, work: Awaitable[object]) -> list[float]:
    """Do a piece of work that handles so many things; one sample, things a second."""
    begun = perf_counter()
    await work
    return [count / (perf_counter() - begun)]


async def milliseconds_of(work: Awaitable[object]) -> float:
    """Do a piece of work; how long it took."""
    begun = perf_counter()
    await work
    return (perf_counter() - begun) * MILLISECONDS


def rounded(number: float) -> float:
    """Keep the digits that mean something."""
    return float(f"{number:.{DIGITS}g}")
