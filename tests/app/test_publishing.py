"""The out stream over a real server: every change exactly once and in order, whoever is killed."""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from app.closed import AcceptedLosses
from app.publishing import OutPublisher
from domain.consent import ConsentState
from eventlog.connection import Connection
from eventlog.jetstream_api import JetStreamApi, StoredMessage
from eventlog.out_stream import POSITION, OutMoved, OutStream
from eventlog.server import EmbeddedServer
from projections.fold import fold_batch
from projections.segments import journal
from projections.segments.journal import read_position, write_position
from projections.store import Store
from tests.projections.erasing import Erasing
from tests.projections.histories import batches, record_id
from tests.projections.segments.happenings import Happenings
from tests.support.nats import connection, nats_server, new_workspace

__all__ = ["connection", "nats_server"]


async def told(connection: Connection, out: OutStream) -> list[StoredMessage]:
    """Read the whole stream as an outsider does."""
    api = JetStreamApi(connection)
    info = await api.call(f"STREAM.INFO.{out.name}")
    found = [
        await api.message(out.name, {"seq": sequence})
        for sequence in range(1, info["state"]["last_seq"] + 1)
    ]
    return [message for message in found if message is not None]


def history(people: int) -> Happenings:
    """Let people buy, agree and be merged; a purpose and a window close again."""
    made = Happenings()
    made.rules()
    made.segment("buyers", 'count("Bought") >= 1')
    made.segment("fresh", 'seen("Bought", "1h")')
    for number in range(people):
        made.now += 60
        made.did(number, "Bought", amount=number)
    return made


async def open_stream(connection: Connection) -> tuple[OutStream, str]:
    workspace = new_workspace()
    out = OutStream(connection, workspace)
    await out.open()
    return out, workspace


KILLS = 6
PUBLISHER = """\
import asyncio, sys
from pathlib import Path
from app.publishing import OutPublisher
from eventlog.connection import Connection
from eventlog.out_stream import OutStream
from projections.store import Store

async def main(url, folder, workspace):
    connection = await Connection.open(url, name="publisher")
    publisher = OutPublisher(
        OutStream(connection, workspace), Store.open_reader(Path(folder)), workspace=workspace
    )
    print("ready", flush=True)
    while True:
        await publisher.do()
        await asyncio.sleep(0.001)

asyncio.run(main(*sys.argv[1:]))
"""


def expected(store: Store) -> list[str]:
    """List the places of what must be told, from nothing but the journal."""
    with store.snapshot() as tables:
        return [
            write_position(position)
            for position, change in journal.everything_after(tables, journal.Position(0, 0))
            if (change.segment != "~everyone" or change.moved_from)
            and not (change.segment.startswith("~purpose") and change.moved_from)
        ]


def places(messages: list[StoredMessage]) -> list[str]:
    return [message.headers[POSITION] for message in messages]


def is_behind(place: str, revision: int) -> bool:
    return read_position(place).revision > revision


async def published(publisher: OutPublisher) -> None:
    async with asyncio.timeout(20):
        await publisher.do()


@pytest.mark.timeout(120)
async def test_publishers_that_are_killed_tell_every_change_once_and_in_order(
    nats_server: EmbeddedServer, connection: Connection, tmp_path: Path
) -> None:
    out, workspace = await open_stream(connection)
    store, chosen = Store.open_writer(tmp_path / "rows"), random.Random(5)
    entries = history(people=400).entries
    step = len(entries) // (KILLS * 20) + 1
    at = 0
    for _ in range(KILLS):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PUBLISHER, nats_server.url, str(tmp_path / "rows"), workspace),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        if at == 0:
            fold_batch(store, entries[:1])
            at = 1
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"ready\n"
        for _ in range(chosen.randrange(5, 20)):
            if at < len(entries):
                fold_batch(store, entries[at : at + step])
                at += step
            await asyncio.sleep(chosen.random() * 0.01)
        process.kill()
        await process.wait()
    if at < len(entries):
        fold_batch(store, entries[at:])
    await published(OutPublisher(out, store, workspace=workspace))
    told_places = places(await told(connection, out))
    assert len(told_places) > 800
    assert told_places == expected(store)
    store.close()


