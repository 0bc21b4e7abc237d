"""Events replaced by somebody with the server's rights: the shape holds, the record does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from domain.consent_events import ConsentGiven, ConsentWithdrawn
from domain.event import Event
from domain.replies import Done, Failed
from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from eventlog.port import Entry
from replay.attestation import attest, check_attestation
from replay.fold import fold_log
from tests.actors.house import check, consent, track, user
from tests.damage.doctored import doctor, replace_and_chain_again, replace_body
from tests.damage.scene import Written, office, project
from tests.support.nats import new_workspace


class Original:
    """A workspace that was written, and whose processes have ended."""

    def __init__(self, workspace: str, folder: Path, written: Written) -> None:
        self.workspace = workspace
        self.folder = folder
        self.written = written

    def first(self, kind: type[Event]) -> Entry:
        return next(
            entry
            for entry in self.written.entries
            if entry.event is not None and isinstance(entry.event.body, kind)
        )


@pytest_asyncio.fixture
async def original(connection: Connection, tmp_path: Path) -> AsyncIterator[Original]:
    workspace = new_workspace()
    await JetStreamEventLog(connection, workspace).ensure_stream()
    async with office(connection, tmp_path, workspace) as opened:
        await opened.write()
        # Whoever acknowledged it last is not the one whose events are replaced.
        await opened.done(track("m1", user("last")))
        written = await project(opened.log, opened.settings.read_side_folder)
    yield Original(workspace, tmp_path, written)


@pytest.mark.parametrize("kind", [ConsentGiven, ConsentWithdrawn], ids=["middle", "last"])
@pytest.mark.parametrize("forge", [replace_body, replace_and_chain_again])
async def test_a_replaced_event_is_noticed_before_any_yes_or_write_of_its_record(
    connection: Connection, original: Original, kind: type[Event], forge: Callable[..., None]
) -> None:
    replaced = original.first(kind)
    await doctor(connection, original.workspace, partial(forge, revision=replaced.revision))
    async with office(connection, original.folder, original.workspace) as opened:
        assert opened.guard.is_sound
        answer = await opened.done(check(user("0")))
        assert answer.verdict is not None
        assert (answer.verdict.is_open, answer.verdict.reason) == (False, "CUSTOMER_UNREADABLE")
        refused = await opened.router.execute(consent("given", user("0")))
        assert isinstance(refused, Failed)
        assert refused.reason == "CUSTOMER_UNREADABLE"
        assert isinstance(await opened.router.execute(track("m2", user("1"))), Done)
        found = await opened.verify()
        assert not found.holds
        assert found.damage is not None
        assert [record.record_id for record in found.damage.records] == [replaced.stream.key]
        assert found.damage.lost == []


async def test_a_chain_that_is_broken_only_beyond_the_read_side_is_told_too(
    connection: Connection, original: Original
) -> None:
    replaced = original.first(ConsentWithdrawn)
    async with office(connection, original.folder, original.workspace) as opened:
        await opened.done(track("not folded", user("0")))
    await doctor(connection, original.workspace, partial(replace_body, revision=replaced.revision))
    async with office(connection, original.folder, original.workspace) as opened:
        found = await opened.verify()
    assert {"log_digest", "rows_digest", "log_damaged"} <= set(found.faults)
    assert found.damage is not None
    assert [record.record_id for record in found.damage.records] == [replaced.stream.key]
    assert found.damage.replaced == [replaced.revision]


async def test_the_event_that_a_checkpoint_names_may_not_be_another(
    connection: Connection, original: Original
) -> None:
    last = original.written.last_revision
    await doctor(connection, original.workspace, partial(replace_body, revision=last))
    async with office(connection, original.folder, original.workspace) as opened:
        faults = {"acknowledged_event_replaced", "read_side_event_replaced"}
        assert set(opened.guard.faults) == faults
        await opened.require_no_harm(original.written)


async def test_where_no_checkpoint_reaches_an_attestation_does(
    connection: Connection, original: Original, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    async with office(connection, original.folder, original.workspace) as opened:
        tables = await fold_log(opened.log)
        attested = attest(
            original.workspace, tables.checkpoint, key, now=datetime(2026, 11, 22, tzinfo=UTC)
        )
        assert await check_attestation(opened.log, attested, key.public_key()) == "holds"
        forge = partial(replace_and_chain_again, revision=original.first(ConsentWithdrawn).revision)
        await doctor(connection, original.workspace, forge)
        assert await check_attestation(opened.log, attested, key.public_key()) == "log_differs"
