"""The parts that can be measured, by name. A new part is a new file and a line here.

The command line asks for them by name; names of metrics are unique over all parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.measuring import Part


def _log() -> Part:
    from benchmarks.log import measure

    return measure


def _projection() -> Part:
    from benchmarks.projection import measure

    return measure


def _segments() -> Part:
    from benchmarks.segments import measure

    return measure


PARTS: Mapping[str, Callable[[], Part]] = {
    "log": _log,
    "projection": _projection,
    "segments": _segments,
}
"""Each part is imported only when it is asked for: some need what others do not."""
