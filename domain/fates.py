"""What became of messages, and of a command that was carried out before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from domain.command_origins import require_origin
from domain.commands import CheckConsent, Identify, PersonCommand, RecordSignals
from domain.customer import Customer, fate_of, remembered_command
from domain.decision import Decision
from domain.identifier_histories import IdentifierHistories
from domain.ids import RecordId, merge_id_of
from domain.record import Record
from domain.replies import SignalResult
from domain.signals import Signal, signal_key

GATE_CLOSED = "PURPOSE_CLOSED"
"""Why a signal is declined."""

RECORDED: SignalResult = "recorded"
DUPLICATE: SignalResult = "duplicate"
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
            results.append(DECLINED)
        else:
            results.append(DUPLICATE if message_id in seen else RECORDED)
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
                fates[message_id] = DUPLICATE
            case "declined":
                fates[message_id] = DECLINED
            case None:
                pass
    return fates


def repeated_outcome(
    customers: Iterable[Customer], command: PersonCommand, *, histories: IdentifierHistories
) -> Decision | None:
    """Answer a command that was carried out before; for each message, what became of it.

    None: it was not, or asks anew. Raises `Invalid` where it was another one, under the same id.
    """
    if isinstance(command, CheckConsent) and not command.record:
        return None
    readmitted = histories.readmitted.get(command.command_id)
    if readmitted is not None:
        require_origin(readmitted.origins, command.kind)
        return Decision(None, repeated_revision=readmitted.revision)
    found = remembered_command(customers, command.command_id)
    if found is None:
        return None
    customer, remembered = found
    require_origin(remembered.origins, command.kind)
    revision = remembered.revision
    match command:
        case CheckConsent():
            return None  # an old yes may be wrong by now (R13)
        case RecordSignals(source=source, signals=signals):
            message_ids = tuple(signal.message_id for signal in signals)
        case Identify(source=source, message_id=str(message_id)):
            message_ids = (message_id,)
        case _:
            whom = _named(customers, command) or customer
            merges = _standing_merges(whom, command)
            return Decision(whom.root, merge_ids=merges, repeated_revision=revision)
    fates = fates_of(customer.records, source, message_ids)
    results = tuple(fates.get(m, DUPLICATE) for m in message_ids)
    return Decision(
        customer.root,
        merge_ids=_standing_merges(customer, command),
        signals=results,
        repeated_revision=revision,
    )


def _standing_merges(customer: Customer, command: PersonCommand) -> tuple[str, ...]:
    """Name the merges that a command made, those of them that are not undone."""
    live = {edge.merge_id for edge in customer.edges}
    met_max = len(command.identifiers) + len(command.named_records)
    made = (merge_id_of(command.command_id, place) for place in range(1, met_max))
    return tuple(merge_id for merge_id in made if merge_id in live) if live else ()


def _named(customers: Iterable[Customer], command: PersonCommand) -> Customer | None:
    """Give whom a command means by a record's id: after an undo others remember it too."""
    named = command.named_records[:1]
    return next((c for c in customers if not c.records.keys().isdisjoint(named)), None)
