"""The names that events, commands and state share: ids, streams and the JSON values of open maps.

Ids are canonical UUID texts (RFC 9562); record ids are version 7, so the smaller text is older.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, NamedTuple, NewType
from uuid import UUID, uuid5

from pydantic import JsonValue, SkipValidation, StringConstraints

RecordId = NewType("RecordId", str)
EventId = NewType("EventId", str)
CommandId = NewType("CommandId", str)
DecisionId = NewType("DecisionId", str)
MergeId = NewType("MergeId", str)

IdentifierKey = NewType("IdentifierKey", str)
"""`<scheme>.<hmac>`: what stands for an identifier wherever its value may not stand."""

RECORDS_PER_CUSTOMER_MAX = 256
IDENTIFIERS_PER_CUSTOMER_MAX = 512
SEPARATIONS_PER_CUSTOMER_MAX = 1_024
EVENTS_PER_APPEND_MAX = 1_000
REVISION_MAX = 2**62 - 1
"""No log comes so far; what lies above stands for events that are not stored yet."""

UUID_FORM = StringConstraints(
    pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
)
UuidText = Annotated[str, UUID_FORM]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""The name of a namespace, purpose, source or role: safe in subjects, logs and headers."""

ActorName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.:-]{0,63}$")]
"""Who asked, as the workspace names them; stands open in the log, so no address fits in."""

OpenMap = dict[str, SkipValidation[JsonValue]]
"""Traits, properties and context: keys and JSON values that the publisher chose.

That they are values of JSON is seen to where they are parsed: to look at each of them once more, in
every model that holds it, would take as long as all else that is looked at in a signal.
"""


class StreamKind(StrEnum):
    """Say whose history a stream is."""

    RECORD = "record"
    IDENTIFIER = "identifier"
    WORKSPACE = "workspace"
    CLOCK = "clock"


class Stream(NamedTuple):
    """Name one event stream of a workspace; `key` is empty for workspace and clock."""

    kind: StreamKind
    key: str


WORKSPACE_STREAM = Stream(StreamKind.WORKSPACE, "")
CLOCK_STREAM = Stream(StreamKind.CLOCK, "")


def record_stream(record_id: RecordId) -> Stream:
    """Name the stream of a record."""
    return Stream(StreamKind.RECORD, record_id)


def identifier_stream(key: IdentifierKey) -> Stream:
    """Name the stream that says who holds an identifier."""
    return Stream(StreamKind.IDENTIFIER, key)


MILLISECOND = timedelta(milliseconds=1)
"""What ids tell the time of their making in."""


def made_at_milliseconds(time_ordered_id: str) -> int:
    """Read when a UUIDv7 was made, in milliseconds since 1970; 0 for any other text."""
    if time_ordered_id[14:15] != "7":
        return 0
    try:
        return int(time_ordered_id[:8] + time_ordered_id[9:13], 16)
    except ValueError:
        return 0


def derived_id(origin: str, purpose: str) -> str:
    """Derive a UUIDv5 from an id and what it is for, so that deciding again gives the same id."""
    return str(uuid5(UUID(origin), purpose))


def merge_id_of(command_id: CommandId, place: int) -> MergeId:
    """Name a merge that a command makes, by its place among them, from 1 on."""
    return MergeId(derived_id(command_id, f"merge:{place}"))
