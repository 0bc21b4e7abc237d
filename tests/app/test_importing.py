"""The files of `koseki import`: what is no UTF-8 is refused by the line, in either form."""

from __future__ import annotations

from pathlib import Path

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
