"""Pages of an audience that stay as they are while membership moves: the first one pins its set.

A pin is a copy of the bitmap in this process, with a named life and number; a token names the pin
and how far it was read. Who was erased meanwhile is left out. A token whose pin is gone, or of a
read side made anew, is refused, never answered from another set. Where there are too many pins, the
oldest that was read to its end makes room.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from uuid import uuid4

from pyroaring import BitMap

from domain.ids import RecordId
from projections.customers import erased_since
from projections.segments.bitmaps import customer_numbered, numbering
from projections.segments.errors import StaleToken, TooManyPins
from projections.tables import ReadTables

PINS_MAX = 64
PIN_LIFE_SECONDS = 600.0
PAGE_MEMBERS_MAX = 10_000
DIGITS_MAX = 19


@dataclass(frozen=True, slots=True)
class Page:
    """Some members; `total` and `revision` are those of the whole list. No token: the last page."""

    customers: tuple[RecordId, ...]
    total: int
    revision: int
    next_token: str | None


@dataclass(slots=True)
class _Pin:
    members: BitMap
    purpose: str
    revision: int
    expires_at: float
    numbering: bytes
    is_read: bool = False


class Pages:
    """The lists that are being read in this process."""

    def __init__(self, *, seconds: Callable[[], float] = monotonic) -> None:
        self._seconds = seconds
        self._pins: dict[str, _Pin] = {}

    def first(
        self, tables: ReadTables, members: BitMap, *, purpose: str, page_members: int
    ) -> Page:
        """Pin a set and give its first page; raises `TooManyPins`."""
        self._drop_outdated()
        expires_at = self._seconds() + PIN_LIFE_SECONDS
        revision = tables.checkpoint.revision
        pin = _Pin(members, purpose, revision, expires_at, numbering(tables))
        if len(members) <= page_members:
            return _page(tables, pin, 0, page_members)
        if len(self._pins) >= PINS_MAX and not self._make_room():
            raise TooManyPins("too many lists are being read: try again later")
        name = uuid4().hex
        self._pins[name] = pin
        return self._continued(tables, name, 0, page_members=page_members)

    def next(self, tables: ReadTables, token: str, *, purpose: str, page_members: int) -> Page:
        """Give the page that a token names, for its purpose; raises `StaleToken`."""
        self._drop_outdated()
        name, _, position = token.partition(".")
        pin = self._pins.get(name)
        is_number = position.isascii() and position.isdigit() and len(position) < DIGITS_MAX
        is_known = pin is not None and (pin.purpose, pin.numbering) == (purpose, numbering(tables))
        if not is_known or not is_number:
            raise StaleToken("the list is not kept any more: start again")
        return self._continued(tables, name, int(position), page_members=page_members)

    def _continued(
        self, tables: ReadTables, name: str, position: int, *, page_members: int
    ) -> Page:
        pin = self._pins[name]
        page = _page(tables, pin, position, page_members)
        after = position + page_members
        if after >= len(pin.members):
            pin.is_read = True
            return page  # the pin stays while there is room: a page may be asked for again
        return Page(page.customers, page.total, page.revision, f"{name}.{after}")

    def _make_room(self) -> bool:
        """Drop the oldest list that was read to its end; false where there is none."""
        read = next((name for name, pin in self._pins.items() if pin.is_read), None)
        return read is not None and self._pins.pop(read, None) is not None

    def _drop_outdated(self) -> None:
        now = self._seconds()
        self._pins = {name: pin for name, pin in self._pins.items() if pin.expires_at > now}


def _page(tables: ReadTables, pin: _Pin, position: int, page_members: int) -> Page:
    assert 0 < page_members <= PAGE_MEMBERS_MAX
    numbers = pin.members[position : position + page_members]
    found = (customer_numbered(tables, number) for number in numbers)
    living = (root for root in found if root is not None and not erased_since(tables, root))
    return Page(tuple(living), len(pin.members), pin.revision, None)
