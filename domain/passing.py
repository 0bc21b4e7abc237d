"""The gate, judged after the choices that came along, and where their acts are put (R11).

Whom the gate keeps out is joined to nobody: a yes is theirs alone who are meant most strongly, and
a no binds everybody who is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from domain.choices import (
    Choices,
    acts_of_choices,
    by_purpose,
    closes_something,
    pending_act,
    recorded_choices,
)
from domain.commands import Identify, RecordSignals
from domain.consent import CLOSING
from domain.consent_events import ConsentChanged
from domain.decision import Change
from domain.event import Event
from domain.gate import Gate
from domain.ids import RecordId, record_stream
from domain.resolution import Resolution


def pass_gate(
    gate: Gate,
    resolution: Resolution,
    command: Identify | RecordSignals,
    *,
    opened_at: datetime,
    closed_at: datetime,
) -> tuple[list[Change], bool]:
    """Judge the gate after the choices that came along (R11); give their acts, and the answer.

    Of somebody unknown whom the gate keeps out, only a no that closes something is kept.
    """
    source = gate.rules.source(command.source)
    if not command.category_preferences:
        return [], gate.admits(command.source)
    chosen = by_purpose(command.category_preferences, source.consent_categories)
    choices = Choices(command.source, chosen, opened_at, closed_at)
    acts = list(acts_of_choices(gate, choices, command_id=command.command_id))
    pending = [pending_act(body, at, now=gate.at) for body, at in acts]
    is_admitted = gate.after(pending).admits(command.source)
    if not (resolution.is_known or is_admitted or closes_something(gate, pending)):
        return [], False
    if not acts:
        return [], is_admitted
    if not is_admitted and gate.parts:
        return _on_those_apart(resolution, choices, acts), False
    return on_every_record(resolution, recorded_choices(choices, acts), closed_at), is_admitted


def on_every_record(resolution: Resolution, body: Event, at: datetime) -> list[Change]:
    """Put acts first where they were said: an undo leaves a grant with that record alone (R6).

    One event on each record, whatever its acts: so they always fit one append (R7).
    """
    others = dict.fromkeys(sorted(resolution.records.keys() - {resolution.address}), body)
    return _told(resolution.address, {resolution.address: body, **others}, at)


def _on_those_apart(
    resolution: Resolution, choices: Choices, acts: list[tuple[ConsentChanged, datetime]]
) -> list[Change]:
    """Put a no on every record, a yes on those of who is meant most strongly: nobody is joined."""
    closing = [(body, at) for body, at in acts if body.state in CLOSING]
    meant = resolution.addressee.records if resolution.addressee else {}
    bodies: dict[RecordId, Event] = {}
    for record in sorted(resolution.records, key=lambda r: (r != resolution.address, r)):
        told = acts if record in meant else closing
        if told:
            bodies[record] = recorded_choices(choices, told)
    return _told(resolution.address, bodies, choices.closed_at)


def _told(address: RecordId, bodies: Mapping[RecordId, Event], at: datetime) -> list[Change]:
    """Tell each record its acts; what is personal of them stands where they were said alone.

    Others may part from that record, and are not erased with it (R14).
    """
    return [
        Change(record_stream(record), body if record == address else body.without_personal(), at)
        for record, body in bodies.items()
    ]
