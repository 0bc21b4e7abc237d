"""Decide what a command changes, given the rules and every customer that the command touches.

Pure: called by hosts, once a turn; called again on fresher state after a conflict.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from domain.commands import (
    CheckConsent,
    CustomerCommand,
    Identify,
    PersonCommand,
    RecordConsent,
    RecordSignals,
    SetTraits,
)
from domain.consent import ConsentState, Standing
from domain.consent_events import CONSENT_EVENTS, VerdictRecorded
from domain.customer import (
    Customer,
    Resolution,
    check_limits,
    fate_of,
    is_admitted,
    purpose_standing,
    remembered_command,
    resolve,
)
from domain.errors import NotFound, PurposeClosed, Refused
from domain.event import Event
from domain.identity_events import (
    CustomersMerged,
    CustomerTouched,
    IdentifierClaimed,
    IdentifiersLinked,
)
from domain.ids import RecordId, Stream, identifier_stream, record_stream
from domain.replies import SignalResult, Verdict
from domain.rules import Rules
from domain.signal_events import SignalsDeclined, SignalsRecorded, TraitsSet
from domain.signals import Signal, earliest, signal_key

GATE_CLOSED = "PURPOSE_CLOSED"


@dataclass(frozen=True, slots=True)
class Change:
    """An event that is to be stored on a stream."""

    stream: Stream
    body: Event
    happened_at: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """What a command comes to: changes to store together, and what to tell the caller.

    `repeated_revision` is set where the command was carried out before: there is nothing to store.
    """

    customer_id: RecordId | None
    changes: tuple[Change, ...] = ()
    created: bool = False
    merge_ids: tuple[str, ...] = ()
    signals: tuple[SignalResult, ...] = ()
    verdict: Verdict | None = None
    repeated_revision: int | None = None


def decide(
    rules: Rules, customers: tuple[Customer, ...], command: PersonCommand, *, now: datetime
) -> Decision:
    """Decide one command. Raises `DomainError`; `now` only dates a verdict."""
    resolution = resolve(customers, command)
    repeated = remembered_command(resolution.records, command.command_id)
    match command:
        case CheckConsent():  # Never answered from memory: an old yes may be wrong by now (R13).
            return _check_consent(rules, resolution, command, now=now)
        case _ if repeated is not None:
            return _repeated(resolution, command, repeated.revision)
        case Identify():
            return _identify(rules, resolution, command)
        case SetTraits():
            return _set_traits(rules, resolution, command)
        case RecordSignals():
            return _record_signals(rules, resolution, command)
        case RecordConsent():
            return _record_consent(rules, resolution, command)


def _identify(rules: Rules, resolution: Resolution, command: Identify) -> Decision:
    message_ids = (command.message_id,) if command.message_id else ()
    fates = _fates(resolution, command.source, message_ids)
    if fates:
        return _settled(resolution, fates)
    if not is_admitted(rules, command.source, resolution.records):
        if command.on_closed == "refuse":
            raise PurposeClosed(command.source)
        return _decline(resolution, command, message_ids)
    changes = _joining(resolution, command, command.source, command.happened_at)
    if command.traits:
        changes.append(_traits(resolution.address, command))
    return _decided(resolution, changes, tuple(_recorded(m) for m in message_ids))


def _set_traits(rules: Rules, resolution: Resolution, command: SetTraits) -> Decision:
    if not resolution.is_known:
        raise NotFound("UNKNOWN_CUSTOMER", "nobody is known by these identifiers")
    if resolution.edges or resolution.unclaimed:
        raise Refused("AMBIGUOUS_CUSTOMER", "the identifiers are not all held by one customer")
    if not is_admitted(rules, command.source, resolution.records):
        raise PurposeClosed(command.source)
    if _fates(resolution, command.source, (command.message_id,) if command.message_id else ()):
        return Decision(resolution.root)
    return _decided(resolution, [_traits(resolution.address, command)])


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
    changes = _joining(resolution, command, command.source, earliest(signals))
    body = SignalsRecorded(source=command.source, signals=signals)
    changes.append(Change(record_stream(resolution.address), body, earliest(signals)))
    return _decided(resolution, changes, tuple(results))


def _record_consent(rules: Rules, resolution: Resolution, command: RecordConsent) -> Decision:
    rules.purpose(command.purpose)
    changes = _joining(resolution, command, None, command.happened_at)
    body = CONSENT_EVENTS[command.state](
        act_id=command.command_id,
        purpose=command.purpose,
        notice_version=command.notice_version,
        notice_language=command.notice_language,
        jurisdiction=command.jurisdiction,
        method=command.method,
        evidence=command.evidence,
    )
    records = sorted(resolution.records) or [resolution.address]
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


def _joining(
    resolution: Resolution, command: CustomerCommand, source: str | None, at: datetime
) -> list[Change]:
    """Claim and link what nobody holds, then join what met; one batch with its record (R5, R7)."""
    check_limits(resolution)
    address = resolution.address
    changes = [
        Change(identifier_stream(item.key), IdentifierClaimed(record_id=address), at)
        for item in resolution.unclaimed
    ]
    if resolution.unclaimed:
        body = IdentifiersLinked(
            source=source,
            keys=tuple(item.key for item in resolution.unclaimed),
            identifiers=resolution.unclaimed,
        )
        changes.append(Change(record_stream(address), body, at))
        if address != resolution.root and not resolution.edges:
            touched = CustomerTouched(record_id=address)
            changes.append(Change(record_stream(resolution.root), touched, at))
    return changes + _merging(resolution, command, at)


def _merging(resolution: Resolution, command: CustomerCommand, at: datetime) -> list[Change]:
    if not resolution.edges:
        return []
    members = tuple(sorted(resolution.records))
    live = tuple(edge for customer in resolution.customers for edge in customer.edges)
    evidence = tuple(identifier.key for identifier in command.identifiers)
    plain = CustomersMerged(root=resolution.root, edges=resolution.edges, evidence=evidence)
    whole = plain.model_copy(
        update={"component": members, "live_edges": (*live, *resolution.edges)}
    )
    return [Change(record_stream(m), whole if m == resolution.root else plain, at) for m in members]


def _traits(address: RecordId, command: Identify | SetTraits) -> Change:
    body = TraitsSet(source=command.source, traits=command.traits, message_id=command.message_id)
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
    fates: dict[str, SignalResult] = {}
    for message_id in message_ids:
        match fate_of(resolution.records, signal_key(source, message_id)):
            case "recorded":
                fates[message_id] = _duplicate(message_id)
            case "declined":
                fates[message_id] = _declined(message_id)
            case None:
                pass
    return fates


def _repeated(resolution: Resolution, command: CustomerCommand, revision: int) -> Decision:
    """Answer a command that was carried out before; for each message, what became of it."""
    match command:
        case RecordSignals(source=source, signals=signals):
            message_ids = tuple(signal.message_id for signal in signals)
        case Identify(source=source, message_id=str(message_id)):
            message_ids = (message_id,)
        case _:
            return Decision(resolution.root, repeated_revision=revision)
    fates = _fates(resolution, source, message_ids)
    results = tuple(fates.get(m) or _duplicate(m) for m in message_ids)
    return Decision(resolution.root, signals=results, repeated_revision=revision)


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
    )
