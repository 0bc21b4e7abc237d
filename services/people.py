"""Whom a question means, and what for: the customer of a reference, the purpose that is named."""

from __future__ import annotations

from domain.errors import Denied, Invalid, NotFound
from domain.ids import RecordId
from domain.rules import AUDIT
from koseki.v1 import common_pb2
from projections.tables import ReadTables
from projections.views import customer_of
from services.lookup import record_named
from services.requests import RequestReader


class People:
    """Find the customers of one workspace in the read side."""

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader

    def find(self, tables: ReadTables, reference: common_pb2.CustomerReference) -> RecordId:
        """Give a customer's id. Raises `Invalid`, `NotFound` and `CustomerParked`."""
        record_id = record_named(tables, reference, self._reader)
        root = customer_of(tables, record_id) if record_id else None
        if root is None:
            raise NotFound("UNKNOWN_CUSTOMER", "nobody is known by this id or identifier")
        return root


def require_purpose(purpose: str) -> None:
    """Refuse a read that does not say what it is for, or claims to be an audit (R12)."""
    if not purpose:
        raise Invalid("MISSING_PURPOSE", "every read names its purpose")
    if purpose == AUDIT:
        raise Denied("AUDITOR_ONLY", "only the role auditor may read for audit")
