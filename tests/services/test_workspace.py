"""`WorkspaceService` over a real server: rules in, rules out, and the reason of each failure."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from koseki.v1 import common_pb2
from tests.actors.house import CLOCK
from tests.services.edge import BASES, SOURCES, Edge, refusal

CONSENT = common_pb2.LAWFUL_BASIS_CONSENT
SOUND: dict[str, dict[str, Any]] = {
    "define": {"purpose": "new", "lawful_basis": CONSENT},
    "register": {"source": "new", "purposes": ["service"]},
    "rules": {},
}


async def test_rules_come_back_as_they_were_defined(jetstream_edge: Edge) -> None:
    rules = await jetstream_edge.rules(workspace=jetstream_edge.house.log.workspace)
    assert {purpose.name: purpose.lawful_basis for purpose in rules.purposes} == BASES
    assert {s.name: tuple(s.purposes) for s in rules.sources} == {
        name: tuple(sorted(purposes)) for name, purposes in SOURCES.items()
    }
    assert [purpose.name for purpose in rules.purposes] == sorted(BASES)
    assert [source.name for source in rules.sources] == sorted(SOURCES)
    assert {source.priority for source in rules.sources} == {100}
    assert rules.version == len(BASES) + len(SOURCES)


async def test_the_same_definition_twice_changes_nothing(edge: Edge) -> None:
    before = await edge.rules()
    await edge.define(purpose="service", lawful_basis=BASES["service"])
    await edge.register(source="desk", purposes=["service"], priority=100)
    assert await edge.rules() == before


async def test_definitions_can_be_changed(edge: Edge) -> None:
    defined = await edge.define(purpose="service", lawful_basis=CONSENT, description="calls")
    registered = await edge.register(source="desk", purposes=["analytics"], priority=0)
    rules = await edge.rules()
    assert registered.revision > defined.revision > 0
    assert (rules.purposes[2].lawful_basis, rules.purposes[2].description) == (CONSENT, "calls")
    assert (list(rules.sources[1].purposes), rules.sources[1].priority) == (["analytics"], 0)


NAMES = ["", "Shop", "1st", "a-b", "a b", "a*b", "a.b", "x" * 65, "caf\u00e9", "a\0", "a\n"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_malformed_name_is_refused_by_field(edge: Edge, name: str) -> None:
    purpose = await refusal(edge.define(purpose=name, lawful_basis=CONSENT))
    source = await refusal(edge.register(source=name, purposes=["service"]))
    assert (purpose.code, purpose.reason, purpose.fields) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
        ("purpose",),
    )
    assert (source.reason, source.fields) == ("INVALID_FIELD", ("source",))


async def test_limits_of_definitions(edge: Edge) -> None:
    none = await refusal(edge.register(source="new", purposes=[]))
    many = await refusal(edge.register(source="new", purposes=[f"p{n}" for n in range(65)]))
    high = await refusal(edge.register(source="new", purposes=["service"], priority=1_001))
    long = await refusal(edge.define(purpose="new", lawful_basis=CONSENT, description="x" * 257))
    assert [found.fields for found in (none, many, high, long)] == [
        ("purposes",),
        ("purposes",),
        ("priority",),
        ("description",),
    ]


async def test_a_purpose_needs_a_lawful_basis_and_audit_is_reserved(edge: Edge) -> None:
    none = await refusal(edge.define(purpose="new"))
    strange = await refusal(edge.define(purpose="new", lawful_basis=99))
    audit = await refusal(edge.define(purpose="audit", lawful_basis=CONSENT))
    assert none.reason == strange.reason == "INVALID_LAWFUL_BASIS"
    assert (audit.code, audit.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RESERVED_PURPOSE")


async def test_a_source_declares_defined_purposes_only(edge: Edge) -> None:
    found = await refusal(edge.register(source="new", purposes=["service", "unheard_of"]))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_PURPOSE")


@pytest.mark.parametrize("name", SOUND)
async def test_another_workspace_is_not_served(edge: Edge, name: str) -> None:
    fields = SOUND[name]
    found = await refusal(getattr(edge, name)(workspace="other", **fields))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_WORKSPACE")


async def test_a_command_id_is_given_back_or_made_and_must_be_a_uuid(edge: Edge) -> None:
    mine = CLOCK.new_id()
    done = await edge.define(purpose="new", lawful_basis=CONSENT, command_id=mine)
    made = await edge.register(source="new", purposes=["new"])
    found = await refusal(edge.define(purpose="newer", lawful_basis=CONSENT, command_id="mine"))
    assert done.command_id == mine
    assert len(made.command_id) == len(mine)
    assert (found.code, found.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_COMMAND_ID",
    )


@pytest.mark.parametrize("name", SOUND)
async def test_where_the_log_is_away_the_rules_say_so(edge: Edge, name: str) -> None:
    fields = SOUND[name]
    edge.house.memory.is_available = False
    found = await refusal(getattr(edge, name)(**fields))
    edge.house.memory.is_available = True
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "LOG_UNAVAILABLE")
    assert await getattr(edge, name)(**fields)


async def test_an_unknown_outcome_of_a_definition_is_said(edge: Edge) -> None:
    edge.house.memory.answer_unknown(1, stored=False)
    found = await refusal(edge.define(purpose="new", lawful_basis=CONSENT))
    assert (found.code, found.reason) == (grpc.StatusCode.UNKNOWN, "UNKNOWN_OUTCOME")
