"""Find on the read side what a request names."""

from __future__ import annotations

from typing import Literal, Protocol

from domain.errors import Invalid, NotFound, Refused
from domain.ids import RecordId
from koseki.v1 import common_pb2
from projections import customers
from projections.erasures import Erasure, erasure_of
from projections.tables import ReadTables
from projections.views import HistoryView, history_view, record_holding, rules_for
from services.requests import RequestReader, spelled_id


class Reference(Protocol):
    """Any request that names one customer."""

    @property
    def customer_id(self) -> str:
        """A customer's or record's id."""

    @property
    def identifier(self) -> common_pb2.Identifier:
        """Any one identifier of the customer."""

    def WhichOneof(
        self, oneof_group: Literal["reference"], /
    ) -> Literal["customer_id", "identifier"] | None:
        """Say which of the two is given."""


class HistoryRequest(Reference, Protocol):
    """Any request for what a customer did about consent."""

    @property
    def purpose(self) -> str:
        """What the answer will be used for."""


def history_named(
    tables: ReadTables, request: HistoryRequest, reader: RequestReader
) -> HistoryView | None:
    """See the acts of a customer. Raises `Invalid`, and as `customer_view`."""
    rules_for(tables, request.purpose)
    record_id = record_named(tables, request, reader)
    if record_id is None:
        return None
    return history_view(tables, record_id, request.purpose, now=reader.now())


def erasure_asked_for(tables: ReadTables, record_id: RecordId) -> Erasure:
    """Find the erasure of a customer, by any id it had. Raises `NotFound` and `Refused`."""
    root = customers.root(tables, record_id)
    if root is None:
        raise NotFound("UNKNOWN_CUSTOMER", "no customer has this id")
    erasure = erasure_of(tables, root)
    if erasure is None:
        raise Refused("NOT_ERASED", "the customer is not erased")
    return erasure


def record_named(
    tables: ReadTables, reference: Reference, reader: RequestReader
) -> RecordId | None:
    """Find the record; None for an identifier that nobody holds. Raises `Invalid`."""
    match reference.WhichOneof("reference"):
        case "customer_id" if reference.customer_id:
            return spelled_id(reference.customer_id)
        case "identifier":
            return record_holding(tables, reader.sought(reference.identifier).key)
        case _:
            raise Invalid("MISSING_IDENTIFIER", "name a customer id or an identifier")
