"""A watch tells exactly what turns one audience into the next, wherever it begins or goes on."""

from __future__ import annotations

import random
from functools import partial

import pytest

from domain.consent import ConsentState
from domain.ids import RecordId, StreamKind
from projections.fold import fold_batch
from projections.memory import MemoryTables
from projections.segments import journal
from projections.segments.audience_parts import InSegment
from projections.segments.audiences import Sets, audience_members, check_serves
from projections.segments.bitmaps import customer_numbered
from projections.segments.errors import ChangesNotKept, InvalidToken, PurposeNotServed
from projections.segments.following import CustomerWatch
from projections.segments.watching import Place, SegmentWatch, Told, mark_of, read_place
from tests.projections.erasing import SEGMENTS, Erasing, erasing_history
from tests.projections.histories import batches, record_id
from tests.projections.segments.happenings import Happenings

PEOPLE, HAPPENINGS = 8, 120
PURPOSE = "marketing"
MARK = mark_of("segment/buyers", purpose=PURPOSE)
Audience = frozenset[RecordId]


def random_life(seed: int) -> Happenings:
    """People who buy, agree, take it back and are merged, while time passes."""
    drawn, made = random.Random(seed), Happenings()
    made.rules()
    made.segment("buyers", 'count("Bought", "1h") >= 1', purposes=(PURPOSE,))
    for _ in range(HAPPENINGS):
        made.now += drawn.randrange(900)
        who = drawn.randrange(PEOPLE)
        match drawn.randrange(8):
            case 0 | 1 | 2:
                made.did(who, "Bought", at=made.now - drawn.randrange(5_000))
            case 3 | 4:
                made.say(who, PURPOSE, ConsentState.GIVEN)
            case 5:
                made.say(who, PURPOSE, ConsentState.WITHDRAWN)
            case 6 if drawn.randrange(4) == 0:
                made.merge(who, drawn.randrange(PEOPLE))
            case _:
                made.advance(made.now)
    return made


def audience(tables: MemoryTables, segment: str = "buyers", purpose: str = PURPOSE) -> Audience:
    numbers = audience_members(tables, Sets(), InSegment(segment), purpose=purpose)
    found = (customer_numbered(tables, number) for number in numbers)
    return frozenset(root for root in found if root is not None)


def play(members: Audience, told: Told) -> Audience:
    """Apply a change as whoever is told of it would; nothing may be told that is not so."""
    change, changed = told.change, set(members)
    if change.moved_from is not None:
        assert change.moved_from in changed
        assert (change.customer in changed) == change.belonged
        if change.cause == "merged":
            changed.remove(change.moved_from)
        changed.add(change.customer)
    elif change.change == "entered":
        assert change.customer not in changed
        changed.add(change.customer)
    else:
        changed.remove(change.customer)
    return frozenset(changed)


def lived(seed: int) -> tuple[MemoryTables, dict[int, Audience]]:
    """Fold a life; note the audience at every revision where there is one."""
    tables, audiences = MemoryTables(), dict[int, Audience]()
    for append in batches(random_life(seed).entries, 1):
        fold_batch(tables, append)
        revision = append[-1].revision
        audiences[revision] = audience(tables) if revision > len(append) + 8 else frozenset()
    return tables, audiences


