"""What was ever stored is read for ever: the golden log, folded by today's code."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from domain.event import Event
from domain.ids import Name, OpenMap
from eventlog import registry
from eventlog.incoming import check_chain
from eventlog.keys.port import KeyAnswer, NoKey
from eventlog.port import EMPTY
from eventlog.registry import EVENTS, UPCASTERS, Fields, Upcast
from scripts import record_golden
from tests.golden import recorded

MESSAGES = recorded.read_messages()
KEYS = recorded.read_keys()
TRAITS_SET = "koseki.record.traits-set.v1"


class TraitsSetNext(Event):
    """What `TraitsSet` might be some day: its open map has a name of its own."""

    PERSONAL: ClassVar[Mapping[str, object]] = {"values": {}, "message_id": None}

    source: Name
    values: OpenMap
    message_id: str | None = None


def is_kept(recorded_value: Any, value: Any) -> bool:
    """Say whether a value still holds all that was recorded; new fields may stand beside."""
    if isinstance(recorded_value, dict) and isinstance(value, dict):
        return all(k in value and is_kept(v, value[k]) for k, v in recorded_value.items())
    if isinstance(recorded_value, list) and isinstance(value, list):
        pairs = zip(recorded_value, value, strict=False)
        return len(recorded_value) == len(value) and all(is_kept(r, v) for r, v in pairs)
    return bool(recorded_value == value)


@pytest.mark.parametrize("name", [*EVENTS, *UPCASTERS])
def test_every_name_that_can_be_read_has_a_golden_line(name: str) -> None:
    held = {message.headers["ce-type"] for message in MESSAGES}
    assert name in held, "run: .venv/bin/python scripts/record_golden.py"


def test_every_golden_line_is_read_and_its_chain_holds() -> None:
    entries = recorded.decode(MESSAGES, KEYS)
    assert [(e.revision, e.fault) for e in entries if e.fault] == []
    for stream in {entry.stream for entry in entries}:
        check_chain(stream, EMPTY, [entry for entry in entries if entry.stream == stream])


def test_golden_streams_fold_to_what_they_folded_to_when_they_were_recorded() -> None:
    entries = recorded.decode(MESSAGES, KEYS)
    states = recorded.fold_states(entry.event for entry in entries if entry.event)
    assert len(states) == len(recorded.read_states()) == len(MESSAGES)
    for was, now in zip(recorded.read_states(), states, strict=True):
        assert is_kept(was.fields, now.fields), f"line {was.revision}: {now.fields}"


def test_golden_streams_of_an_erased_record_are_read_without_what_was_personal() -> None:
    entries = recorded.decode(MESSAGES, dict.fromkeys(KEYS, NoKey.DESTROYED))
    assert [(e.revision, e.fault) for e in entries if e.fault] == []
    erased = [entry.event for entry in entries if entry.event and entry.event.is_erased]
    assert erased
    for event in erased:
        fields = event.body.model_dump()
        assert {name: fields[name] for name in event.body.PERSONAL} == dict(event.body.PERSONAL)


def test_every_personal_event_of_the_golden_log_is_sealed() -> None:
    for message in MESSAGES:
        personal = EVENTS[message.headers["ce-type"]].PERSONAL
        assert (message.headers["koseki-keyid"] == "none") == (not personal)


@pytest.mark.parametrize("key", [*KEYS.values(), NoKey.DESTROYED])
def test_a_golden_line_of_an_older_version_is_read_as_the_newest(
    monkeypatch: pytest.MonkeyPatch, key: KeyAnswer
) -> None:
    def rename(fields: Fields) -> Fields:
        values = {"values": fields.pop("traits")} if "traits" in fields else {}
        return fields | values

    newest = "koseki.record.traits-set.v2"
    monkeypatch.setitem(registry.UPCASTERS, TRAITS_SET, Upcast(newest, rename))
    monkeypatch.setattr(
        registry,
        "EVENTS",
        {n: c for n, c in EVENTS.items() if n != TRAITS_SET} | {newest: TraitsSetNext},
    )
    (message,) = [m for m in MESSAGES if m.headers["ce-type"] == TRAITS_SET]
    (entry,) = recorded.decode([message], dict.fromkeys(KEYS, key))
    assert entry.fault is None
    assert entry.event is not None
    values = {} if key is NoKey.DESTROYED else {"a": {"z": True}, "b": [1, None, 0.1]}
    assert entry.event.body == TraitsSetNext(source="shop", values=values)


def copied(folder: Path) -> Path:
    for name in (recorded.EVENTS_FILE, recorded.STATES_FILE, recorded.KEYS_FILE):
        shutil.copy(recorded.FOLDER / name, folder)
    return folder


def test_recording_again_changes_nothing(tmp_path: Path) -> None:
    assert record_golden.main([], folder=copied(tmp_path)) == 0
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (recorded.FOLDER / path.name).read_bytes()


def test_recording_only_adds_what_is_missing(tmp_path: Path) -> None:
    copied(tmp_path)
    for name in (recorded.EVENTS_FILE, recorded.STATES_FILE):
        lines = (tmp_path / name).read_text().splitlines(keepends=True)
        (tmp_path / name).write_text("".join(lines[:-2]))
    kept = (tmp_path / recorded.EVENTS_FILE).read_text()
    assert record_golden.main([], folder=tmp_path) == 0
    assert (tmp_path / recorded.EVENTS_FILE).read_text().startswith(kept)
    found = [message.headers["ce-type"] for message in recorded.read_messages(tmp_path)]
    assert sorted(found) == sorted(message.headers["ce-type"] for message in MESSAGES)
    assert len(recorded.read_states(tmp_path)) == len(MESSAGES)


def test_recording_from_nothing_always_gives_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        assert record_golden.main([], folder=folder) == 0
    one, two = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert one == two


def test_recording_refuses_where_what_is_recorded_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = copied(tmp_path) / recorded.EVENTS_FILE
    *kept, last = events.read_text().splitlines(keepends=True)
    events.write_text("".join([*kept, last.replace('"ce-type": "koseki.', '"ce-type": "other.')]))
    before = events.read_bytes()
    assert record_golden.main([], folder=tmp_path) == 1
    assert events.read_bytes() == before
    assert f"line {len(MESSAGES)}" in capsys.readouterr().err
