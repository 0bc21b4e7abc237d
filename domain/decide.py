"""Decide what a command changes, given the rules and every customer that the command touches.

Pure: called by hosts, once a turn; called again on fresher state after a conflict.
"""

from __future__ import annotations

from datetime import datetime

from domain.checking import check_consent, no_of_erased
from domain.choices import acts_of_choices, recorded_choices
from domain.commands import (
    CheckConsent,
    EraseCustomer,
    Identify,
    LinkHousehold,
    LinkIdentifiers,
    MergeCustomers,
    PersonCommand,
    ReadmitIdentifier,
    RecordConsent,
    RecordSignals,
    RecordTcfChoices,
    SetPreferences,
    SetTraits,
    UndoMerge,
    UnlinkHousehold,
    UnlinkIdentifier,
    UnmergeRecord,
)
from domain.consent_acts import body_of, check_act
from domain.customer import Customer
from domain.decision import Change, Decision
from domain.erasure import erase
from domain.errors import DomainError, NotFound, PurposeClosed, Refused
from domain.event import Event
from domain.expectation import expectation_of
from domain.fates import (
    DECLINED,
    GATE_CLOSED,
    RECORDED,
    fates_of,
    repeated_outcome,
    results_of,
)
from domain.gate import Gate, joint_gate
from domain.households import Told, is_repeated
from domain.identifier_histories import NO_HISTORIES, IdentifierHistories
from domain.identity import LeftOut
from domain.ids import RecordId, record_stream
from domain.joining import joining, link_identifiers, merge_customers
from domain.parting import undo
from domain.passing import on_every_record, pass_gate
from domain.preference_events import HouseholdLinked, HouseholdUnlinked, PreferencesSet
from domain.releasing import readmit, unlink
from domain.replies import SignalResult
from domain.resolution import ERASED, Resolution, held_by_erased, resolve
from domain.rules import Rules
from domain.signal_events import SignalsDeclined, SignalsRecorded, TraitsSet
from domain.signals import Signal, earliest
from domain.tcf import choices_of_tcf

Resolved = (
    Identify
    | SetTraits
    | RecordSignals
    | RecordConsent
    | RecordTcfChoices
    | SetPreferences
    | LinkHousehold
    | UnlinkHousehold
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
    histories: IdentifierHistories = NO_HISTORIES,
) -> Decision:
    """Decide one command as of a time. Raises `DomainError`.

    `customers` are at least all whom the command touches, and who parted from them or held their
    identifiers in the time that commands are remembered; `histories` are at least those of the
    identifiers that came and that nobody holds.
    """
    repeated = repeated_outcome(customers, command, histories=histories)
    if repeated is not None:
        return repeated
    expectation = expectation_of(customers, command, histories=histories)
    if expectation is None:
        return _decide(rules, customers, command, now=now, histories=histories)
    expectation.require()
    decision = _decide(rules, customers, command, now=now, histories=histories)
    return expectation.bind(decision, command)


def _decide(
    rules: Rules,
    customers: tuple[Customer, ...],
    command: PersonCommand,
    *,
    now: datetime,
    histories: IdentifierHistories,
) -> Decision:
    match command:
        case ReadmitIdentifier():
            return readmit(command, histories)
        case EraseCustomer():
            return erase(customers, command, histories=histories)
        case UnlinkIdentifier():
            return unlink(customers, command)
        case MergeCustomers():
            return merge_customers(rules, customers, command, now=now)
        case CheckConsent(record=False):
            try:
                return _resolve(rules, customers, command, now=now, histories=histories)
            except DomainError as error:
                if error.reason not in ERASED:
                    raise
                return no_of_erased(rules, command, now=now, reason=error.reason)
        case _:
            return _resolve(rules, customers, command, now=now, histories=histories)


def _resolve(
    rules: Rules,
    customers: tuple[Customer, ...],
    command: Resolved,
    *,
    now: datetime,
    histories: IdentifierHistories,
) -> Decision:
    resolution = resolve(rules.identity, customers, command, histories=histories)
    gate = joint_gate(rules, resolution.customers, at=now)
    return _decide_resolved(gate, resolution, command)


