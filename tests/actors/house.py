"""A workspace in one process for tests of the hosts: a log in memory, hosts, and ways to them.

`Workspace.restart` puts fresh hosts and routers over the same log: what was asserted of the old
ones must hold of the new ones. Times are the machine's unless a test sets them.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import uuid_utils

from actors.clock import SystemClock
from actors.host import CustomerHost, HostLimits
from actors.messages import HostUnavailable, decode_commands, encode_replies
from actors.router import CommandRouter
from actors.rules import RulesKeeper
from actors.slots import Placement
from domain.commands import (
    CheckConsent,
    DefinePurpose,
    Identify,
    PersonCommand,
    RecordConsent,
    RecordSignals,
    RegisterSource,
    SetIdentityRules,
    SetTraits,
)
from domain.consent import ConsentState, LawfulBasis
from domain.event import Event, Recorded
from domain.identity import Identifier
from domain.identity_rules import DEFAULT_IDENTITY_RULES as DEFAULT
from domain.identity_rules import IdentityRules
from domain.ids import IdentifierKey
from domain.replies import Done, Failed
from domain.signals import Signal
from eventlog.memory import MemoryEventLog
from eventlog.port import EventLog
from eventlog.snapshots.port import SnapshotStore

PURPOSES = {
    "service": LawfulBasis.CONTRACT,
    "analytics": LawfulBasis.LEGITIMATE_INTEREST,
    "marketing": LawfulBasis.CONSENT,
}
SOURCES = {"shop": ("service", "analytics", "marketing"), "ads": ("marketing",)}
WAIT_SECONDS_MAX = 10.0
WIDE = IdentityRules(
    namespaces=tuple(n.model_copy(update={"values_max": 512}) for n in DEFAULT.namespaces)
)
"""Rules under which whatever meets is joined, so that a few identifiers make large customers."""


class HandClock:
    """A clock that a test sets; `ahead` is how far it is before the machine's.

    `recorded_ahead` is how far the log's clock is before it.
    """

    def __init__(self) -> None:
        self.ahead = timedelta(0)
        self.recorded_ahead = timedelta(0)

    def now(self) -> datetime:
        """Give the time, in UTC."""
        return datetime.now(UTC) + self.ahead

    def new_id(self) -> str:
        """Make a UUIDv7 of this clock's time."""
        return id_of(self.now())

    def recorded_now(self) -> datetime:
        """Give the log's time, in UTC."""
        return self.now() + self.recorded_ahead

    def note(self, recorded_at: datetime) -> None:
        """Keep to its own time."""

    def arrival(self, received_at: datetime) -> datetime:
        """Give what the queue noted."""
        return received_at


def id_of(time: datetime) -> str:
    """Make a UUIDv7 of a time."""
    fresh = uuid_utils.uuid7().hex
    return str(uuid_utils.UUID(f"{int(time.timestamp() * 1_000):012x}{fresh[12:]}"))


CLOCK = SystemClock()


class Unused:
    """A link that must not be used."""

    async def execute(self, host: int, batch: bytes, *, slot: int, deadline: object) -> bytes:
        raise AssertionError("a batch that is small enough for a request was none")


def ident(namespace: str, value: str) -> Identifier:
    """Make an identifier."""
    key = IdentifierKey(f"v1.{namespace}-{value}")
    return Identifier(namespace=namespace, value=value, key=key)


def user(value: str) -> Identifier:
    """Make an identifier of the strongest namespace."""
    return ident("user_id", value)


def loyalty(value: str) -> Identifier:
    """Make an identifier of a weak namespace."""
    return ident("loyalty_id", value)


def asked(said: dict[str, Any], *, seconds: float = 10.0) -> dict[str, Any]:
    """Give what every command carries."""
    now = CLOCK.now()
    envelope = {
        "command_id": CLOCK.new_id(),
        "auth_id": "test",
        "issued_at": now,
        "deadline": now + timedelta(seconds=said.pop("seconds", seconds)),
    }
    return envelope | said


