"""Whatever a record holds is packed and comes back; whatever else comes is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, make_dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue

from actors import packing
from actors.columns import column_of
from actors.packing import Unpackable, pack, schema, unpack
from domain.ids import Name, RecordId, UuidText
from domain.record import Record, fold, unborn
from domain.signals import SignalKey, signal_key
from tests.domain.facts import command_id, record_id
from tests.domain.test_evolve import streams

UUIDS = st.uuids().map(str)
TEXTS = st.text(max_size=9) | UUIDS
INTEGERS = st.integers(-(2**63), 2**64 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
TIMES = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001  # what hypothesis wants
    timezones=st.just(UTC) | st.just(timezone(timedelta(hours=9))),
)
BY_HINT: list[tuple[object, st.SearchStrategy[Any]]] = [
    (JsonValue, JSON),
    (SignalKey, st.text(max_size=3).map(lambda message_id: signal_key("shop", message_id))),
    (Name, st.from_regex(r"[a-z]{1,4}", fullmatch=True)),
    (UuidText, UUIDS),
    (str, TEXTS),
    (int, INTEGERS),
    (bool, st.booleans()),
    (datetime, TIMES),
]


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Draw values by a type hint, so that a field that is added is drawn, too."""
    for known, strategy in BY_HINT:
        if hint == known:
            return strategy
    inside = get_args(hint)
    if hasattr(hint, "__supertype__"):
        return UUIDS | values_of(hint.__supertype__)
    if get_origin(hint) is Literal:
        return st.sampled_from(inside)
    if get_origin(hint) is tuple:
        return st.lists(values_of(inside[0]), max_size=3).map(tuple)
    if get_origin(hint) is frozenset:
        return st.frozensets(values_of(inside[0]), max_size=3)
    if get_origin(hint) is Mapping:
        return st.dictionaries(values_of(inside[0]), values_of(inside[1]), max_size=3)
    if inside:
        return st.one_of([st.none() if kind is NoneType else values_of(kind) for kind in inside])
    if issubclass(hint, Enum):
        return st.sampled_from([*hint])
    hints = get_type_hints(hint, include_extras=True)
    names = hint.model_fields if issubclass(hint, BaseModel) else [f.name for f in fields(hint)]
    return st.builds(hint, **{name: values_of(hints[name]) for name in names})


RECORDS = values_of(Record)


@given(RECORDS)
@settings(max_examples=100, deadline=None)
def test_every_field_of_any_record_survives(record: Record) -> None:
    again = unpack(pack(record))
    assert again == record
    for name in ("messages", "commands"):  # what stands first is forgotten first
        assert list(getattr(again, name)) == list(getattr(record, name))


@given(streams(), streams())
@settings(max_examples=60, deadline=None)
def test_a_fold_goes_on_from_what_was_packed(before: list[Any], after: list[Any]) -> None:
    whole = fold(unborn(record_id(1)), [*before, *after])
    assert fold(unpack(pack(fold(unborn(record_id(1)), before))), after) == whole


@given(st.binary(max_size=40) | RECORDS.map(lambda record: pack(record)[:-1]))
@settings(max_examples=50, deadline=None)
def test_other_bytes_are_refused(packed: bytes) -> None:
    with pytest.raises(Unpackable):
        unpack(packed)


def test_ids_of_a_form_of_their_own_survive() -> None:
    record = replace(unborn(RecordId("1")), component=(RecordId("1"), RecordId(command_id(1))))
    assert unpack(pack(record)) == record


def test_the_schema_changes_with_every_field_and_with_the_fold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grown = make_dataclass("Record", [("more", int)], bases=(Record,), kw_only=True)
    assert column_of(grown).shape != column_of(Record).shape
    before = schema()
    monkeypatch.setattr(packing, "FOLD_VERSION", 10**6)
    schema.cache_clear()
    assert schema() != before
    monkeypatch.undo()
    schema.cache_clear()
    assert schema() == before


class _Model(BaseModel):
    name: str


@dataclass(frozen=True)
class _Several:
    names: frozenset[str]
    sizes: tuple[int, ...]
    by_name: dict[str, JsonValue]
    model: _Model | None
    flag: bool


def test_types_that_a_record_may_come_to_hold_are_packed() -> None:
    column = column_of(_Several)
    values = [
        _Several(frozenset("ab"), (1, 2), {"a": [1, None]}, _Model(name="x"), flag=True),
        _Several(frozenset(), (), {}, None, flag=False),
    ]
    assert column.unpack(column.pack(values)) == values
    assert column.unpack(column.pack([])) == []


@pytest.mark.parametrize("unknown", [set[int], int | str, timedelta, tuple[int, str], object])
def test_a_type_that_is_not_known_is_refused_before_anything_is_packed(unknown: object) -> None:
    with pytest.raises(TypeError):
        column_of(unknown)
