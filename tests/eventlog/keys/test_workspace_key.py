from __future__ import annotations

import sys
from pathlib import Path

import pytest

from domain.ids import RecordId
from eventlog.errors import WorkspaceKeyMissing
from eventlog.keys.port import DataKey
from eventlog.keys.workspace_key import (
    WorkspaceKeys,
    WrappingBroken,
    key_source,
    new_workspace_key,
)
from tests.support.events import new_id

DATA_KEY = DataKey(bytes(range(32)))


def test_a_source_is_a_file_a_variable_or_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = new_workspace_key().with_next()
    file = tmp_path / "key"
    file.write_text(keys.text())
    monkeypatch.setenv("KOSEKI_TEST_KEY", keys.text())
    print_it = f"command:{sys.executable} -c \"print(open('{file}').read())\""
    for where in (f"file:{file}", "env:KOSEKI_TEST_KEY", print_it):
        read = key_source(where)()
        assert read.by_version == keys.by_version
        assert read.newest == 2


@pytest.mark.parametrize("where", ["", "file:", "vault:x", "nothing"])
def test_a_source_of_another_form_is_refused(where: str) -> None:
    with pytest.raises(ValueError, match="comes from"):
        key_source(where)


@pytest.mark.parametrize(
    "where", ["file:/nowhere/at/all", "env:KOSEKI_NOT_SET", "command:false", "command:/nowhere"]
)
def test_a_source_that_gives_nothing_says_so(where: str) -> None:
    with pytest.raises(WorkspaceKeyMissing):
        key_source(where)()


@pytest.mark.parametrize(
    "text",
    ["", "1", "1 c2VjcmV0LXRleHQ=", "x " + "A" * 44, "1 secret-text!", "0 " + "A" * 43 + "="],
)
def test_a_text_that_holds_no_key_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    with pytest.raises(WorkspaceKeyMissing) as caught:
        key_source(f"file:{file}")()
    assert "secret" not in str(caught.value)


def test_a_wrapped_key_opens_for_its_record_and_version_only() -> None:
    keys = new_workspace_key().with_next()
    one, two = RecordId(new_id()), RecordId(new_id())
    wrapped = keys.wrap(one, DATA_KEY, 2)
    assert bytes(DATA_KEY) not in wrapped
    assert keys.unwrap(one, wrapped, 2) == DATA_KEY
    assert keys.wrap(one, DATA_KEY, 2) != wrapped
    for record_id, body, version in ((two, wrapped, 2), (one, wrapped, 1), (one, wrapped[1:], 2)):
        with pytest.raises(WrappingBroken):
            keys.unwrap(record_id, body, version)
    with pytest.raises(WorkspaceKeyMissing):
        keys.unwrap(one, wrapped, 3)


def test_a_check_value_tells_the_same_key_from_another() -> None:
    keys, other = new_workspace_key(), new_workspace_key()
    value = keys.check_value(1)
    assert keys.passes(value, 1)
    assert not other.passes(value, 1)


def test_keys_are_never_shown() -> None:
    keys = WorkspaceKeys({1: b"k" * 32})
    assert "kkk" not in repr(keys)
