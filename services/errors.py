"""One table from errors to gRPC statuses; `methods.py` applies it to every method.

Every status carries a `google.rpc.ErrorInfo` with a stable reason; a malformed request also carries
`google.rpc.BadRequest` with the fields that are wrong, never with their values.
"""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from pydantic import ValidationError

from domain.errors import DomainError, Kind
from domain.replies import Failed
from eventlog.errors import LogDamaged, LogError
from projections.errors import ReadSideError
from projections.segments.errors import InvalidAudience, InvalidExpression, SegmentError
from services.contract import FIELD_NAMES

ERROR_DOMAIN = "koseki.dev"
REQUEST_FIELDS = {
    "record_id": "customer_id",
    "other_record_id": "other_customer_id",
    "basis": "lawful_basis",
}
"""Where the contract names a field of a command otherwise."""
_log = structlog.get_logger()

CODES = {
    Kind.INVALID: code_pb2.INVALID_ARGUMENT,
    Kind.NOT_FOUND: code_pb2.NOT_FOUND,
    Kind.CONFLICT: code_pb2.ABORTED,
    Kind.CHANGED: code_pb2.ABORTED,
    Kind.REFUSED: code_pb2.FAILED_PRECONDITION,
    Kind.UNAVAILABLE: code_pb2.UNAVAILABLE,
    Kind.UNKNOWN_OUTCOME: code_pb2.UNKNOWN,
    Kind.DENIED: code_pb2.PERMISSION_DENIED,
    Kind.DAMAGED: code_pb2.DATA_LOSS,
}


class CommandFailed(Exception):
    """A command was not carried out, as its host said."""

    def __init__(self, failed: Failed, command_id: str) -> None:
        super().__init__(failed.message)
        self.failed = failed
        self.command_id = command_id


def status_of(error: Exception) -> status_pb2.Status:
    """Translate an error into a status."""
    match error:
        case CommandFailed(failed=failed, command_id=command_id):
            code = CODES[Kind(failed.kind)]
            told = {"command_id": command_id}
            if failed.current_revision is not None:
                told["current_revision"] = str(failed.current_revision)
            return _status(code, failed.reason, failed.message, told)
        case DomainError():
            return _status(CODES[error.kind], error.reason, error.message, {})
        case ValidationError():
            return _invalid(error)
        case InvalidExpression():
            return _invalid_expression(error)
        case InvalidAudience():
            return _invalid_audience(error)
        case SegmentError():
            return _status(CODES[error.kind], error.reason, error.message, {})
        case LogDamaged():
            return _status(code_pb2.DATA_LOSS, error.reason, error.message, {})
        case LogError() | ReadSideError():
            return _status(code_pb2.UNAVAILABLE, error.reason, error.message, {})
        case _:
            return _status(code_pb2.INTERNAL, "INTERNAL", "an unforeseen fault", {})


def status_and_reason(error: Exception) -> tuple[int, str, str]:
    """Give the code, the stable reason and the message that an error's status would hold."""
    status = status_of(error)
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return status.code, info.reason, status.message


def _status(
    code: code_pb2.Code.ValueType, reason: str, message: str, metadata: dict[str, str]
) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN, metadata=metadata)
    return status_pb2.Status(code=code, message=message, details=[_packed(info)])


def _invalid(error: ValidationError) -> status_pb2.Status:
    violations = [
        error_details_pb2.BadRequest.FieldViolation(
            field=".".join(map(_field_name, fault["loc"])),
            description=fault["msg"],
        )
        for fault in error.errors(include_input=False, include_url=False, include_context=False)
    ]
    status = _status(code_pb2.INVALID_ARGUMENT, "INVALID_FIELD", "the request is malformed", {})
    status.details.append(_packed(error_details_pb2.BadRequest(field_violations=violations)))
    return status


def _field_name(part: int | str) -> str:
    """Name a field or a place as the contract does; a map's keys are the caller's: told to nobody.

    What no message of the contract has for a field is such a key.
    """
    name = REQUEST_FIELDS.get(str(part), str(part))
    return name if isinstance(part, int) or name in FIELD_NAMES else "*"


def _invalid_expression(error: InvalidExpression) -> status_pb2.Status:
    """Name each fault with its place; an expression is the workspace's own and about nobody."""
    violations = [
        error_details_pb2.BadRequest.FieldViolation(
            field="expression",
            description=f"line {fault.line}, column {fault.column}: {fault.message}",
            reason=fault.reason,
        )
        for fault in error.faults
    ]
    status = _status(CODES[error.kind], error.reason, error.message, {})
    status.details.append(_packed(error_details_pb2.BadRequest(field_violations=violations)))
    return status


def _invalid_audience(error: InvalidAudience) -> status_pb2.Status:
    """Name each part that cannot be answered by its place in the request."""
    violations = [
        error_details_pb2.BadRequest.FieldViolation(
            field=fault.place, description=fault.error.message, reason=fault.error.reason
        )
        for fault in error.faults
    ]
    status = _status(CODES[error.kind], error.reason, error.message, {})
    status.details.append(_packed(error_details_pb2.BadRequest(field_violations=violations)))
    return status


def _packed(detail: Any) -> any_pb2.Any:  # noqa: ANN401 - any protobuf message
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


CallContext = grpc.aio.ServicerContext[Any, Any]
"""What gRPC tells a method of its call; the services do not depend on the messages' types."""


def note_unforeseen(error: Exception, method: str) -> None:
    """Log an error that no status of the table is for, where it is told to a caller."""
    if status_of(error).code == code_pb2.INTERNAL:
        _log.error("request_failed", method=method, exc_info=error)


async def end_with(error: Exception, context: CallContext, method: str) -> NoReturn:
    """End a call with the status of an error."""
    note_unforeseen(error, method)
    status = status_of(error)
    await context.abort_with_status(rpc_status.to_status(status))
