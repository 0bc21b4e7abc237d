"""Expressions of segments in CEL: checked where they are defined, with the place of every fault.

The library parses and evaluates; it gives no syntax tree, so what an expression reads is found from
its words: our functions take literals only, and traits are named (`traits.country`) or else all of
them are read. `evaluation.py` refuses a call that is not in `Expression.reads`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple, NoReturn

import cel

from domain.workspace_events import EXPRESSION_CHARACTERS_MAX
from projections.segments.errors import ExpressionFault, InvalidExpression
from projections.segments.fault_place import Judge, fault_in
from projections.segments.literals import faults_of_literals
from projections.segments.running import Program
from projections.segments.tokens import Token, place, tokens
from projections.segments.trying import (
    TYPES,
    WRONG_TYPE,
    can_be_equal,
    fault_of,
    fault_of_part,
)
from projections.segments.vocabulary import (
    SIGNATURES,
    BadArgument,
    Call,
    Read,
    check_call,
    reach_of,
    read_of,
    signals_of,
)

CALLS_MAX = 64
COMPREHENSIONS_MAX = 2
"""More of them, one in another, would make the work of an evaluation unbounded."""

NESTING_MAX = 64
EXPRESSIONS_CACHED_MAX = 4_096
TRAITS = "traits"
PROPERTIES = "properties"

_COMPREHENSIONS = frozenset({"all", "exists", "exists_one", "filter", "map"})
_BUILT_IN = frozenset(
    {"has", "size", "contains", "startsWith", "endsWith", "matches", "type", "dyn"}
    | {"int", "uint", "double", "string", "bytes", "bool", "timestamp", "duration"}
    | {"getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"}
    | {"getHours", "getMinutes", "getSeconds", "getMilliseconds"}
)
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""The library lists operators among the functions, by names that no function can have."""
_PARSE_FAULT = re.compile(r"<input>:(\d+):(\d+): ([^\n]*)")


class Result(NamedTuple):
    """Whether an expression holds; one that failed does not."""

    is_true: bool
    failed: bool = False


@dataclass(slots=True)
class Sole:
    """The only call of an expression that reads nothing else: its value alone decides."""

    function: str
    read: Read
    is_made: bool = False
    """Whether it is known to be made: a constant may decide before it."""
    results: dict[int, Result] = field(default_factory=dict)
    """By its value, where that is an integer or a truth: no call gives both."""


@dataclass(frozen=True)
class Expression:
    """A checked expression: what it calls, and the traits it reads (None: any of them)."""

    source: str
    calls: frozenset[Call]
    traits: frozenset[str] | None
    program: Program

    @cached_property
    def reads(self) -> Mapping[tuple[str, tuple[object, ...]], Read]:
        """What each of its calls reads, by function and arguments."""
        return {call: read_of(call) for call in self.calls}

    @cached_property
    def sole(self) -> Sole | None:
        """What it reads, where that is one call and nothing else."""
        if len(self.calls) != 1 or self.traits is None or self.traits:
            return None
        (call,) = self.calls
        return Sole(call.function, self.reads[call])

    @cached_property
    def signals(self) -> frozenset[str]:
        """The names of the signals that it reads."""
        return frozenset(name for call in self.calls for name in signals_of(call))

    @cached_property
    def reach(self) -> int:
        """How far back from now it reads signals, in microseconds; ever is the longest window."""
        return max(map(reach_of, self.reads.values()), default=0)

    @cached_property
    def uses(self) -> frozenset[str]:
        """The segments that it reads."""
        return self._arguments_of("segment")

    @cached_property
    def purposes(self) -> frozenset[str]:
        """The purposes whose standing it reads."""
        return self._arguments_of("consent")

    @cached_property
    def namespaces(self) -> frozenset[str]:
        """The namespaces of identifiers that it asks for."""
        return self._arguments_of("identified")

    @cached_property
    def asks_preferences(self) -> bool:
        """Whether it reads how people wish to be spoken to."""
        return any(call.function == "preference" for call in self.calls)

    def _arguments_of(self, function: str) -> frozenset[str]:
        return frozenset(call.arguments[0] for call in self.calls if call.function == function)


