"""Record the events that the golden log in `tests/golden/` does not hold yet.

One line is added for each wire name of the registry that has none, made from its sample in
`tests/eventlog/test_codec.py`. What is recorded is never changed: where today's code cannot read
it, the script adds nothing. `--states` writes anew what the streams fold to, after the domain's
states changed their form; review that as you would review a migration.
"""

from __future__ import annotations

import argparse
import json
import sys
from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from domain.event import Event  # noqa: E402  # found only now
from domain.ids import (  # noqa: E402
    CLOCK_STREAM,
    WORKSPACE_STREAM,
    CommandId,
    DecisionId,
    EventId,
    IdentifierKey,
    RecordId,
    Stream,
    derived_id,
    identifier_stream,
    record_stream,
)
from eventlog.codec import EventMapper  # noqa: E402
from eventlog.incoming import Raw, check_chain  # noqa: E402
from eventlog.outgoing import Outgoing  # noqa: E402
from eventlog.port import EMPTY, Attempt, Draft, Entry, Head, Refused  # noqa: E402
from eventlog.registry import EVENTS  # noqa: E402
from eventlog.sealing import NONCE_BYTES, RecordSealing  # noqa: E402
from tests.eventlog.test_codec import SAMPLES  # noqa: E402
from tests.golden import recorded  # noqa: E402

RECORD = RecordId("01890000-0000-7000-8000-000000000001")
BEGUN_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
STREAMS = {
    "record": record_stream(RECORD),
    "customer": record_stream(RECORD),
    "consent": record_stream(RECORD),
    "identifier": identifier_stream(IdentifierKey("p1.golden")),
    "workspace": WORKSPACE_STREAM,
    "clock": CLOCK_STREAM,
}
"""Where events lie, by the second word of their wire name."""


def main(arguments: list[str] | None = None, *, folder: Path = recorded.FOLDER) -> int:
    """Add what is missing; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", action="store_true", help="write what the streams fold to anew")
    options = parser.parse_args(arguments)
    begin(folder)
    messages = recorded.read_messages(folder)
    faults = faults_of(messages, folder)
    if faults:
        print("what is recorded must not change:", *faults, sep="\n", file=sys.stderr)
        return 1
    held = {message.headers["ce-type"] for message in messages}
    missing = [name for name in EVENTS if name not in held]
    for name in missing:
        append(name, SAMPLES[name][0], folder)
        print(f"recorded {name}")
    write_states(folder, only_new=not options.states)
    return 0


def begin(folder: Path) -> None:
    """Make the files where there are none, with a key for the one record."""
    for name in (recorded.EVENTS_FILE, recorded.STATES_FILE):
        (folder / name).touch()
    keys = folder / recorded.KEYS_FILE
    if not keys.exists():
        key = b64encode(sha256(b"the golden record's key").digest()).decode()
        keys.write_text(json.dumps({RECORD: key}) + "\n", encoding="ascii")


def faults_of(messages: Sequence[Raw], folder: Path) -> list[str]:
    """Name what today's code cannot read; each chain must hold as well."""
    entries = recorded.decode(messages, recorded.read_keys(folder))
    for stream in {entry.stream for entry in entries}:
        check_chain(stream, EMPTY, [entry for entry in entries if entry.stream == stream])
    return [f"line {entry.revision}: {entry.fault}" for entry in entries if entry.fault]


def append(name: str, body: Event, folder: Path) -> None:
    """Add one event at the end of its stream."""
    keys = recorded.read_keys(folder)
    entries = recorded.decode(recorded.read_messages(folder), keys)
    stream = STREAMS[name.split(".")[1]]
    attempt = Attempt((_draft(stream, body, len(entries) + 1),), {stream: _head(stream, entries)})
    sealing = RecordSealing(keys, nonces=_nonces(name))
    messages = Outgoing(recorded.SUBJECTS, EventMapper(sealing)).prepare(attempt)
    assert not isinstance(messages, Refused), messages
    (message,) = messages
    line = recorded.line_of(message.subject, message.headers, message.body)
    with (folder / recorded.EVENTS_FILE).open("a", encoding="ascii") as file:
        file.write(f"{line}\n")


def write_states(folder: Path, *, only_new: bool) -> None:
    """Write what the streams fold to, for all lines or for those that have none yet."""
    entries = recorded.decode(recorded.read_messages(folder), recorded.read_keys(folder))
    states = recorded.fold_states(entry.event for entry in entries if entry.event)
    known = len(recorded.read_states(folder)) if only_new else 0
    with (folder / recorded.STATES_FILE).open("a" if only_new else "w", encoding="ascii") as file:
        file.writelines(f"{json.dumps(s.fields, sort_keys=True)}\n" for s in states[known:])


def _head(stream: Stream, entries: Sequence[Entry]) -> Head:
    return next((e.head for e in reversed(entries) if e.stream == stream), EMPTY)


def _draft(stream: Stream, body: Event, revision: int) -> Draft:
    def new_id(purpose: str) -> str:
        return derived_id(RECORD, f"golden {purpose} {revision}")

    return Draft(
        stream=stream,
        event_id=EventId(new_id("event")),
        body=body,
        happened_at=BEGUN_AT + timedelta(minutes=revision),
        recorded_at=BEGUN_AT + timedelta(minutes=revision, seconds=1),
        command_id=CommandId(new_id("command")),
        correlation_id=new_id("command"),
        decision_id=DecisionId(new_id("decision")),
        part=1,
        parts=1,
        auth_id="service:golden",
    )


def _nonces(name: str) -> Iterator[bytes]:
    """Give nonces that follow from the wire name, so that recording twice gives the same bytes."""
    for number in count():
        yield sha256(f"{name} {number}".encode()).digest()[:NONCE_BYTES]


if __name__ == "__main__":
    raise SystemExit(main())
