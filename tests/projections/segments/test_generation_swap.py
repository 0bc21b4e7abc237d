"""What a reader keeps of one generation of the read side is not taken for another one's."""

from __future__ import annotations

import pytest

from domain.ids import RecordId
from projections.fold import fold_batch
from projections.memory import MemoryTables
from projections.segments.audience_parts import InSegment
from projections.segments.audiences import Sets, audience_members, count_audience
from projections.segments.bitmaps import NUMBERS
from projections.segments.errors import StaleToken
from projections.segments.journal import behind
from projections.segments.pages import Pages
from projections.segments.watching import Place, SegmentWatch
from tests.projections.histories import batches, record_id
from tests.projections.segments.happenings import Happenings

ASKED, PURPOSE = InSegment("buyers"), "analytics"


def history(*buyers: int) -> Happenings:
    made = Happenings()
    made.rules()
    made.segment("buyers", 'seen("Bought")')
    for number in buyers:
        made.did(number, "Bought")
    return made


def generation(made: Happenings, *, batch: int, first_number: int = 0) -> MemoryTables:
    """Fold a history from its beginning; numbers of customers start where they happen to."""
    tables = MemoryTables()
    begun = tables.begin()
    begun.store(NUMBERS, b"~next", first_number.to_bytes(4, "big"))
    begun.commit(revision=0, event_digest=b"", log_digest=tables.checkpoint.log_digest)
    for entries in batches(made.entries, batch):
        fold_batch(tables, entries)
    return tables


def test_a_set_that_was_stored_as_often_is_read_anew() -> None:
    made, sets = history(1), Sets()
    before = generation(made, batch=1)
    assert count_audience(before, sets, ASKED, purpose=PURPOSE) == 1
    made.did(2, "Bought")
    after = generation(made, batch=100)  # the set is stored once in either
    assert count_audience(after, sets, ASKED, purpose=PURPOSE) == 2


def test_a_list_of_another_generation_is_stale() -> None:
    made, pages = history(1, 2, 3), Pages()
    before = generation(made, batch=1)
    members = audience_members(before, Sets(), ASKED, purpose=PURPOSE)
    page = pages.first(before, members, purpose=PURPOSE, page_members=2)
    assert page.next_token is not None
    after = generation(made, batch=1, first_number=1)
    with pytest.raises(StaleToken):
        pages.next(after, page.next_token, purpose=PURPOSE, page_members=2)
    rest = pages.next(before, page.next_token, purpose=PURPOSE, page_members=2)
    assert {*page.customers, *rest.customers} == {record_id(n) for n in (1, 2, 3)}


def test_a_watch_goes_on_over_a_swap() -> None:
    made = history(1, 2)
    before = generation(made, batch=1)
    watch = SegmentWatch("buyers", PURPOSE, Place(behind(0)))
    told = watch.read(before)
    made.merge(1, 2)
    made.did(3, "Bought")
    after = generation(made, batch=100, first_number=2)
    told += watch.read(after)
    in_one = SegmentWatch("buyers", PURPOSE, Place(behind(0))).read(after)
    assert [item.change for item in told] == [item.change for item in in_one]
    entered: list[RecordId] = [t.change.customer for t in told if t.change.change == "entered"]
    assert entered == [record_id(1), record_id(2), record_id(3)]
