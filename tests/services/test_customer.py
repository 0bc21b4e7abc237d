"""`CustomerService` over a real server: what it answers, and the reason of each failure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest

from koseki.v1 import common_pb2, customer_service_pb2
from tests.actors.house import CLOCK, id_of
from tests.services.edge import SECONDS, Edge, loyalty, refusal, user

NOBODY = "01890000-0000-7000-8000-000000000000"
HOUSEHOLD = "01890000-0000-7000-8000-00000000f00d"
SECRET = "yumi.secret"


async def test_identify_creates_then_finds_then_merges(edge: Edge) -> None:
    first = await edge.identify(user("1"), traits={"name": "Yumi"})
    again = await edge.identify(user("1"))
    other = await edge.identify(loyalty("a"))
    merged = await edge.identify(user("1"), loyalty("a"))
    assert first.created
    assert other.created
    assert not again.created
    assert not merged.created
    assert again.customer_id == first.customer_id != other.customer_id
    assert merged.customer_id == min(first.customer_id, other.customer_id)
    assert len(merged.merge_ids) == 1
    assert 0 < first.revision < other.revision < merged.revision


async def test_identify_on_jetstream_is_there_after_the_hosts_restart(
    jetstream_edge: Edge,
) -> None:
    made = await jetstream_edge.identify(user("1"), loyalty("a"))
    seen = await jetstream_edge.get(loyalty("a"), at_least_revision=made.revision)
    await jetstream_edge.restart_hosts()
    repeated = await jetstream_edge.identify(user("1"), command_id=made.command_id)
    assert seen.customer_id == made.customer_id
    assert repeated.customer_id == made.customer_id


@pytest.mark.parametrize("change", ["identify", "set_traits", "consent"])
async def test_the_same_command_id_twice_changes_nothing_more(edge: Edge, change: str) -> None:
    known = await edge.identify(user("1"))
    command_id = CLOCK.new_id()

    async def send() -> tuple[str, int, str]:
        done: Any
        if change == "identify":
            done = await edge.identify(user("1"), traits={"a": 1}, command_id=command_id)
        elif change == "set_traits":
            done = await edge.set_traits(user("1"), command_id=command_id)
        else:
            done = await edge.consent("GIVEN", user("1"), command_id=command_id)
        return done.customer_id, done.revision, done.command_id

    first = await send()
    assert await send() == first
    assert first == (known.customer_id, first[1], command_id)
    assert len(await edge.house.events()) == first[1]


async def test_traits_of_the_higher_priority_win_and_the_loser_stays_visible(edge: Edge) -> None:
    await edge.register(source="desk", purposes=["service"], priority=200)
    await edge.identify(user("1"), traits={"tier": "gold"}, source="desk")
    done = await edge.set_traits(user("1"), traits={"tier": "silver"})
    [trait] = (await edge.get(user("1"), at_least_revision=done.revision)).traits
    assert (trait.value.string_value, trait.source) == ("gold", "desk")
    assert [(loser.value.string_value, loser.source) for loser in trait.losers] == [
        ("silver", "shop")
    ]


async def test_consent_may_create_the_customer(edge: Edge) -> None:
    done = await edge.consent("GIVEN", user("1"), notice_version="3", evidence={"form": "web"})
    verdict = await edge.check(user("1"))
    assert verdict.open
    assert verdict.customer_id == done.customer_id
    assert verdict.notice_version == "3"


PERSON_CALLS = ["identify", "set_traits", "consent", "check"]


async def _call(edge: Edge, name: str, *identifiers: Any, **fields: Any) -> Any:
    if name == "consent":
        return await edge.consent("GIVEN", *identifiers, **fields)
    return await getattr(edge, name)(*identifiers, **fields)


WRONG: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "MISSING_IDENTIFIER": ((), {}),
    "EMPTY_IDENTIFIER": ((user(" "),), {}),
    "INVALID_IDENTIFIER": ((user(f"{SECRET}\u0007"),), {}),
    "INVALID_FIELD": ((), {"customer_id": SECRET}),
    "INVALID_COMMAND_ID": ((user("1"),), {"command_id": str(uuid4())}),
}


@pytest.mark.parametrize("reason", WRONG)
@pytest.mark.parametrize("name", PERSON_CALLS)
async def test_a_malformed_person_is_refused_without_repeating_what_was_sent(
    edge: Edge, name: str, reason: str
) -> None:
    identifiers, fields = WRONG[reason]
    found = await refusal(_call(edge, name, *identifiers, **fields))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert SECRET not in found.said
    assert await _call(edge, "identify", user("1"))


@pytest.mark.parametrize("name", PERSON_CALLS)
async def test_a_malformed_field_is_named(edge: Edge, name: str) -> None:
    found = await refusal(_call(edge, name, customer_id=SECRET))
    assert (found.reason, found.fields) == ("INVALID_FIELD", ("customer_id",))


@pytest.mark.parametrize("name", PERSON_CALLS)
async def test_an_unknown_namespace_is_refused(edge: Edge, name: str) -> None:
    stranger = user("1")
    stranger.namespace = "passport"
    found = await refusal(_call(edge, name, stranger))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_NAMESPACE")


@pytest.mark.parametrize("name", PERSON_CALLS)
async def test_more_than_512_identifiers_are_refused(edge: Edge, name: str) -> None:
    found = await refusal(_call(edge, name, *(user(str(n)) for n in range(513))))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert found.fields == ("identifiers",)


@pytest.mark.parametrize("name", PERSON_CALLS)
async def test_another_workspace_is_not_served(edge: Edge, name: str) -> None:
    found = await refusal(_call(edge, name, user("1"), workspace="other"))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_WORKSPACE")


@pytest.mark.parametrize("name", PERSON_CALLS)
async def test_a_customer_id_of_nobody_is_not_found(edge: Edge, name: str) -> None:
    found = await refusal(_call(edge, name, customer_id=NOBODY))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_CUSTOMER")
    assert found.metadata["command_id"]


@pytest.mark.parametrize("name", ["identify", "set_traits"])
async def test_an_unknown_source_is_not_found(edge: Edge, name: str) -> None:
    await edge.identify(user("1"))
    found = await refusal(_call(edge, name, user("1"), source="nowhere"))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SOURCE")


@pytest.mark.parametrize("name", ["consent", "check"])
async def test_an_unknown_purpose_is_not_found(edge: Edge, name: str) -> None:
    await edge.identify(user("1"))
    found = await refusal(_call(edge, name, user("1"), purpose="nothing"))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_PURPOSE")


@pytest.mark.parametrize("name", PERSON_CALLS)
async def test_a_command_id_of_the_day_before_yesterday_is_too_old(edge: Edge, name: str) -> None:
    await edge.identify(user("1"))
    old = id_of(datetime.now(UTC) - timedelta(hours=25))
    found = await refusal(_call(edge, name, user("1"), command_id=old))
    assert (found.code, found.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "COMMAND_TOO_OLD",
    )


@pytest.mark.parametrize(
    "command_id",
    [
        id_of(datetime.now(UTC) + timedelta(hours=1)),
        CLOCK.new_id().upper(),
        CLOCK.new_id().replace("-", ""),
        f"{{{CLOCK.new_id()}}}",
        "latest",
        "\0",
    ],
    ids=["from the future", "upper case", "bare", "in braces", "no uuid", "nul"],
)
async def test_a_command_id_has_one_spelling_and_is_of_now(edge: Edge, command_id: str) -> None:
    found = await refusal(edge.identify(user("1"), command_id=command_id))
    assert (found.code, found.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_COMMAND_ID",
    )


async def test_a_source_whose_purposes_are_all_closed_is_refused(edge: Edge) -> None:
    await edge.consent("REFUSED", user("1"))
    for call in (edge.identify(user("1"), source="ads"), edge.set_traits(user("1"), source="ads")):
        found = await refusal(call)
        assert (found.code, found.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "PURPOSE_CLOSED",
        )
    stranger = await refusal(edge.identify(user("2"), source="ads"))
    assert stranger.reason == "PURPOSE_CLOSED"


async def test_traits_need_somebody_and_only_one(edge: Edge) -> None:
    nobody = await refusal(edge.set_traits(user("1")))
    await edge.identify(user("1"))
    await edge.identify(user("2"))
    several = await refusal(edge.set_traits(user("1"), user("2")))
    none = await refusal(edge.set_traits(user("1"), traits={}))
    assert nobody.reason == "UNKNOWN_CUSTOMER"
    assert (several.code, several.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "AMBIGUOUS_CUSTOMER",
    )
    assert (none.reason, none.fields) == ("INVALID_FIELD", ("traits",))


@pytest.mark.parametrize("state", ["UNSPECIFIED", "UNKNOWN"])
async def test_a_state_that_no_act_brings_about_is_refused(edge: Edge, state: str) -> None:
    found = await refusal(edge.consent(state, user("1")))
    assert (found.code, found.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_CONSENT_STATE",
    )


async def test_a_customer_holds_at_most_512_identifiers(edge: Edge) -> None:
    counts = {"user_id": 1, "email": 5, "loyalty_id": 5, "device_id": 100, "anonymous_id": 400}
    names = [
        common_pb2.Identifier(namespace=namespace, value=f"n{n}@x.test")
        for namespace, count in counts.items()
        for n in range(count)
    ]
    phones = [common_pb2.Identifier(namespace="phone", value=f"+8190123456{n}0") for n in (1, 2)]
    await edge.identify(*names, phones[0])
    made = await edge.identify(names[0], phones[1])
    assert [(item.place, item.reason) for item in made.left_out] == [(1, "TOO_MANY_IDENTIFIERS")]


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("SetTraits", {"source": "shop", "traits": {"tier": "gold"}}),
        ("SetPreferences", {"preferences": [{"channel": "email", "frequency": "weekly"}]}),
        ("LinkHousehold", {"source": "shop", "household_id": HOUSEHOLD}),
        ("UnlinkHousehold", {"household_id": HOUSEHOLD}),
    ],
)
async def test_a_change_of_somebody_known_says_which_identifiers_were_not_used(
    edge: Edge, method: str, said: dict[str, Any]
) -> None:
    known, gone = user("1"), loyalty("gone")
    customer = (await edge.identify(known)).customer_id
    await edge.identify(gone)
    erasing = customer_service_pb2.EraseCustomerRequest(identifiers=[gone])
    await edge.customer.EraseCustomer(erasing, timeout=SECONDS)

    async def changed(*identifiers: common_pb2.Identifier) -> Any:
        request = getattr(customer_service_pb2, f"{method}Request")
        made = request(identifiers=identifiers, **said)
        return await getattr(edge.customer, method)(made, timeout=SECONDS)

    done = await changed(user("null"), known, gone)
    assert done.customer_id == customer
    assert [(item.place, item.reason) for item in done.left_out] == [(0, "BLOCKED"), (2, "ERASED")]
    assert not (await changed(known)).left_out


async def test_a_change_larger_than_an_event_is_refused_and_nothing_is_stored(edge: Edge) -> None:
    before = len(await edge.house.events())
    found = await refusal(edge.identify(user("1"), traits={"essay": "x" * 1_500_000}))
    assert (found.code, found.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "EVENT_TOO_LARGE",
    )
    assert len(await edge.house.events()) == before


async def test_where_the_log_is_away_changes_fail_fast_and_succeed_when_it_is_back(
    edge: Edge,
) -> None:
    edge.house.memory.is_available = False
    found = await refusal(edge.identify(user("1")))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "LOG_UNAVAILABLE")
    edge.house.memory.is_available = True
    assert (await edge.identify(user("1"))).created


async def test_an_unknown_outcome_is_said_with_the_command_id_and_settled_by_sending_again(
    edge: Edge,
) -> None:
    command_id = CLOCK.new_id()
    edge.house.memory.answer_unknown(1, stored=True)
    found = await refusal(edge.identify(user("1"), command_id=command_id))
    assert (found.code, found.reason) == (grpc.StatusCode.UNKNOWN, "UNKNOWN_OUTCOME")
    assert found.metadata == {"command_id": command_id}
    before = len(await edge.house.events())
    await edge.identify(user("1"), command_id=command_id)
    assert len(await edge.house.events()) == before


async def test_another_method_under_the_id_of_a_change_is_refused(edge: Edge) -> None:
    done = await edge.consent("GIVEN", user("1"))
    for other in (
        edge.set_traits(user("1"), command_id=done.command_id),
        edge.check(user("1"), command_id=done.command_id, record=True),
    ):
        found = await refusal(other)
        assert (found.code, found.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "COMMAND_ID_REUSED",
        )
    again = await edge.consent("GIVEN", user("1"), command_id=done.command_id)
    assert again.revision == done.revision