def _decide_resolved(gate: Gate, resolution: Resolution, command: Resolved) -> Decision:
    match command:
        case CheckConsent():
            return check_consent(gate, resolution, command)
        case Identify():
            return _identify(gate, resolution, command)
        case SetTraits():
            return _set_traits(gate, resolution, command)
        case RecordSignals():
            return _record_signals(gate, resolution, command)
        case RecordConsent() | RecordTcfChoices():
            return _record_consent(gate, resolution, command)
        case SetPreferences():
            return _set_preferences(resolution, command)
        case LinkHousehold() | UnlinkHousehold():
            return _change_household(gate, resolution, command)
        case LinkIdentifiers():
            _require_admitted(gate, command.source)
            return link_identifiers(gate.rules, resolution, command)
        case UndoMerge() | UnmergeRecord():
            return _undo(gate, resolution, command)


def _identify(gate: Gate, resolution: Resolution, command: Identify) -> Decision:
    _require_not_of_erased(resolution, command)
    message_ids = (command.message_id,) if command.message_id else ()
    customer_id, fates = _known(resolution, command.source, message_ids)
    if fates:
        return Decision(customer_id, signals=tuple(fates.values()))
    at = command.happened_at
    acts, is_admitted = pass_gate(gate, resolution, command, opened_at=at, closed_at=at)
    if not is_admitted:
        if command.on_closed == "refuse":
            raise PurposeClosed(command.source)
        return _decline(gate, resolution, command, message_ids, acts=acts, at=at)
    said = resolution.left_out
    left_out = () if command.traits else said
    changes = joining(
        gate.rules, resolution, command, source=command.source, at=at, left_out=left_out
    )
    changes += acts
    if command.traits:
        changes.append(_traits(resolution.address, command, said))
    return _decided(resolution, changes, (RECORDED,) * len(message_ids))


def _set_traits(gate: Gate, resolution: Resolution, command: SetTraits) -> Decision:
    _require_not_of_erased(resolution, command)
    _require_one(resolution)
    _require_admitted(gate, command.source)
    message_ids = (command.message_id,) if command.message_id else ()
    customer_id, fates = _known(resolution, command.source, message_ids)
    if fates:
        return Decision(customer_id)
    return _decided(resolution, [_traits(resolution.address, command, resolution.left_out)])


def _require_not_of_erased(resolution: Resolution, command: Identify | SetTraits) -> None:
    """Refuse traits of somebody erased, whoever else is named: they would stay with another."""
    if command.traits and resolution.is_of_erased:
        raise held_by_erased()


def _require_one(resolution: Resolution) -> None:
    """Refuse where the identifiers mean nobody yet, or more than one."""
    if not resolution.is_known:
        raise NotFound("UNKNOWN_CUSTOMER", "nobody is known by these identifiers")
    is_whole = resolution.dropped == resolution.left_out
    if resolution.edges or resolution.unclaimed or not is_whole:
        raise Refused("AMBIGUOUS_CUSTOMER", "the identifiers are not all held by one customer")


def _require_admitted(gate: Gate, source: str) -> None:
    if not gate.admits(source):
        raise PurposeClosed(source)


def _record_signals(gate: Gate, resolution: Resolution, command: RecordSignals) -> Decision:
    message_ids = tuple(signal.message_id for signal in command.signals)
    customer_id, known = _known(resolution, command.source, message_ids)
    fresh: dict[str, Signal] = {}
    for signal in command.signals:
        if signal.message_id not in known:
            fresh.setdefault(signal.message_id, signal)
    source = gate.rules.source(command.source)
    if not fresh:
        results = tuple(known[message_id] for message_id in message_ids)
        return Decision(customer_id, signals=results)
    signals = tuple(fresh.values())
    at = earliest(signals)
    acts, is_admitted = pass_gate(
        gate, resolution, command, opened_at=at, closed_at=max(s.happened_at for s in signals)
    )
    results = results_of(command.signals, known, is_admitted=is_admitted)
    if not is_admitted:
        decision = _decline(gate, resolution, command, tuple(fresh), acts=acts, at=at)
        return decision._replace(signals=results)
    changes = joining(gate.rules, resolution, command, source=command.source, at=at)
    body = SignalsRecorded(
        source=command.source,
        signals=signals,
        context_ttl_seconds=source.context_ttl_seconds,
        left_out=resolution.left_out,
    )
    changes += [*acts, Change(record_stream(resolution.address), body, at)]
    return _decided(resolution, changes, results)


def _record_consent(
    gate: Gate, resolution: Resolution, command: RecordConsent | RecordTcfChoices
) -> Decision:
    body, ignored = _act_of(gate, command)
    at, left_out = command.happened_at, resolution.left_out
    if body is None:
        return Decision(_root_meant(resolution), ignored=ignored, left_out=left_out)
    changes = joining(gate.rules, resolution, command, source=None, at=at, left_out=left_out)
    return _decided(resolution, [*changes, *on_every_record(resolution, body, at)])


