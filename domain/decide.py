"""Decide what a command changes, given the rules and every customer that the command touches.

Pure: called by hosts, once a turn; called again on fresher state after a conflict.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from domain.commands import (
    CheckConsent,
    CustomerCommand,
    Identify,
    LinkIdentifiers,
    MergeCustomers,
    PersonCommand,
    ReadmitIdentifier,
    RecordConsent,
    RecordSignals,
    SetTraits,
    UndoMerge,
    UnlinkIdentifier,
    UnmergeRecord,
)
from domain.consent import ConsentState, Standing
from domain.consent_events import CONSENT_EVENTS, VerdictRecorded
from domain.customer import (
    Customer,
    fate_of,
    is_admitted,
    purpose_standing,
    remembered_command,
)
from domain.decision import Change, Decision
from domain.errors import NotFound, PurposeClosed, Refused
from domain.identity import LeftOut, LeftOutReason
from domain.ids import IdentifierKey, RecordId, record_stream
from domain.joining import joining, link_identifiers, merge_customers
from domain.parting import undo
from domain.record import Record, RememberedCommand
from domain.releasing import readmit, unlink
from domain.replies import SignalResult, Verdict
from domain.resolution import Resolution, resolve
from domain.rules import Rules
from domain.signal_events import SignalsDeclined, SignalsRecorded, TraitsSet
from domain.signals import Signal, earliest, signal_key

GATE_CLOSED = "PURPOSE_CLOSED"
DROPPED = frozenset({LeftOutReason.BLOCKED, LeftOutReason.ERASED})
"""Why an identifier is as if it had not come; of others it is known whom they would mean."""

Resolved = (
    Identify
    | SetTraits
    | RecordSignals
    | RecordConsent
    | CheckConsent
    | LinkIdentifiers
    | UndoMerge
    | UnmergeRecord
)
"""Commands that name one person, by identifiers or a record's id."""


def decide(
    rules: Rules,
    customers: tuple[Customer, ...],
    command: PersonCommand,
    *,
    now: datetime,
    tombstoned: Collection[IdentifierKey] = (),
) -> Decision:
    """Decide one command. Raises `DomainError`; `now` only dates a verdict.

    `customers` are at least all whom the command touches and who parted from them in the time that
    commands are remembered; `tombstoned` are identifiers of people who were erased.
    """
    # A check is never answered from memory: an old yes may be wrong by now (R13).
    repeated = remembered_command(customers, command.command_id)
    if repeated is not None and not isinstance(command, CheckConsent):
        return _repeated(*repeated, command)
    match command:
        case ReadmitIdentifier():
            return readmit(command, tombstoned)
        case UnlinkIdentifier():
            return unlink(customers, command)
        case MergeCustomers():
            return merge_customers(rules, customers, command)
        case _:
            resolution = resolve(rules.identity, customers, command, tombstoned=tombstoned)
            return _decide_resolved(rules, resolution, command, now=now)


def _decide_resolved(
    rules: Rules, resolution: Resolution, command: Resolved, *, now: datetime
) -> Decision:
    match command:
        case CheckConsent():
            return _check_consent(rules, resolution, command, now=now)
        case Identify():
            return _identify(rules, resolution, command)
        case SetTraits():
            return _set_traits(rules, resolution, command)
        case RecordSignals():
            return _record_signals(rules, resolution, command)
        case RecordConsent():
            return _record_consent(rules, resolution, command)
        case LinkIdentifiers():
            _require_admitted(rules, resolution, command.source)
            return link_identifiers(rules, resolution, command)
        case UndoMerge() | UnmergeRecord():
            return _undo(rules, resolution, command)


def _identify(rules: Rules, resolution: Resolution, command: Identify) -> Decision:
    message_ids = (command.message_id,) if command.message_id else ()
    fates = _fates(resolution, command.source, message_ids)
    if fates:
        return _settled(resolution, fates)
    if not is_admitted(rules, command.source, resolution.records):
        if command.on_closed == "refuse":
            raise PurposeClosed(command.source)
        return _decline(resolution, command, message_ids)
    at, said = command.happened_at, resolution.left_out
    left_out = () if command.traits else said
    changes = joining(rules, resolution, command, source=command.source, at=at, left_out=left_out)
    if command.traits:
        changes.append(_traits(resolution.address, command, said))
    return _decided(resolution, changes, tuple(_recorded(m) for m in message_ids))


