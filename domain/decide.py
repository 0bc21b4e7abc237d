"""Decide what a command changes, given the rules and every customer that the command touches.

Pure: called by hosts, once a turn; called again on fresher state after a conflict.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from domain.choices import (
    Choices,
    acts_of_choices,
    by_purpose,
    closes_something,
    pending_act,
)
from domain.commands import (
    CheckConsent,
    CustomerCommand,
    Identify,
    LinkHousehold,
    PersonCommand,
    RecordConsent,
    RecordSignals,
    RecordTcfChoices,
    SetPreferences,
    SetTraits,
    UnlinkHousehold,
)
from domain.consent_acts import body_of, check_act, verdict_of
from domain.consent_events import ConsentChanged, VerdictRecorded
from domain.customer import (
    Customer,
    Resolution,
    check_limits,
    remembered_command,
    resolve,
)
from domain.errors import NotFound, PurposeClosed, Refused
from domain.event import Event
from domain.fates import GATE_CLOSED, declined, duplicate, fates_of, recorded, results_of
from domain.gate import Gate, gate_of
from domain.identity_events import (
    CustomersMerged,
    CustomerTouched,
    IdentifierClaimed,
    IdentifiersLinked,
)
from domain.ids import RecordId, Stream, identifier_stream, record_stream
from domain.preference_events import HouseholdLinked, HouseholdUnlinked, PreferencesSet
from domain.replies import SignalResult, Verdict
from domain.rules import Rules
from domain.signal_events import SignalsDeclined, SignalsRecorded, TraitsSet
from domain.signals import Signal, earliest
from domain.tcf import choices_of_tcf


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
    ignored: str | None = None
    repeated_revision: int | None = None


def decide(
    rules: Rules, customers: tuple[Customer, ...], command: PersonCommand, *, now: datetime
) -> Decision:
    """Decide one command as of a time. Raises `DomainError`."""
    resolution = resolve(customers, command)
    gate = gate_of(rules, resolution.records, at=now)
    repeated = remembered_command(resolution.records, command.command_id)
    match command:
        case CheckConsent():  # Never answered from memory: an old yes may be wrong by now (R13).
            return _check_consent(gate, resolution, command)
        case _ if repeated is not None:
            return _repeated(resolution, command, repeated.revision)
        case Identify():
            return _identify(gate, resolution, command)
        case SetTraits():
            return _set_traits(gate, resolution, command)
        case RecordSignals():
            return _record_signals(gate, resolution, command)
        case RecordConsent():
            return _record_consent(gate, resolution, command)
        case RecordTcfChoices():
            return _record_tcf_choices(gate, resolution, command)
        case SetPreferences():
            return _set_preferences(resolution, command)
        case LinkHousehold() | UnlinkHousehold():
            return _change_household(gate, resolution, command)


def _identify(gate: Gate, resolution: Resolution, command: Identify) -> Decision:
    message_ids = (command.message_id,) if command.message_id else ()
    fates = fates_of(resolution, command.source, message_ids)
    if fates:
        return _settled(resolution, fates)
    at = command.happened_at
    acts, is_admitted = _pass_gate(gate, resolution, command, opened_at=at, closed_at=at)
    if not is_admitted:
        if command.on_closed == "refuse":
            raise PurposeClosed(command.source)
        return _decline(resolution, command, message_ids, acts=acts, at=at)
    changes = [*_joining(resolution, command, command.source, at), *acts]
    if command.traits:
        changes.append(_traits(resolution.address, command))
    return _decided(resolution, changes, tuple(recorded(m) for m in message_ids))


def _set_traits(gate: Gate, resolution: Resolution, command: SetTraits) -> Decision:
    _require_one(resolution)
    if not gate.admits(command.source):
        raise PurposeClosed(command.source)
    if fates_of(resolution, command.source, (command.message_id,) if command.message_id else ()):
        return Decision(resolution.root)
    return _decided(resolution, [_traits(resolution.address, command)])


def _require_one(resolution: Resolution) -> None:
    if not resolution.is_known:
        raise NotFound("UNKNOWN_CUSTOMER", "nobody is known by these identifiers")
    if resolution.edges or resolution.unclaimed:
        raise Refused("AMBIGUOUS_CUSTOMER", "the identifiers are not all held by one customer")


def _record_signals(gate: Gate, resolution: Resolution, command: RecordSignals) -> Decision:
    known = fates_of(resolution, command.source, tuple(s.message_id for s in command.signals))
    fresh: dict[str, Signal] = {}
    for signal in command.signals:
        if signal.message_id not in known:
            fresh.setdefault(signal.message_id, signal)
    gate.rules.source(command.source)
    if not fresh:
        results = tuple(known[signal.message_id] for signal in command.signals)
        return Decision(resolution.root if resolution.is_known else None, signals=results)
    signals = tuple(fresh.values())
    at = earliest(signals)
    acts, is_admitted = _pass_gate(
        gate, resolution, command, opened_at=at, closed_at=max(s.happened_at for s in signals)
    )
    results = results_of(command.signals, known, is_admitted=is_admitted)
    if not is_admitted:
        decision = _decline(resolution, command, tuple(fresh), acts=acts, at=at)
        return replace(decision, signals=results)
    changes = [*_joining(resolution, command, command.source, at), *acts]
    ttl = gate.rules.source(command.source).context_ttl_seconds
    body = SignalsRecorded(source=command.source, signals=signals, context_ttl_seconds=ttl)
    changes.append(Change(record_stream(resolution.address), body, at))
    return _decided(resolution, changes, results)


def _pass_gate(
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
    chosen = by_purpose(command.category_preferences, source.consent_categories)
    choices = Choices(command.source, chosen, opened_at, closed_at)
    acts = list(acts_of_choices(gate, choices, command_id=command.command_id))
    pending = [pending_act(body, at, now=gate.at) for body, at in acts]
    is_admitted = gate.after(pending).admits(command.source)
    if not (resolution.is_known or is_admitted or closes_something(gate, pending)):
        return [], False
    return _on_every_record(resolution, acts), is_admitted


def _on_every_record(
    resolution: Resolution, acts: Iterable[tuple[ConsentChanged, datetime]]
) -> list[Change]:
    records = sorted(resolution.records) or [resolution.address]
    return [Change(record_stream(r), body, at) for body, at in acts for r in records]


def _record_consent(gate: Gate, resolution: Resolution, command: RecordConsent) -> Decision:
    ignored = check_act(gate, gate.rules.purpose(command.purpose), command)
    if ignored is not None:
        return Decision(resolution.root if resolution.is_known else None, ignored=ignored)
    changes = _joining(resolution, command, None, command.happened_at)
    changes += _on_every_record(resolution, [(body_of(command), command.happened_at)])
    return _decided(resolution, changes)


def _record_tcf_choices(gate: Gate, resolution: Resolution, command: RecordTcfChoices) -> Decision:
    choices = choices_of_tcf(gate.rules, command)
    acts = list(acts_of_choices(gate, choices, command_id=command.command_id))
    if not acts:
        return Decision(resolution.root if resolution.is_known else None, ignored="ALREADY_SAID")
    changes = _joining(resolution, command, None, command.happened_at)
    return _decided(resolution, [*changes, *_on_every_record(resolution, acts)])


def _set_preferences(resolution: Resolution, command: SetPreferences) -> Decision:
    _require_one(resolution)
    body = PreferencesSet(preferences=command.preferences)
    change = Change(record_stream(resolution.address), body, command.happened_at)
    return _decided(resolution, [change])


def _change_household(
    gate: Gate, resolution: Resolution, command: LinkHousehold | UnlinkHousehold
) -> Decision:
    _require_one(resolution)
    household, at = command.household_id, command.happened_at
    held = [r.id for r in resolution.records.values() if household in r.households]
    if isinstance(command, UnlinkHousehold):
        unlinked = HouseholdUnlinked(household_id=household)
        changes = [Change(record_stream(r), unlinked, at) for r in sorted(held)]
        return _decided(resolution, changes)
    if not gate.admits(command.source):
        raise PurposeClosed(command.source)
    linked = HouseholdLinked(household_id=household, source=command.source)
    changes = [Change(record_stream(resolution.address), linked, at)]
    return _decided(resolution, [] if held else changes)


def _check_consent(gate: Gate, resolution: Resolution, command: CheckConsent) -> Decision:
    judged = gate.standing(gate.rules.purpose(command.purpose))
    verdict = verdict_of(
        command.purpose, judged, rules_version=gate.rules.version, decided_at=gate.at
    )
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
        valid_until=verdict.valid_until,
    )
    roots = [customer.root for customer in resolution.customers]
    changes = tuple(Change(record_stream(root), body, gate.at) for root in roots)
    return Decision(customer_id, changes, verdict=verdict)


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
    body = TraitsSet(
        source=command.source,
        traits=command.traits,
        message_id=command.message_id,
        expires_at=command.expires_at,
    )
    return Change(record_stream(address), body, command.happened_at)


def _decline(
    resolution: Resolution,
    command: Identify | RecordSignals,
    message_ids: tuple[str, ...],
    *,
    acts: list[Change],
    at: datetime,
) -> Decision:
    """Leave a trace of what was not let in; for somebody unknown, none but a no (R11)."""
    results = tuple(declined(message_id) for message_id in message_ids)
    if not resolution.is_known and not acts:
        return Decision(None, signals=results)
    changes = [] if resolution.is_known else _joining(resolution, command, None, at)
    body = SignalsDeclined(source=command.source, reason=GATE_CLOSED, message_ids=message_ids)
    changes += [*acts, Change(record_stream(resolution.address), body, at)]
    return replace(_decided(resolution, changes, results), merge_ids=())


def _repeated(resolution: Resolution, command: CustomerCommand, revision: int) -> Decision:
    """Answer a command that was carried out before; for each message, what became of it."""
    match command:
        case RecordSignals(source=source, signals=signals):
            message_ids = tuple(signal.message_id for signal in signals)
        case Identify(source=source, message_id=str(message_id)):
            message_ids = (message_id,)
        case _:
            return Decision(resolution.root, repeated_revision=revision)
    fates = fates_of(resolution, source, message_ids)
    results = tuple(fates.get(m) or duplicate(m) for m in message_ids)
    return Decision(resolution.root, signals=results, repeated_revision=revision)


def _settled(resolution: Resolution, fates: dict[str, SignalResult]) -> Decision:
    return Decision(resolution.root, signals=tuple(fates.values()))


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
