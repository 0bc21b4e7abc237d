"""The parts that can be measured, by name. A new part is a new file and a line here.

The command line asks for them by name; names of metrics are unique over all parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.measuring import Part


def _actors() -> Part:
    from benchmarks.actors import measure

    return measure


def _identity() -> Part:
    from benchmarks.identity import measure

    return measure


def _log() -> Part:
    from benchmarks.log import measure

    return measure


def _projection() -> Part:
    from benchmarks.projection import measure

    return measure


def _segments() -> Part:
    from benchmarks.segments import measure

    return measure


def _identity() -> Part:
    from benchmarks.resolution import measure

    return measure


PARTS: Mapping[str, Callable[[], Part]] = {
    "identity": _identity,
    "log": _log,
    "actors": _actors,
    "identity": _identity,
    "projection": _projection,
    "segments": _segments,
}
"""Each part is imported only when it is asked for: some need what others do not."""
