"""`IngestService`: signals straight to the hosts, one durable write, acknowledged by revision."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from actors.intake.consent_choices import category_preferences
from actors.intake.segment_spec import check_message_id
from actors.router import CommandRouter
from actors.rules import RulesKeeper
from domain.commands import SIGNALS_PER_COMMAND_MAX, RecordSignals
from domain.errors import DomainError, Invalid, Kind
from domain.fates import GATE_CLOSED
from domain.identity import Identifier, LeftOut
from domain.ids import IDENTIFIERS_PER_CUSTOMER_MAX, IdentifierKey, Name
from domain.replies import Done, Failed, SignalResult
from domain.signals import Signal, SignalKind
from koseki.v1 import ingest_service_pb2, ingest_service_pb2_grpc
from services.errors import (
    CallContext,
    CommandFailed,
    note_unforeseen,
    status_and_reason,
)
from services.exchanges import Exchanges
from services.outcomes import left_out_message
from services.requests import RequestReader, read_map

SIGNALS_PER_REQUEST_MAX = 1_000
SIGNALS_PER_SLICE = 32
"""Signals that are read before whatever else the gateway has to do gets its turn."""

KINDS: dict[int, SignalKind] = {
    ingest_service_pb2.SIGNAL_KIND_UNSPECIFIED: "track",
    ingest_service_pb2.SIGNAL_KIND_TRACK: "track",
    ingest_service_pb2.SIGNAL_KIND_PAGE: "page",
    ingest_service_pb2.SIGNAL_KIND_SCREEN: "screen",
    ingest_service_pb2.SIGNAL_KIND_GROUP: "group",
}
RESULTS: dict[SignalResult, ingest_service_pb2.SignalResult.ValueType] = {
    "recorded": ingest_service_pb2.SIGNAL_RESULT_RECORDED,
    "duplicate": ingest_service_pb2.SIGNAL_RESULT_DUPLICATE,
    "declined": ingest_service_pb2.SIGNAL_RESULT_DECLINED,
}
_FOR_THE_WHOLE_CALL = {"UNKNOWN_SOURCE", "LOG_DAMAGED"}
_HOPELESS = {Kind.INVALID, Kind.NOT_FOUND, Kind.REFUSED}
_PARTED = {"EVENT_TOO_LARGE", "EVENT_NOT_ENCODABLE"}
"""Reasons that may be the fault of one signal, or of their number: the others are tried alone."""

_NAME: TypeAdapter[str] = TypeAdapter(Name)


@dataclass(slots=True)
class _Group:
    """Signals with the same identifiers and choices of consent, and their places in the request."""

    identifiers: tuple[Identifier, ...]
    choices: dict[str, bool] = field(default_factory=dict)
    left_out: dict[IdentifierKey, LeftOut] = field(default_factory=dict)
    signals: list[Signal] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def takes(self, choices: dict[str, bool], left_out: Sequence[LeftOut]) -> bool:
        """Say whether one more signal with these choices may join."""
        return (
            self.choices == choices
            and len(self.signals) < SIGNALS_PER_COMMAND_MAX
            and len(self.left_out) + len(left_out) <= IDENTIFIERS_PER_CUSTOMER_MAX
        )

    def halves(self) -> list[_Group]:
        """Part the signals in two."""
        middle = len(self.places) // 2
        return [
            _Group(
                self.identifiers,
                self.choices,
                self.left_out,
                signals=self.signals[part],
                places=self.places[part],
            )
            for part in (slice(middle), slice(middle, None))
        ]


class IngestService(ingest_service_pb2_grpc.IngestServiceServicer):
    """Serve publishers that want to hear of each signal."""

    def __init__(
        self,
        router: CommandRouter,
        reader: RequestReader,
        rules: RulesKeeper,
        *,
        exchanges: Exchanges,
    ) -> None:
        self._router = router
        self._reader = reader
        self._rules = rules
        self._exchanges = exchanges
        # One request is read at a time, in slices: a command waits for a slice, not for them all.
        self._reading = asyncio.Lock()

    async def Ingest(
        self, request: ingest_service_pb2.IngestRequest, context: CallContext
    ) -> ingest_service_pb2.IngestResponse:
        """Store signals; each has its own outcome."""
        return await self._ingest(request, context)

    async def IngestStream(
        self,
        request_iterator: AsyncIterator[ingest_service_pb2.IngestStreamRequest],
        context: CallContext,
    ) -> AsyncIterator[ingest_service_pb2.IngestStreamResponse]:
        """Store the signals of one request after another, as `Ingest` does."""

        async def answer(
            request: ingest_service_pb2.IngestStreamRequest,
        ) -> ingest_service_pb2.IngestStreamResponse:
            response = ingest_service_pb2.IngestStreamResponse(sequence=request.sequence)
            try:
                response.done.CopyFrom(await self._ingest(request.batch, context))
            except Exception as error:  # noqa: BLE001  # it is told, and the stream goes on
                note_unforeseen(error, "IngestStream")
                code, reason, text = status_and_reason(error)
                response.failure.code, response.failure.reason = code, reason
                response.failure.message = text
            return response

        async with (
            aclosing(_ascending(request_iterator)) as requests,
            aclosing(self._exchanges.follow(requests, answer)) as answers,
        ):
            async for response in answers:
                yield response

    async def _ingest(
        self, request: ingest_service_pb2.IngestRequest, context: CallContext
    ) -> ingest_service_pb2.IngestResponse:
        self._reader.require_workspace(request.workspace)
        if not 0 < len(request.signals) <= SIGNALS_PER_REQUEST_MAX:
            raise Invalid("INVALID_FIELD", f"give 1 to {SIGNALS_PER_REQUEST_MAX} signals")
        response = ingest_service_pb2.IngestResponse()
        outcomes = [response.outcomes.add(message_id=s.message_id) for s in request.signals]
        async with self._reading:
            groups = await self._group(request, outcomes)
            commands = await self._commands(request.source, groups, context)
        if not groups:  # no host hears of the source
            await self._rules.require_source(_NAME.validate_python(request.source))
        while groups:
            replies = await self._router.execute_many(commands)
            parted: list[_Group] = []
            for group, command, reply in zip(groups, commands, replies, strict=True):
                if _is_parted(group, reply):
                    parted += group.halves()
                else:
                    _tell(group, reply, outcomes, command_id=command.command_id)
                    if isinstance(reply, Done) and reply.left_out:
                        await self._tell_left_out(group, reply.left_out, request, outcomes=outcomes)
            groups = parted
            commands = await self._commands(request.source, groups, context)
        return response

    async def _tell_left_out(
        self,
        group: _Group,
        left_out: tuple[LeftOut, ...],
        request: ingest_service_pb2.IngestRequest,
        *,
        outcomes: list[ingest_service_pb2.SignalOutcome],
    ) -> None:
        """Say of the group's signals that were recorded which identifiers were not used."""
        for number, place in enumerate(group.places):
            if number % SIGNALS_PER_SLICE == 0:
                await asyncio.sleep(0)
            if outcomes[place].result == ingest_service_pb2.SIGNAL_RESULT_RECORDED:
                given = request.signals[place].identifiers
                outcomes[place].left_out.extend(left_out_message(left_out, given, self._reader))

    async def _group(
        self,
        request: ingest_service_pb2.IngestRequest,
        outcomes: list[ingest_service_pb2.SignalOutcome],
    ) -> list[_Group]:
        """Read every signal, and put together those of the same person; refuse the malformed."""
        open_groups: dict[frozenset[IdentifierKey], _Group] = {}
        groups: list[_Group] = []
        for place, given in enumerate(request.signals):
            if place % SIGNALS_PER_SLICE == 0:
                await asyncio.sleep(0)
            try:
                identifiers, left_out = self._reader.identifiers(given.identifiers)
                signal = self._signal(given)
                choices = category_preferences(signal.context)
                _check_number(identifiers, left_out)
            except (DomainError, ValidationError) as error:
                outcomes[place].result = ingest_service_pb2.SIGNAL_RESULT_INVALID
                reason = error.reason if isinstance(error, DomainError) else "INVALID_FIELD"
                outcomes[place].reason = reason
                continue
            keys = frozenset([identifier.key for identifier in identifiers])
            group = open_groups.get(keys)
            if group is None or not group.takes(choices, left_out):
                group = open_groups[keys] = _Group(identifiers, choices)
                groups.append(group)
            group.left_out |= {item.key: item for item in left_out}
            group.signals.append(signal)
            group.places.append(place)
        return groups

    def _signal(self, given: ingest_service_pb2.Signal) -> Signal:
        if given.kind not in KINDS:
            raise Invalid("INVALID_FIELD", "the kind of signal is not known")
        return Signal(
            message_id=check_message_id(given.message_id),
            kind=KINDS[given.kind],
            name=given.name,
            happened_at=self._reader.happened_at(given),
            properties=read_map(given.properties),
            context=read_map(given.context),
        )

    async def _commands(
        self, source: str, groups: list[_Group], context: CallContext
    ) -> list[RecordSignals]:
        commands: list[RecordSignals] = []
        for place, group in enumerate(groups):
            if place % SIGNALS_PER_SLICE == 0:
                await asyncio.sleep(0)
            own = self._of_group(group)
            if commands:  # of what they have in common nothing is looked at twice
                commands.append(commands[0].model_copy(update=own))
            else:
                call = self._reader.call(context)
                commands.append(RecordSignals(**call, source=source, **own))
        return commands

    def _of_group(self, group: _Group) -> dict[str, Any]:  # Any: each field's own
        """Give the fields of a command that are not the same for all of a request."""
        return {
            "command_id": self._reader.new_id(),
            "new_record_id": self._reader.new_id(),
            "identifiers": group.identifiers,
            "left_out": tuple(group.left_out.values()),
            "signals": tuple(group.signals),
            "category_preferences": group.choices,
        }


