"""What somebody with the server's rights can do: read a stream, delete it, and store another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eventlog.connection import Connection
from eventlog.envelope import event_digest
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi, StoredMessage
from eventlog.subjects import Subjects


@dataclass(frozen=True)
class Forged:
    """A message as it is to be stored in the place of the one that was."""

    subject: str
    headers: Mapping[str, str]
    body: bytes


Forgery = Callable[[list[Forged]], None]
"""Changes the messages of a log, in order of revisions, in place."""


async def doctor(connection: Connection, workspace: str, forge: Forgery) -> None:
    """Replace a log by one with the same subjects and revisions, and other content."""
    api, name = JetStreamApi(connection), Subjects(workspace).log_name
    state = (await api.call(f"STREAM.INFO.{name}"))["state"]
    messages = [await _message(api, name, r) for r in range(1, state["last_seq"] + 1)]
    forged = [Forged(m.subject, _ours(m.headers), m.body) for m in messages]
    forge(forged)
    await api.call(f"STREAM.DELETE.{name}")
    await JetStreamEventLog(connection, workspace).ensure_stream()
    for message in forged:
        await connection.request(
            message.subject, message.body, headers=message.headers, timeout_seconds=5
        )


def replace_body(forged: list[Forged], revision: int) -> None:
    """Change what an event says, and nothing else."""
    old = forged[revision - 1]
    body = old.body.replace(b"marketing", b"analytics").replace(b"Completed", b"Cancelled")
    assert body != old.body
    forged[revision - 1] = Forged(old.subject, old.headers, body)


def replace_and_chain_again(forged: list[Forged], revision: int) -> None:
    """Change an event, and let every later one of its stream name what went before it now."""
    replace_body(forged, revision)
    changed = forged[revision - 1]
    digest = event_digest(changed.subject, changed.headers, changed.body)
    for place in range(revision, len(forged)):
        later = forged[place]
        if later.subject == changed.subject:
            headers = {**later.headers, "koseki-previous": digest.hex()}
            forged[place] = Forged(later.subject, headers, later.body)
            digest = event_digest(later.subject, headers, later.body)


async def _message(api: JetStreamApi, name: str, revision: int) -> StoredMessage:
    message = await api.message(name, {"seq": revision})
    assert message is not None
    return message


def _ours(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if not name.startswith("Nats-")}
