"""Lines of a file as messages of intake: JSON lines, and CSV by named columns. Reads only.

Called by `koseki import`. A line without an id of its own gets one made of its content, and of how
often the same content came before in the file: reading it again, or a longer file, changes no id.
"""

from __future__ import annotations

import csv
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from io import TextIOWrapper
from typing import BinaryIO, NamedTuple, Protocol

import orjson

from domain.errors import Invalid

LINES_WITHOUT_ID_MAX = 5_000_000
"""Different contents that are counted; a longer file gives its lines ids."""

_DIGEST_BYTES = 16
_TYPES = ("text", "number", "boolean", "json")
_PLAIN = frozenset(
    {
        "type",
        "event",
        "name",
        "messageId",
        "timestamp",
        "userId",
        "anonymousId",
        "previousId",
        "groupId",
        "purpose",
        "state",
        "noticeVersion",
        "noticeLanguage",
        "jurisdiction",
        "method",
        "validUntil",
    }
)
"""Columns that are fields of a call; the last seven of a `consent` line."""

_OPEN = frozenset({"traits", "properties", "context", "evidence"})
"""Columns `traits.city` and the like are fields within these."""

EXTERNAL, CONSENT = "external", "consent"
"""Columns `external.loyalty_id` name the person, `consent.ads` hold a choice of a category."""

_WITHIN = {EXTERNAL: ("context", "externalIds"), CONSENT: ("context", "consent")}
"""The fields that these columns fill together."""


class UnknownColumn(Invalid):
    """A column that says nothing to us: left out, its values would be lost without a word."""


class Line(NamedTuple):
    """A line with its number, from 1, and the id that stands for it unless it brings one.

    `fault` says why it is no call at all.
    """

    number: int
    data: bytes
    line_id: str
    fault: str | None = None


@dataclass(slots=True)
class LineIds:
    """Gives lines their ids."""

    _seen: Counter[bytes] = field(default_factory=Counter)

    def of(self, content: bytes) -> str:
        """Make the id of one more line with this content. Raises `Invalid` / TOO_MANY_LINES."""
        digest = blake2b(content, digest_size=_DIGEST_BYTES)
        if len(self._seen) >= LINES_WITHOUT_ID_MAX:
            raise Invalid("TOO_MANY_LINES", "part the file: it has too many different lines")
        self._seen[digest.digest()] += 1
        return f"line-{digest.hexdigest()}-{self._seen[digest.digest()]}"


def json_lines(file: Iterable[bytes]) -> Iterator[Line]:
    """Read one call of the Segment spec, or one CloudEvent, a line; empty lines are none.

    A byte order mark before the first one is passed over.
    """
    ids = LineIds()
    for number, raw in enumerate(file, start=1):
        data = (raw.removeprefix(BOM_UTF8) if number == 1 else raw).strip()
        if data:
            yield Line(number, data, ids.of(data))


def csv_text(file: BinaryIO) -> TextIOWrapper:
    """Read bytes as text for `csv_lines`, which refuses only those rows that are not UTF-8."""
    return TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


def csv_lines(file: Iterable[str], columns: Columns) -> Iterator[Line]:
    """Read one call a row; the first row names the columns.

    A row is numbered by the line on which it ends. Raises `UnknownColumn`, and `Invalid` /
    MALFORMED_CSV where the first row cannot be read, INVALID_COLUMNS where two columns fill one
    field.
    """
    rows = csv.reader(file, strict=True)
    names = _next_row(rows) or []
    cells = [columns.cell(name) for name in names]
    _require_apart(names, cells)
    return _rows(rows, cells, columns)


def _require_apart(names: list[str], cells: list[Cell | None]) -> None:
    """Require that no column hides what another one says. Raises `Invalid` / INVALID_COLUMNS."""
    places = [cell.place for cell in cells if cell is not None]
    counted = Counter(places) + Counter({_WITHIN[p[0]] for p in places if p[0] in _WITHIN})
    for name, cell in zip(names, cells, strict=True):
        if cell is not None and counted[cell.place] > 1:
            raise Invalid("INVALID_COLUMNS", f"the column {name} fills a field that another fills")


