"""Choices of consent on their way in: read, or refused; never mixed in one command."""

from __future__ import annotations

from typing import Any

import pytest

from actors.clock import SystemClock
from actors.intake.cloud_events import Decoded, Rejection, decode_message
from actors.intake.grouping import Ticket, plan_waves
from domain.commands import Identify, RecordSignals
from tests.intake.messages import JSON, NORMALISER, event, identify, message, track


def choosing(**chosen: Any) -> JSON:
    return {"consent": {"categoryPreferences": chosen}}


def tickets_of(*calls: JSON) -> list[Ticket]:
    tickets = []
    for number, call in enumerate(calls):
        received = message(event(call, id=f"m{number}"), sequence=number)
        (item,) = decode_message(received, normaliser=NORMALISER)
        assert isinstance(item, Decoded)
        tickets.append(Ticket(received, 0, "shop", item.call, item.size_bytes))
    return tickets


def test_signals_with_other_choices_are_other_commands_in_their_order() -> None:
    yes, no = choosing(Ads=True), choosing(Ads=False)
    calls = [track(context=context) for context in (yes, yes, no, yes)]
    commands = [p.command(SystemClock()) for wave in plan_waves(tickets_of(*calls)) for p in wave]
    said = []
    for command in commands:
        assert isinstance(command, RecordSignals)
        said.append((len(command.signals), command.category_preferences))
    assert said == [(2, {"Ads": True}), (1, {"Ads": False}), (1, {"Ads": True})]


def test_an_identify_carries_its_choices() -> None:
    ((planned,),) = plan_waves(tickets_of(identify(context=choosing(Ads=True))))
    command = planned.command(SystemClock())
    assert isinstance(command, Identify)
    assert command.category_preferences == {"Ads": True}


@pytest.mark.parametrize(
    "consent",
    [
        [],
        {"categoryPreferences": []},
        {"categoryPreferences": {"Ads": 1}},
        {"categoryPreferences": {"Ads": None}},
        {"categoryPreferences": {"Ads": "true"}},
        {"categoryPreferences": {f"c{number}": True for number in range(65)}},
    ],
)
def test_a_choice_that_cannot_be_read_refuses_the_call(consent: object) -> None:
    for call in (track(context={"consent": consent}), identify(context={"consent": consent})):
        (item,) = decode_message(message(event(call, id="m")), normaliser=NORMALISER)
        assert isinstance(item, Rejection)
        assert item.reason == "INVALID_CONTEXT"


@pytest.mark.parametrize("consent", [None, {}, {"categoryPreferences": None}, {"other": 1}])
def test_a_call_without_choices_says_nothing(consent: object) -> None:
    (ticket,) = tickets_of(track(context={"consent": consent}))
    assert ticket.call.choices == {}
