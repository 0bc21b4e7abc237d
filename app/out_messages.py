"""Changes as CloudEvents for the outside: ids, names of segments and purposes, and nothing else.

A segment's changes name the purposes that it serves and that are open for the person then; one that
enters while none is open is not told (R12). When a purpose opens, its message names the segments
that the customer belongs to, as if it had entered them for that purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from eventlog.out_stream import OutMessage
from projections.instants import instant_text, time_of
from projections.segments.active import EVERYONE, PURPOSE_PREFIX, purpose_set
from projections.segments.definitions import read_segments
from projections.segments.following import segments_of
from projections.segments.journal import MembershipChange, Position, write_position
from projections.segments.membership import read_membership
from projections.tables import ReadTables

CUSTOMER_SUBJECT = "customer"
GAP_SUBJECT = "gap"
Data = dict[str, Any]  # Any: JSON


class OutWriter:
    """Write the changes of one snapshot."""

    def __init__(self, tables: ReadTables, workspace: str, *, losses: int) -> None:
        self._tables = tables
        self._losses = losses
        self._source = f"/koseki/{workspace}"
        self._purposes: Mapping[str, tuple[str, ...]] = {
            name: (segment.active or segment.latest).purposes
            for name, segment in read_segments(tables).items()
        }

    def message(self, position: Position, change: MembershipChange) -> OutMessage | None:
        """Write a change; None for what nobody is told of."""
        if change.segment == EVERYONE:
            return self._joined_or_parted(position, change)
        if change.segment.startswith(PURPOSE_PREFIX) and change.cause == "erased":
            return None  # that they are erased says it all
        if change.segment.startswith(PURPOSE_PREFIX):
            return self._purpose(position, change)
        purposes = self._open(change)
        if not purposes and change.change != "exited":
            return None
        data = {"segment": change.segment, "purposes": purposes, **_moved(change)}
        subject = f"segment.{change.segment}"
        return self._written(subject, f"segment.{change.change}", position, change, data)

    def gap(self, position: Position, at: str) -> OutMessage:
        """Write that changes up to a place were lost: list the members anew."""
        headers = self._headers("gap", position, at)
        body = orjson.dumps({"revision": position.revision})
        return OutMessage(GAP_SUBJECT, headers, body, write_position(position), self._losses)

    def _joined_or_parted(self, position: Position, change: MembershipChange) -> OutMessage | None:
        if change.cause == "erased":
            return self._written(CUSTOMER_SUBJECT, "customer.erased", position, change, {})
        if change.moved_from is None:
            return None
        kind = "merged" if change.cause == "merged" else "parted"
        data = {"from_customer_id": change.moved_from}
        return self._written(CUSTOMER_SUBJECT, f"customer.{kind}", position, change, data)

    def _purpose(self, position: Position, change: MembershipChange) -> OutMessage | None:
        if change.change == "moved":
            return None
        purpose = change.segment.removeprefix(PURPOSE_PREFIX)
        data: Data = {"purpose": purpose}
        if change.change == "entered":
            belongs = segments_of(self._tables, change.customer, purpose)
            data["segments"] = [membership.segment for membership in belongs]
        kind = "opened" if change.change == "entered" else "closed"
        return self._written(CUSTOMER_SUBJECT, f"customer.purpose_{kind}", position, change, data)

    def _open(self, change: MembershipChange) -> list[str]:
        row = read_membership(self._tables, change.customer)
        belongs = row["in"] if row else {}
        served = self._purposes.get(change.segment, ())
        return [name for name in served if purpose_set(name) in belongs]

    def _written(
        self, subject: str, kind: str, position: Position, change: MembershipChange, data: Data
    ) -> OutMessage:
        at = instant_text(time_of(change.at))
        told = {
            "revision": change.revision,
            "customer_id": change.customer,
            "cause": change.cause,
            **data,
        }
        headers = self._headers(kind, position, at)
        body = orjson.dumps(told)
        return OutMessage(subject, headers, body, write_position(position), self._losses)

    def _headers(self, kind: str, position: Position, at: str) -> dict[str, str]:
        return {
            "ce-specversion": "1.0",
            "ce-id": self._id(position),
            "ce-type": f"koseki.out.{kind}.v1",
            "ce-source": self._source,
            "ce-time": at,
            "content-type": "application/json",
        }

    def _id(self, position: Position) -> str:
        """Name a place, apart from what was told of it before a loss freed its revision."""
        place = write_position(position)
        return f"{place}.{self._losses}" if self._losses else place


def _moved(change: MembershipChange) -> Data:
    if change.moved_from is None:
        return {}
    return {"from_customer_id": change.moved_from, "belonged": change.belonged}
