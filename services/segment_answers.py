"""Make messages of segments, of their changes, of why somebody belongs, and of trait indexes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from google.protobuf import json_format, struct_pb2, timestamp_pb2

from domain.segments import Definition, Segment
from domain.trait_indexes import TraitIndex
from koseki.v1 import common_pb2, query_service_pb2, segment_service_pb2
from projections.instants import instant_text, time_of
from projections.segments.evaluation import Reading
from projections.segments.explaining import Explanation
from projections.segments.following import CustomerChange, Membership
from projections.segments.watching import Told
from services.answers import stamp

CHANGES = {
    "entered": segment_service_pb2.MEMBERSHIP_CHANGE_ENTERED,
    "exited": segment_service_pb2.MEMBERSHIP_CHANGE_EXITED,
    "moved": segment_service_pb2.MEMBERSHIP_CHANGE_MOVED,
}
CAUSES = {
    "event": common_pb2.CHANGE_CAUSE_EVENT,
    "time": common_pb2.CHANGE_CAUSE_TIME,
    "merged": common_pb2.CHANGE_CAUSE_MERGED,
    "parted": common_pb2.CHANGE_CAUSE_PARTED,
    "definition": common_pb2.CHANGE_CAUSE_DEFINITION,
    "parked": common_pb2.CHANGE_CAUSE_PARKED,
    "erased": common_pb2.CHANGE_CAUSE_ERASED,
}
CUSTOMER_CHANGES = {
    "data": query_service_pb2.CUSTOMER_CHANGE_DATA,
    "purpose_opened": query_service_pb2.CUSTOMER_CHANGE_PURPOSE_OPENED,
    "purpose_closed": query_service_pb2.CUSTOMER_CHANGE_PURPOSE_CLOSED,
    "merged": query_service_pb2.CUSTOMER_CHANGE_MERGED,
    "parted": query_service_pb2.CUSTOMER_CHANGE_PARTED,
    "segment_entered": query_service_pb2.CUSTOMER_CHANGE_SEGMENT_ENTERED,
    "segment_exited": query_service_pb2.CUSTOMER_CHANGE_SEGMENT_EXITED,
    "segment_moved": query_service_pb2.CUSTOMER_CHANGE_SEGMENT_MOVED,
    "erased": query_service_pb2.CUSTOMER_CHANGE_ERASED,
}


def trait_index_message(
    index: TraitIndex, ready_for: Iterable[str]
) -> segment_service_pb2.TraitIndex:
    """Write an index over a trait."""
    return segment_service_pb2.TraitIndex(
        trait=index.trait,
        purposes=index.purposes,
        open_reason=index.open_reason,
        ready_for=ready_for,
    )


def segment_message(name: str, segment: Segment) -> segment_service_pb2.Segment:
    """Write a segment."""
    return segment_service_pb2.Segment(
        name=name,
        state=_state(segment),
        latest=_definition(segment.latest),
        active=_definition(segment.active) if segment.active else None,
    )


def _state(segment: Segment) -> segment_service_pb2.SegmentState.ValueType:
    if segment.is_archived:
        return segment_service_pb2.SEGMENT_STATE_ARCHIVED
    if segment.active == segment.latest:
        return segment_service_pb2.SEGMENT_STATE_ACTIVE
    return segment_service_pb2.SEGMENT_STATE_PENDING


def _definition(definition: Definition) -> segment_service_pb2.SegmentDefinition:
    return segment_service_pb2.SegmentDefinition(
        number=definition.number,
        expression=definition.expression,
        purposes=definition.purposes,
        uses=definition.uses,
        exception=definition.exception,
        description=definition.description,
    )


def segment_change_message(told: Told, *, mark: str) -> segment_service_pb2.WatchSegmentResponse:
    """Write a change of a segment."""
    change = told.change
    return segment_service_pb2.WatchSegmentResponse(
        revision=change.revision,
        change=CHANGES[change.change],
        customer_id=change.customer,
        from_customer_id=change.moved_from or "",
        belonged=change.belonged,
        cause=CAUSES[change.cause],
        happened_at=stamp(time_of(change.at)),
        resume_token=told.place.token(mark),
    )


def customer_change_message(
    change: CustomerChange, *, mark: str
) -> query_service_pb2.WatchCustomerResponse:
    """Write a change of a customer."""
    return query_service_pb2.WatchCustomerResponse(
        revision=change.revision,
        change=CUSTOMER_CHANGES[change.kind],
        customer_id=change.customer,
        from_customer_id=change.other or "",
        segment=change.segment,
        cause=CAUSES[change.cause],
        happened_at=None if change.at is None else stamp(time_of(change.at)),
        resume_token=change.place.token(mark),
    )


def membership_messages(
    memberships: Iterable[Membership],
) -> list[query_service_pb2.Membership]:
    """Write to what a customer belongs."""
    return [
        query_service_pb2.Membership(
            segment=membership.segment,
            since_revision=membership.since_revision,
            since=stamp(time_of(membership.since_at)),
            sure_until=_stamp_of(membership.sure_until),
        )
        for membership in memberships
    ]


def explanation_message(
    explanation: Explanation, *, revision: int
) -> segment_service_pb2.ExplainMembershipResponse:
    """Write why a customer belongs, or does not."""
    message = segment_service_pb2.ExplainMembershipResponse(
        customer_id=explanation.customer,
        revision=revision,
        purpose_open=True,
        belongs=explanation.is_in,
        since_revision=explanation.since_revision or 0,
        since=_stamp_of(explanation.since_at),
        sure_until=_stamp_of(explanation.sure_until),
        readings=[_reading(reading) for reading in explanation.readings],
    )
    json_format.ParseDict(explanation.traits, message.traits)
    return message


def _reading(reading: Reading) -> segment_service_pb2.SegmentReading:
    value = reading.value
    written = instant_text(value) if isinstance(value, datetime) else value
    return segment_service_pb2.SegmentReading(
        function=reading.call.function,
        arguments=reading.call.arguments,
        # ParseDict reads any JSON value into this message; its stub knows objects only.
        value=json_format.ParseDict(written, struct_pb2.Value()),  # type: ignore[arg-type]
        sure_until=_stamp_of(reading.due),
    )


def _stamp_of(instant: int | None) -> timestamp_pb2.Timestamp | None:
    return None if instant is None else stamp(time_of(instant))
