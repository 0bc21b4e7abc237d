"""Pages of what a customer did, the newest first; a token is the place of the last signal given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf import json_format

from domain.errors import Invalid
from domain.ids import RecordId
from koseki.v1 import query_service_pb2
from projections import timeline
from projections.instants import time_of
from projections.tables import ReadTables
from projections.timeline import TimedSignal
from services.answers import stamp

TOKEN_CHARACTERS_MAX = 256
_INSTANT_DIGITS = 18

SignalPlace = tuple[int, str]


@dataclass(frozen=True, slots=True)
class TimelineView:
    """Which signals are seen: of whom, of which names (none: all), and of when."""

    sources: frozenset[str]
    names: frozenset[str]
    start: int | None
    end: int | None
    before: SignalPlace | None

    def newest(
        self, tables: ReadTables, members: Iterable[RecordId], *, limit: int
    ) -> list[TimedSignal]:
        """Give the newest of them."""
        seen = [signal for signal in timeline.signals(tables, members) if self._sees(signal)]
        return seen[: -limit - 1 : -1]

    def _sees(self, signal: TimedSignal) -> bool:
        return (
            signal.source in self.sources
            and (not self.names or signal.name in self.names)
            and (self.start is None or signal.at >= self.start)
            and (self.end is None or signal.at < self.end)
            and (self.before is None or (signal.at, signal.key) < self.before)
        )


def timeline_token(signal: TimedSignal) -> str:
    """Write the place of a signal."""
    return f"{signal.at:0{_INSTANT_DIGITS}d}.{signal.key}"


def read_timeline_token(token: str) -> SignalPlace | None:
    """Read a place; None for no token. Raises `Invalid`."""
    if not token:
        return None
    at, _, key = token.partition(".")
    is_instant = len(at) == _INSTANT_DIGITS and at.isascii() and at.isdigit()
    if not is_instant or len(token) > TOKEN_CHARACTERS_MAX:
        raise Invalid("INVALID_FIELD", "this is no token of a page")
    return int(at), key


def signal_message(signal: TimedSignal) -> query_service_pb2.TimelineSignal:
    """Write a signal."""
    message = query_service_pb2.TimelineSignal(
        source=signal.source,
        message_id=signal.message_id,
        kind=signal.kind,
        name=signal.name,
        happened_at=stamp(time_of(signal.at)),
        revision=signal.revision,
        record_id=signal.record_id,
    )
    json_format.ParseDict(signal.properties, message.properties)
    return message
