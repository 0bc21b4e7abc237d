"""R15, R16: random definitions, histories and clocks, against the slow and obvious answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.consent import ConsentState, LawfulBasis
from domain.ids import RecordId
from domain.workspace_events import PurposeDefined
from projections.fold import TABLES, fold_batch
from projections.instants import microseconds, time_of
from projections.memory import MemoryTables
from projections.segments.bitmaps import customer_numbered, read_bitmap
from projections.segments.effective import active_set, build
from projections.segments.filling import fill_slice
from projections.segments.journal import CHANGES, MembershipChange, changes
from projections.segments.language import check_types
from projections.segments.membership import MEMBERSHIPS
from projections.tables import ReadTables
from tests.projections.histories import PURPOSES, SOURCES, START, batches, identifier
from tests.projections.segments import oracle
from tests.projections.segments.happenings import Happenings
from tests.projections.segments.oracle import NAMES, WINDOWS, Memberships, Tree

PURPOSE_ALONE = PurposeDefined(purpose="marketing", basis=LawfulBasis.CONSENT)
PURPOSE_BELOW = PURPOSE_ALONE.model_copy(update={"parent": "analytics"})
RECORDS = 5
SEGMENTS = ("s0", "s1", "s2")
FREQUENCIES = ("daily", "never")
SEEDS = st.integers(min_value=0, max_value=2**32)
"""Histories are drawn from a seed: hypothesis alone favours short ones, in which no window ends."""


def drawn_leaf(drawn: random.Random) -> Tree:
    name, other = drawn.choice(NAMES), drawn.choice(NAMES)
    window, small = drawn.choice(sorted(WINDOWS)), drawn.randrange(10)
    second = drawn.randrange(400)
    leaves: list[Callable[[], Tree]] = [
        lambda: oracle.count(name, window, 1 + small % 3),
        lambda: oracle.filtered(name, window, small % 3),
        lambda: oracle.seen(name, window),
        lambda: oracle.total(name, window, small),
        lambda: oracle.extreme(drawn.choice(["min", "max"]), name, window, bound=small),
        lambda: oracle.late_first(name, window, second, start=START),
        lambda: oracle.sequence(name, other, drawn.choice(["", *NAMES]), window=window),
        lambda: oracle.mean(name, window, small),
        lambda: oracle.priced(name, window, small % 3),
        lambda: oracle.reckoned(drawn.choice(["x", "y"]), small % 6),
        lambda: oracle.has_trait(drawn.choice(["x", "y"])),
        lambda: oracle.identified(drawn.choice(["email", "phone"])),
        lambda: oracle.consent(drawn.choice(sorted(PURPOSES))),
        lambda: oracle.preference(
            "email", drawn.choice(["", "news"]), among=drawn.choice([("daily",), FREQUENCIES])
        ),
    ]
    return drawn.choice(leaves)()


def drawn_tree(drawn: random.Random, leaves: int) -> Tree:
    if leaves == 1:
        tree = drawn_leaf(drawn)
    else:
        one = drawn_tree(drawn, leaves // 2)
        tree = oracle.Both(one, drawn_tree(drawn, leaves - leaves // 2), drawn.choice(["&&", "||"]))
    return oracle.Not(tree) if drawn.random() < 0.25 else tree


@given(SEEDS, st.integers(min_value=1, max_value=8))
def test_types_fit_in_every_definition_that_is_drawn(seed: int, leaves: int) -> None:
    check_types(drawn_tree(random.Random(seed), leaves).cel)


class World:
    """A history with random segments, and the trees that they were written from."""

    def __init__(self, trees: list[Tree], *, is_late: bool = False) -> None:
        self.is_late = is_late  # each definition waits for its activation
        self.history = Happenings()
        self.history.rules()
        self.trees: dict[str, Tree] = {}
        self.spare = trees[len(SEGMENTS) :]
        self.waiting: list[str] = []
        for name, tree in zip(SEGMENTS, trees, strict=False):
            self.define(name, tree)
        self.define("nested", oracle.Not(oracle.nested("s0")))
        self.define("deeper", oracle.Both(oracle.nested("nested"), oracle.nested("s1"), "||"))

    def define(self, name: str, tree: Tree, *, kind: int = 0) -> None:
        self.trees[tree.cel] = tree
        purposes = (("analytics",), ("marketing",), ("analytics", "service"))[kind % 3]
        exception = "suppression" if kind % 4 == 3 else None
        self.history.define(name, tree.cel, purposes=purposes, exception=exception)
        if self.is_late or kind % 5 == 4:
            self.waiting.append(name)
        else:
            self.history.activate(name)

    def _activate_one(self, passed: int) -> None:
        if self.waiting and passed % 4 == 0:
            self.history.activate(self.waiting.pop())

    def step(self, kind: int, who: int, what: int, *, when: int, passed: int) -> None:
        self.history.now += passed // 4
        self._activate_one(passed)
        if kind in {6, 7, 8}:
            self._tell_rules(kind, what, when=when)
        else:
            self._happen(kind, who, what, when=when, passed=passed)

    def _tell_rules(self, kind: int, what: int, *, when: int) -> None:
        history = self.history
        match kind:
            case 6 if self.spare:
                self.define(SEGMENTS[what % 3], self.spare.pop(), kind=when)
            case 7 if what == 0:
                history.archive("deeper")
            case 7 if what < 3:
                history.tell(PURPOSE_BELOW if what == 1 else PURPOSE_ALONE)
            case 8 if what < 3:
                source = sorted(SOURCES)[what % len(SOURCES)]
                served = ("analytics", "marketing", "service")[: 1 + when % 3]
                history.source(source, *served, priority=when)
            case _:
                pass

    def _happen(self, kind: int, who: int, what: int, *, when: int, passed: int) -> None:
        history = self.history
        source = sorted(SOURCES)[what % len(SOURCES)]
        at = max(0, history.now - when)
        match kind:
            case 0:
                history.merge(who, what % RECORDS)
            case 1:
                history.advance(history.now + passed)
            case 2:
                namespace = "email" if when % 2 else "phone"
                history.link(who, identifier(f"{who}-{what}", namespace), source=source)
            case 3 | 4:
                name = "x" if when % 2 else "y"
                history.set(who, source=source, at=at, **{name: number(what % 3, when)})
            case 5:
                state = (ConsentState.GIVEN, ConsentState.WITHDRAWN, ConsentState.REFUSED)[what % 3]
                until = history.now + 1 + passed if passed % 3 == 1 and what % 3 == 0 else None
                history.say(who, sorted(PURPOSES)[when % 3], state, until=until)
            case 9 if what % 2:
                history.undo(who, what // 2)
            case 9 if what % 4:
                key = identifier(f"{who}-{when % 10}", "email" if when % 2 else "phone").key
                history.unlink(who, key)
            case 9:
                topic, often = ("", "news")[when % 2], (*FREQUENCIES, "weekly")[passed % 3]
                history.prefer(who, "email", topic, frequency=often, happened=at)
            case _:
                message_id = f"m{what}-{when % 3}" if kind % 2 else None
                history.did(
                    who,
                    NAMES[when % 3],
                    at=at,
                    source=source,
                    message_id=message_id,
                    amount=number(what, passed),
                )


def number(whole: int, drawn: int) -> float:
    """Give a whole number or a double, as publishers mix them."""
    return whole if drawn % 3 else whole + 0.5


def world_of(seed: int, *, is_late: bool = False) -> World:
    drawn = random.Random(seed)
    world = World(
        [drawn_tree(drawn, drawn.choice([1, 1, 2, 3])) for _ in range(5)], is_late=is_late
    )
    for _ in range(drawn.randrange(10, 60)):
        kind, who, what = drawn.randrange(16), drawn.randrange(RECORDS), drawn.randrange(10)
        world.step(kind, who, what, when=drawn.randrange(400), passed=drawn.randrange(160))
    return world


def kept(tables: ReadTables) -> Memberships:
    found: Memberships = {}
    for key, row in tables.scan(MEMBERSHIPS, b""):
        for name in row["in"]:
            if not name.startswith("~"):
                found.setdefault(name, set()).add(RecordId(key.decode()))
    return found


def in_bitmaps(tables: ReadTables, segments: Iterable[str]) -> Memberships:
    found = {
        name: {customer_numbered(tables, number) for number in read_bitmap(tables, name)}
        for name in segments
    }
    return {name: {root for root in roots if root} for name, roots in found.items() if roots}


def told(found: Memberships, change: MembershipChange) -> None:
    """Do to sets what a subscriber does: every change must be news."""
    roots = found.setdefault(change.segment, set())
    match change.change:
        case "entered":
            assert change.customer not in roots
            roots.add(change.customer)
        case "exited":
            roots.remove(change.customer)
        case "moved":
            assert change.moved_from in roots
            if change.cause == "merged":
                roots.remove(change.moved_from)
            roots.add(change.customer)


def filled(memberships: Memberships) -> Memberships:
    return {name: roots for name, roots in memberships.items() if roots}


@settings(deadline=None, max_examples=200)
@given(SEEDS)
def test_memberships_are_what_the_oracle_says_after_every_append(seed: int) -> None:
    world = world_of(seed)
    tables = MemoryTables()
    told_so_far: Memberships = {}
    events = world.history.events
    for append in batches(world.history.entries, 1):
        fold_batch(tables, append)
        prefix = events[: append[-1].revision]
        wanted = filled(oracle.memberships(prefix, world.trees))
        assert filled(kept(tables)) == wanted
        assert in_bitmaps(tables, wanted) == wanted
        for change in changes(tables, after_revision=append[0].revision - 1):
            told(told_so_far, change)
        assert filled(told_so_far) == wanted


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(0, 5_000))
def test_windows_close_at_the_right_instant_with_nothing_else_happening(
    seed: int, passed: int
) -> None:
    world = world_of(seed)
    events = list(world.history.events)
    world.history.advance(world.history.now + passed)
    tables = MemoryTables()
    for append in batches(world.history.entries, 100):
        fold_batch(tables, append)
    last = world.history.entries[-1].revision
    found = oracle.memberships(events, world.trees)
    closing = list(changes(tables, after_revision=last - 1))
    for instant in sorted({change.at for change in closing}):
        just_before = time_of(instant - 1)
        assert filled(oracle.memberships(events, world.trees, at=just_before)) == filled(found)
        for change in closing:
            if change.at == instant:
                assert change.cause == "time"
                told(found, change)
        at = time_of(instant)
        assert filled(oracle.memberships(events, world.trees, at=at)) == filled(found)
    assert filled(oracle.memberships(world.history.events, world.trees)) == filled(found)
    assert microseconds(world.history.time(world.history.now)) >= max(
        (change.at for change in closing), default=0
    )


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(1, 9), st.integers(1, 4))
def test_rows_and_digest_do_not_depend_on_where_batches_and_slices_end(
    seed: int, size: int, slice_records: int
) -> None:
    entries = world_of(seed).history.entries
    whole, cut = MemoryTables(), MemoryTables()
    fold_batch(whole, entries)
    with pytest.MonkeyPatch.context() as patched:
        for module in ("slices", "session"):
            name = f"projections.segments.{module}.RECORDS_AHEAD_MAX"
            patched.setattr(name, slice_records)
        for append in batches(entries, size):
            fold_batch(cut, append)
    for table in TABLES:
        assert list(whole.scan(table, b"")) == list(cut.scan(table, b""))
    assert whole.checkpoint == cut.checkpoint


@settings(deadline=None, max_examples=60)
@given(SEEDS)
def test_what_stands_after_an_event_is_what_the_rows_say(seed: int) -> None:
    tables = MemoryTables()
    for append in batches(world_of(seed).history.entries, 1):
        fold_batch(tables, append)  # which follows what stood before, event by event
        followed, made = active_set(tables), build(tables)
        assert followed.order == made.order
        assert followed.broken == made.broken
        assert followed.rules == replace(made.rules, version=followed.rules.version)


@settings(deadline=None, max_examples=120)
@given(SEEDS, st.integers(1, 3))
def test_a_back_fill_before_the_activation_changes_no_row_and_no_digest(
    seed: int, customers: int
) -> None:
    world = world_of(seed, is_late=True)
    drawn = random.Random(seed + customers)
    filled_beside, plain = MemoryTables(), MemoryTables()
    for append in batches(world.history.entries, 1):
        if drawn.random() < 0.8:
            fill_slice(filled_beside, customers_max=customers)
        fold_batch(filled_beside, append)
        fold_batch(plain, append)
        wanted = list(plain.scan(CHANGES, b""))
        assert list(filled_beside.scan(CHANGES, b"")) == wanted
    assert filled_beside.checkpoint == plain.checkpoint
