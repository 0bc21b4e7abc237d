"""`CustomerService`: commands that change who somebody is and what they allow."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from actors.router import CommandRouter
from domain.commands import PersonCommand, TriableCommand
from domain.errors import DomainError, Invalid
from domain.replies import Done, Failed
from eventlog.errors import LogError
from koseki.v1 import common_pb2, customer_service_pb2, customer_service_pb2_grpc
from projections.errors import ReadSideError
from replay.dry_run import Tried
from services.commands import CommandReader, sent_command_id
from services.errors import CallContext, CommandFailed
from services.outcomes import (
    consequences_message,
    done_message,
    erased_messages,
    failure_message,
    left_out_message,
)
from services.past import PastReader
from services.requests import RequestReader

COMMANDS_PER_REQUEST_MAX = 500


async def execute(router: CommandRouter, command: PersonCommand) -> Done:
    """Execute a command. Raises `CommandFailed`."""
    reply = await router.execute(command)
    if isinstance(reply, Failed):
        raise CommandFailed(reply, command.command_id)
    return reply


class CustomerService(customer_service_pb2_grpc.CustomerServiceServicer):
    """Serve commands to one customer."""

    def __init__(self, router: CommandRouter, reader: RequestReader, past: PastReader) -> None:
        self._router = router
        self._reader = reader
        self._past = past
        self._commands = CommandReader(reader)

    async def Identify(
        self, request: customer_service_pb2.IdentifyRequest, context: CallContext
    ) -> customer_service_pb2.IdentifyResponse:
        """Link identifiers, create or merge, set traits."""
        command = self._commands.identify(request, context)
        done = await execute(self._router, command)
        return customer_service_pb2.IdentifyResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            created=done.created,
            merge_ids=done.merge_ids,
            left_out=self._left_out(done, request.identifiers),
        )

    async def SetTraits(
        self, request: customer_service_pb2.SetTraitsRequest, context: CallContext
    ) -> customer_service_pb2.SetTraitsResponse:
        """Set traits of somebody known."""
        command = self._commands.set_traits(request, context)
        done = await execute(self._router, command)
        return customer_service_pb2.SetTraitsResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            left_out=self._left_out(done, request.identifiers),
        )

    async def RecordConsent(
        self, request: customer_service_pb2.RecordConsentRequest, context: CallContext
    ) -> customer_service_pb2.RecordConsentResponse:
        """Record an act of the person on a purpose."""
        command = self._commands.record_consent(request, context)
        done = await execute(self._router, command)
        return customer_service_pb2.RecordConsentResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            ignored=done.ignored or "",
            left_out=self._left_out(done, request.identifiers),
        )

    async def RecordTcfString(
        self, request: customer_service_pb2.RecordTcfStringRequest, context: CallContext
    ) -> customer_service_pb2.RecordTcfStringResponse:
        """Record what a TCF string says that the person chose."""
        command = self._commands.record_tcf_string(request, context)
        done = await execute(self._router, command)
        return customer_service_pb2.RecordTcfStringResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            ignored=done.ignored or "",
            left_out=self._left_out(done, request.identifiers),
        )

    async def SetPreferences(
        self, request: customer_service_pb2.SetPreferencesRequest, context: CallContext
    ) -> customer_service_pb2.SetPreferencesResponse:
        """Set how somebody known wishes to be spoken to."""
        command = self._commands.set_preferences(request, context)
        done = await execute(self._router, command)
        return customer_service_pb2.SetPreferencesResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            left_out=self._left_out(done, request.identifiers),
        )

    async def LinkHousehold(
        self, request: customer_service_pb2.LinkHouseholdRequest, context: CallContext
    ) -> customer_service_pb2.LinkHouseholdResponse:
        """Say that somebody known is of a household."""
        command = self._commands.link_household(request, context)
        done = await execute(self._router, command)
        return customer_service_pb2.LinkHouseholdResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            left_out=self._left_out(done, request.identifiers),
        )

    async def UnlinkHousehold(
        self, request: customer_service_pb2.UnlinkHouseholdRequest, context: CallContext
    ) -> customer_service_pb2.UnlinkHouseholdResponse:
        """Say that somebody known is no more of a household."""
        command = self._commands.unlink_household(request, context)
        done = await execute(self._router, command)
        return customer_service_pb2.UnlinkHouseholdResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            left_out=self._left_out(done, request.identifiers),
        )

    async def LinkIdentifiers(
        self, request: customer_service_pb2.LinkIdentifiersRequest, context: CallContext
    ) -> customer_service_pb2.LinkIdentifiersResponse:
        """Link identifiers to somebody known."""
        command = self._commands.link_identifiers(request, context)
        done = await execute(self._router, command)
        return customer_service_pb2.LinkIdentifiersResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            merge_ids=done.merge_ids,
        )

    async def UnlinkIdentifier(
        self, request: customer_service_pb2.UnlinkIdentifierRequest, context: CallContext
    ) -> customer_service_pb2.UnlinkIdentifierResponse:
        """Take an identifier from whoever holds it."""
        command = self._commands.unlink_identifier(request, context)
        done = await execute(self._router, command)
        return customer_service_pb2.UnlinkIdentifierResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
        )

    async def ReadmitIdentifier(
        self, request: customer_service_pb2.ReadmitIdentifierRequest, context: CallContext
    ) -> customer_service_pb2.ReadmitIdentifierResponse:
        """Let the identifier of somebody erased be used again."""
        command = self._commands.readmit_identifier(request, context)
        done = await execute(self._router, command)
        return customer_service_pb2.ReadmitIdentifierResponse(
            revision=done.revision, command_id=command.command_id
        )

    async def EraseCustomer(
        self, request: customer_service_pb2.EraseCustomerRequest, context: CallContext
    ) -> customer_service_pb2.EraseCustomerResponse:
        """Erase a person."""
        command = self._commands.erase_customer(request, context)
        done = await execute(self._router, command)
        return customer_service_pb2.EraseCustomerResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            records=erased_messages(done.consequences),
        )

    async def MergeCustomers(
        self, request: customer_service_pb2.MergeCustomersRequest, context: CallContext
    ) -> customer_service_pb2.MergeCustomersResponse:
        """Make two customers one."""
        command = self._commands.merge_customers(request, context)
        done = await self._tried(command, await execute(self._router, command))
        return customer_service_pb2.MergeCustomersResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            merge_id=next(iter(done.merge_ids), ""),
            consequences=consequences_message(done.consequences),
        )

    async def UndoMerge(
        self, request: customer_service_pb2.UndoMergeRequest, context: CallContext
    ) -> customer_service_pb2.UndoMergeResponse:
        """Undo one merge."""
        command = self._commands.undo_merge(request, context)
        done = await self._tried(command, await execute(self._router, command))
        return customer_service_pb2.UndoMergeResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            consequences=consequences_message(done.consequences),
        )

    async def UnmergeRecord(
        self, request: customer_service_pb2.UnmergeRecordRequest, context: CallContext
    ) -> customer_service_pb2.UnmergeRecordResponse:
        """Undo every merge of a record."""
        command = self._commands.unmerge_record(request, context)
        done = await self._tried(command, await execute(self._router, command))
        return customer_service_pb2.UnmergeRecordResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            consequences=consequences_message(done.consequences),
        )

    async def Execute(
        self, request: customer_service_pb2.ExecuteRequest, context: CallContext
    ) -> customer_service_pb2.ExecuteResponse:
        """Carry out a batch; each command has its own outcome."""
        self._reader.require_workspace(request.workspace)
        if not 0 < len(request.commands) <= COMMANDS_PER_REQUEST_MAX:
            raise Invalid("INVALID_FIELD", f"give 1 to {COMMANDS_PER_REQUEST_MAX} commands")
        outcomes: dict[int, customer_service_pb2.CommandOutcome] = {}
        commands: dict[int, PersonCommand] = {}
        for place, item in enumerate(request.commands):
            try:
                commands[place] = self._commands.read(item, context)
            except (DomainError, ValidationError) as error:
                outcomes[place] = failure_message(sent_command_id(item), error)
        for is_tried in (True, False):
            part = {place: c for place, c in commands.items() if _is_tried(c) == is_tried}
            replies = await self._router.execute_many([*part.values()])
            for (place, command), reply in zip(part.items(), replies, strict=True):
                given = _identifiers_of(request.commands[place])
                outcomes[place] = await self._outcome(command, reply, given)
        return customer_service_pb2.ExecuteResponse(
            outcomes=[outcomes[place] for place in range(len(request.commands))]
        )

    async def _tried(self, command: PersonCommand, done: Done) -> Done:
        """Add what a dry run tells that no host knows."""
        if isinstance(command, Tried) and command.dry_run:
            return await self._past.tried(command, done)
        return done

    async def _outcome(
        self, command: PersonCommand, reply: Done | Failed, given: Iterable[common_pb2.Identifier]
    ) -> customer_service_pb2.CommandOutcome:
        if isinstance(reply, Failed):
            return failure_message(command.command_id, CommandFailed(reply, command.command_id))
        try:
            done = await self._tried(command, reply)
        except (DomainError, LogError, ReadSideError) as error:
            return failure_message(command.command_id, error)
        return done_message(command.command_id, done, self._left_out(done, given))

    def _left_out(
        self, done: Done, given: Iterable[common_pb2.Identifier]
    ) -> list[common_pb2.LeftOutIdentifier]:
        return left_out_message(done.left_out, given, self._reader)


def _is_tried(command: PersonCommand) -> bool:
    return isinstance(command, TriableCommand) and command.dry_run


def _identifiers_of(
    item: customer_service_pb2.CustomerCommand,
) -> Iterable[common_pb2.Identifier]:
    match item.WhichOneof("command"):
        case "identify":
            return item.identify.identifiers
        case "set_traits":
            return item.set_traits.identifiers
        case "record_consent":
            return item.record_consent.identifiers
        case "record_tcf_string":
            return item.record_tcf_string.identifiers
        case "set_preferences":
            return item.set_preferences.identifiers
        case "link_household":
            return item.link_household.identifiers
        case "unlink_household":
            return item.unlink_household.identifiers
        case _:
            return ()
