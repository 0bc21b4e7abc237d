"""Stored bytes damaged under one server: no false yes, no write over what is lost, all of it named.

What nats-server 2.15.1 does (measured): it checks stored events when it rebuilds its index (after a
kill, or without the index) and then cuts the block at the damage, reusing the revisions if it was
the last block. With the index of a clean stop it checks nothing, and a damaged event is merely not
found by whoever reads it; the shape stays whole.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from eventlog import pull_consumer
from eventlog.jetstream import JetStreamEventLog
from eventlog.server import EmbeddedServer
from tests.damage import stored_bytes
from tests.damage.scene import Office, Written, left_of, office, project, unharmed
from tests.damage.stored_bytes import Damage, messages_folder
from tests.support.nats import connect

WORKSPACE = "damaged"
ESSAY_BYTES = 800_000
"""Twelve of these fill more than one block of 8 MB."""


@dataclass(frozen=True)
class Original:
    """Files of a server that was stopped, and what its log held."""

    folder: Path
    written: Written


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    folder = tmp_path_factory.mktemp("original")
    server = EmbeddedServer(folder / "nats")
    await server.start()
    connection = await connect(server)
    await JetStreamEventLog(connection, WORKSPACE).ensure_stream()
    async with office(connection, folder, WORKSPACE) as opened:
        await opened.write(trait_bytes=ESSAY_BYTES)
        written = await project(opened.log, opened.settings.read_side_folder)
    await connection.close()
    await server.stop()
    assert len(stored_bytes.blocks(messages_folder(folder, WORKSPACE))) == 2
    return Original(folder, written)


@pytest.fixture(autouse=True)
def _short_pulls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_consumer, "PULL_SECONDS", 0.3)


async def reopened(folder: Path) -> AsyncIterator[Office]:
    server = EmbeddedServer(folder / "nats")
    await server.start()
    connection = await connect(server)
    await JetStreamEventLog(connection, WORKSPACE).ensure_stream()
    async with office(connection, folder, WORKSPACE) as opened:
        yield opened
    await connection.close()
    await server.stop()


FLIPS = [stored_bytes.flip_a_bit, stored_bytes.flip_a_bit_of_the_last_block]
CASES: list[tuple[Damage, bool, int]] = [
    *(
        (flip, with_index, seed)
        for flip in FLIPS
        for with_index in (True, False)
        for seed in (1, 2)
    ),
    *(
        (stored_bytes.cut_a_block, with_index, seed)
        for with_index in (True, False)
        for seed in (1, 2)
    ),
    (stored_bytes.remove_the_first_block, True, 0),
    (stored_bytes.remove_the_first_block, False, 0),
    (stored_bytes.remove_the_last_block, True, 0),
    (stored_bytes.remove_the_last_block, False, 0),
    (stored_bytes.remove_the_stream, True, 0),
]


@pytest.mark.parametrize(("damage", "with_index", "seed"), CASES)
async def test_nothing_is_built_on_damage_and_verify_names_it(
    original: Original, tmp_path: Path, damage: Damage, *, with_index: bool, seed: int
) -> None:
    shutil.copytree(original.folder, tmp_path, dirs_exist_ok=True)
    die = random.Random(f"{damage.__name__}-{seed}")
    messages = messages_folder(tmp_path, WORKSPACE)
    damage(messages, die)
    if not with_index:
        stored_bytes.remove_the_index(messages, die)
    written = original.written
    async for opened in reopened(tmp_path):
        await opened.require_no_harm(written)
        whole = unharmed(written, await left_of(opened.log, written))
        found = await opened.verify()
        gone = {entry.revision for entry in written.entries} - whole
        assert gone, "the damage hit nothing"
        assert not found.holds
        assert found.damage is not None
        named = {r for first, last in found.damage.lost for r in range(first, last + 1)}
        assert named == gone
        touched = {
            e.stream.key
            for e in written.entries
            if e.revision in gone and e.stream.kind == "record"
        }
        assert {record.record_id for record in found.damage.records} == touched


async def test_an_index_that_is_gone_is_made_again(original: Original, tmp_path: Path) -> None:
    shutil.copytree(original.folder, tmp_path, dirs_exist_ok=True)
    stored_bytes.remove_the_index(messages_folder(tmp_path, WORKSPACE), random.Random(0))
    async for opened in reopened(tmp_path):
        assert opened.guard.is_sound
        assert (await opened.verify()).holds
        await opened.require_no_harm(original.written)
