"""Messages of what commands came to: what was left out, what a merge or an undo changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from actors.intake.identifiers import Blocked
from domain.identity import LeftOut
from domain.replies import Consequences, Done
from koseki.v1 import common_pb2, customer_service_pb2
from services.answers import STATES
from services.errors import CommandFailed, status_and_reason
from services.requests import RequestReader


def left_out_message(
    left_out: Iterable[LeftOut], given: Iterable[common_pb2.Identifier], reader: RequestReader
) -> list[common_pb2.LeftOutIdentifier]:
    """Say by its place which of a request's identifiers were not used."""
    reasons = {item.key: item.reason.value for item in left_out}
    if not reasons:
        return []
    found = []
    for place, item in enumerate(given):
        try:
            key = reader.identifier(item).key
        except Blocked as blocked:
            key = blocked.left_out.key
        if key in reasons:
            found.append(common_pb2.LeftOutIdentifier(place=place, reason=reasons[key]))
    return found


def consequences_message(
    consequences: Consequences | None,
) -> customer_service_pb2.Consequences | None:
    """Write what a merge or an undo comes to."""
    if consequences is None:
        return None
    return customer_service_pb2.Consequences(
        customers=[
            customer_service_pb2.CustomerAfter(
                customer_id=customer.customer_id,
                record_ids=customer.record_ids,
                identifiers=Counter(item.namespace for item in customer.identifiers),
            )
            for customer in consequences.customers
        ],
        traits=[
            customer_service_pb2.TraitConsequence(
                customer_id=change.customer_id,
                trait=change.trait,
                source_before=change.source_before or "",
                source_after=change.source_after or "",
            )
            for change in consequences.traits
        ],
        consents=[
            customer_service_pb2.ConsentConsequence(
                customer_id=change.customer_id,
                purpose=change.purpose,
                open_before=change.open_before,
                open_after=change.open_after,
                state_before=STATES[change.state_before],
                state_after=STATES[change.state_after],
            )
            for change in consequences.consents
        ],
        segments=[
            customer_service_pb2.SegmentConsequence(
                customer_id=change.customer_id,
                segment=change.segment,
                belongs_before=change.belongs_before,
                belongs_after=change.belongs_after,
            )
            for change in consequences.segments
        ],
        closing_acts=consequences.closing_acts,
        declined_messages=consequences.declined_messages,
        erased=erased_messages(consequences),
    )


def erased_messages(
    consequences: Consequences | None,
) -> list[customer_service_pb2.ErasedRecord]:
    """Write the records that go with an erased customer."""
    return [
        customer_service_pb2.ErasedRecord(
            record_id=record.record_id,
            identifiers=record.identifiers,
            traits=record.traits,
            acts=record.acts,
            households=record.households,
            messages=record.messages,
        )
        for record in (consequences.erased if consequences else ())
    ]


def done_message(
    command_id: str, done: Done, left_out: Iterable[common_pb2.LeftOutIdentifier]
) -> customer_service_pb2.CommandOutcome:
    """Write that a command of a batch was carried out."""
    return customer_service_pb2.CommandOutcome(
        command_id=command_id,
        done=customer_service_pb2.CommandDone(
            customer_id=done.customer_id or "",
            revision=done.revision,
            created=done.created,
            merge_ids=done.merge_ids,
            left_out=left_out,
            consequences=consequences_message(done.consequences),
            ignored=done.ignored or "",
        ),
    )


def failure_message(command_id: str, error: Exception) -> customer_service_pb2.CommandOutcome:
    """Write why a command of a batch failed, as a call of its own would have said."""
    code, reason, message = status_and_reason(error)
    current = error.failed.current_revision if isinstance(error, CommandFailed) else None
    failure = customer_service_pb2.CommandFailure(
        code=code, reason=reason, message=message, current_revision=current
    )
    return customer_service_pb2.CommandOutcome(command_id=command_id, failure=failure)