def _set_traits(rules: Rules, resolution: Resolution, command: SetTraits) -> Decision:
    if not resolution.is_known:
        raise NotFound("UNKNOWN_CUSTOMER", "nobody is known by these identifiers")
    is_whole = all(item.reason in DROPPED for item in resolution.left_out)
    if resolution.edges or resolution.unclaimed or not is_whole:
        raise Refused("AMBIGUOUS_CUSTOMER", "the identifiers are not all held by one customer")
    _require_admitted(rules, resolution, command.source)
    if _fates(resolution, command.source, (command.message_id,) if command.message_id else ()):
        return Decision(resolution.root)
    return _decided(resolution, [_traits(resolution.address, command, resolution.left_out)])


def _record_signals(rules: Rules, resolution: Resolution, command: RecordSignals) -> Decision:
    admitted = is_admitted(rules, command.source, resolution.records)
    known = _fates(resolution, command.source, tuple(s.message_id for s in command.signals))
    fresh: dict[str, Signal] = {}
    results: list[SignalResult] = []
    for signal in command.signals:
        if signal.message_id in known:
            results.append(known[signal.message_id])
        elif signal.message_id in fresh:
            results.append((_duplicate if admitted else _declined)(signal.message_id))
        else:
            fresh[signal.message_id] = signal
            results.append(
                _recorded(signal.message_id) if admitted else _declined(signal.message_id)
            )
    if not fresh:
        return Decision(resolution.root if resolution.is_known else None, signals=tuple(results))
    signals = tuple(fresh.values())
    if not admitted:
        decision = _decline(resolution, command, tuple(fresh), happened_at=earliest(signals))
        return Decision(decision.customer_id, decision.changes, signals=tuple(results))
    at = earliest(signals)
    changes = joining(rules, resolution, command, source=command.source, at=at)
    body = SignalsRecorded(source=command.source, signals=signals, left_out=resolution.left_out)
    changes.append(Change(record_stream(resolution.address), body, at))
    return _decided(resolution, changes, tuple(results))


def _record_consent(rules: Rules, resolution: Resolution, command: RecordConsent) -> Decision:
    rules.purpose(command.purpose)
    at, left_out = command.happened_at, resolution.left_out
    changes = joining(rules, resolution, command, source=None, at=at, left_out=left_out)
    body = CONSENT_EVENTS[command.state](
        act_id=command.command_id,
        purpose=command.purpose,
        notice_version=command.notice_version,
        notice_language=command.notice_language,
        jurisdiction=command.jurisdiction,
        method=command.method,
        evidence=command.evidence,
    )
    # First where it was said: an undo leaves a grant with that record alone (`parting.py`).
    others = sorted(resolution.records.keys() - {resolution.address})
    records = [resolution.address, *others]
    changes += [Change(record_stream(r), body, command.happened_at) for r in records]
    return _decided(resolution, changes)


def _check_consent(
    rules: Rules, resolution: Resolution, command: CheckConsent, *, now: datetime
) -> Decision:
    judged = purpose_standing(resolution.records, rules.purpose(command.purpose))
    verdict = verdict_of(command.purpose, judged, rules_version=rules.version, decided_at=now)
    customer_id = resolution.root if resolution.is_known else None
    if not command.record:
        return Decision(customer_id, verdict=verdict)
    if not resolution.is_known:
        raise NotFound("UNKNOWN_CUSTOMER", "a verdict on somebody unknown cannot be recorded")
    body = VerdictRecorded(
        purpose=command.purpose,
        is_open=verdict.is_open,
        shown_state=verdict.state,
        act_event_id=verdict.act_event_id,
        notice_version=verdict.notice_version,
        rules_version=verdict.rules_version,
    )
    roots = [customer.root for customer in resolution.customers]
    changes = tuple(Change(record_stream(root), body, now) for root in roots)
    return Decision(customer_id, changes, verdict=verdict)


def verdict_of(
    purpose: str, judged: Standing, *, rules_version: int, decided_at: datetime
) -> Verdict:
    """Put a standing into words."""
    closed = "NOT_GIVEN" if judged.state is ConsentState.UNKNOWN else judged.state.upper()
    return Verdict(
        purpose=purpose,
        is_open=judged.is_open,
        state=judged.state,
        reason="OPEN" if judged.is_open else closed,
        act_event_id=judged.act.event_id if judged.act else None,
        notice_version=judged.act.notice_version if judged.act else None,
        rules_version=rules_version,
        decided_at=decided_at,
    )


