"""Read audiences from requests; every fault of one is named with its place in the request."""

from __future__ import annotations

import math

from google.protobuf import struct_pb2
from pydantic import JsonValue

from domain.errors import DomainError, Invalid
from koseki.v1 import segment_service_pb2
from projections.segments.audience_parts import (
    AUDIENCE_PARTS_MAX,
    WHOLE,
    AllOf,
    AnyOf,
    Audience,
    Having,
    InSegment,
    NoneOf,
    TraitIs,
    TraitKnown,
    TraitWithin,
)
from projections.segments.errors import AudienceFault, AudienceTooLarge, InvalidAudience
from projections.segments.trait_values import BOUND_BYTES_MAX, Range, Scalar
from services.requests import read_value

VALUES_MAX = 1_000
"""Values of one question of a trait."""


def read_audience(given: segment_service_pb2.Audience) -> Audience:
    """Read an audience. Raises `InvalidAudience` and `AudienceTooLarge`."""
    waiting, found = [given], 0
    while waiting:
        found += 1
        if found > AUDIENCE_PARTS_MAX:
            raise AudienceTooLarge(f"an audience has at most {AUDIENCE_PARTS_MAX} parts")
        part = waiting.pop()
        for parts in (part.all_of, part.any_of, part.none_of):
            waiting += parts.parts
    faults: list[AudienceFault] = []
    audience = _audience(given, WHOLE, faults)
    if faults:
        raise InvalidAudience(tuple(faults))
    return audience


def _audience(
    given: segment_service_pb2.Audience, place: str, faults: list[AudienceFault]
) -> Audience:
    """Read a part; where it is at fault that is noted, and something stands in its place."""
    match given.WhichOneof("audience"):
        case "segment":
            return InSegment(given.segment, f"{place}.segment")
        case "purpose":
            return Having(given.purpose, f"{place}.purpose")
        case "trait":
            return _of_trait(given.trait, f"{place}.trait", faults)
        case "all_of" | "any_of" | "none_of" as kind:
            place = f"{place}.{kind}"
            named = enumerate(getattr(given, kind).parts)
            parts = [_audience(part, f"{place}.parts[{i}]", faults) for i, part in named]
            return _combined(kind, tuple(parts), place)
        case _:
            faults.append(_fault(place, "a part of the audience says nothing"))
            return AllOf((), place)


def _combined(kind: str, parts: tuple[Audience, ...], place: str) -> Audience:
    match kind:
        case "all_of":
            return AllOf(parts, place)
        case "any_of":
            return AnyOf(parts, place)
        case _:
            return NoneOf(parts, place)


def _of_trait(
    given: segment_service_pb2.TraitTest, place: str, faults: list[AudienceFault]
) -> Audience:
    try:
        return _test(given, place)
    except DomainError as error:
        faults.append(AudienceFault(place, error))
        return TraitKnown(given.trait, place)


def _test(given: segment_service_pb2.TraitTest, place: str) -> Audience:
    match given.WhichOneof("test"):
        case "is_known":
            known = TraitKnown(given.trait, place)
            return known if given.is_known else NoneOf((known,), place)
        case "equals":
            return TraitIs(given.trait, (_value(given.equals),), place)
        case "one_of":
            values = given.one_of.values
            if len(values) > VALUES_MAX:
                raise Invalid("INVALID_FIELD", f"at most {VALUES_MAX} values")
            return TraitIs(given.trait, tuple(map(_value, values)), place)
        case "within":
            return TraitWithin(given.trait, _range(given.within), place)
        case _:
            raise Invalid("INVALID_FIELD", "nothing is asked of the trait")


def _value(given: struct_pb2.Value) -> JsonValue:
    if given.WhichOneof("kind") is None:
        raise Invalid("INVALID_FIELD", "a value says nothing")
    try:
        return read_value(given)
    except Invalid as error:
        raise Invalid("INVALID_FIELD", error.message) from error


def _range(given: segment_service_pb2.TraitRange) -> Range:
    lower, upper = given.WhichOneof("lower"), given.WhichOneof("upper")
    if lower is None and upper is None:
        raise Invalid("INVALID_FIELD", "a range has at least one end")
    ends = [None if end is None else _bound(getattr(given, end)) for end in (lower, upper)]
    if len({isinstance(end, str) for end in ends if end is not None}) > 1:
        raise Invalid("INVALID_FIELD", "both ends of a range are of one kind")
    return Range(
        lower=ends[0],
        upper=ends[1],
        includes_lower=lower == "at_least",
        includes_upper=upper == "at_most",
    )


def _bound(given: struct_pb2.Value) -> Scalar:
    if given.WhichOneof("kind") == "number_value" and math.isfinite(given.number_value):
        return given.number_value
    if given.WhichOneof("kind") == "string_value":
        if len(given.string_value.encode()) <= BOUND_BYTES_MAX:
            return given.string_value
        raise Invalid("INVALID_FIELD", f"a bound has at most {BOUND_BYTES_MAX} bytes")
    raise Invalid("INVALID_FIELD", "an end of a range is a number or a text")


def _fault(place: str, message: str) -> AudienceFault:
    return AudienceFault(place, Invalid("INVALID_FIELD", message))
