"""Signals of somebody known of whom nothing else has to be looked at, decided in one step.

Nearly all that a busy host decides is this. What comes out is what `decide` comes to, in a quarter
of its time: a test compares the two. Whatever is not plain is left to `decide`.
"""

from __future__ import annotations

from datetime import datetime

from domain.commands import PersonCommand, RecordSignals
from domain.decision import Change, Decision
from domain.fates import RECORDED
from domain.gate import gate_of
from domain.ids import record_stream
from domain.past_holders import holders_before
from domain.record import Record
from domain.rules import Rules
from domain.signal_events import SignalsRecorded
from domain.signals import earliest, signal_key


def plain_signals(
    rules: Rules, record: Record, command: PersonCommand, *, now: datetime
) -> Decision | None:
    """Decide on the only record of the only customer whom a command can mean; None: not plain.

    Of the identifiers that come with the command none may be a tombstone's.
    """
    if not isinstance(command, RecordSignals) or not _names_only(record, command):
        return None
    source = rules.sources.get(command.source)
    if source is None or not _is_plain(record, command):
        return None
    if not gate_of(rules, {record.id: record}, at=now).admits(command.source):
        return None
    keys = {signal_key(command.source, signal.message_id) for signal in command.signals}
    if len(keys) != len(command.signals) or not record.messages.keys().isdisjoint(keys):
        return None
    body = SignalsRecorded(
        source=command.source,
        signals=command.signals,
        context_ttl_seconds=source.context_ttl_seconds,
    )
    change = Change(record_stream(record.id), body, earliest(command.signals))
    results = (RECORDED,) * len(command.signals)
    return Decision(customer_id=record.id, changes=(change,), signals=results)


def _names_only(record: Record, command: RecordSignals) -> bool:
    """Whether the record holds each identifier that came, and nothing else came along."""
    if command.record_id or command.left_out or command.category_preferences:
        return False
    held = record.identifiers
    return bool(command.identifiers) and held.keys() >= {item.key for item in command.identifiers}


def _is_plain(record: Record, command: RecordSignals) -> bool:
    """Whether the record is a customer by itself and nobody else may remember the command."""
    if record.parted or record.forgotten or record.erased_since:
        return False
    if record.past_holders and holders_before(record.past_holders, command):
        return False
    return record.component == (record.id,) and command.command_id not in record.commands
