"""Marks outlive a killed process, survive a torn write, and never go back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.errors import LogDamaged
from eventlog.marks import Mark, read_marks
from eventlog.port import Witness

DIGESTS = [bytes([number]) * 32 for number in range(8)]

KILLED = """\
import os, pathlib, signal, sys
from eventlog.marks import Mark
mark = Mark.open(pathlib.Path(sys.argv[1]))
for revision in range(1, 5_001):
    mark.note(revision, revision.to_bytes(32, "big"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def known(folder: Path) -> list[tuple[int, bytes]]:
    return [(witness.revision, witness.digest) for witness in read_marks(folder)]


def test_nothing_is_known_before_anything_was_noted(tmp_path: Path) -> None:
    assert read_marks(tmp_path / "none") == []
    mark = Mark.open(tmp_path)
    assert read_marks(tmp_path) == []
    mark.close()


def test_the_highest_note_counts_over_restarts(tmp_path: Path) -> None:
    mark = Mark.open(tmp_path)
    for revision in (3, 7, 5):
        mark.note(revision, DIGESTS[revision])
    assert read_marks(tmp_path) == [Witness("acknowledged", 7, DIGESTS[7])]
    mark.close()
    mark = Mark.open(tmp_path)
    mark.note(6, DIGESTS[6])
    assert known(tmp_path) == [(7, DIGESTS[7])]
    mark.close()


def test_processes_at_once_have_marks_of_their_own(tmp_path: Path) -> None:
    marks = [Mark.open(tmp_path) for _ in range(3)]
    for revision, mark in enumerate(marks, start=1):
        mark.note(revision, DIGESTS[revision])
    assert known(tmp_path) == [(revision, DIGESTS[revision]) for revision in (1, 2, 3)]
    for mark in marks:
        mark.close()
    again = Mark.open(tmp_path)
    again.note(4, DIGESTS[4])
    assert known(tmp_path)[0] == (4, DIGESTS[4])
    again.close()


def test_what_a_killed_process_noted_is_known(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, timeout=60)
    assert done.returncode < 0
    assert known(tmp_path) == [(5_000, (5_000).to_bytes(32, "big"))]


@settings(deadline=None, max_examples=50)
@given(torn_at=st.integers(min_value=0, max_value=51), byte=st.integers(1, 255))
def test_a_torn_note_leaves_the_one_before_it(
    tmp_path_factory: pytest.TempPathFactory, torn_at: int, byte: int
) -> None:
    folder = tmp_path_factory.mktemp("marks")
    mark = Mark.open(folder)
    mark.note(1, DIGESTS[1])
    mark.note(2, DIGESTS[2])
    mark.close()
    [path] = folder.iterdir()
    content = bytearray(path.read_bytes())
    content[torn_at] ^= byte  # the first slot holds the second note
    path.write_bytes(content)
    assert known(folder) == [(1, DIGESTS[1])]


def test_a_spoilt_mark_is_not_taken_for_none(tmp_path: Path) -> None:
    mark = Mark.open(tmp_path)
    mark.note(1, DIGESTS[1])
    mark.note(2, DIGESTS[2])
    mark.close()
    [path] = tmp_path.iterdir()
    path.write_bytes(b"?" * len(path.read_bytes()))
    with pytest.raises(LogDamaged):
        read_marks(tmp_path)
    with pytest.raises(LogDamaged):
        Mark.open(tmp_path)
