"""Histories of segments: the log by hand, with its clock in the hands of the test."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import JsonValue

from domain.consent import ConsentState
from domain.event import Event
from domain.ids import CLOCK_STREAM, WORKSPACE_STREAM, DecisionId, OpenMap, Stream
from domain.signals import Signal
from domain.workspace_events import (
    ClockAdvanced,
    SegmentActivated,
    SegmentArchived,
    SegmentDefined,
    SourceRegistered,
)
from eventlog.port import Entry
from projections.segments.language import read_expression
from tests.projections.histories import START, History


class Happenings(History):
    """A history whose events are recorded when the test says so, in seconds from the start."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self._definitions: dict[str, int] = {}
        self._messages = 0

    def append(self, *facts: tuple[Stream, Event], happened: int | None = None) -> list[Entry]:
        stored = super().append(*facts, happened=happened)
        first = len(self.entries) - len(stored)
        recorded_at = self.time(self.now)
        for index, entry in enumerate(stored, start=first):
            assert entry.event is not None
            happened_at = recorded_at if happened is None else self.time(happened)
            # Decisions by number of their first event: ids of ours, as the log gives them.
            event = entry.event._replace(
                recorded_at=recorded_at,
                happened_at=happened_at,
                decision_id=DecisionId(str(UUID(int=first + 1))),
            )
            self.entries[index] = replace(entry, event=event)
        return self.entries[first:]

    @staticmethod
    def time(seconds: int) -> datetime:
        return START + timedelta(seconds=seconds)

    def advance(self, to: int) -> None:
        """Let time pass, with nothing else happening."""
        self.now = to
        self.append((CLOCK_STREAM, ClockAdvanced(to=self.time(to))))

    def did(
        self,
        number: int,
        name: str,
        *,
        at: int | None = None,
        source: str = "shop",
        message_id: str | None = None,
        **properties: JsonValue,
    ) -> None:
        """Let a signal come in now that happened at some time."""
        self._messages += 1
        signal = Signal(
            message_id=message_id or f"made-{self._messages}",
            name=name,
            happened_at=self.time(self.now if at is None else at),
            properties=dict(properties),
        )
        self.signals(number, signal, source=source)

    def define(
        self,
        segment: str,
        expression: str,
        *,
        purposes: tuple[str, ...] = ("analytics",),
        exception: str | None = None,
    ) -> None:
        """Define a segment, which changes nobody's membership."""
        number = self._definitions[segment] = self._definitions.get(segment, 0) + 1
        body = SegmentDefined(
            segment=segment,
            definition=number,
            expression=expression,
            purposes=purposes,
            uses=tuple(sorted(read_expression(expression).uses)),
            exception=exception,
        )
        self.append((WORKSPACE_STREAM, body))

    def activate(self, segment: str) -> None:
        number = self._definitions[segment]
        self.append((WORKSPACE_STREAM, SegmentActivated(segment=segment, definition=number)))

    def segment(
        self,
        segment: str,
        expression: str,
        *,
        purposes: tuple[str, ...] = ("analytics",),
        exception: str | None = None,
    ) -> None:
        """Define a segment and let it take effect."""
        self.define(segment, expression, purposes=purposes, exception=exception)
        self.activate(segment)

    def tell(self, body: Event) -> None:
        """Let an event stand on the workspace's stream."""
        self.append((WORKSPACE_STREAM, body))

    def archive(self, segment: str) -> None:
        self.append((WORKSPACE_STREAM, SegmentArchived(segment=segment)))

    def source(self, name: str, *purposes: str, priority: int = 100) -> None:
        body = SourceRegistered(source=name, purposes=purposes, priority=priority)
        self.append((WORKSPACE_STREAM, body))

    def say(
        self, number: int, purpose: str, state: ConsentState, *, until: int | None = None
    ) -> None:
        """Let somebody act on a purpose now, an agreement perhaps until a time."""
        ends = None if until is None else self.time(until)
        self.consent(number, purpose, state, happened=self.now, until=ends)

    def set(
        self, number: int, *, source: str = "shop", at: int | None = None, **traits: object
    ) -> None:
        said: OpenMap = dict(traits)  # type: ignore[arg-type]  # JSON, as every test says it
        self.traits(number, said, source=source, happened=self.now if at is None else at)
