"""`WorkspaceService`: the rules of a workspace."""

from __future__ import annotations

from actors.rules import RulesKeeper
from domain.commands import DefinePurpose, PublishNotice, RegisterSource, SetIdentityRules
from domain.consent import LawfulBasis
from domain.errors import Invalid
from domain.rules import Purpose, Source
from koseki.v1 import common_pb2, workspace_service_pb2, workspace_service_pb2_grpc
from services.errors import CallContext
from services.identity_rules import namespace_messages, read_identity_rules
from services.requests import RequestReader

BASES = {
    common_pb2.LAWFUL_BASIS_CONSENT: LawfulBasis.CONSENT,
    common_pb2.LAWFUL_BASIS_CONTRACT: LawfulBasis.CONTRACT,
    common_pb2.LAWFUL_BASIS_LEGAL_OBLIGATION: LawfulBasis.LEGAL_OBLIGATION,
    common_pb2.LAWFUL_BASIS_LEGITIMATE_INTEREST: LawfulBasis.LEGITIMATE_INTEREST,
}
BASIS_NUMBERS = {basis: number for number, basis in BASES.items()}
PRIORITY_DEFAULT = 100


class WorkspaceService(workspace_service_pb2_grpc.WorkspaceServiceServicer):
    """Serve the rules of one workspace."""

    def __init__(self, rules: RulesKeeper, reader: RequestReader) -> None:
        self._rules = rules
        self._reader = reader

    async def DefinePurpose(
        self, request: workspace_service_pb2.DefinePurposeRequest, context: CallContext
    ) -> workspace_service_pb2.DefinePurposeResponse:
        """Define or change a purpose."""
        if request.lawful_basis not in BASES:
            raise Invalid("INVALID_LAWFUL_BASIS", "a purpose needs a lawful basis")
        command = DefinePurpose(
            **self._reader.command(request, context),
            purpose=request.purpose,
            basis=BASES[request.lawful_basis],
            description=request.description,
            parent=request.parent or None,
            jurisdictions=tuple(request.jurisdictions),
        )
        done = await self._rules.execute(command)
        return workspace_service_pb2.DefinePurposeResponse(
            revision=done.revision, command_id=command.command_id
        )

    async def PublishNotice(
        self, request: workspace_service_pb2.PublishNoticeRequest, context: CallContext
    ) -> workspace_service_pb2.PublishNoticeResponse:
        """Publish what people are told about a purpose."""
        command = PublishNotice(
            **self._reader.command(request, context),
            purpose=request.purpose,
            version=request.version,
            language=request.language,
            text=request.text,
        )
        done = await self._rules.execute(command)
        return workspace_service_pb2.PublishNoticeResponse(
            revision=done.revision, command_id=command.command_id
        )

    async def RegisterSource(
        self, request: workspace_service_pb2.RegisterSourceRequest, context: CallContext
    ) -> workspace_service_pb2.RegisterSourceResponse:
        """Register a source, or change what it may send for."""
        command = RegisterSource(
            **self._reader.command(request, context),
            source=request.source,
            purposes=tuple(request.purposes),
            priority=request.priority if request.HasField("priority") else PRIORITY_DEFAULT,
            consent_categories={
                category: tuple(named.purposes)
                for category, named in request.consent_categories.items()
            },
            tcf_purposes={
                number: tuple(named.purposes) for number, named in request.tcf_purposes.items()
            },
            context_ttl_seconds=request.context_ttl_seconds or None,
        )
        done = await self._rules.execute(command)
        return workspace_service_pb2.RegisterSourceResponse(
            revision=done.revision, command_id=command.command_id
        )

    async def SetIdentityRules(
        self, request: workspace_service_pb2.SetIdentityRulesRequest, context: CallContext
    ) -> workspace_service_pb2.SetIdentityRulesResponse:
        """Say what counts as an identifier."""
        command = SetIdentityRules(
            **self._reader.command(request, context), rules=read_identity_rules(request.namespaces)
        )
        done = await self._rules.execute(command)
        return workspace_service_pb2.SetIdentityRulesResponse(
            revision=done.revision, command_id=command.command_id
        )

    async def GetRules(
        self, request: workspace_service_pb2.GetRulesRequest, context: CallContext
    ) -> workspace_service_pb2.GetRulesResponse:
        """Give the rules as the log has them now."""
        self._reader.require_workspace(request.workspace)
        await self._rules.refresh()
        rules = self._rules.rules
        return workspace_service_pb2.GetRulesResponse(
            version=rules.version,
            purposes=[_purpose(purpose) for _name, purpose in sorted(rules.purposes.items())],
            sources=[_source(source) for _name, source in sorted(rules.sources.items())],
            namespaces=namespace_messages(rules.identity),
        )


def _purpose(purpose: Purpose) -> workspace_service_pb2.Purpose:
    return workspace_service_pb2.Purpose(
        name=purpose.name,
        lawful_basis=BASIS_NUMBERS[purpose.basis],
        description=purpose.description,
        parent=purpose.parent or "",
        jurisdictions=purpose.jurisdictions,
        notices=[
            workspace_service_pb2.Notice(
                version=notice.version, language=notice.language, digest=notice.digest
            )
            for notice in purpose.notices
        ],
    )


def _source(source: Source) -> workspace_service_pb2.Source:
    return workspace_service_pb2.Source(
        name=source.name,
        purposes=sorted(source.purposes),
        priority=source.priority,
        consent_categories={
            category: workspace_service_pb2.PurposeNames(purposes=named)
            for category, named in source.consent_categories.items()
        },
        tcf_purposes={
            number: workspace_service_pb2.PurposeNames(purposes=named)
            for number, named in source.tcf_purposes.items()
        },
        context_ttl_seconds=source.context_ttl_seconds or 0,
    )