async def _ascending(
    requests: AsyncIterator[ingest_service_pb2.IngestStreamRequest],
) -> AsyncGenerator[ingest_service_pb2.IngestStreamRequest, None]:
    """Give requests as they come, as long as an answer can name each. Raises `Invalid`."""
    last = 0
    async for request in requests:
        if request.sequence <= last:
            raise Invalid("INVALID_FIELD", "a sequence is not greater than the one before")
        last = request.sequence
        yield request


def _check_number(identifiers: tuple[Identifier, ...], left_out: tuple[LeftOut, ...]) -> None:
    if not identifiers and left_out:
        raise Invalid("IDENTIFIER_BLOCKED", "every identifier has a value that names nobody")
    if not identifiers:
        raise Invalid("MISSING_IDENTIFIER", "a signal names at least one identifier")
    if max(len(identifiers), len(left_out)) > IDENTIFIERS_PER_CUSTOMER_MAX:
        raise Invalid("INVALID_FIELD", "a signal names too many identifiers")


def _is_parted(group: _Group, reply: Done | Failed) -> bool:
    return isinstance(reply, Failed) and reply.reason in _PARTED and len(group.places) > 1


def _tell(
    group: _Group,
    reply: Done | Failed,
    outcomes: list[ingest_service_pb2.SignalOutcome],
    *,
    command_id: str,
) -> None:
    if isinstance(reply, Failed):
        if reply.reason in _FOR_THE_WHOLE_CALL:
            raise CommandFailed(reply, command_id)
        hopeless = Kind(reply.kind) in _HOPELESS
        for place in group.places:
            outcomes[place].reason = reply.reason
            outcomes[place].result = (
                ingest_service_pb2.SIGNAL_RESULT_INVALID
                if hopeless
                else ingest_service_pb2.SIGNAL_RESULT_FAILED
            )
        return
    customer_id = reply.customer_id or ""
    for place, result in zip(group.places, reply.signals, strict=True):
        outcome = outcomes[place]
        outcome.result = RESULTS[result]
        outcome.customer_id = customer_id
        outcome.revision = reply.revision
        if result == "declined":
            outcome.reason = GATE_CLOSED
