"""Make messages of events, of proofs and of what changed, for `audit.py`."""

from __future__ import annotations

from google.protobuf import json_format, struct_pb2
from pydantic import JsonValue

from eventlog.codec import encode_json
from eventlog.port import Entry
from eventlog.registry import wire_name
from koseki.v1 import audit_service_pb2
from projections.erasures import Erasure
from replay.diff import Change, Step
from replay.erasure_receipt import receipt_of
from replay.verify import Verification
from services.answers import stamp


def event_message(entry: Entry) -> audit_service_pb2.ReplayEventsResponse:
    """Write an event in its place; of one that cannot be read the place alone."""
    message = audit_service_pb2.ReplayEventsResponse(
        revision=entry.revision,
        stream_kind=entry.stream.kind,
        stream_key=entry.stream.key,
        version=entry.version,
        previous=entry.previous,
        digest=entry.digest,
        fault=entry.fault or "",
    )
    event = entry.event
    if event is None:
        return message
    said = audit_service_pb2.ReplayEventsResponse(
        event_id=event.event_id,
        type=wire_name(type(event.body)),
        happened_at=stamp(event.happened_at),
        recorded_at=stamp(event.recorded_at),
        command_id=event.command_id,
        decision_id=event.decision_id,
        part=event.part,
        parts=event.parts,
        auth_id=event.auth_id,
        is_erased=event.is_erased,
        body=encode_json(event.body.__dict__).decode(),
    )
    message.MergeFrom(said)
    return message


def verification_message(found: Verification) -> audit_service_pb2.Verification:
    """Write what a verification found."""
    first = found.first
    return audit_service_pb2.Verification(
        holds=found.holds,
        revision=found.checkpoint.revision,
        log_digest=found.checkpoint.log_digest,
        rows_digest=found.checkpoint.rows_digest,
        rows_compared=found.rows_compared,
        sets_compared=found.sets_compared,
        divergences=found.divergences,
        first_divergence_revision=first.revision if first else 0,
        first_divergence_record=first.record if first else "",
        first_divergence=f"{first.table} {first.key} {' '.join(first.fields)}" if first else "",
        faults=found.faults,
    )


def erasure_message(
    erasure: Erasure, *, workspace: str, revision: int
) -> audit_service_pb2.GetErasureReceiptResponse:
    """Write what became of an erasure."""
    receipt = ""
    if erasure.receipt is not None:
        receipt = receipt_of(workspace, erasure.root, erasure.receipt).model_dump_json()
    return audit_service_pb2.GetErasureReceiptResponse(
        customer_id=erasure.root,
        requested_revision=erasure.revision,
        requested_at=stamp(erasure.requested_at),
        complete=erasure.receipt is not None,
        receipt=receipt,
        revision=revision,
    )


def change_message(change: Change) -> audit_service_pb2.FieldChange:
    """Write what became of a field."""
    return audit_service_pb2.FieldChange(
        field=change.name,
        before=_value(change.before),
        after=_value(change.after),
        steps=[_step(step) for step in change.steps],
    )


def _step(step: Step) -> audit_service_pb2.FieldStep:
    return audit_service_pb2.FieldStep(
        revision=step.revision,
        by_time=not step.events,
        event_ids=step.event_ids,
        types=step.types,
        auth_id=step.auth_id,
        recorded_at=stamp(step.recorded_at) if step.recorded_at else None,
        value=_value(step.value),
    )


def _value(value: JsonValue) -> struct_pb2.Value | None:
    if value is None:
        return None
    # ParseDict reads any JSON value into this message; its stub knows objects only.
    return json_format.ParseDict(value, struct_pb2.Value())  # type: ignore[arg-type]