def person(identifiers: tuple[Identifier, ...], said: dict[str, Any]) -> dict[str, Any]:
    """Give what every command to a person carries."""
    return {"new_record_id": CLOCK.new_id(), "identifiers": identifiers, **asked(said)}


def signal(message_id: str, **properties: Any) -> Signal:
    """Make a signal."""
    return Signal(
        message_id=message_id,
        name="Order Completed",
        happened_at=CLOCK.now(),
        properties=properties,
    )


def track(message_ids: str, *identifiers: Identifier, **said: Any) -> RecordSignals:
    """Ask to record signals, named by words."""
    signals = tuple(signal(message_id) for message_id in message_ids.split())
    said = {"source": "shop", "signals": signals} | said
    return RecordSignals(**person(identifiers, said))


def identify(*identifiers: Identifier, **said: Any) -> Identify:
    """Ask to identify."""
    said = {"source": "shop", "happened_at": CLOCK.now()} | said
    return Identify(**person(identifiers, said))


def traits(*identifiers: Identifier, **said: Any) -> SetTraits:
    """Ask to set traits."""
    said = {"source": "shop", "happened_at": CLOCK.now(), "traits": {"a": 1}} | said
    return SetTraits(**person(identifiers, said))


def consent(state: str, *identifiers: Identifier, **said: Any) -> RecordConsent:
    """Ask to record consent."""
    said = {"purpose": "marketing", "happened_at": CLOCK.now()} | said
    return RecordConsent(**person(identifiers, {"state": ConsentState(state), **said}))


def check(*identifiers: Identifier, **said: Any) -> CheckConsent:
    """Ask whether a purpose is open."""
    return CheckConsent(**person(identifiers, {"purpose": "marketing"} | said))


@dataclass
class PlainLink:
    """Carry batches within the process, as bytes, and fail as it is told to.

    `faults` holds, for the next calls, `before` (the host never saw it), `after` (it did all of
    it) or `never` (no answer at all until the call's time is over). A `gate` that is not set holds
    calls up.
    """

    hosts: list[CustomerHost]
    in_bulk: bool = False
    faults: deque[str] = field(default_factory=deque)
    calls: int = 0
    gate: asyncio.Event | None = None

    async def execute(self, host: int, batch: bytes, *, slot: int, deadline: datetime) -> bytes:
        """Carry a batch to a host and its replies back."""
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        fault = self.faults.popleft() if self.faults else ""
        if fault == "before":
            raise HostUnavailable
        if fault == "never":
            try:
                left = (deadline - datetime.now(UTC)).total_seconds()
                await asyncio.wait_for(asyncio.Event().wait(), left)
            except TimeoutError as error:
                raise HostUnavailable from error
        there = self.hosts[host]
        execute = there.execute_bulk if self.in_bulk else there.execute
        replies = await execute(decode_commands(batch))
        if fault == "after":
            raise HostUnavailable
        return encode_replies(replies)


