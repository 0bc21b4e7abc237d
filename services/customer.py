"""`CustomerService`: commands that change who somebody is and what they allow."""

from __future__ import annotations

from actors.router import CommandRouter
from domain.commands import (
    Identify,
    LinkHousehold,
    PersonCommand,
    RecordConsent,
    RecordTcfChoices,
    SetPreferences,
    SetTraits,
    UnlinkHousehold,
)
from domain.consent import ConsentState
from domain.errors import Invalid
from domain.preference_events import Preference
from domain.replies import Done, Failed
from koseki.v1 import common_pb2, customer_service_pb2, customer_service_pb2_grpc
from services.answers import ACTORS, STATES
from services.errors import CallContext, CommandFailed, translated
from services.requests import RequestReader, read_map, read_optional_time
from services.tcf import decode_tcf

ACTS = {number: state for state, number in STATES.items() if state is not ConsentState.UNKNOWN}
ACTED_BY = {number: actor for actor, number in ACTORS.items()} | {
    common_pb2.CONSENT_ACTOR_UNSPECIFIED: None
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
            expires_at=read_optional_time(
                request.expires_at, is_set=request.HasField("expires_at")
            ),
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
            expires_at=read_optional_time(
                request.expires_at, is_set=request.HasField("expires_at")
            ),
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
        if request.acted_by not in ACTED_BY:
            raise Invalid("INVALID_ACTOR", "it is not known who that is")
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
            valid_until=read_optional_time(
                request.valid_until, is_set=request.HasField("valid_until")
            ),
            acted_by=ACTED_BY[request.acted_by],
            is_imported=request.imported,
            is_day_precise=request.day_precise,
        )
        done = await execute(self._router, command)
        return customer_service_pb2.RecordConsentResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            ignored=done.ignored or "",
        )

    @translated
    async def RecordTcfString(
        self, request: customer_service_pb2.RecordTcfStringRequest, context: CallContext
    ) -> customer_service_pb2.RecordTcfStringResponse:
        """Record what a TCF string says that the person chose."""
        person = self._reader.person(request, context)
        command = RecordTcfChoices(
            **person, source=request.source, **decode_tcf(request.tcf_string)
        )
        done = await execute(self._router, command)
        return customer_service_pb2.RecordTcfStringResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
            ignored=done.ignored or "",
        )

    @translated
    async def SetPreferences(
        self, request: customer_service_pb2.SetPreferencesRequest, context: CallContext
    ) -> customer_service_pb2.SetPreferencesResponse:
        """Set how somebody known wishes to be spoken to."""
        command = SetPreferences(
            **self._reader.person(request, context),
            preferences=tuple(
                Preference(channel=said.channel, topic=said.topic, frequency=said.frequency)
                for said in request.preferences
            ),
            happened_at=self._reader.happened_at(request),
        )
        done = await execute(self._router, command)
        return customer_service_pb2.SetPreferencesResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
        )

    @translated
    async def LinkHousehold(
        self, request: customer_service_pb2.LinkHouseholdRequest, context: CallContext
    ) -> customer_service_pb2.LinkHouseholdResponse:
        """Say that somebody known is of a household."""
        command = LinkHousehold(
            **self._reader.person(request, context),
            source=request.source,
            household_id=request.household_id,
            happened_at=self._reader.happened_at(request),
        )
        done = await execute(self._router, command)
        return customer_service_pb2.LinkHouseholdResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
        )

    @translated
    async def UnlinkHousehold(
        self, request: customer_service_pb2.UnlinkHouseholdRequest, context: CallContext
    ) -> customer_service_pb2.UnlinkHouseholdResponse:
        """Say that somebody known is no more of a household."""
        command = UnlinkHousehold(
            **self._reader.person(request, context),
            household_id=request.household_id,
            happened_at=self._reader.happened_at(request),
        )
        done = await execute(self._router, command)
        return customer_service_pb2.UnlinkHouseholdResponse(
            customer_id=done.customer_id or "",
            revision=done.revision,
            command_id=command.command_id,
        )
