"""Customers as they were answered, given again for as long as nothing that they show has changed.

An answer is kept with all rows that it was made of as they are stored (`projections/footprint.py`)
and is given again only where the snapshot of the call holds the same, nothing in it has run out,
and every key is still there: exactly what would be made anew, for a tenth of the work. A change of
a customer, of its keys or of the rules makes its answer another one at once; nothing is kept for
longer than `KEPT_SECONDS_MAX`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from koseki.v1 import query_service_pb2
from projections.footprint import Footprint
from projections.tables import ReadTables
from projections.views import CustomerView, judged_at
from services.answers import customer_message

CUSTOMERS_KEPT_MAX = 8_192
"""About 4 KB each."""

KEPT_SECONDS_MAX = 60.0
PLACES_READ_MAX = 256
"""Of an answer that is kept: more would take as long to compare as to make."""

Name = tuple[str, str, str]
"""By what a customer is asked for, which one, and for which purpose."""

See = Callable[[ReadTables], CustomerView | None]


@dataclass(frozen=True, slots=True)
class _Kept:
    message: query_service_pb2.Customer
    footprint: Footprint
    judged_at: datetime
    sure_until: datetime

    def is_sure_at(self, time: datetime) -> bool:
        return self.judged_at <= time < self.sure_until


class KeptCustomers:
    """The answers of one process, the one that was not asked for longest leaves first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Name, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def customer(
        self, tables: ReadTables, name: Name, see: See, *, now: datetime
    ) -> query_service_pb2.Customer | None:
        """Give a customer's message, which is not to be changed, without its revision.

        `see` gives the view, judged as of `now` or the log's clock. Raises what it raises.
        """
        time = judged_at(tables, now)
        kept = self._kept.get(name)
        if kept is not None:
            if kept.is_sure_at(time) and kept.footprint.is_in(tables):
                self._kept.move_to_end(name)
                return kept.message
            del self._kept[name]
        footprint = Footprint(tables)
        view = see(footprint)
        if view is None:
            return None
        message = customer_message(view)
        message.ClearField("revision")
        if len(footprint) <= PLACES_READ_MAX:
            footprint.let_go()
            end = time + timedelta(seconds=KEPT_SECONDS_MAX)
            self._keep(name, _Kept(message, footprint, time, min(view.sure_until or end, end)))
        return message

    def _keep(self, name: Name, kept: _Kept) -> None:
        self._kept[name] = kept
        if len(self._kept) > CUSTOMERS_KEPT_MAX:
            self._kept.popitem(last=False)