@pytest.mark.parametrize("seed", range(12))
def test_what_is_told_from_any_revision_on_makes_the_audience_of_every_later_one(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.segments.watching.JOURNAL_ROWS_READ_MAX", 7)
    tables, audiences = lived(seed)
    last = max(audiences)
    for start in random.Random(seed).sample(sorted(audiences)[12:], 6):
        members, reached = audiences[start], start
        watch = SegmentWatch("buyers", PURPOSE, read_place("", marks=(), after_revision=start))
        for told in everything(watch, tables):
            if told.change.revision != reached:
                assert_same(audiences, members, since=reached, until=told.change.revision)
            members, reached = play(members, told), told.change.revision
        assert_same(audiences, members, since=reached, until=last + 1)


def assert_same(
    audiences: dict[int, Audience], members: Audience, *, since: int, until: int
) -> None:
    for revision, expected in audiences.items():
        if since <= revision < until:
            assert members == expected, revision


def everything(watch: SegmentWatch, tables: MemoryTables) -> list[Told]:
    """Read until there is no more; an empty read may say that nothing of it could be seen."""
    found: list[Told] = []
    while (told := watch.read(tables)) or watch.is_behind:
        found += told
    return found


@pytest.mark.parametrize("seed", range(6))
def test_a_watch_that_goes_on_after_any_change_tells_the_rest_and_no_more(seed: int) -> None:
    tables, _ = lived(seed)
    whole = everything(
        SegmentWatch("buyers", PURPOSE, read_place("", marks=(), after_revision=0)), tables
    )
    assert len(whole) > 10
    for number, told in enumerate(whole, start=1):
        place = read_place(told.place.token(MARK), marks=[MARK], after_revision=0)
        rest = everything(SegmentWatch("buyers", PURPOSE, place), tables)
        assert rest == whole[number:]


@pytest.mark.parametrize("is_made_anew", [True, False])
def test_a_watch_that_stood_within_a_revision_goes_on_after_an_erasure(
    *, is_made_anew: bool
) -> None:
    history = Erasing()
    history.rules()
    for number in range(PEOPLE):
        history.did(number, "Bought")
        history.say(number, PURPOSE, ConsentState.GIVEN)
    history.merge(4, 5)
    history.segment("buyers", 'seen("Bought")', purposes=(PURPOSE,))
    at_once = len(history.entries)
    tables = MemoryTables()
    fold_batch(tables, history.entries)
    whole = everything(
        SegmentWatch("buyers", PURPOSE, read_place("", marks=(), after_revision=0)), tables
    )
    assert [told.change.revision for told in whole] == [at_once] * (PEOPLE - 1)
    positions = [position for position, _ in journal.everything_after(tables, journal.behind(0))]
    history.erase(2)
    if is_made_anew:  # the keys are gone: nobody ever heard of what the person did
        tables = MemoryTables()
        fold_batch(tables, history.after_destruction())
    else:
        fold_batch(tables, history.entries[at_once:])
    for number, told in enumerate(whole, start=1):
        place = read_place(told.place.token(MARK), marks=[MARK], after_revision=0)
        rest = everything(SegmentWatch("buyers", PURPOSE, place), tables)
        others = [t for t in rest if t.change.customer != record_id(2)]
        assert others == [t for t in whole[number:] if t.change.customer != record_id(2)]
    left = [position for position, _ in journal.everything_after(tables, journal.behind(0))]
    assert {position for position in left if position.revision <= at_once} < {*positions}


@pytest.mark.parametrize("seed", range(8))
def test_who_was_away_while_others_were_erased_ends_with_the_audience(seed: int) -> None:
    history = erasing_history(seed, steps=160, people=6)
    rules = sum(entry.stream.kind is StreamKind.WORKSPACE for entry in history.entries)
    tables = MemoryTables()
    audiences: dict[str, dict[int, Audience]] = {name: {} for name in SEGMENTS}
    for append in batches(history.entries, 1):
        fold_batch(tables, append)
        for name, known in audiences.items() if append[-1].revision > rules else ():
            known[append[-1].revision] = audience(tables, name, "analytics")
    assert history.erased
    for name, known in audiences.items():
        for start in random.Random(seed).sample(sorted(known), 12):
            members = set(known[start])
            watch = SegmentWatch(name, "analytics", read_place("", marks=(), after_revision=start))
            for told in everything(watch, tables):
                change = told.change
                members.discard(change.moved_from if change.cause == "merged" else None)
                (members.discard if change.change == "exited" else members.add)(change.customer)
            assert members - history.erased == known[max(known)], (name, start)


def test_a_place_that_the_journal_does_not_reach_back_to_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "REVISIONS_KEPT", 16)
    monkeypatch.setattr(journal, "TRIMMED_EVERY_REVISIONS", 8)
    tables, audiences = lived(1)
    last = max(audiences)
    with pytest.raises(ChangesNotKept):
        SegmentWatch("buyers", PURPOSE, read_place("", marks=(), after_revision=0)).read(tables)
    SegmentWatch("buyers", PURPOSE, read_place("", marks=(), after_revision=last - 10)).read(tables)


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "1.2",
        "1.2.3",
        f"1.2.3.4.{MARK}",
        f"-1.2.3.{MARK}",
        f"1.2.\u0663.{MARK}",
        "9" * 30 + f".1.1.{MARK}",
        Place(journal.behind(1)).token(mark_of("segment/others", purpose=PURPOSE)),
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidToken):
        read_place(token, marks=[MARK], after_revision=0)