async def test_an_erasure_is_told_by_ids_alone_and_ends_what_they_belonged_to(
    connection: Connection, tmp_path: Path
) -> None:
    out, workspace = await open_stream(connection)
    store = Store.open_writer(tmp_path / "rows")
    history = Erasing()
    history.rules()
    history.segment("golden", 'traits.tier == "gold"', purposes=("service",))
    history.hold(1, "planted@example.com")
    history.set(1, tier="gold")
    fold_batch(store, history.entries)
    publisher = OutPublisher(out, store, workspace=workspace)
    await published(publisher)
    fresh = len(history.entries)
    history.erase(1)
    fold_batch(store, history.entries[fresh:])
    before = len(await told(connection, out))
    await published(publisher)
    after = (await told(connection, out))[before:]
    kinds = [message.headers["ce-type"] for message in after]
    assert sorted(kinds) == ["koseki.out.customer.erased.v1", "koseki.out.segment.exited.v1"]
    for message in after:
        body = orjson.loads(message.body)
        assert (body["customer_id"], body["cause"]) == (record_id(1), "erased")
        assert body.keys() <= {"revision", "customer_id", "cause", "segment", "purposes"}
    store.close()


async def test_two_publishers_tell_together_what_one_would(
    connection: Connection, tmp_path: Path
) -> None:
    out, workspace = await open_stream(connection)
    store = Store.open_writer(tmp_path / "rows")
    pair = [OutPublisher(out, store, workspace=workspace) for _ in range(2)]

    async def publish(publisher: OutPublisher) -> None:
        for _ in range(100):
            with suppress(OutMoved):
                await publisher.do()
            await asyncio.sleep(0)

    entries = history(people=60).entries
    for first in range(0, len(entries), 20):
        fold_batch(store, entries[first : first + 20])
        await asyncio.gather(*(publish(publisher) for publisher in pair))
    assert places(await told(connection, out)) == expected(store)
    store.close()


async def test_a_read_side_that_is_made_anew_tells_nothing_twice_and_goes_on(
    connection: Connection, tmp_path: Path
) -> None:
    out, workspace = await open_stream(connection)
    made, store = history(people=30), Store.open_writer(tmp_path / "rows")
    fold_batch(store, made.entries)
    await published(OutPublisher(out, store, workspace=workspace))
    store.close()
    told_before = made.entries[-1].revision
    made.now += 7_200
    made.did(0, "Bought")
    anew = Store.open_writer(tmp_path / "anew")
    publisher = OutPublisher(out, anew, workspace=workspace)
    await published(publisher)
    for append in batches(made.entries, 10):
        fold_batch(anew, append)
        await published(publisher)
    messages = await told(connection, out)
    assert places(messages) == expected(anew)
    assert is_behind(places(messages)[-1], told_before)
    anew.close()


async def test_of_two_read_sides_the_one_behind_tells_nothing_again(
    connection: Connection, tmp_path: Path
) -> None:
    out, workspace = await open_stream(connection)
    stores = [Store.open_writer(tmp_path / name) for name in ("ahead", "behind")]
    ahead, late = (OutPublisher(out, store, workspace=workspace) for store in stores)
    appends = list(batches(history(people=30).entries, 10))
    fold_batch(stores[1], appends[0])
    await published(late)
    for append in appends:
        fold_batch(stores[0], append)
    await published(ahead)
    for append in appends[1:]:
        fold_batch(stores[1], append)
        with suppress(OutMoved):
            await published(late)
        await published(late)
    assert places(await told(connection, out)) == expected(stores[0])
    for store in stores:
        store.close()


