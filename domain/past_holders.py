"""Who held a command's identifiers before: what came with them then, they remember.

An identifier can be unlinked, or readmitted after an erasure, and claimed by somebody else; what is
sent again with it must not be carried out on them. Called where customers are gathered for a
command, and where one is resolved; loads nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from domain.commands import CustomerCommand
from domain.identity import PastHolder
from domain.ids import IdentifierKey
from domain.record import PAST_HOLDERS_MAX, Record, still_remembering

Freed = Mapping[IdentifierKey, tuple[PastHolder, ...]]
"""Who held identifiers that nobody holds now, in the order in which they let go."""

NOBODY_BEFORE: Freed = {}

PAST_HOLDERS_OF_ONE_MAX = 16
"""Of one identifier, the last ones: how far back a day of changing hands is followed."""


def holders_before(
    known: Collection[PastHolder], command: CustomerCommand, *, freed: Freed = NOBODY_BEFORE
) -> tuple[PastHolder, ...]:
    """Give who may remember a command: of `known` those before whom it means, and the last ones."""
    if not known and not freed:
        return ()
    keys = {item.key for item in command.identifiers}
    last = [holder for key in keys for holder in freed.get(key, ())]
    before = [holder for holder in known if holder.key in keys]
    return still_remembering([*before, *last], command.command_id)


def taken_from(
    keys: Iterable[IdentifierKey], command: CustomerCommand, *, freed: Freed
) -> tuple[PastHolder, ...]:
    """Give who held identifiers that are claimed now, as far as it has to be remembered."""
    held = [h for key in keys for h in freed.get(key, ())[-PAST_HOLDERS_OF_ONE_MAX:]]
    return still_remembering(held, command.command_id)[-PAST_HOLDERS_MAX:]


def of_records(records: Iterable[Record]) -> list[PastHolder]:
    """Give who held the identifiers of records before them."""
    return [holder for record in records for holder in record.past_holders]
