"""The files of `koseki import`: what is no UTF-8 is refused by the line, a mark is passed over."""

from __future__ import annotations

from codecs import BOM_UTF8
from pathlib import Path

import pytest

from actors.intake.lines import Columns
from app.importing import Format, lines_of

LATIN_1 = "Jörg".encode("latin-1")


def faults(file: Path, form: Format) -> list[str | None]:
    with lines_of(file, form, Columns()) as lines:
        return [line.fault for line in lines]


def test_a_row_that_is_not_utf_8_is_refused_and_its_neighbours_are_read(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_bytes(b"userId\n1\n%b\n2\n" % LATIN_1)
    assert faults(file, "csv") == [None, "MALFORMED_CSV", None]


def test_json_lines_keep_the_bytes_that_they_had(tmp_path: Path) -> None:
    file = tmp_path / "people.jsonl"
    file.write_bytes(b'{"userId":"%b"}\n\n{}\n' % LATIN_1)
    with lines_of(file, "jsonl", Columns()) as lines:
        assert [line.data for line in lines] == [b'{"userId":"%b"}' % LATIN_1, b"{}"]


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("jsonl", b'{"userId":"1"}\n{"userId":"2"}\n'),
        ("jsonl", b'\n{"userId":"1"}\n'),
        ("csv", b"userId,name\n1,a\n2,b\n"),
        ("csv", b'"userId","name"\r\n1,a\r\n'),
    ],
)
def test_a_byte_order_mark_is_as_if_it_were_not_there(
    tmp_path: Path, form: Format, content: bytes
) -> None:
    plain, marked = tmp_path / "plain", tmp_path / "marked"
    plain.write_bytes(content)
    marked.write_bytes(BOM_UTF8 + content)
    with lines_of(plain, form, Columns()) as as_it_is, lines_of(marked, form, Columns()) as found:
        assert [*found] == [*as_it_is] != []


def test_only_a_mark_at_the_beginning_of_a_file_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "people.jsonl"
    file.write_bytes(b"{}\n%b{}\n" % BOM_UTF8)
    with lines_of(file, "jsonl", Columns()) as lines:
        assert [line.data for line in lines] == [b"{}", BOM_UTF8 + b"{}"]