@dataclass
class Workspace:
    """Hosts over a log. With `doubled`, every host believes to own every customer.

    With `in_bulk` all commands travel in bulk, the single ones too.
    """

    log: EventLog
    hosts_wanted: int = 2
    doubled: bool = False
    in_bulk: bool = False
    limits: HostLimits = field(default_factory=HostLimits)
    clock: Any = CLOCK
    snapshots: SnapshotStore | None = None
    identity: IdentityRules = WIDE
    hosts: list[CustomerHost] = field(default_factory=list)
    link: PlainLink = field(default_factory=lambda: PlainLink([]))

    def __post_init__(self) -> None:
        self.placement = Placement(self.hosts_wanted)
        self.rules = RulesKeeper(self.log, self.clock)

    @property
    def memory(self) -> MemoryEventLog:
        """The log, as one that faults can be put into."""
        assert isinstance(self.log, MemoryEventLog)
        return self.log

    async def define_rules(self) -> None:
        """Define purposes and sources."""
        for purpose, basis in PURPOSES.items():
            await self.rules.execute(DefinePurpose(**asked({}), purpose=purpose, basis=basis))
        for source, purposes in SOURCES.items():
            await self.rules.execute(RegisterSource(**asked({}), source=source, purposes=purposes))
        await self.rules.execute(SetIdentityRules(**asked({}), rules=self.identity))

    async def start(self) -> None:
        """Start hosts and a router."""
        for number in range(self.hosts_wanted):
            host = CustomerHost(
                self.log,
                owns=lambda r, n=number: self.doubled or self.placement.host_of(r) == n,  # type: ignore[misc] # bound now
                clock=self.clock,
                limits=self.limits,
                snapshots=self.snapshots,
            )
            await host.start()
            self.hosts.append(host)
        self.link = PlainLink(self.hosts, in_bulk=self.in_bulk)
        self.router = self.new_router()

    def new_router(self) -> CommandRouter:
        """Make one more router, which knows nothing yet."""
        return CommandRouter(self.log, self.link, placement=self.placement, clock=self.clock)

    async def restart(self) -> None:
        """Put fresh hosts and a fresh router over the same log."""
        await self.close()
        await self.start()

    async def close(self) -> None:
        """Stop the hosts."""
        for host in self.hosts:
            await host.close()
        self.hosts = []

    async def both_ways(self, assertions: Callable[[], Any]) -> None:
        """Run assertions, restart, and run them again."""
        await assertions()
        await self.restart()
        await assertions()

    async def done(self, command: PersonCommand) -> Done:
        """Execute a command that must succeed."""
        reply = await self.router.execute(command)
        assert isinstance(reply, Done), reply
        return reply

    async def all_done(self, commands: list[PersonCommand]) -> list[Done]:
        """Execute commands at once that must succeed."""
        replies = await self.router.execute_many(commands)
        assert all(isinstance(reply, Done) for reply in replies), replies
        return [reply for reply in replies if isinstance(reply, Done)]

    async def fails(self, command: PersonCommand) -> str:
        """Execute a command that must fail; give the reason."""
        reply = await self.router.execute(command)
        assert isinstance(reply, Failed), reply
        return reply.reason

    async def is_open(self, *identifiers: Identifier, **said: Any) -> bool:
        """Ask whether a purpose is open."""
        verdict = (await self.done(check(*identifiers, **said))).verdict
        assert verdict is not None
        return verdict.is_open

    async def customer_of(self, *identifiers: Identifier) -> str | None:
        """Ask who is meant."""
        return (await self.done(check(*identifiers))).customer_id

    async def events(self) -> list[Recorded[Event]]:
        """Read the whole log."""
        return await events_of(self.log)

    async def count(self, event: type[Event]) -> int:
        """Count the events of a kind in the log."""
        return sum(isinstance(e.body, event) for e in await self.events())

    async def messages(self) -> Counter[str]:
        """Count the messages recorded in the log."""
        found: Counter[str] = Counter()
        for event in await self.events():
            for item in getattr(event.body, "signals", ()):
                found[item.message_id] += 1
        return found


async def events_of(log: EventLog) -> list[Recorded[Event]]:
    """Read every event of a log."""
    found = []
    async for entries in log.read():
        found += [entry.event for entry in entries if entry.event is not None]
    return found


@asynccontextmanager
async def workspace(**said: Any) -> AsyncIterator[Workspace]:
    """Open a workspace with its rules defined, and close it."""
    house = Workspace(said.pop("log", None) or MemoryEventLog("test"), **said)
    await house.define_rules()
    await house.start()
    try:
        yield house
    finally:
        await house.close()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most ten seconds."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not condition():  # noqa: ASYNC110  # a condition of any kind
            await asyncio.sleep(0.005)
