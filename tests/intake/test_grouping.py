"""Grouping a round: every item once, nobody's order changed, and commands that can travel."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.intake.cloud_events import Decoded, decode_message
from actors.intake.grouping import Ticket, make_command, plan_waves
from domain.commands import person_commands
from tests.intake.fakes import CountingClock
from tests.intake.messages import JSON, NORMALISER, event, identify, message, track

PEOPLE = st.sampled_from(["1", "2", "3"])
CALLS = st.one_of(
    st.builds(lambda user: track(userId=user), PEOPLE),
    st.builds(lambda device: track(userId=None, anonymousId=device), PEOPLE),
    st.builds(lambda user, device: track(userId=user, anonymousId=device), PEOPLE, PEOPLE),
    st.builds(lambda user, device: identify(userId=user, anonymousId=device), PEOPLE, PEOPLE),
)


def tickets_of(calls: list[JSON], sources: list[str]) -> list[Ticket]:
    tickets = []
    for n, (call, source) in enumerate(zip(calls, sources, strict=False)):
        received = message(event(call, id=f"m{n}"), sequence=n)
        (item,) = decode_message(received, normaliser=NORMALISER)
        if isinstance(item, Decoded):
            tickets.append(Ticket(received, 0, source, item.call, item.size_bytes))
    return tickets


@given(
    st.lists(CALLS, max_size=25),
    st.lists(st.sampled_from(["shop", "web"]), min_size=25, max_size=25),
)
def test_every_item_goes_once_and_what_shares_an_identifier_stays_in_order(
    calls: list[JSON], sources: list[str]
) -> None:
    tickets = tickets_of(calls, sources)
    waves = plan_waves(tickets)
    for wave in waves:
        keys = [key for planned in wave for key in planned.keys]
        assert len(keys) == len(set(keys)), "commands of one wave must not share an identifier"
        for planned in wave:
            assert {ticket.keys for ticket in planned.tickets} == {planned.keys}
            assert len({ticket.source for ticket in planned.tickets}) == 1
    sent = [ticket for wave in waves for planned in wave for ticket in planned.tickets]
    assert sorted(ticket.message_id for ticket in sent) == sorted(t.message_id for t in tickets)
    for key in {key for ticket in tickets for key in ticket.keys}:
        before = [ticket.message_id for ticket in tickets if key in ticket.keys]
        assert [ticket.message_id for ticket in sent if key in ticket.keys] == before


def test_signals_with_many_identifiers_that_name_nobody_make_commands_that_travel() -> None:
    def nobody(call: int) -> list[JSON]:
        return [{"type": "email", "id": f"test@{call}-{n}.example.com"} for n in range(32)]

    calls = [track(userId="1", context={"externalIds": nobody(n)}) for n in range(20)]
    waves = plan_waves(tickets_of(calls, ["shop"] * len(calls)))
    commands = [planned.command(CountingClock()) for wave in waves for planned in wave]
    assert sorted(len(command.left_out) for command in commands) == [4 * 32, 16 * 32]


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(  # Any: what publishers send
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=4), JSON_VALUES), st.sampled_from(["track", "identify"]))
def test_whatever_is_decoded_makes_a_command_that_travels_unchanged(
    values: JSON, kind: str
) -> None:
    call = {**track(properties=values, context=values, traits=values), "type": kind}
    for ticket in tickets_of([call], ["shop"]):
        command = make_command([ticket], CountingClock())
        (arrived,) = person_commands.validate_json(person_commands.dump_json([command]))
        assert arrived == command


def test_the_demo_purchase_keeps_its_decimals() -> None:
    (ticket,) = tickets_of([track(properties={"dollars": 29.33, "cds": 2})], ["shop"])
    command = make_command([ticket], CountingClock())
    (arrived,) = person_commands.validate_json(person_commands.dump_json([command]))
    dollars = arrived.model_dump()["signals"][0]["properties"]["dollars"]
    assert math.isclose(dollars, 29.33, rel_tol=0, abs_tol=0)
