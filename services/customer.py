"""`CustomerService`: commands that change who somebody is and what they allow."""

from __future__ import annotations

from actors.router import CommandRouter
from domain.commands import Identify, PersonCommand, RecordConsent, SetTraits
from domain.consent import ConsentState
from domain.errors import Invalid
from domain.replies import Done, Failed
from koseki.v1 import common_pb2, customer_service_pb2, customer_service_pb2_grpc
from services.errors import CallContext, CommandFailed, translated
from services.requests import RequestReader, read_map

ACTS = {
    common_pb2.CONSENT_STATE_GIVEN: ConsentState.GIVEN,
    common_pb2.CONSENT_STATE_REFUSED: ConsentState.REFUSED,
    common_pb2.CONSENT_STATE_WITHDRAWN: ConsentState.WITHDRAWN,
}


async def execute(router: CommandRouter, command: PersonCommand) -> Done:
    """Execute a command. Raises `CommandFailed`."""
    reply = await router.execute(command)
    if isinstance(reply, Failed):
        raise CommandFailed(reply, command.command_id)
    return reply


class CustomerService(customer_service_pb2_grpc.CustomerServiceServicer):
    """Serve commands to one customer."""

    def __init__(self, router: CommandRouter, reader: RequestReader) -> None:
        self._router = router
        self._reader = reader

    @translated
    async def Identify(
        self, request: customer_service_pb2.IdentifyRequest, context: CallContext
    ) -> customer_service_pb2.IdentifyResponse:
        """Link identifiers, create or merge, set traits."""
        command = Identify(
            **self._reader.person(request, context),
            source=request.source,
            traits=read_map(request.traits),
            happened_at=self._reader.happened_at(request),
        )
        done = await execute(self._router, command)
        return customer_service_pb2.IdentifyResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            created=done.created,
            merge_ids=done.merge_ids,
        )

    @translated
    async def SetTraits(
        self, request: customer_service_pb2.SetTraitsRequest, context: CallContext
    ) -> customer_service_pb2.SetTraitsResponse:
        """Set traits of somebody known."""
        command = SetTraits(
            **self._reader.person(request, context),
            source=request.source,
            traits=read_map(request.traits),
            happened_at=self._reader.happened_at(request),
        )
        done = await execute(self._router, command)
        return customer_service_pb2.SetTraitsResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
        )

    @translated
    async def RecordConsent(
        self, request: customer_service_pb2.RecordConsentRequest, context: CallContext
    ) -> customer_service_pb2.RecordConsentResponse:
        """Record an act of the person on a purpose."""
        if request.state not in ACTS:
            raise Invalid("INVALID_CONSENT_STATE", "the state is not one that an act brings about")
        command = RecordConsent(
            **self._reader.person(request, context),
            purpose=request.purpose,
            state=ACTS[request.state],
            happened_at=self._reader.happened_at(request),
            notice_version=request.notice_version or None,
            notice_language=request.notice_language or None,
            jurisdiction=request.jurisdiction or None,
            method=request.method or None,
            evidence=read_map(request.evidence),
        )
        done = await execute(self._router, command)
        return customer_service_pb2.RecordConsentResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
        )
