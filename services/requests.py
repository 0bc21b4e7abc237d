"""Make commands of requests: normalise identifiers, read times and maps, add what is missing."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from google.protobuf import struct_pb2, timestamp_pb2
from pydantic import JsonValue

from actors.clock import Clock
from actors.intake.identifiers import Blocked, IdentifierNormaliser
from domain.errors import Invalid, NotFound
from domain.identity import Identifier, LeftOut
from domain.ids import IdentifierKey, OpenMap, RecordId
from koseki.v1 import common_pb2
from services.errors import CallContext

DEADLINE_SECONDS_DEFAULT = 10.0
DEADLINE_SECONDS_MAX = 30.0
WHOLE_DOUBLE_MAX = 2**53
NESTING_MAX = 16
UNAUTHENTICATED = "unauthenticated"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUID_7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class CommandRequest(Protocol):
    """Any request that is a command."""

    @property
    def workspace(self) -> str:
        """The workspace; empty for the only one."""

    @property
    def command_id(self) -> str:
        """The command's id; empty to have one made."""


class PersonRequest(CommandRequest, Protocol):
    """Any command to one person."""

    @property
    def customer_id(self) -> str:
        """A customer's or record's id; may be empty."""

    @property
    def identifiers(self) -> Collection[common_pb2.Identifier]:
        """What the person is known by."""


class Dated(Protocol):
    """Any message that may say when it happened."""

    @property
    def happened_at(self) -> timestamp_pb2.Timestamp:
        """When it happened."""

    def HasField(self, field_name: Literal["happened_at"], /) -> bool:
        """Say whether it was given."""


class RequestReader:
    """Read what requests of one workspace have in common."""

    def __init__(self, workspace: str, *, normaliser: IdentifierNormaliser, clock: Clock) -> None:
        self._workspace = workspace
        self._normaliser = normaliser
        self._clock = clock

    def require_workspace(self, named: str) -> None:
        """Refuse a request for another workspace; no name means the only one."""
        if named and named != self._workspace:
            raise NotFound("UNKNOWN_WORKSPACE", "this server does not serve the workspace")

    def now(self) -> datetime:
        """Give the time at which requests are taken to arrive."""
        return self._clock.recorded_now()

    def command(self, request: CommandRequest, context: CallContext) -> dict[str, Any]:
        """Give the fields of any command; a missing command id is made here."""
        self.require_workspace(request.workspace)
        return {**self.fresh_command(context), **_named(request.command_id)}

    def fresh_command(self, context: CallContext) -> dict[str, Any]:
        """Give the fields of a command whose id is made here."""
        return {**self.call(context), "command_id": self._clock.new_id()}

    def call(self, context: CallContext) -> dict[str, Any]:
        """Give what all commands of a call have in common."""
        left: float | None = context.time_remaining()  # None for a call without a deadline
        seconds = DEADLINE_SECONDS_DEFAULT if left is None else min(left, DEADLINE_SECONDS_MAX)
        return {
            "auth_id": UNAUTHENTICATED,
            "issued_at": self._clock.recorded_now(),
            "deadline": self.deadline(seconds),
        }

    def deadline(self, seconds: float) -> datetime:
        """Give the time after which nobody waits for an answer any more."""
        return self._clock.now() + timedelta(seconds=seconds)

    def person(self, request: PersonRequest, context: CallContext) -> dict[str, Any]:
        """Give the fields of a command to one person."""
        if not request.customer_id and not request.identifiers:
            raise missing_identifier()
        identifiers, left_out = self.identifiers(request.identifiers)
        if not request.customer_id and not identifiers:
            raise Invalid("IDENTIFIER_BLOCKED", "every identifier has a value that names nobody")
        return {
            **self.command(request, context),
            "new_record_id": self._clock.new_id(),
            "record_id": spelled_id(request.customer_id) or None,
            "identifiers": identifiers,
            "left_out": left_out,
        }

    def new_id(self) -> str:
        """Make a UUIDv7."""
        return self._clock.new_id()

    def identifier(self, given: common_pb2.Identifier) -> Identifier:
        """Normalise one identifier, or make it of its parts. Raises `Invalid`."""
        _require_one_form(given)
        if given.parts:
            return self._normaliser.compose(given.namespace, given.parts)
        return self._normaliser.normalise(given.namespace, given.value)

    def sought(self, given: common_pb2.Identifier) -> Identifier:
        """Read one identifier by which somebody may be known, whatever the rules say of it by now.

        Raises `Invalid`.
        """
        _require_one_form(given)
        return self._normaliser.sought(given.namespace, given.value, given.parts)

    def identifiers(
        self, given: Iterable[common_pb2.Identifier]
    ) -> tuple[tuple[Identifier, ...], tuple[LeftOut, ...]]:
        """Normalise identifiers, and tell apart those that name nobody; each counts once."""
        found: dict[IdentifierKey, Identifier] = {}
        blocked: dict[IdentifierKey, LeftOut] = {}
        for item in given:
            try:
                identifier = self.identifier(item)
            except Blocked as error:
                blocked[error.left_out.key] = error.left_out
            else:
                found[identifier.key] = identifier
        return tuple(found.values()), tuple(blocked.values())

    def happened_at(self, message: Dated) -> datetime:
        """Read when it happened; now, where the request does not say.

        Asked for each of several that come together, so that each is later than the one before,
        where the clock is not manual: a later choice of consent counts against an earlier one.
        """
        if not message.HasField("happened_at"):
            return self._clock.recorded_now()
        return read_time(message.happened_at)


