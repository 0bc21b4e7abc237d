"""The parts that can be measured, by name. A new part is a new file and a line here.

The command line asks for them by name; names of metrics are unique over all parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.measuring import Metrics, Part


def _actors() -> Part:
    from benchmarks.actors import measure

    return measure


def _identity() -> Part:
    from benchmarks import identity, resolution

    async def measure(quick: bool) -> Metrics:  # noqa: FBT001  # as every part is called
        return {**await identity.measure(quick), **await resolution.measure(quick)}

    return measure


def _log() -> Part:
    from benchmarks.log import measure

    return measure


def _projection() -> Part:
    from benchmarks.projection import measure

    return measure


def _query() -> Part:
    from benchmarks import query, verifying

    async def measure(quick: bool) -> Metrics:  # noqa: FBT001  # as every part is called
        return {**await query.measure(quick), **await verifying.measure(quick)}

    return measure


def _segments() -> Part:
    from benchmarks.segments import measure

    return measure


PARTS: Mapping[str, Callable[[], Part]] = {
    "log": _log,
    "actors": _actors,
    "identity": _identity,
    "projection": _projection,
    "segments": _segments,
    "query": _query,
}
"""Each part is imported only when it is asked for: some need what others do not."""
