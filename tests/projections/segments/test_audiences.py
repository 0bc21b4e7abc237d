"""Audiences over bitmaps equal the same question asked of the rows; pages stay as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.consent import ConsentState
from domain.erasure_events import ErasureRequested
from domain.ids import RecordId, record_stream
from projections.fold import fold_batch
from projections.memory import MemoryTables
from projections.segments.audience_parts import (
    AUDIENCE_PARTS_MAX,
    AllOf,
    AnyOf,
    Audience,
    Having,
    InSegment,
    NoneOf,
    TraitKnown,
)
from projections.segments.audiences import Sets, audience_members, count_audience
from projections.segments.errors import (
    AudienceTooLarge,
    InvalidAudience,
    StaleToken,
    TooManyPins,
)
from projections.segments.membership import MEMBERSHIPS
from projections.segments.pages import PIN_LIFE_SECONDS, PINS_MAX, Pages
from projections.store import Store
from projections.tables import ReadTables
from tests.projections.histories import record_id
from tests.projections.segments.happenings import Happenings

SEGMENTS = ("a", "b", "c")
LEAVES: st.SearchStrategy[Audience] = st.sampled_from(
    [*(InSegment(name) for name in SEGMENTS), Having("analytics")]
)


def combined(parts: st.SearchStrategy[Audience]) -> st.SearchStrategy[Audience]:
    several = st.lists(parts, max_size=3).map(tuple)
    return several.map(AllOf) | several.map(AnyOf) | several.map(NoneOf)


AUDIENCES: st.SearchStrategy[Audience] = st.recursive(LEAVES, combined, max_leaves=8)


def history() -> Happenings:
    made = Happenings()
    made.rules()
    for segment in SEGMENTS:
        made.segment(segment, f'seen("{segment}")', purposes=("analytics", "marketing"))
    for number in range(16):
        for place, segment in enumerate(SEGMENTS):
            if number >> place & 1:
                made.did(number, segment)
        if number % 3:
            made.say(number, "marketing", ConsentState.GIVEN)
    made.merge(3, 4)
    made.merge(9, 8)
    return made


def tables_of(made: Happenings) -> MemoryTables:
    tables = MemoryTables()
    fold_batch(tables, made.entries)
    return tables


TABLES = tables_of(history())


def asked_of_rows(tables: ReadTables, audience: Audience) -> set[RecordId]:
    rows = {RecordId(key.decode()): set(row["in"]) for key, row in tables.scan(MEMBERSHIPS, b"")}
    match audience:
        case InSegment(segment=name):
            return {root for root, names in rows.items() if name in names}
        case Having(purpose=name):
            return {root for root, names in rows.items() if f"~purpose.{name}" in names}
        case AllOf(parts=parts):
            return set(rows).intersection(*(asked_of_rows(tables, part) for part in parts))
        case AnyOf(parts=parts):
            return set().union(*(asked_of_rows(tables, part) for part in parts))
        case NoneOf(parts=parts):
            return set(rows).difference(*(asked_of_rows(tables, part) for part in parts))
        case _:
            raise AssertionError("traits are asked in test_trait_indexes.py")


@settings(deadline=None)
@given(AUDIENCES, st.sampled_from(["marketing", "analytics"]))
def test_any_expression_counts_what_the_rows_say(audience: Audience, purpose: str) -> None:
    wanted = asked_of_rows(TABLES, audience) & asked_of_rows(TABLES, Having(purpose))
    assert count_audience(TABLES, Sets(), audience, purpose=purpose) == len(wanted)


def test_only_segments_that_serve_the_purpose_may_decide() -> None:
    for segment, reason in (("a", "PURPOSE_NOT_SERVED"), ("nobody", "UNKNOWN_SEGMENT")):
        with pytest.raises(InvalidAudience) as refused:
            count_audience(TABLES, Sets(), InSegment(segment), purpose="service")
        assert refused.value.reason == reason


def test_every_part_that_cannot_be_answered_is_named_with_its_place() -> None:
    asked = AllOf(
        (
            InSegment("a", "0"),
            AnyOf((InSegment("nobody", "1.0"), Having("unheard_of", "1.1")), "1"),
            TraitKnown("country", "2"),
        )
    )
    with pytest.raises(InvalidAudience) as refused:
        count_audience(TABLES, Sets(), asked, purpose="analytics")
    assert [(fault.place, fault.error.reason) for fault in refused.value.faults] == [
        ("1.0", "UNKNOWN_SEGMENT"),
        ("1.1", "UNKNOWN_PURPOSE"),
        ("2", "TRAIT_NOT_INDEXED"),
    ]


def test_an_audience_of_too_many_parts_is_refused() -> None:
    deep: Audience = InSegment("a")
    for _ in range(AUDIENCE_PARTS_MAX):
        deep = NoneOf((deep,))
    with pytest.raises(AudienceTooLarge):
        count_audience(TABLES, Sets(), deep, purpose="analytics")


def test_a_set_is_read_anew_only_after_it_changed(tmp_path: Path) -> None:
    made = history()
    store, sets = Store.open_writer(tmp_path), Sets()
    fold_batch(store, made.entries)
    audience, purpose = InSegment("a"), "analytics"
    with store.snapshot() as snapshot:
        before = count_audience(snapshot, sets, audience, purpose=purpose)
        assert sets.read(snapshot, "a") is sets.read(snapshot, "a")
    known = len(made.entries)
    made.did(100, "a")
    fold_batch(store, made.entries[known:])
    with store.snapshot() as snapshot:
        assert count_audience(snapshot, sets, audience, purpose=purpose) == before + 1
    store.close()


def test_pages_are_of_one_set_while_membership_moves() -> None:
    made, pages = history(), Pages()
    tables = tables_of(made)
    members = audience_members(tables, Sets(), InSegment("a"), purpose="analytics")
    wanted = asked_of_rows(tables, InSegment("a"))
    page = pages.first(tables, members, purpose="analytics", page_members=3)
    listed = list(page.customers)
    known = len(made.entries)
    for number in range(20, 30):
        made.did(number, "a")
    fold_batch(tables, made.entries[known:])
    while page.next_token:
        page = pages.next(tables, page.next_token, purpose="analytics", page_members=3)
        listed += page.customers
    assert (len(listed), set(listed)) == (len(wanted), wanted)
    assert page.revision == known


def test_whoever_is_erased_while_pages_are_read_is_on_none_that_is_left() -> None:
    made, pages = history(), Pages()
    tables = tables_of(made)
    members = audience_members(tables, Sets(), InSegment("a"), purpose="analytics")
    page = pages.first(tables, members, purpose="analytics", page_members=3)
    gone = next(c for c in sorted(asked_of_rows(tables, InSegment("a"))) if c not in page.customers)
    known = len(made.entries)
    body = ErasureRequested(root=gone, component=(gone,))
    made.append((record_stream(gone), body))
    fold_batch(tables, made.entries[known:])
    rest: list[RecordId] = []
    while page.next_token:
        page = pages.next(tables, page.next_token, purpose="analytics", page_members=3)
        rest += page.customers
    assert rest
    assert gone not in rest


def test_a_list_that_is_not_kept_any_more_is_refused_and_pins_are_limited() -> None:
    now = [0.0]
    pages = Pages(seconds=lambda: now[0])
    members = audience_members(TABLES, Sets(), AllOf(()), purpose="analytics")
    tokens = [
        pages.first(TABLES, members, purpose="analytics", page_members=2).next_token
        for _ in range(PINS_MAX)
    ]
    with pytest.raises(TooManyPins):
        pages.first(TABLES, members, purpose="analytics", page_members=2)
    last = pages.next(TABLES, tokens[1] or "", purpose="analytics", page_members=20)
    assert last.next_token is None
    assert pages.first(TABLES, members, purpose="analytics", page_members=2).next_token
    with pytest.raises(StaleToken):  # it was read to its end, and made room
        pages.next(TABLES, tokens[1] or "", purpose="analytics", page_members=2)
    now[0] = PIN_LIFE_SECONDS + 1
    with pytest.raises(StaleToken):
        pages.next(TABLES, tokens[0] or "", purpose="analytics", page_members=2)
    assert pages.first(TABLES, members, purpose="analytics", page_members=2).total == len(members)
    for token in ("", "x", "x.1", "."):
        with pytest.raises(StaleToken):
            pages.next(TABLES, token, purpose="analytics", page_members=2)


def test_a_merged_customer_is_counted_once() -> None:
    everyone = count_audience(TABLES, Sets(), AllOf(()), purpose="analytics")
    assert everyone == len(asked_of_rows(TABLES, AllOf(())))
    assert record_id(4) not in asked_of_rows(TABLES, AllOf(()))
