"""A log backed up while it grows, and restored on another server as the very same log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from eventlog import restoring
from eventlog.connection import Connection
from eventlog.envelope import HEADERS
from eventlog.errors import LogDamaged, LogUnavailable, UnsafeStream
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.port import Entry
from eventlog.restoring import Restoration, RestoreRefused
from eventlog.server import EmbeddedServer
from replay.archive import Archive, ArchiveFault, Mark
from replay.attestation import attest, check_attestation, log_digest
from replay.backup import back_up, check_archive, restore
from replay.fold import fold_log
from tests.support.events import attempt, draft, new_record, store, traits
from tests.support.nats import connect, new_workspace

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest_asyncio.fixture
async def log(jetstream_log: JetStreamEventLog) -> JetStreamEventLog:
    return jetstream_log


@pytest.fixture
def archive(tmp_path: Path, log: JetStreamEventLog) -> Archive:
    folder = tmp_path / "backup"
    folder.mkdir()
    return Archive(folder, log.workspace)


@pytest_asyncio.fixture
async def far(own_server: EmbeddedServer) -> AsyncIterator[Connection]:
    """Connect to a new server, on which nothing is."""
    connection = await connect(own_server)
    yield connection
    await connection.close()


async def grow(log: JetStreamEventLog, *sizes: int) -> None:
    """Store appends of these sizes, each beginning a record that it goes on with."""
    for size in sizes:
        first = await store(log, draft(stream := new_record(), traits(size=size)))
        rest = (draft(stream if n else new_record(), traits(n=n)) for n in range(size))
        if size:
            await store(log, *rest, after=first)


async def all_of(log: JetStreamEventLog) -> list[Entry]:
    return [entry async for batch in log.read() for entry in batch]


async def restored(archive: Archive, far: Connection) -> JetStreamEventLog:
    log = JetStreamEventLog(far, archive.workspace)
    await restore(archive, Restoration(far, archive.workspace), log)
    await log.ensure_stream()
    return log


async def test_a_restored_log_is_the_same_log(
    log: JetStreamEventLog, archive: Archive, far: Connection
) -> None:
    await grow(log, 0, 3, 0, 0, 40, 1, 2)
    key = Ed25519PrivateKey.generate()
    attested = attest(log.workspace, (await fold_log(log)).checkpoint, key, now=NOW)
    await grow(log, 5)
    end = await back_up(log, archive)
    there = await restored(archive, far)
    before, after = await all_of(log), await all_of(there)
    assert after == before, "revisions, digests, chains and the ends of appends are kept"
    assert await log_digest(there, end.revision) == end.log_digest
    assert await check_attestation(there, attested, key.public_key()) == "holds"
    for entry in before:
        one, other = await log.stored(entry.revision), await there.stored(entry.revision)
        assert one is not None
        assert other is not None
        ours = [{n: v for n, v in e.headers.items() if n in HEADERS} for e in (one, other)]
        assert (one.subject, one.body, ours[0]) == (other.subject, other.body, ours[1])
    head = (await there.load(before[-1].stream))[-1].head
    await there.append(
        attempt(draft(before[-1].stream), expected={before[-1].stream: head}), timeout_seconds=5
    )
    assert (await all_of(there))[-1].revision == end.revision + 1, "it goes on as a log does"


async def test_a_backup_goes_on_where_the_last_one_ended(
    log: JetStreamEventLog, archive: Archive, far: Connection
) -> None:
    marks = [await back_up(log, archive)]
    assert marks == [Mark()]
    for _ in range(3):
        await grow(log, 2, 0)
        marks.append(await back_up(log, archive))
        assert await back_up(log, archive) == marks[-1], "nothing was added"
    assert len(archive.chunks()) == 3
    assert [c.last_revision for c in archive.chunks()] == [m.revision for m in marks[1:]]
    assert check_archive(archive) == archive.end() == marks[-1]
    assert await all_of(await restored(archive, far)) == await all_of(log)


async def test_chunks_are_closed_at_the_ends_of_appends_and_nothing_unfinished_stays(
    log: JetStreamEventLog, archive: Archive
) -> None:
    await grow(log, *([7] * 20))
    await back_up(log, archive, chunk_bytes_max=1)
    assert len(archive.chunks()) >= 1
    assert not [p for p in archive.folder.iterdir() if p.suffix != ".koseki"]
    ends = {entry.revision for entry in await all_of(log) if entry.ends_append}
    assert {chunk.last_revision for chunk in archive.chunks()} <= ends


async def test_a_backup_while_others_write_holds_whole_appends_only(
    log: JetStreamEventLog, archive: Archive, far: Connection
) -> None:
    is_over = asyncio.Event()

    async def write() -> None:
        while not is_over.is_set():
            await grow(log, 20)

    writers = [asyncio.create_task(write()) for _ in range(3)]
    for _ in range(5):
        await back_up(log, archive)
    is_over.set()
    await asyncio.gather(*writers)
    end = await back_up(log, archive)
    assert check_archive(archive) == end
    assert await all_of(await restored(archive, far)) == await all_of(log)


async def test_a_killed_backup_leaves_an_archive_that_the_next_one_goes_on_with(
    log: JetStreamEventLog, archive: Archive
) -> None:
    await grow(log, 3)
    await back_up(log, archive)
    await grow(log, 3)
    writer = archive.writer(archive.end())
    writer.add([e for batch in [b async for b in log.read_stored(after_revision=4)] for e in batch])
    writer._file.close()
    assert len(archive.chunks()) == 1, "what is not finished does not count"
    await back_up(log, archive)
    assert check_archive(archive).revision == 8


async def test_another_log_and_one_that_lost_events_are_refused(
    connection: Connection, log: JetStreamEventLog, archive: Archive
) -> None:
    await grow(log, 3)
    await back_up(log, archive)
    api = JetStreamApi(connection)
    await api.call(f"STREAM.DELETE.koseki-{log.workspace}-log")
    await log.ensure_stream()
    await grow(log, 1)
    with pytest.raises(ArchiveFault, match="ends at revision 2, the backup at 4"):
        await back_up(log, archive)
    await grow(log, 5)
    with pytest.raises(ArchiveFault, match="revision 4 of the log is not that of the backup"):
        await back_up(log, archive)
    other = JetStreamEventLog(connection, new_workspace())
    await other.ensure_stream()
    with pytest.raises(ArchiveFault, match="is of workspace"):
        await back_up(other, Archive(archive.folder, other.workspace))


async def test_any_changed_byte_of_a_backup_is_noticed(
    log: JetStreamEventLog, archive: Archive, far: Connection
) -> None:
    await grow(log, 2)
    await back_up(log, archive)
    [chunk] = archive.chunks()
    whole = chunk.path.read_bytes()
    for place in range(0, len(whole), 61):
        chunk.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ArchiveFault):
            check_archive(archive)
    for length in (0, 50, len(whole) - 1):
        chunk.path.write_bytes(whole[:length])
        with pytest.raises(ArchiveFault):
            archive.end()
    with pytest.raises(ArchiveFault):
        await restored(archive, far)


async def test_a_missing_chunk_is_noticed(log: JetStreamEventLog, archive: Archive) -> None:
    for _ in range(3):
        await grow(log, 1)
        await back_up(log, archive)
    archive.chunks()[1].path.unlink()
    with pytest.raises(ArchiveFault, match="should begin after revision 2"):
        archive.end()
    for path in archive.folder.iterdir():
        path.unlink()
    with pytest.raises(ArchiveFault, match="holds no backup"):
        Archive.of(archive.folder)


async def test_only_an_empty_stream_is_restored_into(
    log: JetStreamEventLog, archive: Archive, far: Connection
) -> None:
    await grow(log, 3)
    await back_up(log, archive)
    with pytest.raises(RestoreRefused, match="is not empty"):
        await restore(archive, Restoration(log._api.connection, log.workspace), log)
    empty = JetStreamEventLog(far, log.workspace)
    await empty.ensure_stream()
    there = await restored(archive, far)
    assert len(await all_of(there)) == 4
    with pytest.raises(RestoreRefused, match="is not empty"):
        await restored(archive, far)


async def test_what_cannot_be_undone_waits_until_log_and_archive_are_checked(
    log: JetStreamEventLog, archive: Archive, far: Connection
) -> None:
    done: list[int] = []

    async def restored_into(log: JetStreamEventLog, connection: Connection) -> None:
        async def note() -> None:
            done.append((await log.shape()).last_revision)

        restoration = Restoration(connection, log.workspace)
        await restore(archive, restoration, log, once_checked=note)

    for _ in range(3):
        await grow(log, 1)
        await back_up(log, archive)
    with pytest.raises(RestoreRefused, match="is not empty"):
        await restored_into(log, log._api.connection)
    middle = archive.chunks()[1].path
    whole = middle.read_bytes()
    middle.write_bytes(whole[:-1])
    there = JetStreamEventLog(far, log.workspace)
    with pytest.raises(ArchiveFault, match="is damaged"):
        await restored_into(there, far)
    assert done == []
    middle.write_bytes(whole)
    await restored_into(there, far)
    assert done == [0], "once, and before any event is there"


@pytest.mark.parametrize("dies_at", [1, 3])
async def test_an_interrupted_restore_is_taken_up_and_nothing_starts_on_it_before(
    log: JetStreamEventLog,
    archive: Archive,
    far: Connection,
    *,
    dies_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await grow(log, *([4] * 10))
    await back_up(log, archive)
    there = JetStreamEventLog(far, log.workspace)
    sends = 0
    original = Restoration._send

    async def die(self: Restoration, batch: list[object]) -> None:
        nonlocal sends
        sends += 1
        if sends > dies_at:
            raise asyncio.CancelledError
        await original(self, batch)  # type: ignore[arg-type]  # as it was given

    monkeypatch.setattr(restoring, "BATCH_EVENTS_MAX", 7)
    monkeypatch.setattr(restoring, "BATCHES_IN_FLIGHT_MAX", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Restoration, "_send", die)
        with pytest.raises(asyncio.CancelledError):
            await restored(archive, far)
    assert 0 < (await there.shape()).last_revision < archive.end().revision
    with pytest.raises(UnsafeStream, match="a restore must be finished"):
        await there.ensure_stream()
    assert await all_of(await restored(archive, far)) == await all_of(log)


async def test_a_restore_goes_on_when_the_server_comes_back(
    log: JetStreamEventLog,
    archive: Archive,
    own_server: EmbeddedServer,
    far: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await grow(log, *([4] * 30))
    await back_up(log, archive)
    monkeypatch.setattr(restoring, "BATCH_EVENTS_MAX", 10)
    restoring_task = asyncio.create_task(restored(archive, far))
    for _ in range(2):
        await asyncio.sleep(0.05)
        await own_server.kill()
        await own_server.wait_ready(timeout_seconds=20)
    assert await all_of(await restoring_task) == await all_of(log)


async def test_what_somebody_else_writes_meanwhile_ends_a_restore(
    log: JetStreamEventLog, archive: Archive, far: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await grow(log, 4, 4)
    await back_up(log, archive)
    there = JetStreamEventLog(far, log.workspace)
    restoration = Restoration(far, log.workspace)
    await restoration.begin(archive.end().revision, replicas=1)
    monkeypatch.setattr(restoring, "PATIENCE_SECONDS", 1.0)
    await store(there, draft(new_record()))
    with pytest.raises((LogDamaged, LogUnavailable)):
        await restore(archive, restoration, there)
    with pytest.raises(UnsafeStream):
        await there.ensure_stream()
