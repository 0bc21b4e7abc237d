"""What became of messages, and of a command that was carried out before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from domain.commands import CustomerCommand, Identify, ReadmitIdentifier, RecordSignals
from domain.customer import Customer, fate_of, remembered_command
from domain.decision import Decision
from domain.identifier_histories import IdentifierHistories
from domain.ids import RecordId
from domain.record import Record, RememberedCommand
from domain.replies import SignalResult
from domain.signals import Signal, signal_key

GATE_CLOSED = "PURPOSE_CLOSED"
"""Why a signal is declined."""

RECORDED: SignalResult = "recorded"
DECLINED: SignalResult = "declined"


def results_of(
    signals: tuple[Signal, ...], known: dict[str, SignalResult], *, is_admitted: bool
) -> tuple[SignalResult, ...]:
    """Say of each signal what became of it; one that came twice in the command counts once."""
    results: list[SignalResult] = []
    seen: set[str] = set()
    for message_id in (signal.message_id for signal in signals):
        if message_id in known:
            results.append(known[message_id])
        elif not is_admitted:
            results.append("declined")
        else:
            results.append("duplicate" if message_id in seen else "recorded")
        seen.add(message_id)
    return tuple(results)


def fates_of(
    records: Mapping[RecordId, Record], source: str, message_ids: tuple[str, ...]
) -> dict[str, SignalResult]:
    """Answer for the messages that came before: a duplicate, or declined as it was then."""
    fates: dict[str, SignalResult] = {}
    for message_id in message_ids:
        match fate_of(records, signal_key(source, message_id)):
            case "recorded":
                fates[message_id] = "duplicate"
            case "declined":
                fates[message_id] = "declined"
            case None:
                pass
    return fates


def repeated_outcome(
    customers: Iterable[Customer], command: CustomerCommand, *, histories: IdentifierHistories
) -> Decision | None:
    """Answer a command that was carried out before; None: it was not."""
    if isinstance(command, ReadmitIdentifier) and command.command_id in histories.readmitted:
        return Decision(None, repeated_revision=histories.readmitted[command.command_id])
    remembered = remembered_command(customers, command.command_id)
    return None if remembered is None else _as_remembered(*remembered, command)


def _as_remembered(
    customer: Customer, remembered: RememberedCommand, command: CustomerCommand
) -> Decision:
    """Answer as of who remembers a command; for each message, what became of it."""
    revision = remembered.revision
    match command:
        case RecordSignals(source=source, signals=signals):
            message_ids = tuple(signal.message_id for signal in signals)
        case Identify(source=source, message_id=str(message_id)):
            message_ids = (message_id,)
        case _:
            return Decision(customer.root, repeated_revision=revision)
    fates = fates_of(customer.records, source, message_ids)
    results = tuple(fates.get(m, "duplicate") for m in message_ids)
    return Decision(customer.root, signals=results, repeated_revision=revision)
