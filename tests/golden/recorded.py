"""The golden log: stored messages of every event that was ever released, and what they fold to.

`events.jsonl` holds one message a line, `keys.json` the data keys that their personal parts are
sealed under, `states.jsonl` the state of each message's stream after it. Only
`scripts/record_golden.py` writes them.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from domain.event import Event, Recorded
from domain.ids import RecordId, Stream, StreamKind
from domain.record import evolve, unborn
from domain.rules import Rules, evolve_rules
from eventlog.codec import EventMapper, encode_json
from eventlog.incoming import Incoming, Raw
from eventlog.keys.port import DATA_KEY_BYTES, DataKey, KeyAnswer
from eventlog.port import Entry
from eventlog.sealing import RecordSealing
from eventlog.subjects import Subjects

FOLDER = Path(__file__).parent
EVENTS_FILE = "events.jsonl"
STATES_FILE = "states.jsonl"
KEYS_FILE = "keys.json"
SUBJECTS = Subjects("golden")


class State(NamedTuple):
    """What a stream's events come to: the revision of the last of them, and the state as JSON."""

    revision: int
    fields: Any


def read_messages(folder: Path = FOLDER) -> list[Raw]:
    """Read the stored messages; a message's revision is its line."""
    lines = (folder / EVENTS_FILE).read_text(encoding="ascii").splitlines()
    return [_message(revision, json.loads(line)) for revision, line in enumerate(lines, start=1)]


def line_of(subject: str, headers: Mapping[str, str], body: bytes) -> str:
    """Write a message as `read_messages` reads it."""
    return json.dumps({"subject": subject, "headers": dict(headers), "body": body.decode()})


def read_keys(folder: Path = FOLDER) -> dict[RecordId, KeyAnswer]:
    """Read the data keys of the records."""
    keys = json.loads((folder / KEYS_FILE).read_text(encoding="ascii"))
    found: dict[RecordId, KeyAnswer] = {RecordId(r): DataKey(b64decode(k)) for r, k in keys.items()}
    assert all(isinstance(key, bytes) and len(key) == DATA_KEY_BYTES for key in found.values())
    return found


def read_states(folder: Path = FOLDER) -> list[State]:
    """Read what each message's stream was folded to when it was recorded."""
    lines = (folder / STATES_FILE).read_text(encoding="ascii").splitlines()
    return [State(number, json.loads(line)) for number, line in enumerate(lines, start=1)]


def decode(messages: Sequence[Raw], keys: Mapping[RecordId, KeyAnswer]) -> list[Entry]:
    """Read messages as the log does."""
    incoming = Incoming(SUBJECTS, EventMapper(RecordSealing(keys)))
    return [incoming.entry(m.subject, m.revision, headers=m.headers, body=m.body) for m in messages]


def fold_states(events: Iterable[Recorded[Event]]) -> list[State]:
    """Give the state of each event's stream after it, as JSON."""
    states: dict[Stream, Any] = {}  # Any: each kind of stream has its own state
    found = []
    for event in events:
        stream = event.stream
        states[stream] = _evolve(states.get(stream), event)
        found.append(State(event.revision, json.loads(_as_json(states[stream]))))
    return found


def _evolve(state: Any, event: Recorded[Event]) -> Any:  # Any: see fold_states
    match event.stream.kind:
        case StreamKind.RECORD:
            return evolve(state or unborn(RecordId(event.stream.key)), event)
        case StreamKind.WORKSPACE:
            return evolve_rules(state or Rules(), event)
        case StreamKind.IDENTIFIER | StreamKind.CLOCK:
            return event.body  # their last event says all


def _as_json(state: object) -> bytes:
    if isinstance(state, Event):
        return encode_json(state)
    options = orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(state, default=_plain, option=options)


def _plain(value: Any) -> Any:  # Any: whatever a state holds that JSON has no form for
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    return value.__dict__


def _message(revision: int, fields: Mapping[str, Any]) -> Raw:
    return Raw(fields["subject"], revision, fields["headers"], fields["body"].encode())
