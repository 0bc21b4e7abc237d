"""Segments as the log is folded, one transaction at a time: who is touched, and when is it judged.

A decision's events are judged together, at its last one: in between, records that join are half
joined. Timers that are due fire before the event that moves the clock is applied, each at its own
instant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import chain, islice

from domain.consent_events import ChoicesRecorded, ConsentChanged, VerdictRecorded
from domain.erasure_events import ErasureRequested
from domain.event import Event, Recorded
from domain.identity_events import CustomersMerged, CustomerTouched, IdentifiersLinked
from domain.ids import DecisionId, IdentifierKey, RecordId, StreamKind
from domain.preference_events import PreferencesSet
from domain.signal_events import SignalsDeclined, SignalsRecorded, TraitsSet
from eventlog.port import Entry
from projections import clock, customers, identifiers, parking
from projections.facts_session import FactsSession
from projections.instants import microseconds
from projections.segments import timers
from projections.segments.active import EVERYONE, Indexes
from projections.segments.changing_over import Change, change_over
from projections.segments.definitions import heard_sources
from projections.segments.effective import active_after, active_set
from projections.segments.journal import Journal
from projections.segments.letting_go import let_go
from projections.segments.membership import Ledger, Moment, is_anybody_judged
from projections.segments.regrouping import is_as_it_was, regroup
from projections.segments.slices import RECORDS_AHEAD_MAX, in_slices
from projections.tables import Tables

KEYS_AT_ONCE_MAX = 20_000
"""Asked for in one piece before a batch of events is folded."""

_NONE: Indexes = frozenset()


class Session(FactsSession):
    """Keeps the clock and the memberships in step with one transaction over the rows."""

    def __init__(
        self,
        tables: Tables,
        reached: Callable[[int], int] | None = None,
        *,
        until: datetime | None = None,
        concerns: timers.Concerns = timers.concerns_all,
    ) -> None:
        """Begin; `reached` says by which revision the clock came to an instant, if not by ours.

        Instants are looked for up to a time only, if it is known how far this goes, and of those
        customers alone whom it `concerns`.
        """
        super().__init__(tables)
        self._reached = reached
        self._concerns = concerns
        self._ledger = Ledger(tables, active_set(tables))
        self._clock = microseconds(self._time)
        self._until = None if until is None else microseconds(until)
        self._ledger.earliest_due = self._next_due()
        self._touched: dict[RecordId, Indexes] = {}
        self._retraited: set[RecordId] = set()
        self._erased: dict[RecordId, tuple[RecordId, ...]] = {}
        self._decision: DecisionId | None = None
        self._fired = 0
        self._is_behind = False
        """The rules were changed, and there was nobody to judge by them."""

    def need_keys(self, entries: Sequence[Entry]) -> None:
        """Ask at once for the keys of those whom these entries, or time, will touch.

        Of very many only the first are asked for: the others are when they are met.
        """
        told = (clock.time_moved_to(entry.event) for entry in entries if entry.event)
        until = max(map(microseconds, told), default=0) if self._until is None else self._until
        due = self._due_until(until)
        wanted = {RecordId(e.stream.key) for e in entries if e.stream.kind is StreamKind.RECORD}
        roots = {customers.root(self._tables, record) or record for record in wanted}
        for root in chain(roots, islice(due, RECORDS_AHEAD_MAX)):
            wanted.update(customers.members(self._tables, root))
            if len(wanted) >= KEYS_AT_ONCE_MAX:
                break
        self._tables.need(wanted)

    def settle(self, event: Recorded[Event]) -> None:
        """Judge what the decision before has touched, unless the event is of the same one."""
        if event.decision_id != self._decision:
            self._judge_touched()
        self._decision = event.decision_id

    def end_append(self) -> None:
        """Judge what is touched: no decision goes on behind its append."""
        self._judge_touched()

    def pass_time(self, time: datetime, revision: int) -> None:
        """Let time pass; what changes by it is told at a revision."""
        moved_to = microseconds(time)
        if moved_to <= self._clock:
            return
        if self._is_due(moved_to):
            self._judge_touched()
            self._fire(moved_to, revision)
        self._clock = moved_to
        super().pass_time(time, revision)

    def after(self, event: Recorded[Event]) -> None:
        """Note whom an event that was applied touches; follow the rules at once."""
        super().after(event)
        if event.stream.kind is StreamKind.WORKSPACE:
            self._judge_touched()
            self._follow_rules(event)
        elif event.stream.kind is StreamKind.RECORD:
            self._catch_up()
            self._touch(RecordId(event.stream.key), self._reading(event.body))
            if self._changes_indexed_traits(event.body):
                self._retraited.add(RecordId(event.stream.key))
            if isinstance(event.body, ErasureRequested) and event.body.component:
                members = tuple(map(RecordId, event.body.component))
                self._erased[RecordId(event.body.root)] = members
            if isinstance(event.body, SignalsRecorded):
                self._ledger.timelines.follow(event, event.body)
            elif not isinstance(event.body, TraitsSet):
                self._ledger.timelines.forget(RecordId(event.stream.key))

    def hold_back(self, entry: Entry) -> None:
        """Note whom an event touches that was not applied: they may be parked now."""
        super().hold_back(entry)
        self._catch_up()
        stream = entry.stream
        body = entry.event.body if entry.event else None
        records: set[RecordId] = set()
        if stream.kind is StreamKind.RECORD:
            records.add(RecordId(stream.key))
        elif stream.kind is StreamKind.IDENTIFIER:
            holder = identifiers.holder(self._tables, IdentifierKey(stream.key))
            records |= {holder} if holder else set()
        if isinstance(body, CustomersMerged):
            records |= {RecordId(other) for other in (body.root, *body.component)}
        for record in records:
            self._touch(record, _NONE)

    def passed(self, revision: int) -> None:
        """Note that a revision was folded, whatever became of it."""
        journal = self._ledger.journal
        note_passed(self._tables, journal, revision, time_after=lambda _: self._time)

    def finish(self) -> None:
        """Judge what is left, and store the sets; the rows are whole then."""
        self._catch_up()
        self._judge_touched()
        self._ledger.bitmaps.store()
        self._ledger.candidates.store()
        self._ledger.trait_indexes.store()

    def _touch(self, record_id: RecordId, indexes: Indexes) -> None:
        known = self._touched.get(record_id)
        self._touched[record_id] = indexes if known is None else known | indexes

    def _reading(self, body: Event) -> Indexes:
        active = self._ledger.active
        match body:
            case SignalsRecorded():
                names = frozenset([signal.name for signal in body.signals])
                return active.reading_signals(names, body.source)
            case TraitsSet():
                return active.reading_traits(body.traits, body.source)
            case IdentifiersLinked():
                return active.reading_identifiers
            case ConsentChanged() | ChoicesRecorded():
                return active.reading_consent
            case PreferencesSet():
                return active.reading_preferences
            case CustomersMerged() | CustomerTouched() | SignalsDeclined() | VerdictRecorded():
                return _NONE  # who joins whom is seen in the rows
            case _:
                return active.everything

    def _changes_indexed_traits(self, body: Event) -> bool:
        match body:
            case TraitsSet():
                return self._ledger.trait_indexes.reads(body.traits)
            case SignalsRecorded() | IdentifiersLinked() | PreferencesSet():
                return False
            case ConsentChanged() | ChoicesRecorded():
                return False
            case CustomersMerged() | CustomerTouched() | SignalsDeclined() | VerdictRecorded():
                return False  # who joins or parts is indexed as it is made again
            case _:
                return True

    def _judge_touched(self) -> None:
        if not self._touched:
            return
        touched, self._touched = self._touched, {}
        retraited, self._retraited = self._retraited, set()
        moment = Moment(self.revision, self._clock, "event")
        self._let_go(moment)
        standing: dict[RecordId, Indexes] = {}
        unparked: list[RecordId] = []
        for record in sorted(touched):
            root, is_living = customers.living(self._tables, record)
            if not is_living:
                continue  # nothing more is ever judged of them
            if self._is_parked(record, root):
                for place in sorted({record, root or record}):  # absorbed by what cannot be read
                    self._ledger.withdraw(place, moment)
                continue
            unparked.append(record)
            if root is not None:
                standing[root] = standing.get(root, _NONE) | touched[record]
        if all(is_as_it_was(self._ledger, root) for root in standing):
            for root, indexes in standing.items():
                self._ledger.judge(root, indexes, moment)
            for root in standing.keys() & {self._root(record) for record in retraited}:
                self._ledger.index_traits(root)
        else:
            regroup(self._ledger, {*standing, *unparked}, moment)

    def _is_parked(self, record: RecordId, root: RecordId | None) -> bool:
        if not self.is_anybody_parked:
            return False
        return parking.parked_with(self._tables, record, root) is not None

    def _root(self, record: RecordId) -> RecordId:
        return customers.root(self._tables, record) or record

    def _let_go(self, moment: Moment) -> None:
        """Take off who was erased."""
        for root, members in self._erased.items():
            let_go(self._ledger, root, members, moment=moment._replace(cause="erased"))
        self._erased.clear()

    def _fire(self, moved_to: int, revision: int) -> None:
        """Judge, instant by instant, what changes by itself up to a time."""
        ahead = 0
        while (instant := self._next_due()) is not None and instant <= moved_to:
            at = revision if self._reached is None else self._reached(instant)
            moment = Moment(at, instant, "time")
            are_more = True
            while are_more:
                roots = self._due_at(instant)
                for root in roots:
                    ahead = ahead or self._load_ahead(moved_to)
                    self._ledger.judge(root, self._due(root, instant), moment)
                    ahead -= 1
                are_more = len(roots) == RECORDS_AHEAD_MAX
            self._clock = instant
        self._ledger.earliest_due = instant

    def _load_ahead(self, moved_to: int) -> int:
        """Load the keys of those who are due next, and say of how many."""
        if self._fired >= RECORDS_AHEAD_MAX:
            self._ledger.make_room()
            self._fired = 0
        due = self._due_until(moved_to)
        found = ((root, customers.members(self._tables, root)) for root in due)
        part = next(in_slices(self._tables, found, lambda item: item[1]))
        self._fired += len(part)
        return len(part)

    def _next_due(self) -> int | None:
        return timers.next_due(
            self._tables, after=self._clock, until=self._until, concerns=self._concerns
        )

    def _due_at(self, instant: int) -> list[RecordId]:
        return timers.due_at(
            self._tables, instant, customers_max=RECORDS_AHEAD_MAX, concerns=self._concerns
        )

    def _due_until(self, instant: int) -> Iterator[RecordId]:
        return timers.due_until(self._tables, instant, after=self._clock, concerns=self._concerns)

    def _is_due(self, moved_to: int) -> bool:
        earliest = self._ledger.earliest_due
        return earliest is not None and earliest <= moved_to

    def _due(self, root: RecordId, instant: int) -> Indexes:
        row, places = self._ledger.row(root), self._ledger.active.places
        due = row["due"] if row else {}
        return frozenset(places[name] for name, at in due.items() if at <= instant)

    def _follow_rules(self, event: Recorded[Event]) -> None:
        """Judge everybody by what the rules say anew, in the transaction that says it."""
        if not is_anybody_judged(self._tables):
            self._is_behind = True
            return
        before = self._ledger.active
        after = active_after(self._tables, before, event.body)
        if after is before:
            return
        self._ledger.active = after
        self._follow_indexes()
        direct = after.changed_from(before, heard_sources(self._tables))
        gone = sorted(before.places.keys() - after.places.keys())
        if direct or gone:
            change = Change(before, direct, gone)
            change_over(self._ledger, change, Moment(event.revision, self._clock, "definition"))

    def _catch_up(self) -> None:
        """Take what stands for nobody yet, before the first is judged by it."""
        if self._is_behind:
            self._is_behind = False
            self._ledger.active = active_set(self._tables)
            self._follow_indexes()

    def _follow_indexes(self) -> None:
        self._ledger.trait_indexes.follow(
            self._ledger.active.rules,
            heard=heard_sources(self._tables),
            everyone=self._ledger.bitmaps.members(EVERYONE),
        )


def note_passed(
    tables: Tables, journal: Journal, revision: int, *, time_after: Callable[[int], datetime]
) -> None:
    """Note that all rows have come to a revision, and what the clock shows then."""
    journal.trim(revision)
    if clock.is_marked(revision):
        clock.mark_clock(tables, revision, time_after(revision))
