"""Pages of what a customer did, the newest first; a token is the place of the last signal given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from google.protobuf import json_format

from domain.errors import Invalid
from domain.ids import RecordId
from koseki.v1 import query_service_pb2
from projections import customers, timeline
from projections.instants import microseconds, time_of
from projections.rules import read_rules
from projections.tables import ReadTables
from projections.timeline import TimedSignal
from services.answers import stamp
from services.requests import read_time

PAGE_SIGNALS_MAX = 1_000
PAGE_SIGNALS_DEFAULT = 100
TOKEN_CHARACTERS_MAX = 256
_INSTANT_DIGITS = 18

SignalPlace = tuple[int, str]


@dataclass(frozen=True, slots=True)
class _View:
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


def timeline_page(
    tables: ReadTables,
    root: RecordId,
    request: query_service_pb2.ListTimelineRequest,
    *,
    is_open: bool,
) -> query_service_pb2.ListTimelineResponse:
    """Write the page that is asked for; empty where the purpose is not open. Raises `Invalid`."""
    size = request.page_signals or PAGE_SIGNALS_DEFAULT
    view = _View(
        sources=read_rules(tables).sources_serving(request.purpose),
        names=frozenset(request.names),
        start=_bound(request, "from"),
        end=_bound(request, "until"),
        before=_read_token(request.page_token),
    )
    answer = query_service_pb2.ListTimelineResponse(
        customer_id=root, revision=tables.checkpoint.revision
    )
    if not is_open:
        return answer
    answer.purpose_open = True
    found = view.newest(tables, customers.members(tables, root), limit=size + 1)
    answer.signals.extend(map(_message, found[:size]))
    if len(found) > size:
        answer.next_page_token = _token(found[size - 1])
    return answer


def _bound(
    request: query_service_pb2.ListTimelineRequest, field: Literal["from", "until"]
) -> int | None:
    if not request.HasField(field):
        return None
    return microseconds(read_time(getattr(request, field)))


def _token(signal: TimedSignal) -> str:
    return f"{signal.at:0{_INSTANT_DIGITS}d}.{signal.key}"


def _read_token(token: str) -> SignalPlace | None:
    if not token:
        return None
    at, _, key = token.partition(".")
    is_instant = len(at) == _INSTANT_DIGITS and at.isascii() and at.isdigit()
    if not is_instant or len(token) > TOKEN_CHARACTERS_MAX:
        raise Invalid("INVALID_FIELD", "this is no token of a page")
    return int(at), key


def _message(signal: TimedSignal) -> query_service_pb2.TimelineSignal:
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
