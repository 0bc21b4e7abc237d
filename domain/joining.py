"""How identifiers are linked and customers become one: the events, each on every record it binds.

Called by `decide.py` where a resolution changes identity, and for an explicit merge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from domain.commands import CustomerCommand, LinkIdentifiers, MergeCustomers
from domain.consequences import consequences_of_merge
from domain.customer import Customer
from domain.decision import Change, Decision
from domain.errors import NotFound, Refused
from domain.identity import Edge, LeftOut, Separation, pairs_of
from domain.identity_events import (
    CustomersMerged,
    CustomerTouched,
    IdentifierClaimed,
    IdentifiersLinked,
    IdentifiersTakenOver,
)
from domain.ids import (
    IDENTIFIERS_PER_CUSTOMER_MAX,
    RECORDS_PER_CUSTOMER_MAX,
    RecordId,
    identifier_stream,
    merge_id_of,
    record_stream,
)
from domain.limits import identifiers_of
from domain.resolution import Resolution, owner_of
from domain.rules import Rules


def joining(
    rules: Rules,
    resolution: Resolution,
    command: CustomerCommand,
    *,
    source: str | None,
    at: datetime,
    left_out: tuple[LeftOut, ...] = (),
) -> list[Change]:
    """Claim and link what nobody holds, then join what met; one batch with its record (R5, R7)."""
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
            left_out=left_out,
        )
        changes.append(Change(record_stream(address), body, at))
        if resolution.past_holders:
            taken = IdentifiersTakenOver(holders=resolution.past_holders)
            changes.append(Change(record_stream(address), taken, at))
        if address != resolution.root and not resolution.edges:
            touched = CustomerTouched(record_id=address)
            changes.append(Change(record_stream(resolution.root), touched, at))
    if resolution.edges:
        unused = {item.key for item in resolution.left_out}
        merge = CustomersMerged(
            root=resolution.root,
            edges=resolution.edges,
            evidence=tuple(i.key for i in command.identifiers if i.key not in unused),
            rules_version=rules.version,
        )
        changes += _merging(resolution.customers, merge, at)
    return changes


def link_identifiers(rules: Rules, resolution: Resolution, command: LinkIdentifiers) -> Decision:
    """Link all the identifiers to somebody known, or refuse."""
    if not resolution.is_known:
        raise NotFound("UNKNOWN_CUSTOMER", "nobody is known by these identifiers")
    if resolution.left_out:
        reason = resolution.left_out[0].reason.value
        raise Refused(f"IDENTIFIER_{reason}", "an identifier cannot be linked to this customer")
    at = command.happened_at
    changes = joining(rules, resolution, command, source=command.source, at=at)
    merge_ids = tuple(edge.merge_id for edge in resolution.edges)
    return Decision(resolution.root, tuple(changes), merge_ids=merge_ids)


def merge_customers(
    rules: Rules, customers: Iterable[Customer], command: MergeCustomers, *, now: datetime
) -> Decision:
    """Join the customers of two records, whatever keeps them apart."""
    known = list(customers)
    one, other = (owner_of(known, record_id) for record_id in command.named_records)
    if one.root == other.root:
        return Decision(one.root)
    _require_room(one, other)
    older, newer = sorted(command.named_records)
    merge_id = merge_id_of(command.command_id, 1)
    merge = CustomersMerged(
        root=min(one.root, other.root),
        edges=(Edge(merge_id=merge_id, older=older, newer=newer),),
        evidence=(),
        reason="explicit",
        rules_version=rules.version,
    )
    changes = () if command.dry_run else tuple(_merging((one, other), merge, command.issued_at))
    return Decision(
        customer_id=RecordId(merge.root),
        changes=changes,
        merge_ids=(merge_id,),
        consequences=consequences_of_merge(rules, one, other, now=now),
    )


def _require_room(one: Customer, other: Customer) -> None:
    if len(one.records) + len(other.records) > RECORDS_PER_CUSTOMER_MAX:
        raise Refused("TOO_MANY_RECORDS", "the customer would hold more than 256 records")
    if identifiers_of(one) + identifiers_of(other) > IDENTIFIERS_PER_CUSTOMER_MAX:
        raise Refused("TOO_MANY_IDENTIFIERS", "the customer would hold more than 512 identifiers")


def _merging(customers: Sequence[Customer], plain: CustomersMerged, at: datetime) -> list[Change]:
    members = sorted(record_id for customer in customers for record_id in customer.records)
    live = tuple(edge for customer in sorted(customers, key=_root) for edge in customer.edges)
    whole = plain.model_copy(
        update={
            "component": tuple(members),
            "live_edges": (*live, *plain.edges),
            "separations": _separations(customers, plain.edges, reason=plain.reason),
        }
    )
    return [Change(record_stream(m), whole if m == plain.root else plain, at) for m in members]


def _root(customer: Customer) -> RecordId:
    return customer.root


def _separations(
    customers: Sequence[Customer],
    edges: Iterable[Edge],
    *,
    reason: Literal["identifiers_met", "explicit"],
) -> tuple[Separation, ...]:
    """Join the customers' separations; each edge stands over those that it bridges."""
    first, *others = customers
    joined, members = pairs_of(first.separations), set(first.records)
    for edge, customer in zip(edges, others, strict=True):
        joined = pairs_of((*joined.values(), *customer.separations))
        for place, separation in joined.items():
            bridged = _is_bridged(separation, members, set(customer.records))
            if bridged and (reason == "explicit" or not separation.is_in_force):
                lifted_by = (*separation.lifted_by, edge.merge_id)
                joined[place] = separation.model_copy(update={"lifted_by": lifted_by})
        members |= set(customer.records)
    return tuple(joined[place] for place in sorted(joined))


def _is_bridged(separation: Separation, one: set[RecordId], other: set[RecordId]) -> bool:
    ends = {RecordId(separation.one), RecordId(separation.other)}
    return bool(ends & one) and bool(ends & other)
