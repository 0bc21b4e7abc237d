"""A log that lost its end is reopened: what is whole goes on, the rest stays closed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from app.closed import NOTHING_LOST, AcceptedLosses, accepted_losses, closed_records
from app.reopening import NotReopened, reopen
from app.settings import Settings
from domain.replies import Done, Failed
from eventlog.jetstream import JetStreamEventLog
from eventlog.marks import Mark
from eventlog.server import EmbeddedServer
from projections.errors import CustomerParked
from projections.views import customer_view
from tests.actors.house import check, track, user
from tests.damage.scene import PEOPLE, Written, office, project
from tests.damage.stored_bytes import blocks, messages_folder, remove_the_index
from tests.support.nats import connect

WORKSPACE = "reopened"
LEFT = 0.85
"""How much of the bytes is left: the last people's second thoughts are gone."""


async def damaged(server: EmbeddedServer, data: Path) -> Written:
    """Write a log, fold it, and cut its end off while the server is down."""
    connection = await connect(server)
    await JetStreamEventLog(connection, WORKSPACE).ensure_stream()
    async with office(connection, data, WORKSPACE) as opened:
        await opened.write()
        written = await project(opened.log, opened.settings.read_side_folder)
    await connection.close()
    await server.stop()
    folder = messages_folder(data / "nats", WORKSPACE)
    remove_the_index(folder, random.Random(0))
    [block] = blocks(folder)
    os.truncate(block, int(block.stat().st_size * LEFT))
    return written


async def test_what_is_proved_whole_is_open_again_and_what_was_touched_stays_closed(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    written = await damaged(own_server, tmp_path)
    settings = Settings(data=tmp_path, workspace=WORKSPACE)
    with pytest.raises(NotReopened, match="to accept that: --accept-lost") as refused:
        await reopen(settings, accept_lost=None, by="ann")
    assert closed_records(settings) == {}
    assert accepted_losses(settings) == NOTHING_LOST
    lost = int(str(refused.value).rpartition(" ")[2])
    found = await reopen(settings, accept_lost=lost, by="ann")
    closed = closed_records(settings)
    left = written.last_revision - lost
    assert accepted_losses(settings) == AcceptedLosses(times=1, last_revision=left)
    touched = {e.stream.key for e in written.entries[left:] if e.stream.kind == "record"}
    assert closed.keys() == touched
    assert 0 < len(touched) == found["records_closed"] < PEOPLE
    assert '"accepted_by": "ann"' in settings.closed_file.read_text()

    await own_server.start()
    connection = await connect(own_server)
    async with office(connection, tmp_path, WORKSPACE) as opened:
        assert opened.guard.is_sound
        seen_closed = 0
        for number in range(PEOPLE):
            verdict = (await opened.done(check(user(str(number))))).verdict
            assert verdict is not None
            reply = await opened.router.execute(track(f"again-{number}", user(str(number))))
            if isinstance(reply, Failed):
                assert reply.reason == verdict.reason == "CUSTOMER_UNREADABLE"
                assert not verdict.is_open
                seen_closed += 1
            else:
                assert isinstance(reply, Done)
                assert verdict.is_open == bool(number % 2)
        assert seen_closed == len(closed)
        after = await project(opened.log, settings.read_side_folder)
        assert after.last_revision == left + PEOPLE - seen_closed
        assert (await opened.verify()).holds
        with opened.read_side._opened().snapshot() as tables:
            for record_id in closed:
                with pytest.raises(CustomerParked):
                    customer_view(tables, record_id, "service")
    await connection.close()
    await own_server.stop()
    with pytest.raises(NotReopened, match="nothing is closed"):
        await reopen(settings, accept_lost=0, by="ann")


async def test_what_is_lost_beyond_the_read_side_is_not_accepted(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    written = await damaged(own_server, tmp_path)
    settings = Settings(data=tmp_path, workspace=WORKSPACE)
    mark = Mark.open(settings.marks_folder)
    mark.note(written.last_revision + 1, bytes(32))
    mark.close()
    with pytest.raises(NotReopened, match="nobody knows of which records"):
        await reopen(settings, accept_lost=1, by="ann")
