"""Answers of expressions for one customer at one instant, and until when they hold.

One context a process; its functions read the customer that is being asked about. Whatever they read
is noted, so the earliest instant at which any of it would read otherwise is known: until then, and
while the rows stay, the answer is the same. An expression that fails is answered with no.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from threading import local
from typing import Any, NamedTuple

import cel
from pydantic import JsonValue

from domain.signals import EXACT, exact_number
from projections.instants import time_of
from projections.segments.doubles import FUNCTIONS
from projections.segments.facts import Facts
from projections.segments.language import (
    PROPERTIES,
    TRAITS,
    Expression,
    Result,
    Sole,
    read_filter,
)
from projections.segments.running import Budget, Program
from projections.segments.timelines import Series, Sight
from projections.segments.vocabulary import (
    AGGREGATES,
    NUMERIC,
    Call,
    SequenceRead,
    SignalRead,
    Value,
)
from projections.tallies import INTEGER_BITS_MAX
from projections.timeline import Occurrence

RESULTS_KEPT_MAX = 256
"""Of an expression, by the value of its only call: it need not be evaluated for the same again."""


class Answer(NamedTuple):
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
        self._given: tuple[Value] | None = None
        """What the only call reads, where it was read already."""
        self._is_asked = False
        self._is_refused = False
        self._fault: Exception | None = None
        self._budget, self._filter_budget = Budget(), Budget()
        self._properties: Mapping[str, JsonValue] = {}
        self._functions = self._named_functions()
        guarded = {name: self._guarded(name, read) for name, read in self._functions.items()}
        self._context = cel.Context(functions={**guarded, **FUNCTIONS})
        self._context.set_variable_resolver(self._resolve)
        self._filter_context = cel.Context(functions=dict(FUNCTIONS))
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
        self._due, self._given = None, None
        sole = expression.sole
        result = self._result() if sole is None else self._result_of(sole)
        return Answer(result.is_true, self._due, result.failed)

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
            value = self._functions[call.function](expression.reads[call])
            readings.append(Reading(call, value, self._due))
        return readings

    def _result_of(self, sole: Sole) -> Result:
        """Give the result of an expression that reads one value: the same for the same value."""
        if not sole.is_made:
            self._is_asked = False
            result = self._result()
            sole.is_made = self._is_asked
            return result
        value = self._functions[sole.function](sole.read)
        self._given = (value,)
        if not isinstance(value, int):  # of other numbers few come again
            return self._result()
        known = sole.results.get(value)
        if known is None:
            if len(sole.results) >= RESULTS_KEPT_MAX:
                sole.results.clear()
            known = sole.results[value] = self._result()
        return known

    def _result(self) -> Result:
        self._is_refused, self._fault = False, None
        result = self._execute(self._expression.program, self._context, self._budget)
        if self._fault is not None:
            raise self._fault  # the read side's, such as a key that is not at hand
        is_failed = self._is_refused or self._budget.is_spent or not isinstance(result, bool)
        return Result(not is_failed and result is True, is_failed)

    @staticmethod
    def _execute(program: Program, context: cel.Context, budget: Budget) -> object:
        try:
            return program.run(context, budget)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  # whatever fails is answered with no
            return None

    def _resolve(self, name: str) -> object:
        if name != TRAITS:
            return None
        try:
            return self._budget.hand_out(self._facts.traits(self._expression.traits, self._sight))
        except Exception as fault:  # noqa: BLE001  # raised again by `answer`
            self._keep(fault)
            return None

    def _resolve_in_filter(self, name: str) -> object:
        return self._filter_budget.hand_out(self._properties) if name == PROPERTIES else None

    def _named_functions(self) -> dict[str, Callable[[Any], Value]]:  # Any: what the call reads
        return {
            "sequence": self._has_sequence,
            "consent": self._is_open,
            "identified": lambda namespace: self._facts.is_identified(namespace, self._sight),
            "preference": lambda told: self._facts.preference(*told),
            "segment": lambda segment: segment in self._belongs,
            **dict.fromkeys(AGGREGATES | NUMERIC, self._aggregate),
        }

    def _guarded(self, name: str, answer: Callable[[Any], Value]) -> Callable[..., Value]:
        def function(*arguments: object) -> Value:
            read = self._expression.reads.get((name, arguments))
            if read is None:
                self._is_refused = True  # the library hides what a function raises
                return None
            self._is_asked = True
            if self._given is not None:
                return self._given[0]
            try:
                return answer(read)
            except Exception as fault:  # noqa: BLE001  # raised again by `answer`
                self._keep(fault)
            return None

        return function

    def _keep(self, fault: Exception) -> None:
        """Keep what is raised: the library would log it and answer without it."""
        self._fault = self._fault or fault

    def _is_open(self, purpose: str) -> bool:
        until = self._facts.open_until(purpose, now=self._now)
        if until is not None:
            self._may_change_at(until)
        return self._facts.is_open(purpose, now=self._now)

    def _aggregate(self, read: SignalRead) -> Value:
        """Read signals; what several expressions read of a customer is read once."""
        place = (read, self._sight)
        known = self._facts.readings.get(place)
        if known is None:
            due_so_far, self._due = self._due, None
            value = self._aggregated(read)
            known = self._facts.readings[place] = (value, self._due)
            self._due = due_so_far
        value, due = known
        if due is not None:
            self._may_change_at(due)
        return value

    def _aggregated(self, read: SignalRead) -> Value:
        series, start = self._series(read.signal, read.window)
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

    def _series(self, name: str, window: int | None) -> tuple[Series, int]:
        """Give the signals of a name, and the place of the first that a window holds."""
        if window is None:
            return self._facts.series(name, self._sight, start=0), 0
        left = self._now - window
        series = self._facts.series(name, self._sight, start=max(0, left))
        return series, bisect_right(series.times, left)

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
            number = _number(self._facts.properties(signal).get(read.property or ""))
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

    def _matching(self, read: SignalRead, series: Series, start: int) -> Iterator[Occurrence]:
        for index in range(start, len(series.signals)):
            if self._matches(read, series.signals[index]):
                yield series.signals[index]

    def _matches(self, read: SignalRead, signal: Occurrence) -> bool:
        if read.filter is None:
            return True
        place = (read.filter, signal.place)
        known = self._facts.matches.get(place)
        if known is None:
            self._properties = self._facts.properties(signal)
            budget = self._filter_budget
            result = self._execute(read_filter(read.filter), self._filter_context, budget)
            is_so = result is True and not budget.is_spent
            known = self._facts.matches[place] = is_so
        return known

    def _has_sequence(self, read: SequenceRead) -> bool:
        series, start = self._series(read.then, read.window)
        thens, earliest = series.times, series.start - read.within
        firsts = self._times_since(read.first, earliest)
        between = self._times_since(read.without, earliest) if read.without else []
        for index in range(len(thens) - 1, start - 1, -1):
            at = thens[index]
            before = bisect_left(firsts, at) - 1
            if before < 0 or firsts[before] < at - read.within:
                continue
            if bisect_right(between, firsts[before]) == bisect_left(between, at):
                self._holds_from([at], read.window)
                return True
        return False

    def _times_since(self, name: str, start: int) -> list[int]:
        return self._facts.series(name, self._sight, start=max(0, start)).times

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