@lru_cache(maxsize=EXPRESSIONS_CACHED_MAX)
def read_expression(source: str) -> Expression:
    """Check the expression of a segment; raises `InvalidExpression`."""
    return _read(source, TRAITS)


@lru_cache(maxsize=EXPRESSIONS_CACHED_MAX)
def read_filter(source: str) -> Program:
    """Check a filter over the properties of a signal; raises `InvalidExpression`."""
    return _read(source, PROPERTIES).program


def _read(source: str, variable: str) -> Expression:
    if len(source) > EXPRESSION_CHARACTERS_MAX:
        _fail(source, EXPRESSION_CHARACTERS_MAX, "TOO_LONG", "the expression is too long")
    words = list(tokens(source))
    _check_nesting(source, words)
    program = _compile(source)
    bound = _check_comprehensions(source, words)
    _check_names(source, words, program=program, known={variable, *bound})
    calls = _calls(source, words) if variable == TRAITS else frozenset()
    if (fault := fault_of(program)) is not None:
        _check_parts(source, words)
        _fail(source, words[0].offset, fault.reason, fault.message)  # no part shows it
    return Expression(source, calls, _fields(words, variable), program)


@lru_cache(maxsize=EXPRESSIONS_CACHED_MAX)
def check_types(source: str) -> None:
    """Require that types fit in every part of an expression and of its filters, and its literals.

    Also where `read_expression` does not see it, for a short circuit passes over the part. Raises
    `InvalidExpression`.
    """
    words = list(tokens(source))
    for offset, fault in faults_of_literals(words):
        _fail(source, offset, fault.reason, fault.message)
    _check_parts(source, words)
    _calls(source, words, check_filter=check_types)


def _check_parts(source: str, words: list[Token]) -> None:
    if found := fault_in(source, words, judge=Judge(_judge, _judge_equality)):
        offset, fault = found
        _fail(source, offset, fault.reason, fault.message)


def _judge(part: str) -> ExpressionFault | None:
    """Say why a part of an expression can be no rule, if it is one at all."""
    try:
        return fault_of_part(Program(part))
    except ValueError:
        return None


def _judge_equality(one: str, other: str) -> ExpressionFault | None:
    """Say why two parts can never be equal, if they are parts at all."""
    try:
        if can_be_equal(Program(one), Program(other)):
            return None
    except ValueError:
        return None
    return ExpressionFault(WRONG_TYPE, "what is compared can never be equal: it is of two types")


def _compile(source: str) -> Program:
    try:
        return Program(source)
    except ValueError as error:
        faults = tuple(
            ExpressionFault("SYNTAX", message, *_offset(source, int(line), int(column)))
            for line, column, message in _PARSE_FAULT.findall(str(error))
        )
        raise InvalidExpression(
            faults or (ExpressionFault("SYNTAX", "cannot be parsed"),)
        ) from None


def _offset(source: str, line: int, column: int) -> tuple[int, int, int]:
    lines = source.split("\n")
    return sum(len(text) + 1 for text in lines[: line - 1]) + column - 1, line, column


def _check_nesting(source: str, words: list[Token]) -> None:
    depth = 0
    for word in words:
        if word.text in {"(", "[", "{", "!", "-"} and word.kind == "sign":
            depth += 1
            if depth > NESTING_MAX:
                _fail(source, word.offset, "TOO_DEEP", "brackets and signs are nested too deep")
        elif word.text in {")", "]", "}"} or word.kind in {"text", "number"}:
            depth = max(0, depth - 1)


def _check_comprehensions(source: str, words: list[Token]) -> set[str]:
    """Give the names that comprehensions bind."""
    bound: set[str] = set()
    found = 0
    for before, word, after, name in zip(words, words[1:], words[2:], words[3:], strict=False):
        if word.text in _COMPREHENSIONS and before.text == "." and after.text == "(":
            found += 1
            bound.add(name.text)
            if found > COMPREHENSIONS_MAX:
                _fail(source, word.offset, "TOO_MANY_LOOPS", "too many loops over lists")
            if name.text in SIGNATURES or name.text in {TRAITS, PROPERTIES}:
                _fail(source, name.offset, "RESERVED", f"{name.text} already means something")
    return bound


