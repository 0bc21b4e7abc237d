"""A sealed workspace, read with the library's tools: with its key, without it, after erasure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from eventsourcing.utils import Environment

from domain.erasure_events import ErasureRequested
from domain.event import Event, Recorded
from domain.ids import CLOCK_STREAM, RecordId
from domain.signal_events import TraitsSet
from domain.workspace_events import ClockAdvanced
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_ring import KeyRing
from eventlog.keys.workspace_key import key_source, new_workspace_key
from eventlog.recorder.errors import LogRefuses, NotDecodable
from eventlog.recorder.factory import JetStreamFactory
from eventlog.recorder.workspace_recorder import KosekiEvent
from tests.eventlog_recorder.servers import Servers, variables
from tests.support.events import NOON, draft, new_record, store, traits
from tests.support.nats import new_workspace


class Sealed:
    """A workspace whose records are sealed, and where its key is."""

    def __init__(self, log: JetStreamEventLog, ring: KeyRing, *, key: Path) -> None:
        self.log, self.ring, self.key = log, ring, key

    def read(self, *, key: str) -> list[Recorded[Event]]:
        env = variables(
            KOSEKI_APPLICATION="", KOSEKI_WORKSPACE=self.log.workspace, KOSEKI_WORKSPACE_KEY=key
        )
        made = JetStreamFactory(Environment("Test", env))
        try:
            found = made.application_recorder().select_notifications(start=1, limit=100)
            mapper = made.mapper()
            decoded = [mapper.to_domain_event(notification) for notification in found]
        finally:
            made.close()
        return [event.recorded for event in decoded if isinstance(event, KosekiEvent)]


@pytest.fixture
async def sealed(tmp_path: Path) -> AsyncIterator[Sealed]:
    key = tmp_path / "workspace.key"
    key.write_text(new_workspace_key().text())
    connection = await Servers.connect()
    replicas = int(Servers.replicas)
    workspace = new_workspace()
    keys = JetStreamKeyStore(connection, workspace, source=key_source(f"file:{key}"))
    await keys.open(replicas=replicas)
    ring = KeyRing(keys)
    log = JetStreamEventLog(connection, workspace, keys=ring)
    await log.ensure_stream(replicas=replicas)
    yield Sealed(log, ring, key=key)
    await ring.close()
    await connection.close()


async def test_with_the_workspaces_key_sealed_events_are_read(sealed: Sealed) -> None:
    await store(sealed.log, draft(new_record(), traits(city="Kyoto")))
    [found] = sealed.read(key=f"file:{sealed.key}")
    assert isinstance(found.body, TraitsSet)
    assert found.body.traits == {"city": "Kyoto"}
    assert not found.is_erased


async def test_without_the_key_open_events_are_read_and_sealed_ones_are_not(
    sealed: Sealed,
) -> None:
    await store(sealed.log, draft(CLOCK_STREAM, ClockAdvanced(to=NOON)))
    assert [event.body for event in sealed.read(key="")] == [ClockAdvanced(to=NOON)]
    await store(sealed.log, draft(new_record()))
    with pytest.raises(NotDecodable, match=r"revision 2.*KOSEKI_WORKSPACE_KEY"):
        sealed.read(key="")


async def test_an_erased_record_reads_as_erased(sealed: Sealed) -> None:
    record = new_record()
    await store(sealed.log, draft(record, traits(city="Kyoto")))
    await sealed.ring.destroy([RecordId(record.key)])
    [found] = sealed.read(key=f"file:{sealed.key}")
    assert found.is_erased
    assert isinstance(found.body, TraitsSet)
    assert found.body.traits == {}


async def test_an_erased_record_reads_as_erased_from_the_request_on(sealed: Sealed) -> None:
    record, other = new_record(), new_record()
    both = draft(record, traits(city="Kyoto")), draft(other, traits(city="Nara"))
    stored = await store(sealed.log, *both)
    requested = draft(record, ErasureRequested(root=record.key, reference=""))
    await store(sealed.log, requested, after=stored)
    erased, kept, _ = sealed.read(key=f"file:{sealed.key}")
    assert (erased.is_erased, kept.is_erased) == (True, False)
    assert isinstance(erased.body, TraitsSet)
    assert isinstance(kept.body, TraitsSet)
    assert (erased.body.traits, kept.body.traits) == ({}, {"city": "Nara"})


async def test_a_key_that_is_not_where_it_should_be_is_told(sealed: Sealed) -> None:
    await store(sealed.log, draft(new_record()))
    with pytest.raises(LogRefuses):
        sealed.read(key="file:/nowhere/workspace.key")
