"""A disk that is full: nothing is acknowledged that is not there, and the log goes on after it.

Measured on nats-server 2.15.1: of a batch that meets the limit only the front can be read, there is
no answer, and it is whole after the next start. A full disk ends all answers until then.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog.jetstream import JetStreamEventLog
from eventlog.port import EMPTY, Head, Outcome, Refused, Stored, Unknown
from eventlog.server import EmbeddedServer
from tests.support.events import attempt, draft, new_record, traits
from tests.support.nats import connect

DISK_BYTES = 33_554_432
STORE_BYTES = 4_194_304
EVENT_BYTES = 100_000


FILLED = new_record()


async def fill(
    log: JetStreamEventLog, events: int, *, appends_max: int
) -> tuple[int, Head, Outcome]:
    """Append to one stream until it is not stored; how many events are, their head, and the end."""
    stream, head, stored = FILLED, EMPTY, 0
    outcome: Outcome = Unknown()
    for _ in range(appends_max):
        drafts = [draft(stream, traits(text="x" * EVENT_BYTES)) for _ in range(events)]
        outcome = await log.append(attempt(*drafts, expected={stream: head}), timeout_seconds=4)
        if not isinstance(outcome, Stored):
            break
        head, stored = outcome.heads[stream], stored + events
    return stored, head, outcome


@pytest.mark.parametrize("events", [1, 5])
async def test_a_store_at_its_limit_tells_no_more_than_it_holds_and_goes_on_with_a_higher_one(
    tmp_path: Path, events: int
) -> None:
    server = EmbeddedServer(tmp_path, file_store_bytes_max=STORE_BYTES)
    await server.start()
    connection = await connect(server)
    log = JetStreamEventLog(connection, "full")
    await log.ensure_stream()
    stored, _, outcome = await fill(log, events, appends_max=100)
    assert stored
    held = len(await log.load(FILLED))
    assert held == (await log.shape()).last_revision
    assert (outcome, held) == (Refused("LOG_FULL"), stored) or (
        events > 1 and outcome == Unknown() and stored <= held < stored + events
    )
    await connection.close()
    await server.stop()

    server = EmbeddedServer(tmp_path, file_store_bytes_max=2 * STORE_BYTES)
    await server.start()
    connection = await connect(server)
    log = JetStreamEventLog(connection, "full")
    entries = await log.load(FILLED)
    assert len(entries) in {stored, stored + events}
    more = attempt(draft(FILLED), draft(new_record()), expected={FILLED: entries[-1].head})
    assert isinstance(await log.append(more, timeout_seconds=10), Stored)
    assert (await log.shape()).last_revision == len(entries) + 2
    await connection.close()
    await server.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of its own, where the machine lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)]
    mount = shutil.which("mount")
    if os.geteuid() or not mount or subprocess.run([mount, *options], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("events", [1, 5])
async def test_what_a_full_disk_could_not_take_is_never_told_as_stored(
    small_disk: Path, events: int
) -> None:
    """The server then answers nothing at all, until it is started again with room."""
    server = EmbeddedServer(small_disk / "nats")
    await server.start()
    connection = await connect(server)
    log = JetStreamEventLog(connection, "full")
    await log.ensure_stream()
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 20 * EVENT_BYTES))
    stored, _, outcome = await fill(log, events, appends_max=100)
    assert stored
    assert outcome == Unknown() or isinstance(outcome, Refused)

    filler.unlink()
    await server.kill()
    await server.wait_ready(timeout_seconds=20)
    await connection.wait_connected(timeout_seconds=10)
    entries = await log.load(FILLED)
    assert len(entries) in {stored, stored + events}
    assert [entry.fault for entry in entries] == [None] * len(entries)
    more = attempt(draft(FILLED), expected={FILLED: entries[-1].head})
    assert isinstance(await log.append(more, timeout_seconds=10), Stored)
    await connection.close()
    await server.stop()