def _act_of(
    gate: Gate, command: RecordConsent | RecordTcfChoices
) -> tuple[Event | None, str | None]:
    """Give the event that a command comes to, or why there is none."""
    if isinstance(command, RecordConsent):
        ignored = check_act(gate, gate.rules.purpose(command.purpose), command)
        return (body_of(command), None) if ignored is None else (None, ignored)
    choices = choices_of_tcf(gate.rules, command)
    acts = list(acts_of_choices(gate, choices, command_id=command.command_id))
    return (recorded_choices(choices, acts), None) if acts else (None, "ALREADY_SAID")


def _set_preferences(resolution: Resolution, command: SetPreferences) -> Decision:
    _require_one(resolution)
    body = PreferencesSet(preferences=command.preferences)
    change = Change(record_stream(resolution.address), body, command.happened_at)
    return _decided(resolution, [change])


def _change_household(
    gate: Gate, resolution: Resolution, command: LinkHousehold | UnlinkHousehold
) -> Decision:
    _require_one(resolution)
    household, told = command.household_id, {resolution.address}
    if isinstance(command, LinkHousehold):
        _require_admitted(gate, command.source)
        body: Told = HouseholdLinked(household_id=household, source=command.source)
    else:
        body = HouseholdUnlinked(household_id=household)
        told |= {r.id for r in resolution.records.values() if household in r.households}
    effective_at = min(command.happened_at, gate.at)
    changes = [
        Change(record_stream(record_id), body, command.happened_at)
        for record_id in sorted(told)
        if not is_repeated(
            resolution.records[record_id].households.get(household, {}), body, at=effective_at
        )
    ]
    return _decided(resolution, changes)


def _undo(gate: Gate, resolution: Resolution, command: UndoMerge | UnmergeRecord) -> Decision:
    if not resolution.is_known:
        raise NotFound("UNKNOWN_CUSTOMER", "nobody is known by these identifiers")
    if len(resolution.customers) > 1 or resolution.unclaimed or resolution.left_out:
        raise Refused("AMBIGUOUS_CUSTOMER", "the identifiers are not all held by one customer")
    customer = resolution.customers[0]
    return undo(gate.rules, customer, command, address=resolution.address, now=gate.at)


def _traits(
    address: RecordId, command: Identify | SetTraits, left_out: tuple[LeftOut, ...]
) -> Change:
    body = TraitsSet(
        source=command.source,
        traits=command.traits,
        message_id=command.message_id,
        expires_at=command.expires_at,
        left_out=left_out,
    )
    return Change(record_stream(address), body, command.happened_at)


def _decline(
    gate: Gate,
    resolution: Resolution,
    command: Identify | RecordSignals,
    message_ids: tuple[str, ...],
    *,
    acts: list[Change],
    at: datetime,
) -> Decision:
    """Leave a trace of what was not let in; for somebody unknown, none but a no (R11)."""
    results = (DECLINED,) * len(message_ids)
    if not resolution.is_known and not acts:
        return Decision(None, signals=results)
    changes = []
    if not resolution.is_known:
        left_out = resolution.left_out
        changes = joining(gate.rules, resolution, command, source=None, at=at, left_out=left_out)
    body = SignalsDeclined(source=command.source, reason=GATE_CLOSED, message_ids=message_ids)
    changes += [*acts, Change(record_stream(resolution.address), body, at)]
    decision = _decided(resolution, changes, results)
    customer_id = _root_meant(resolution) or decision.customer_id
    return decision._replace(customer_id=customer_id, merge_ids=())


def _known(
    resolution: Resolution, source: str, message_ids: tuple[str, ...]
) -> tuple[RecordId | None, dict[str, SignalResult]]:
    """Say what became of messages that came before, and who has them: whom they meant then."""
    fates = fates_of(resolution.records, source, message_ids)
    customer_id = _root_meant(resolution)
    for customer in resolution.before:
        earlier = fates_of(customer.records, source, message_ids)
        if earlier and not fates:
            customer_id = customer.root
        fates = earlier | fates
    return customer_id, fates


def _root_meant(resolution: Resolution) -> RecordId | None:
    """Name who is meant most strongly, where nobody is joined or made."""
    return resolution.addressee.root if resolution.addressee else None


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
