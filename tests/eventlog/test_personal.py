"""What is personal is declared: no event may hold free text that nobody judged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, ClassVar, Literal, NewType, get_args, get_origin

import pytest
from pydantic import BaseModel, StringConstraints
from pydantic.fields import FieldInfo

from domain.consent import ConsentState
from domain.event import Event
from domain.identity import Edge, Identifier
from domain.ids import IdentifierKey, MergeId, Name, OpenMap, UuidText
from eventlog.registry import EVENTS
from eventlog.sealing import SEALED

IDS = (IdentifierKey, MergeId)
"""Made by us: an HMAC, and an id that is derived from one of a command's."""

HARMLESS = (bool, int, datetime, Decimal, NoneType)


def holds_free_text(annotation: Any, metadata: tuple[object, ...] = ()) -> bool:
    """Say whether values of a type may hold what somebody wrote."""
    if isinstance(annotation, NewType):
        return annotation not in IDS
    if get_origin(annotation) is Literal or annotation is Ellipsis:
        return False
    if hasattr(annotation, "__metadata__"):
        return holds_free_text(annotation.__origin__, annotation.__metadata__)
    if annotation is str:
        return not any(isinstance(m, StringConstraints) and m.pattern for m in metadata)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(map(field_holds_free_text, annotation.model_fields.values()))
    if isinstance(annotation, type) and issubclass(annotation, (Enum, *HARMLESS)):
        return False
    if get_origin(annotation) in (dict, None):
        return True
    return any(map(holds_free_text, get_args(annotation)))


def field_holds_free_text(field: FieldInfo) -> bool:
    return holds_free_text(field.annotation, tuple(field.metadata))


def undeclared(event_class: type[Event]) -> Iterator[str]:
    """Name the fields of an event that nobody judged, and judgements of no field."""
    fields = event_class.model_fields
    declared = event_class.PERSONAL.keys() | event_class.OPEN.keys()
    yield from (name for name in declared if name not in fields)
    yield from (
        name
        for name, field in fields.items()
        if name not in declared and field_holds_free_text(field)
    )


@pytest.mark.parametrize("name", EVENTS)
def test_every_free_text_is_personal_or_open_for_a_reason(name: str) -> None:
    event_class = EVENTS[name]
    assert list(undeclared(event_class)) == []
    assert not event_class.PERSONAL.keys() & event_class.OPEN.keys()
    assert all(len(reason) > 10 for reason in event_class.OPEN.values())
    assert SEALED not in event_class.model_fields


@pytest.mark.parametrize("name", [n for n, e in EVENTS.items() if e.PERSONAL])
def test_only_events_of_records_are_personal(name: str) -> None:
    assert name.startswith(("koseki.record.", "koseki.consent."))


@pytest.mark.parametrize("name", [n for n, e in EVENTS.items() if e.PERSONAL])
def test_what_an_erased_reader_sees_is_empty(name: str) -> None:
    assert all(value in ((), {}, None) for value in EVENTS[name].PERSONAL.values())


class Note(Event):
    text: str


class NoteOfName(Event):
    name: Name
    ids: tuple[UuidText, ...]
    edge: Edge
    key: IdentifierKey | None
    state: ConsentState
    kind: Literal["a", "b"]
    at: datetime | None = None


class Properties(Event):
    properties: OpenMap


class Nested(Event):
    identifiers: tuple[Identifier, ...] = ()


class Unknown(Event):
    anything: Any


class Declared(Event):
    PERSONAL: ClassVar = {"text": None}
    OPEN: ClassVar = {"code": "one of our stable codes"}
    text: str | None
    code: str


class Misspelt(Event):
    PERSONAL: ClassVar = {"txet": None}


@pytest.mark.parametrize(
    ("event_class", "names"),
    [
        (Note, ["text"]),
        (NoteOfName, []),
        (Properties, ["properties"]),
        (Nested, ["identifiers"]),
        (Unknown, ["anything"]),
        (Declared, []),
        (Misspelt, ["txet"]),
    ],
)
def test_an_event_with_undeclared_free_text_is_refused(
    event_class: type[Event], names: list[str]
) -> None:
    assert list(undeclared(event_class)) == names
