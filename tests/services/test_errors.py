"""The one table of errors: every kind has its status, and an unforeseen fault says nothing."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from domain.errors import Denied, Invalid, Kind, NotFound, PurposeClosed
from domain.replies import Failed
from eventlog.errors import LogDamaged, LogUnavailable
from projections.errors import CustomerParked, ReadSideNotReady
from services.errors import CommandFailed, status_of
from services.freshness import RevisionNotReached

COMMAND_ID = "01890000-0000-7000-8000-000000000000"


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """Read the ErrorInfo."""
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


TABLE = [
    (Invalid("INVALID_IDENTIFIER", "text"), "INVALID_ARGUMENT", "INVALID_IDENTIFIER"),
    (NotFound("UNKNOWN_SOURCE", "text"), "NOT_FOUND", "UNKNOWN_SOURCE"),
    (Denied("AUDITOR_ONLY", "text"), "PERMISSION_DENIED", "AUDITOR_ONLY"),
    (PurposeClosed("shop"), "FAILED_PRECONDITION", "PURPOSE_CLOSED"),
    (RevisionNotReached(), "UNAVAILABLE", "REVISION_NOT_REACHED"),
    (LogUnavailable("away"), "UNAVAILABLE", "LOG_UNAVAILABLE"),
    (LogDamaged("cut"), "DATA_LOSS", "LOG_DAMAGED"),
    (ReadSideNotReady("not yet"), "UNAVAILABLE", "READ_SIDE_NOT_READY"),
    (CustomerParked(7), "UNAVAILABLE", "CUSTOMER_PARKED"),
]


@pytest.mark.parametrize(("error", "code", "reason"), TABLE, ids=[row[2] for row in TABLE])
def test_each_error_has_a_status_and_a_reason(error: Exception, code: str, reason: str) -> None:
    status = status_of(error)
    assert status.code == grpc.StatusCode[code].value[0]
    assert (info_of(status).reason, info_of(status).domain) == (reason, "koseki.dev")


@pytest.mark.parametrize("kind", list(Kind))
def test_a_command_that_failed_in_its_host_has_the_status_of_its_kind(kind: Kind) -> None:
    failed = Failed(kind=kind, reason="REASON", message="text")
    status = status_of(CommandFailed(failed, COMMAND_ID))
    assert status.code not in {grpc.StatusCode.OK.value[0], grpc.StatusCode.INTERNAL.value[0]}
    assert dict(info_of(status).metadata) == {"command_id": COMMAND_ID}


def test_an_unforeseen_fault_says_nothing_of_itself() -> None:
    status = status_of(KeyError("yumi@example.test"))
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert info_of(status).reason == "INTERNAL"
    assert "yumi" not in str(status)