def missing_identifier() -> Invalid:
    """Refuse a request that names nobody."""
    return Invalid("MISSING_IDENTIFIER", "name a customer id or at least one identifier")


def _require_one_form(given: common_pb2.Identifier) -> None:
    if given.parts and given.value:
        raise Invalid("INVALID_IDENTIFIER", "give an identifier's value or its parts")


def is_command_id(text: str) -> bool:
    """Whether a text is a UUIDv7 in lower case."""
    return _UUID_7.fullmatch(text) is not None


def _named(command_id: str) -> dict[str, str]:
    """Take a command's id in its one spelling: another one would pass for another command."""
    if not command_id:
        return {}
    if not is_command_id(command_id):
        raise Invalid("INVALID_COMMAND_ID", "a command id is a UUIDv7 in lower case")
    return {"command_id": command_id}


def read_record_id(text: str) -> RecordId:
    """Read a record's id, where it is about to name a stream of the log."""
    spelled = spelled_id(text)
    if not _UUID.fullmatch(spelled):
        raise Invalid("INVALID_FIELD", "the id of a customer or record is a UUID")
    return spelled


def spelled_id(text: str) -> RecordId:
    """Spell the id of a customer or record as we do: in lower case (RFC 9562 reads either)."""
    return RecordId(text.lower())


def read_optional_time(stamp: timestamp_pb2.Timestamp, *, is_set: bool) -> datetime | None:
    """Read a time stamp that may be unset."""
    return read_time(stamp) if is_set else None


def read_time(stamp: timestamp_pb2.Timestamp) -> datetime:
    """Read a time stamp, to the microsecond."""
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Invalid("INVALID_TIMESTAMP", "the time stamp is out of range") from error


def read_map(struct: struct_pb2.Struct) -> OpenMap:
    """Read an open map; whole numbers come out as integers, as their JSON text has them."""
    fields = struct.fields  # whose `items` are made in Python, one by one
    return {key: read_value(fields[key], depth=1) for key in fields}


def read_value(value: struct_pb2.Value, *, depth: int = 1) -> JsonValue:
    """Read a value of an open map."""
    if depth > NESTING_MAX:
        raise Invalid("INVALID_PROPERTIES", "an open map is nested too deeply")
    match value.WhichOneof("kind"):
        case "number_value":
            return _read_number(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            fields = value.struct_value.fields.items()
            return {key: read_value(inner, depth=depth + 1) for key, inner in fields}
        case "list_value":
            return [read_value(inner, depth=depth + 1) for inner in value.list_value.values]
        case _:
            return None


def _read_number(number: float) -> float | int:
    if not math.isfinite(number):
        raise Invalid("INVALID_PROPERTIES", "a number in an open map is not finite")
    if number.is_integer() and abs(number) < WHOLE_DOUBLE_MAX:
        return int(number)
    return number
