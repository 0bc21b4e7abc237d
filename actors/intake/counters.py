"""What intake counts, for status and metrics: numbers by source and reason, never by person."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class CountersReport:
    """The counters at one moment; keys of `declined` are `<source>/<reason>`."""

    received: int
    redelivered: int
    recorded: int
    duplicates: int
    retried: int
    in_flight: int
    declined: dict[str, int]
    dead_lettered: dict[str, int]

    def as_dict(self) -> dict[str, int | dict[str, int]]:
        """Give the counters as plain values."""
        return asdict(self)


@dataclass(slots=True)
class IntakeCounters:
    """Count since the worker started.

    `received` and `redelivered` count messages, `in_flight` those not settled yet, the others
    items; `retried` counts messages that were given back to be delivered again.
    """

    received: int = 0
    redelivered: int = 0
    recorded: int = 0
    duplicates: int = 0
    retried: int = 0
    in_flight: int = 0
    declined: Counter[tuple[str, str]] = field(default_factory=Counter)
    dead_lettered: Counter[str] = field(default_factory=Counter)

    def report(self) -> CountersReport:
        """Give the counters as they are now."""
        return CountersReport(
            received=self.received,
            redelivered=self.redelivered,
            recorded=self.recorded,
            duplicates=self.duplicates,
            retried=self.retried,
            in_flight=self.in_flight,
            declined={f"{source}/{reason}": n for (source, reason), n in self.declined.items()},
            dead_lettered=dict(self.dead_lettered),
        )
