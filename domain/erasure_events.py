"""Erasure: a person is to be forgotten, and was. What is written here outlives the data (R14)."""

from __future__ import annotations

from datetime import datetime

from domain.event import Event, ShortText
from domain.identity import Edge
from domain.ids import UuidText


class ErasureRequested(Event):
    """The customer is erased from here on; stands on every record of it, whole on the root.

    Nothing of the person can be stored after it, and whoever reads is told that there was somebody.
    """

    OPEN = {"reference": "where the workspace keeps the request, such as a ticket's number"}

    root: UuidText
    component: tuple[UuidText, ...] = ()
    live_edges: tuple[Edge, ...] = ()
    reference: ShortText = ""


class CustomerErased(Event):
    """Nothing of the person can be read any more; stands on the root, and is the receipt.

    The keys of `records` were destroyed and had left every server's disk by then, so that nothing
    personal of their `events` opens, and so many `read_sides` had let go of them. What rests
    outside the log is gone by the two times at the latest. The Ed25519 signature covers all this,
    with the workspace and the customer's id.
    """

    OPEN = {
        "public_key": "whose signature it is, in hex",
        "signature": "in hex; needed to prove the rest",
    }

    records: tuple[UuidText, ...]
    events: int
    identifiers: int
    read_sides: int
    requested_revision: int
    requested_at: datetime
    erased_at: datetime
    intake_gone_by: datetime
    dead_letters_gone_by: datetime
    public_key: ShortText
    signature: ShortText


END_A_RECORD = (ErasureRequested, CustomerErased)
"""After these nothing else comes on a record: where one is the newest, its person is erased."""
