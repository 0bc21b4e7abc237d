"""Settings: their limits, the way between processes, and a pepper that is made once."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.processes import hold, is_held
from app.settings import PEPPER_BYTES, Settings, ensure_pepper, write_atomically


def test_settings_come_back_as_they_were_written(tmp_path: Path) -> None:
    settings = Settings(workspace="shop", data=tmp_path, hosts=3, grpc_port=1, nats_url="nats://a")
    assert Settings.from_bytes(settings.to_bytes()) == settings


def test_everything_of_an_installation_lies_in_its_folder(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    places = {
        settings.nats_folder,
        settings.read_side_folder,
        settings.logs_folder,
        settings.pepper_file,
        settings.lock_file,
        settings.running_file,
        settings.processes_file,
    }
    assert len(places) == 7
    assert all(tmp_path in place.parents for place in places)


@pytest.mark.parametrize(
    "wrong",
    [
        {"workspace": "A"},
        {"workspace": "a.b"},
        {"workspace": ""},
        {"hosts": 0},
        {"hosts": 65},
        {"ingest_workers": 0},
        {"gateways": 65},
        {"grpc_port": -1},
        {"redeliver_after_seconds": 0.5},
        {"colour": "red"},
    ],
    ids=str,
)
def test_settings_out_of_their_limits_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(data=tmp_path, **wrong)


def test_the_pepper_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "new")
    before = os.umask(0)
    try:
        pepper = ensure_pepper(settings)
    finally:
        os.umask(before)
    assert len(pepper) == PEPPER_BYTES
    assert ensure_pepper(settings) == pepper
    assert stat.S_IMODE(settings.pepper_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.pepper_file.parent.stat().st_mode) == 0o700
    assert list(settings.pepper_file.parent.iterdir()) == [settings.pepper_file]
    assert ensure_pepper(Settings(data=tmp_path / "other")) != pepper


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_file_that_is_no_pepper_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    settings = Settings(data=tmp_path)
    settings.pepper_file.parent.mkdir()
    settings.pepper_file.write_bytes(content)
    with pytest.raises(OSError, match="not a pepper") as raised:
        ensure_pepper(settings)
    assert raised.value.filename == str(settings.pepper_file)
    assert settings.pepper_file.read_bytes() == content


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for content in (b"first", b"second"):
        write_atomically(file, content)
        assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_a_lock_is_held_by_one_until_it_is_closed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_held(lock)
    mine = hold(lock)
    assert mine is not None
    assert is_held(lock)
    assert hold(lock) is None
    os.close(mine)
    assert not is_held(lock)
