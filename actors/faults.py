"""Say where an unforeseen error arose, without what it held: its text may be personal."""

from __future__ import annotations

from traceback import extract_tb

FRAMES_MAX = 8


def describe(error: Exception) -> dict[str, str | list[str]]:
    """Name an error's class and the innermost places that it came through."""
    frames = extract_tb(error.__traceback__)[-FRAMES_MAX:]
    places = [f"{frame.name}:{frame.lineno}" for frame in frames]
    return {"error": type(error).__name__, "places": places}