def _check_names(source: str, words: list[Token], *, program: Program, known: set[str]) -> None:
    functions = _BUILT_IN | (SIGNATURES.keys() if TRAITS in known else set())
    for name in sorted(program.variables):
        if name not in known | TYPES:
            _fail(source, _place_of(words, name), "UNKNOWN_NAME", f"{name} is not known here")
    for name in sorted(program.functions):
        if name not in functions and _FUNCTION.fullmatch(name):
            message = f"there is no function {name}"
            _fail(source, _place_of(words, name), "UNKNOWN_FUNCTION", message)


def _calls(
    source: str, words: list[Token], *, check_filter: Callable[[str], object] = read_filter
) -> frozenset[Call]:
    calls: set[Call] = set()
    for index, word in enumerate(words):
        if word.kind != "name" or word.text not in SIGNATURES:
            continue
        is_member = index > 0 and words[index - 1].text == "."
        is_call = index + 1 < len(words) and words[index + 1].text == "("
        if is_member and not is_call:
            continue  # a trait of that name
        if is_member or not is_call:
            message = f"write {word.text}(...) with its arguments in brackets"
            _fail(source, word.offset, "NOT_A_CALL", message)
        calls.add(_call(source, words, index, check_filter=check_filter))
    if len(calls) > CALLS_MAX:
        _fail(source, 0, "TOO_MANY_CALLS", f"at most {CALLS_MAX} different calls")
    return frozenset(calls)


def _call(
    source: str, words: list[Token], index: int, *, check_filter: Callable[[str], object]
) -> Call:
    """Read a call whose name stands at `index`: literal texts between commas."""
    name, arguments = words[index], list[Token]()
    position = index + 2
    while words[position].text != ")" or words[position].kind == "text":
        argument, after = words[position], words[position + 1]
        if argument.kind != "text" or after.text not in {",", ")"}:
            message = f"the arguments of {name.text} are literal texts"
            _fail(source, argument.offset, "NOT_LITERAL", message)
        arguments.append(argument)
        position += 2 if after.text == "," else 1
    call = Call(name.text, tuple(str(cel.evaluate(argument.text)) for argument in arguments))
    try:
        check_call(call)
    except BadArgument as bad:
        at = name if bad.place is None else arguments[bad.place - 1]
        _fail(source, at.offset, "BAD_ARGUMENT", str(bad))
    _check_filters(source, call, arguments, check=check_filter)
    return call


def _check_filters(
    source: str, call: Call, arguments: list[Token], *, check: Callable[[str], object]
) -> None:
    named = zip(SIGNATURES[call.function].arguments, call.arguments, arguments, strict=False)
    for kind, value, argument in named:
        if kind != "filter":
            continue
        try:
            check(value)
        except InvalidExpression as invalid:
            message = f"in the filter, {invalid.message}"
            _fail(source, argument.offset, invalid.faults[0].reason, message)


def _fields(words: list[Token], variable: str) -> frozenset[str] | None:
    """Name the fields of a variable that are read; None where that cannot be told."""
    names: set[str] = set()
    for index, word in enumerate(words):
        if word.kind != "name" or word.text != variable:
            continue
        if index > 0 and words[index - 1].text == ".":
            continue
        following = words[index + 1 : index + 4]
        texts = [next_word.text for next_word in following]
        if texts[:1] == ["."] and following[1].kind == "name" and texts[2:] != ["("]:
            names.add(texts[1])
        elif texts[:1] == ["["] and following[1].kind == "text" and texts[2] == "]":
            names.add(str(cel.evaluate(texts[1])))
        else:
            return None
    return frozenset(names)


def _place_of(words: list[Token], name: str) -> int:
    return next((word.offset for word in words if word.text == name), 0)


def _fail(source: str, offset: int, reason: str, message: str) -> NoReturn:
    line, column = place(source, offset)
    raise InvalidExpression((ExpressionFault(reason, message, offset, line, column),))