async def test_where_a_reopened_log_gave_revisions_out_again_a_gap_is_told_and_all_behind_it(
    connection: Connection, tmp_path: Path
) -> None:
    out, workspace = await open_stream(connection)
    store = Store.open_writer(tmp_path / "rows")
    fold_batch(store, history(people=60).entries)
    await published(OutPublisher(out, store, workspace=workspace))
    store.close()
    told_before = len(await told(connection, out))

    made = history(people=30)
    left = made.entries[-1].revision
    for number in range(100, 140):
        made.now += 60
        made.did(number, "Bought")
    store = Store.open_writer(tmp_path / "anew")
    losses = AcceptedLosses(times=1, last_revision=left)
    for append in batches(made.entries, 20):
        fold_batch(store, append)
        await published(OutPublisher(out, store, workspace=workspace, losses=losses))
    messages = await told(connection, out)
    gap, *after = messages[told_before:]
    assert gap.headers["ce-type"] == "koseki.out.gap.v1"
    assert orjson.loads(gap.body) == {"revision": left}
    assert places(after) == [place for place in expected(store) if is_behind(place, left)]
    assert len(after) >= 40
    assert len({message.headers["ce-id"] for message in messages}) == len(messages)
    store.close()


async def test_a_loss_behind_what_was_told_is_a_gap_that_passes_over_no_change(
    connection: Connection, tmp_path: Path
) -> None:
    out, workspace = await open_stream(connection)
    made, store = history(people=10), Store.open_writer(tmp_path / "rows")
    fold_batch(store, made.entries)
    await published(OutPublisher(out, store, workspace=workspace))
    known, before = len(made.entries), await told(connection, out)
    for number in range(10, 20):
        made.did(number, "Bought")
    fold_batch(store, made.entries[known:])
    losses = AcceptedLosses(times=1, last_revision=made.entries[-1].revision)
    for _ in range(2):
        await published(OutPublisher(out, store, workspace=workspace, losses=losses))
    gap, *after = (await told(connection, out))[len(before) :]
    assert gap.headers["ce-type"] == "koseki.out.gap.v1"
    assert places([*before, *after]) == expected(store)
    store.close()


async def test_changes_are_cloud_events_of_ids_and_purposes(
    connection: Connection, tmp_path: Path
) -> None:
    out, workspace = await open_stream(connection)
    store = Store.open_writer(tmp_path / "rows")
    made, publisher = history(people=2), OutPublisher(out, store, workspace=workspace)
    fold_batch(store, made.entries)
    await published(publisher)
    known = len(made.entries)
    made.say(0, "analytics", ConsentState.REFUSED)
    made.did(1, "Bought")
    made.merge(0, 1)
    fold_batch(store, made.entries[known:])
    await published(publisher)
    messages = await told(connection, out)
    types = [message.headers["ce-type"].removeprefix("koseki.out.") for message in messages]
    assert {"segment.entered.v1", "customer.purpose_closed.v1", "customer.merged.v1"} <= {*types}
    prefix = f"koseki.{workspace}.out."
    subjects = {message.subject.removeprefix(prefix) for message in messages}
    assert subjects <= {"customer", "segment.buyers", "segment.fresh"}
    fields = {key for message in messages for key in orjson.loads(message.body)}
    assert fields <= {
        *("revision", "customer_id", "cause", "segment", "segments", "purpose", "purposes"),
        *("from_customer_id", "belonged"),
    }
    assert len({message.headers["ce-id"] for message in messages}) == len(messages)
    store.close()


async def test_what_the_journal_does_not_keep_any_more_is_told_as_a_gap(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "REVISIONS_KEPT", 16)
    monkeypatch.setattr(journal, "TRIMMED_EVERY_REVISIONS", 8)
    out, workspace = await open_stream(connection)
    store = Store.open_writer(tmp_path / "rows")
    for append in batches(history(people=60).entries, 1):
        fold_batch(store, append)
    publisher = OutPublisher(out, store, workspace=workspace)
    await published(publisher)
    await published(publisher)
    messages = await told(connection, out)
    kinds = [message.headers["ce-type"] for message in messages]
    assert kinds[0] == "koseki.out.gap.v1"
    assert kinds.count(kinds[0]) == 1
    assert places(messages)[1:] == expected(store)
    store.close()
