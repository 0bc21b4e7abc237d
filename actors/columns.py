"""Turns typed values into columns of plain ones and back, by their type hints alone.

`packing.py` calls it. Values of one kind stand together, so that most loops run in C, and ids, keys
and choices are one piece of bytes each. A type that it does not know is a `TypeError` when a column
is made, never when something is packed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import chain, islice
from operator import attrgetter
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NewType,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel, JsonValue

from domain.signals import SignalKey

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UUIDS = re.compile(r"(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})*")
_UUID_CHARACTERS = 36
_ID_BYTES = 16
"""Of an id or a key of 128 bits."""

_CHOICES_MAX = 256


class Column(NamedTuple):
    """How values of one type are packed, all at once; `shape` tells types apart, and versions."""

    shape: str
    pack: Callable[[list[Any]], Any]  # Any: what the type hint says
    unpack: Callable[[Any], list[Any]]  # Any: what `pack` gave, as MessagePack keeps it


def column_of(hint: object) -> Column:
    """Make the column of a type; `TypeError` for one that is not known."""
    if hint is JsonValue:
        return Column("json", _as_they_are, _as_they_are)
    if hint is SignalKey:
        return Column("hex128", _hex_packed, _hex_unpacked)
    if isinstance(hint, NewType):
        return column_of(hint.__supertype__)
    if isinstance(hint, type) and get_origin(hint) is None:
        return _of_class(hint)
    column = _of_generic(get_origin(hint), get_args(hint))
    if column is None:
        raise TypeError(f"values of {hint} cannot be packed")
    return column


def _of_generic(origin: object, inside: tuple[Any, ...]) -> Column | None:  # Any: type hints
    if origin is Annotated:
        return column_of(inside[0])
    if origin is Literal:
        return _of_choices(repr(inside), inside)
    if origin in (Union, UnionType) and inside[1:] == (NoneType,):
        return _of_optional(column_of(inside[0]))
    if origin is tuple and inside[1:] == (Ellipsis,):
        return _of_many("tuple", column_of(inside[0]), tuple)
    if origin is frozenset:
        return _of_many("set", column_of(inside[0]), frozenset)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _of_mappings(column_of(inside[0]), column_of(inside[1]))
    return None


def _of_class(kind: type[Any]) -> Column:  # Any: of any class
    if kind is str:
        return Column("str", _texts_packed, _texts_unpacked)
    if kind is datetime:
        return Column("microseconds", _times_packed, _times_unpacked)
    if kind in (int, float, bool, bytes):
        return Column(kind.__name__, _as_they_are, _as_they_are)
    if issubclass(kind, Enum):
        return _of_choices(repr([*kind]), tuple(kind))
    hints = get_type_hints(kind)
    if is_dataclass(kind):
        columns = {field.name: column_of(hints[field.name]) for field in fields(kind)}
        return _of_objects(kind.__name__, columns, lambda rows: [kind(*row) for row in rows])
    if issubclass(kind, BaseModel):
        names = tuple(kind.model_fields)
        columns = {name: column_of(hints[name]) for name in names}
        validate = kind.model_validate
        return _of_objects(
            kind.__name__,
            columns,
            lambda rows: [validate(dict(zip(names, row, strict=True))) for row in rows],
        )
    raise TypeError(f"values of {kind} cannot be packed")


def _of_objects(
    name: str,
    columns: Mapping[str, Column],
    make: Callable[[Iterable[Sequence[Any]]], list[Any]],  # Any: the values of its fields
) -> Column:
    parts = tuple(columns.values())
    get = tuple(attrgetter(field) for field in columns)
    inside = ",".join(f"{field}:{column.shape}" for field, column in columns.items())

    def pack(values: list[Any]) -> list[Any]:
        return [
            column.pack([read(value) for value in values])
            for column, read in zip(parts, get, strict=True)
        ]

    def unpack(packed: list[Any]) -> list[Any]:
        found = [column.unpack(part) for column, part in zip(parts, packed, strict=True)]
        return make(zip(*found, strict=True))

    return Column(f"{name}({inside})", pack, unpack)


def _of_many(name: str, inner: Column, make: Callable[[Iterable[Any]], Any]) -> Column:
    def pack(values: list[Any]) -> list[Any]:
        return [[len(value) for value in values], inner.pack([*chain.from_iterable(values)])]

    def unpack(packed: list[Any]) -> list[Any]:
        sizes, flat = packed
        found = iter(inner.unpack(flat))
        return [make(islice(found, size)) for size in sizes]

    return Column(f"{name}[{inner.shape}]", pack, unpack)


def _of_mappings(keys: Column, values: Column) -> Column:
    def pack(maps: list[Any]) -> list[Any]:
        flat = [*chain.from_iterable(known.values() for known in maps)]
        sizes = [len(known) for known in maps]
        return [sizes, keys.pack([*chain.from_iterable(maps)]), values.pack(flat)]

    def unpack(packed: list[Any]) -> list[Any]:
        sizes, flat_keys, flat_values = packed
        pairs = zip(keys.unpack(flat_keys), values.unpack(flat_values), strict=True)
        if len(sizes) == 1:
            return [dict(pairs)]
        return [dict(islice(pairs, size)) for size in sizes]

    return Column(f"map[{keys.shape}:{values.shape}]", pack, unpack)


def _of_optional(inner: Column) -> Column:
    def pack(values: list[Any]) -> list[Any]:
        there = bytes(value is not None for value in values)
        return [there, inner.pack([value for value in values if value is not None])]

    def unpack(packed: list[Any]) -> list[Any]:
        there, known = packed
        found = iter(inner.unpack(known))
        return [next(found) if is_there else None for is_there in there]

    return Column(f"optional[{inner.shape}]", pack, unpack)


def _of_choices(shape: str, choices: Sequence[Any]) -> Column:
    if len(choices) > _CHOICES_MAX:
        raise TypeError("a choice does not fit a byte")
    number = {choice: place for place, choice in enumerate(choices)}.__getitem__
    choice = choices.__getitem__

    def unpack(packed: bytes) -> list[Any]:
        if packed and packed.count(packed[0]) == len(packed):
            return [choice(packed[0])] * len(packed)
        return [*map(choice, packed)]

    return Column(f"choice[{shape}]", lambda values: bytes(map(number, values)), unpack)


def _as_they_are(values: list[Any]) -> list[Any]:
    return values


def _hex_packed(keys: list[str]) -> bytes:
    return bytes.fromhex("".join(keys))


def _hex_unpacked(packed: bytes) -> list[str]:
    return packed.hex("/", _ID_BYTES).split("/") if packed else []


def _texts_packed(texts: list[str]) -> bytes | list[str]:
    """Pack UUIDs as bytes where all are UUIDs, as they always are where one is."""
    if not texts or len(texts[0]) != _UUID_CHARACTERS:
        return texts
    joined = "".join(texts)
    if len(joined) != _UUID_CHARACTERS * len(texts) or not _UUIDS.fullmatch(joined):
        return texts
    return bytes.fromhex(joined.replace("-", ""))


def _texts_unpacked(packed: bytes | list[str]) -> list[str]:
    if isinstance(packed, list):
        return packed
    return [
        f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        for digits in _hex_unpacked(packed)
    ]


def _times_packed(times: list[datetime]) -> list[int]:
    return [(time - _EPOCH) // _MICROSECOND for time in times]


def _times_unpacked(packed: list[int]) -> list[datetime]:
    return [_EPOCH + timedelta(microseconds=number) for number in packed]
