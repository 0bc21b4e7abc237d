"""A workspace whose log a test damages: hosts and read side over a real server's files.

Half of the people gave their consent, half gave it and took it back: where the last event of one of
these is lost or replaced, a host that believed the log would say yes again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from actors.host import CustomerHost
from actors.router import CommandRouter
from actors.rules import RulesKeeper
from actors.slots import Placement
from app.closed import closed_records
from app.integrity import ReadSideHeads, known_witnesses, open_guard
from app.settings import Settings
from domain.commands import DefinePurpose, RegisterSource
from domain.ids import Stream
from domain.replies import Done, Failed
from eventlog.connection import Connection
from eventlog.jetstream import JetStreamEventLog
from eventlog.port import Entry
from projections.fold import fold_batch
from projections.store import Store
from replay.verify import Verification, verify
from tests.actors.house import (
    CLOCK,
    PURPOSES,
    SOURCES,
    PlainLink,
    asked,
    check,
    consent,
    identify,
    track,
    user,
)

PEOPLE = 12
NO = frozenset({"LOG_DAMAGED", "CUSTOMER_UNREADABLE", "LOG_UNAVAILABLE", "UNKNOWN_OUTCOME"})
"""What a command to a damaged log may be answered with, beside being carried out rightly."""


@dataclass
class Written:
    """What a log held before it was damaged."""

    entries: list[Entry] = field(default_factory=list)

    @property
    def last_revision(self) -> int:
        return len(self.entries)

    def revisions_of(self, stream: Stream) -> list[int]:
        return [entry.revision for entry in self.entries if entry.stream == stream]


class Office:
    """One process's parts over a log: opened as `bootstrap` does, on a folder of its own."""

    def __init__(self, connection: Connection, data: Path, workspace: str) -> None:
        self.settings = Settings(data=data, workspace=workspace)
        closed = closed_records(self.settings)
        self.log = JetStreamEventLog(connection, workspace, closed=closed)
        self.read_side = ReadSideHeads(self.settings.read_side_folder, closed=closed)
        self.guard = open_guard(
            connection, self.log, self.settings, checkpoint=self.read_side.checkpoint
        )
        self.host = CustomerHost(
            self.log, owns=lambda _: True, clock=CLOCK, guard=self.guard, heads=self.read_side
        )
        self.router = CommandRouter(
            self.log, PlainLink([self.host]), placement=Placement(1), clock=CLOCK
        )

    async def write(self, *, trait_bytes: int = 0) -> None:
        """Define rules, and let everybody come, consent and perhaps think better of it."""
        rules = RulesKeeper(self.log, CLOCK)
        for purpose, basis in PURPOSES.items():
            await rules.execute(DefinePurpose(**asked({}), purpose=purpose, basis=basis))
        for source, purposes in SOURCES.items():
            await rules.execute(RegisterSource(**asked({}), source=source, purposes=purposes))
        people = [user(str(number)) for number in range(PEOPLE)]
        for person in people:
            await self.done(identify(person, traits={"essay": "x" * trait_bytes}))
        for person in people:
            await self.done(consent("given", person))
        for person in people[::2]:
            await self.done(consent("withdrawn", person))

    async def done(self, command: object) -> Done:
        reply = await self.router.execute(command)  # type: ignore[arg-type]  # any command
        assert isinstance(reply, Done), reply
        return reply

    async def require_no_harm(self, written: Written) -> None:
        """Ask about everybody, write to everybody: no false yes, nothing put on lost events."""
        for number in range(PEOPLE):
            answer = await self.router.execute(check(user(str(number))))
            if isinstance(answer, Done):
                assert answer.verdict is not None
                assert not (answer.verdict.is_open and number % 2 == 0), number
            else:
                assert answer.reason in NO, answer
        revisions = []
        for number in range(PEOPLE):
            reply = await self.router.execute(track(f"late-{number}", user(str(number)), seconds=2))
            if isinstance(reply, Failed):
                assert reply.reason in NO, reply
            else:
                assert isinstance(reply, Done)
                revisions.append(reply.revision)
        assert all(revision > written.last_revision for revision in revisions), revisions

    async def verify(self) -> Verification:
        with self.read_side._opened().snapshot() as tables:
            witnesses = known_witnesses(self.settings, tables.checkpoint)
            return await verify(self.log, tables, witnesses=witnesses)

    async def close(self) -> None:
        await self.host.close()
        self.read_side.close()


@asynccontextmanager
async def office(connection: Connection, data: Path, workspace: str) -> AsyncIterator[Office]:
    """Open the parts of a process; the host starts, whatever the log is like."""
    opened = Office(connection, data, workspace)
    await opened.host.start()
    try:
        yield opened
    finally:
        await opened.close()


async def project(log: JetStreamEventLog, folder: Path) -> Written:
    """Fold the whole log into a read side, and give what it holds."""
    written = Written()
    store = Store.open_writer(folder)
    async for entries in log.read():
        written.entries += entries
    fold_batch(store, written.entries)  # a read alone may stop within an append
    store.close()
    return written


def unharmed(written: Written, left: dict[int, bytes]) -> set[int]:
    """Name the revisions that still hold the event that was written."""
    return {e.revision for e in written.entries if left.get(e.revision) == e.digest}


async def left_of(log: JetStreamEventLog, written: Written) -> dict[int, bytes]:
    """Ask for every event that was written, one by one."""
    found = {e.revision: await log.digest_at(e.revision) for e in written.entries}
    return {revision: digest for revision, digest in found.items() if digest is not None}