def _rows(rows: _Reader, cells: list[Cell | None], columns: Columns) -> Iterator[Line]:
    ids = LineIds()
    while True:
        try:
            row = _next_row(rows)
        except Invalid as fault:
            yield Line(rows.line_num, b"", f"malformed-{rows.line_num}", fault.reason)
            continue
        if row is None:
            return
        if row:
            yield _row(rows.line_num, row, cells, columns=columns, ids=ids)


def _next_row(rows: _Reader) -> list[str] | None:
    """Read a row; None at the end. Raises `Invalid` / MALFORMED_CSV."""
    try:
        row = next(rows, None)
        # A byte that is not UTF-8 was read as half a surrogate pair, which cannot be written.
        "".join(row or ()).encode()
    except (csv.Error, UnicodeEncodeError):
        raise Invalid(
            "MALFORMED_CSV", f"line {rows.line_num} cannot be read as CSV in UTF-8"
        ) from None
    return row


class _Reader(Protocol):
    """What `csv.reader` gives."""

    @property
    def line_num(self) -> int:
        """How many lines were read."""

    def __next__(self) -> list[str]:
        """Give a row."""

    def __iter__(self) -> Iterator[list[str]]:
        """Give the rows."""


class Cell(NamedTuple):
    """Where a column's value goes: into a field of a call, or one within that, and as what."""

    place: tuple[str, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Columns:
    """What columns mean. By itself a column is named as its field: `userId`, `traits.city`.

    `named` gives other names such fields, an empty one to a column that is to be left out;
    `defaults` holds fields that every row has unless it says otherwise.
    """

    named: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)

    def cell(self, column: str) -> Cell | None:
        """Say where a column goes; None for nowhere. Raises `UnknownColumn`."""
        told = self.named.get(column, column)
        if told == "":
            return None
        name, _, kind = told.partition(":")
        head, _, rest = name.partition(".")
        is_plain = name in _PLAIN and not kind
        is_open = head in _OPEN | {EXTERNAL, CONSENT} and bool(rest)
        if not (is_plain or is_open) or (kind or "text") not in _TYPES:
            raise UnknownColumn("UNKNOWN_COLUMN", f"the column {column} means nothing here")
        return Cell((name,) if is_plain else (head, rest), kind or "text")


def _row(
    number: int, row: list[str], cells: list[Cell | None], *, columns: Columns, ids: LineIds
) -> Line:
    try:
        call = _call(row, cells, columns)
    except Invalid as fault:
        content = orjson.dumps(row)
        return Line(number, content, ids.of(content), fault.reason)
    data = orjson.dumps(call, option=orjson.OPT_SORT_KEYS)
    return Line(number, data, ids.of(data))


def _call(row: list[str], cells: list[Cell | None], columns: Columns) -> dict[str, object]:
    """Make a call of a row's cells. Raises `Invalid`."""
    if len(row) != len(cells):
        raise Invalid("MALFORMED_CSV", "a row has as many cells as there are columns")
    call: dict[str, object] = dict(columns.defaults)
    inner: dict[str, dict[str, object]] = {}
    for cell, text in zip(cells, row, strict=True):
        if cell is None or text == "":
            continue
        if len(cell.place) == 1:
            call[cell.place[0]] = text
        else:
            head, name = cell.place
            inner.setdefault(head, {})[name] = _value(text, cell.kind, head)
    external, choices = inner.pop(EXTERNAL, None), inner.pop(CONSENT, None)
    context = inner.pop("context", {})
    if external:
        context["externalIds"] = [{"type": name, "id": value} for name, value in external.items()]
    if choices:
        context["consent"] = {"categoryPreferences": choices}
    return {**call, **inner, **({"context": context} if context else {})}


def _value(text: str, kind: str, head: str) -> object:
    """Read a cell by its kind; a choice is yes or no. Raises `Invalid` / INVALID_VALUE."""
    if head == CONSENT or kind == "boolean":
        if text.lower() not in {"true", "false"}:
            raise Invalid("INVALID_VALUE", "a cell is not true or false")
        return text.lower() == "true"
    if kind == "text":
        return text
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Invalid("INVALID_VALUE", "a cell is not what its column says") from None
    if kind == "number" and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise Invalid("INVALID_VALUE", "a cell is not a number")
    return value
