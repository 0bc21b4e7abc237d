"""Answers of expressions for one customer at one instant, and until when they hold.

One context a process; its functions read the customer that is being asked about. Whatever they read
is noted, so the earliest instant at which any of it would read otherwise is known: until then, and
while the rows stay, the answer is the same. An expression that fails is answered with no.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from threading import local
from typing import TypeVar

import cel
from pydantic import JsonValue

from domain.signals import EXACT, exact_number
from projections.instants import time_of
from projections.segments.facts import Facts
from projections.segments.language import (
    EXPRESSIONS_CACHED_MAX,
    PROPERTIES,
    TRAITS,
    Expression,
    read_filter,
)
from projections.segments.timelines import Series, Sight
from projections.segments.vocabulary import (
    AGGREGATES,
    NUMERIC,
    Call,
    SequenceRead,
    SignalRead,
    sequence_read,
    signal_read,
)
from projections.tallies import INTEGER_BITS_MAX
from projections.timeline import TimedSignal

T = TypeVar("T")
Value = int | float | bool | str | datetime | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether the customer belongs, and the instant at which that may change by itself."""

    is_in: bool
    due: int | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What one call reads, and the instant at which it may read otherwise by itself."""

    call: Call
    value: Value
    due: int | None


class Evaluator:
    """Evaluates expressions, one customer at a time; not to be shared between threads."""

    def __init__(self) -> None:
        self._facts: Facts
        self._sight: Sight = None
        self._now = 0
        self._due: int | None = None
        self._expression: Expression
        self._belongs: Collection[str] = ()
        self._is_refused = False
        self._fault: Exception | None = None
        self._properties: object = None
        self._reads = self._functions()
        guarded = {name: self._guarded(name, read) for name, read in self._reads.items()}
        self._context = cel.Context(functions=guarded)
        self._context.set_variable_resolver(self._resolve)
        self._filter_context = cel.Context()
        self._filter_context.set_variable_resolver(self._resolve_in_filter)

    def answer(
        self,
        expression: Expression,
        facts: Facts,
        *,
        sight: Sight,
        now: int,
        belongs: Collection[str],
    ) -> Answer:
        """Evaluate an expression at an instant; `belongs` names the segments that are so."""
        self._expression, self._facts, self._sight = expression, facts, sight
        self._now, self._belongs = now, belongs
        self._due, self._is_refused, self._fault = None, False, None
        result = self._execute(expression.program, self._context)
        if self._fault is not None:
            raise self._fault  # the read side's, such as a key that is not at hand
        is_failed = self._is_refused or not isinstance(result, bool)
        return Answer(not is_failed and result is True, self._due, is_failed)

    def explain(
        self,
        expression: Expression,
        facts: Facts,
        *,
        sight: Sight,
        now: int,
        belongs: Collection[str],
    ) -> list[Reading]:
        """Say what each call of an expression reads at an instant, and until when it reads so."""
        self._expression, self._facts, self._sight = expression, facts, sight
        self._now, self._belongs = now, belongs
        readings = []
        for call in sorted(expression.calls):
            self._due = None
            value = self._reads[call.function](call)
            readings.append(Reading(call, value, self._due))
        return readings

    @staticmethod
    def _execute(program: cel.Program, context: cel.Context) -> object:
        try:
            return program.execute(context)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException:  # noqa: BLE001  # a panic of the library is no `Exception`
            return None

    def _resolve(self, name: str) -> object:
        if name != TRAITS:
            return None
        return self._kept(lambda: self._facts.traits(self._expression.traits, self._sight))

    def _resolve_in_filter(self, name: str) -> object:
        return self._properties if name == PROPERTIES else None

    def _functions(self) -> dict[str, Callable[[Call], Value]]:
        functions: dict[str, Callable[[Call], Value]] = {
            "sequence": lambda call: self._has_sequence(_sequence(call)),
            "consent": lambda call: self._is_open(call.arguments[0]),
            "identified": lambda call: self._facts.is_identified(call.arguments[0], self._sight),
            "preference": lambda call: self._facts.preference(*call.arguments),
            "segment": lambda call: call.arguments[0] in self._belongs,
        }
        for name in AGGREGATES | NUMERIC:
            functions[name] = lambda call: self._aggregate(_signal(call))
        return functions

    def _guarded(self, name: str, read: Callable[[Call], Value]) -> Callable[..., Value]:
        def function(*arguments: object) -> Value:
            call = Call(name, arguments)  # type: ignore[arg-type]  # compared before it is read
            if call not in self._expression.calls:
                self._is_refused = True  # the library hides what a function raises
                return None
            return self._kept(lambda: read(call))

        return function

    def _kept(self, read: Callable[[], T]) -> T | None:
        """Read, and keep what is raised: the library would log it and answer without it."""
        try:
            return read()
        except Exception as fault:  # noqa: BLE001  # raised again by `answer`
            self._fault = self._fault or fault
            return None

    def _is_open(self, purpose: str) -> bool:
        until = self._facts.open_until(purpose, now=self._now)
        if until is not None:
            self._may_change_at(until)
        return self._facts.is_open(purpose, now=self._now)

    def _aggregate(self, read: SignalRead) -> Value:
        series = self._facts.series(read.signal, self._sight)
        start = 0 if read.window is None else bisect_right(series.times, self._now - read.window)
        match read.function:
            case "count" if read.filter is None:
                self._holds_from(series.times[start : start + 1], read.window)
                return len(series.times) - start
            case "seen" | "last":
                return self._latest(read, series, start)
            case "count" | "first":
                return self._counted(read, series, start)
            case _:
                return self._measured(read, series, start)

    def _latest(self, read: SignalRead, series: Series, start: int) -> Value:
        for index in range(len(series.times) - 1, start - 1, -1):
            if self._matches(read, series.signals[index]):
                at = series.times[index]
                self._holds_from([at], read.window)
                return True if read.function == "seen" else time_of(at)
        return False if read.function == "seen" else None

    def _counted(self, read: SignalRead, series: Series, start: int) -> Value:
        times = [signal.at for signal in self._matching(read, series, start)]
        self._holds_from(times, read.window)
        if read.function == "count":
            return len(times)
        return time_of(times[0]) if times else None

    def _measured(self, read: SignalRead, series: Series, start: int) -> Value:
        times: list[int] = []
        numbers: list[Decimal] = []
        for signal in self._matching(read, series, start):
            number = _number(signal.properties.get(read.property or ""))
            if number is not None:
                times.append(signal.at)
                numbers.append(number)
        self._holds_from(times, read.window)
        if read.function == "sum":
            total = Decimal(0)
            for number in numbers:
                total = EXACT.add(total, number)
            return float(total)
        if not numbers:
            return None
        return float(min(numbers) if read.function == "min" else max(numbers))

    def _matching(self, read: SignalRead, series: Series, start: int) -> Iterator[TimedSignal]:
        for index in range(start, len(series.signals)):
            if self._matches(read, series.signals[index]):
                yield series.signals[index]

    def _matches(self, read: SignalRead, signal: TimedSignal) -> bool:
        if read.filter is None:
            return True
        place = (read.filter, signal.record_id, signal.key)
        known = self._facts.matches.get(place)
        if known is None:
            self._properties = signal.properties
            result = self._execute(read_filter(read.filter), self._filter_context)
            known = self._facts.matches[place] = result is True
        return known

    def _has_sequence(self, read: SequenceRead) -> bool:
        firsts = self._facts.series(read.first, self._sight).times
        thens = self._facts.series(read.then, self._sight).times
        between = self._facts.series(read.without, self._sight).times if read.without else []
        start = 0 if read.window is None else bisect_right(thens, self._now - read.window)
        for index in range(len(thens) - 1, start - 1, -1):
            at = thens[index]
            before = bisect_left(firsts, at) - 1
            if before < 0 or firsts[before] < at - read.within:
                continue
            if bisect_right(between, firsts[before]) == bisect_left(between, at):
                self._holds_from([at], read.window)
                return True
        return False

    def _holds_from(self, times: list[int], window: int | None) -> None:
        """Note that what was read changes when the first of these times leaves the window."""
        if window is not None and times:
            self._may_change_at(times[0] + window)

    def _may_change_at(self, instant: int) -> None:
        self._due = instant if self._due is None else min(self._due, instant)


class _PerThread(local):
    def __init__(self) -> None:
        self.evaluator = Evaluator()


_per_thread = _PerThread()


def evaluator() -> Evaluator:
    """Give the thread its evaluator: making a context costs more than using it."""
    return _per_thread.evaluator


def _number(value: JsonValue) -> Decimal | None:
    if isinstance(value, int) and value.bit_length() > INTEGER_BITS_MAX:
        return None
    return exact_number(value)


@lru_cache(maxsize=EXPRESSIONS_CACHED_MAX)
def _signal(call: Call) -> SignalRead:
    return signal_read(call)


@lru_cache(maxsize=EXPRESSIONS_CACHED_MAX)
def _sequence(call: Call) -> SequenceRead:
    return sequence_read(call)