def test_a_customers_changes_come_in_order_and_only_while_the_purpose_is_open() -> None:
    made = Happenings()
    made.rules()
    made.segment("buyers", 'seen("Bought")', purposes=(PURPOSE,))
    made.did(1, "Bought")
    made.say(1, PURPOSE, ConsentState.GIVEN)
    tables = MemoryTables()
    fold_batch(tables, made.entries)
    watch = CustomerWatch(record_id(1), PURPOSE, Place(journal.behind(0)))
    kinds = [change.kind for change in watch.read(tables)]
    assert kinds == ["segment_entered", "data", "purpose_opened"]
    assert watch.read(tables) == []
    known = len(made.entries)
    made.did(2, "Bought")
    made.say(1, PURPOSE, ConsentState.WITHDRAWN)
    made.did(1, "Bought")
    fold_batch(tables, made.entries[known:])
    told = watch.read(tables)
    assert [(change.kind, change.customer) for change in told] == [("purpose_closed", record_id(1))]


def test_of_an_agreement_that_has_run_out_by_the_clock_nothing_more_is_told() -> None:
    made = Happenings()
    made.rules()
    made.segment("buyers", 'seen("Bought")', purposes=(PURPOSE,))
    made.say(1, PURPOSE, ConsentState.GIVEN, until=made.now + 100)
    made.did(1, "Bought")
    tables = MemoryTables()
    fold_batch(tables, made.entries)
    for seconds, told in ((99, ["data", "segment_entered"]), (100, [])):
        now = partial(made.time, made.now + seconds)
        watch = CustomerWatch(record_id(1), PURPOSE, Place(journal.behind(0)), now=now)
        kinds = {change.kind for change in watch.read(tables)}
        assert kinds == {*told, "purpose_opened"}


def test_an_exception_is_watched_for_any_purpose_but_is_no_change_of_a_customer_to_others() -> None:
    made = Happenings()
    made.rules()
    made.segment("stop", 'seen("Bought")', purposes=(PURPOSE,), exception="suppression")
    made.say(1, PURPOSE, ConsentState.GIVEN)
    made.did(1, "Bought")
    tables = MemoryTables()
    fold_batch(tables, made.entries)
    for purpose, told in ((PURPOSE, ["stop"]), ("analytics", [])):
        watch = CustomerWatch(record_id(1), purpose, Place(journal.behind(0)))
        assert [change.segment for change in watch.read(tables) if change.segment] == told
        check_serves(tables, Sets(), "stop", purpose=purpose, may_be_exception=True)
        assert audience(tables, "stop", purpose) == {record_id(1)}
    with pytest.raises(PurposeNotServed):
        check_serves(tables, Sets(), "stop", purpose="analytics")


def test_rows_that_are_older_than_the_place_of_a_reader_tell_nothing() -> None:
    made = Happenings()
    made.rules()
    made.segment("buyers", 'seen("Bought")', purposes=(PURPOSE,))
    made.say(1, PURPOSE, ConsentState.GIVEN)
    tables = MemoryTables()
    fold_batch(tables, made.entries)
    known = len(made.entries)
    made.did(1, "Bought")
    place = Place(journal.behind(len(made.entries)))
    of_segment = SegmentWatch("buyers", PURPOSE, place)
    of_customer = CustomerWatch(record_id(1), PURPOSE, place)
    assert (of_segment.read(tables), of_customer.read(tables)) == ([], [])
    fold_batch(tables, made.entries[known:])
    assert (of_segment.read(tables), of_customer.read(tables)) == ([], [])
    known = len(made.entries)
    made.say(1, PURPOSE, ConsentState.WITHDRAWN)
    fold_batch(tables, made.entries[known:])
    assert [told.change.change for told in of_segment.read(tables)] == ["exited"]
    assert [told.kind for told in of_customer.read(tables)] == ["purpose_closed"]