def _undo(rules: Rules, resolution: Resolution, command: UndoMerge | UnmergeRecord) -> Decision:
    if not resolution.is_known:
        raise NotFound("UNKNOWN_CUSTOMER", "nobody is known by these identifiers")
    if len(resolution.customers) > 1 or resolution.unclaimed or resolution.left_out:
        raise Refused("AMBIGUOUS_CUSTOMER", "the identifiers are not all held by one customer")
    return undo(rules, resolution.customers[0], command, address=resolution.address)


def _require_admitted(rules: Rules, resolution: Resolution, source: str) -> None:
    if not is_admitted(rules, source, resolution.records):
        raise PurposeClosed(source)


def _traits(
    address: RecordId, command: Identify | SetTraits, left_out: tuple[LeftOut, ...]
) -> Change:
    body = TraitsSet(
        source=command.source,
        traits=command.traits,
        message_id=command.message_id,
        left_out=left_out,
    )
    return Change(record_stream(address), body, command.happened_at)


def _decline(
    resolution: Resolution,
    command: Identify | RecordSignals,
    message_ids: tuple[str, ...],
    *,
    happened_at: datetime | None = None,
) -> Decision:
    """Leave a trace of what was not let in; for somebody unknown, none at all (R11)."""
    results = tuple(_declined(message_id) for message_id in message_ids)
    if not resolution.is_known:
        return Decision(None, signals=results)
    at = happened_at or (command.happened_at if isinstance(command, Identify) else None)
    body = SignalsDeclined(source=command.source, reason=GATE_CLOSED, message_ids=message_ids)
    change = Change(record_stream(resolution.address), body, at or command.issued_at)
    return Decision(resolution.root, (change,), signals=results)


def _fates(
    resolution: Resolution, source: str, message_ids: tuple[str, ...]
) -> dict[str, SignalResult]:
    """Answer for the messages that came before: a duplicate, or declined as it was then."""
    return _fates_on(resolution.records, source, message_ids)


def _fates_on(
    records: Mapping[RecordId, Record], source: str, message_ids: tuple[str, ...]
) -> dict[str, SignalResult]:
    fates: dict[str, SignalResult] = {}
    for message_id in message_ids:
        match fate_of(records, signal_key(source, message_id)):
            case "recorded":
                fates[message_id] = _duplicate(message_id)
            case "declined":
                fates[message_id] = _declined(message_id)
            case None:
                pass
    return fates


def _repeated(
    customer: Customer, remembered: RememberedCommand, command: CustomerCommand
) -> Decision:
    """Answer a command that was carried out before; for each message, what became of it."""
    revision = remembered.revision
    match command:
        case RecordSignals(source=source, signals=signals):
            message_ids = tuple(signal.message_id for signal in signals)
        case Identify(source=source, message_id=str(message_id)):
            message_ids = (message_id,)
        case _:
            return Decision(customer.root, repeated_revision=revision)
    fates = _fates_on(customer.records, source, message_ids)
    results = tuple(fates.get(m) or _duplicate(m) for m in message_ids)
    return Decision(customer.root, signals=results, repeated_revision=revision)


def _settled(resolution: Resolution, fates: dict[str, SignalResult]) -> Decision:
    return Decision(resolution.root, signals=tuple(fates.values()))


def _recorded(message_id: str) -> SignalResult:
    return SignalResult(message_id=message_id, result="recorded")


def _duplicate(message_id: str) -> SignalResult:
    return SignalResult(message_id=message_id, result="duplicate")


def _declined(message_id: str) -> SignalResult:
    return SignalResult(message_id=message_id, result="declined", reason=GATE_CLOSED)


def _decided(
    resolution: Resolution, changes: list[Change], signals: tuple[SignalResult, ...] = ()
) -> Decision:
    return Decision(
        customer_id=resolution.root,
        changes=tuple(changes),
        created=not resolution.is_known,
        merge_ids=tuple(edge.merge_id for edge in resolution.edges),
        signals=signals,
        left_out=resolution.left_out,
    )
