"""What is asked in tests of the domain: commands, named by small numbers."""

from __future__ import annotations

from typing import Any

from domain.commands import (
    CheckConsent,
    EraseCustomer,
    Identify,
    LinkIdentifiers,
    MergeCustomers,
    RecordConsent,
    RecordSignals,
    SetTraits,
    UndoMerge,
    UnlinkIdentifier,
    UnmergeRecord,
)
from domain.consent import ConsentState
from domain.identity import Identifier
from domain.ids import MergeId
from domain.signals import Signal
from tests.domain.facts import at, command_id, record_id


def envelope(number: int, said: dict[str, Any]) -> dict[str, Any]:
    """Give what every command carries; `named` and `new` are records, by their numbers."""
    record = said.pop("named", None)
    return {
        "command_id": command_id(number),
        "auth_id": "test",
        "issued_at": at(0),
        "deadline": at(9_999),
        "record_id": None if record is None else record_id(record),
        "new_record_id": record_id(said.pop("new", 99)),
        **said,
    }


def identify(number: int, *identifiers: Identifier, **said: Any) -> Identify:
    """Ask to identify."""
    defaults: dict[str, Any] = {"source": "shop", "happened_at": at(1)}
    return Identify(identifiers=identifiers, **(defaults | envelope(number, said)))


def set_traits(number: int, *identifiers: Identifier, **said: Any) -> SetTraits:
    """Ask to set traits."""
    defaults: dict[str, Any] = {"source": "shop", "happened_at": at(1), "traits": {"a": 1}}
    return SetTraits(identifiers=identifiers, **(defaults | envelope(number, said)))


def signal(message_id: str, minute: float = 1, **said: Any) -> Signal:
    """Make a signal."""
    return Signal(message_id=message_id, name="Order Completed", happened_at=at(minute), **said)


def signals(number: int, *identifiers: Identifier, **said: Any) -> RecordSignals:
    """Ask to record signals."""
    messages = said.pop("messages", ["m1"])
    defaults: dict[str, Any] = {
        "source": "shop",
        "signals": tuple(m if isinstance(m, Signal) else signal(m) for m in messages),
    }
    return RecordSignals(identifiers=identifiers, **(defaults | envelope(number, said)))


def act(number: int, state: str, *identifiers: Identifier, **said: Any) -> RecordConsent:
    """Ask to record consent."""
    defaults: dict[str, Any] = {
        "purpose": "marketing",
        "happened_at": at(1),
        "state": ConsentState(state),
    }
    return RecordConsent(identifiers=identifiers, **(defaults | envelope(number, said)))


def check(number: int, *identifiers: Identifier, **said: Any) -> CheckConsent:
    """Ask whether a purpose is open."""
    defaults: dict[str, Any] = {"purpose": "marketing"}
    return CheckConsent(identifiers=identifiers, **(defaults | envelope(number, said)))


def link(number: int, *identifiers: Identifier, **said: Any) -> LinkIdentifiers:
    """Ask to link identifiers to somebody known."""
    defaults: dict[str, Any] = {"source": "shop", "happened_at": at(1)}
    return LinkIdentifiers(identifiers=identifiers, **(defaults | envelope(number, said)))


def unlink(number: int, *identifiers: Identifier, **said: Any) -> UnlinkIdentifier:
    """Ask to take an identifier from whoever holds it."""
    return UnlinkIdentifier(identifiers=identifiers, **envelope(number, said))


def merge(number: int, one: int, other: int, **said: Any) -> MergeCustomers:
    """Ask to merge the customers of two records."""
    asked = envelope(number, {"named": one, **said})
    return MergeCustomers(other_record_id=record_id(other), **asked)


def erasing(number: int, *identifiers: Identifier, **said: Any) -> EraseCustomer:
    """Ask to erase somebody."""
    return EraseCustomer(identifiers=identifiers, **envelope(number, said))


def undo(number: int, merge_id: str, **said: Any) -> UndoMerge:
    """Ask to undo a merge."""
    return UndoMerge(merge_id=MergeId(merge_id), **envelope(number, said))


def unmerge(number: int, record: int, **said: Any) -> UnmergeRecord:
    """Ask to undo every merge of a record."""
    return UnmergeRecord(**envelope(number, {"named": record, **said}))
