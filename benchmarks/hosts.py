"""A workspace in one process for measurements: a log in memory, real hosts, a real router.

Commands pass the same encoding as between processes; what is missing is the wire and the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from actors.clock import SystemClock
from actors.host import CustomerHost, HostLimits
from actors.intake.identifiers import IdentifierNormaliser
from actors.messages import decode_commands, encode_replies
from actors.router import CommandRouter
from actors.rules import RulesKeeper
from actors.slots import Placement
from domain.commands import (
    CheckConsent,
    DefinePurpose,
    PersonCommand,
    RegisterSource,
    SetIdentityRules,
)
from domain.consent import LawfulBasis
from domain.event import Event, Recorded
from domain.identity_rules import DEFAULT_IDENTITY_RULES, IdentityRules
from domain.ids import CommandId
from domain.replies import Done
from domain.rules import Rules
from eventlog.memory import MemoryEventLog
from examples.population.lives import PURPOSES, SOURCES

HOSTS = 2
COMMANDS_AT_ONCE = 2_000
TRIES_MAX = 5
DEADLINE_SECONDS = 60.0
AUTH_ID = "benchmark"
CLOCK = SystemClock()


class NotExecuted(Exception):
    """A command that a measurement stands on was not carried out."""


@dataclass
class Hosts:
    """Hosts over a log, and ways to them."""

    identity: IdentityRules = DEFAULT_IDENTITY_RULES
    log: MemoryEventLog = field(default_factory=lambda: MemoryEventLog("bench"))

    def __post_init__(self) -> None:
        self._placement = Placement(HOSTS)
        self._hosts: list[CustomerHost] = []
        self._router = CommandRouter(self.log, self, placement=self._placement, clock=CLOCK)
        self.normaliser = IdentifierNormaliser(
            b"a pepper of the bench", rules=lambda: Rules(identity=self.identity)
        )

    async def start(self) -> None:
        """Define the population's rules, and start the hosts."""
        rules = RulesKeeper(self.log, CLOCK)
        for purpose, basis in PURPOSES.items():
            said = DefinePurpose(**_asked(), purpose=purpose, basis=LawfulBasis(basis))
            await rules.execute(said)
        for source, purposes in SOURCES.items():
            await rules.execute(RegisterSource(**_asked(), source=source, purposes=purposes))
        await rules.execute(SetIdentityRules(**_asked(), rules=self.identity))
        for number in range(HOSTS):
            host = CustomerHost(
                self.log,
                owns=lambda root, n=number: self._placement.host_of(root) == n,  # type: ignore[misc]  # bound now
                clock=CLOCK,
                limits=HostLimits(customers_max=1_000_000),
            )
            await host.start()
            self._hosts.append(host)

    async def close(self) -> None:
        """Stop the hosts."""
        for host in self._hosts:
            await host.close()

    async def execute(self, host: int, batch: bytes, **_waiting: object) -> bytes:
        """Carry a batch to a host and its replies back, as the router's link."""
        return encode_replies(await self._hosts[host].execute(decode_commands(batch)))

    async def carry_out(self, commands: Sequence[PersonCommand]) -> list[Done]:
        """Execute commands at once, those that lost too many races again. Raises `NotExecuted`."""
        done: dict[str, Done] = {}
        for _ in range(TRIES_MAX):
            left = [command for command in commands if command.command_id not in done]
            for start in range(0, len(left), COMMANDS_AT_ONCE):
                some = left[start : start + COMMANDS_AT_ONCE]
                replies = await self._router.execute_many(some)
                for command, reply in zip(some, replies, strict=True):
                    if isinstance(reply, Done):
                        done[command.command_id] = reply
            if len(done) == len(commands):
                return [done[command.command_id] for command in commands]
        raise NotExecuted(f"{len(commands) - len(done)} commands were not carried out")

    async def customers_of(self, record_ids: Sequence[str]) -> dict[str, str]:
        """Ask the hosts for the customer of each record."""
        asked = [
            CheckConsent(
                **_asked(), new_record_id=CLOCK.new_id(), record_id=record_id, purpose="service"
            )
            for record_id in record_ids
        ]
        replies = await self.carry_out(asked)
        return {r: str(reply.customer_id) for r, reply in zip(record_ids, replies, strict=True)}

    async def events(self) -> list[Recorded[Event]]:
        """Read the whole log."""
        entries = [entry async for some in self.log.read() for entry in some]
        return [entry.event for entry in entries if entry.event is not None]


@asynccontextmanager
async def started_hosts(identity: IdentityRules = DEFAULT_IDENTITY_RULES) -> AsyncIterator[Hosts]:
    """Start hosts over an empty log with the population's rules; stop them after."""
    hosts = Hosts(identity)
    await hosts.start()
    try:
        yield hosts
    finally:
        await asyncio.shield(hosts.close())


def _asked() -> dict[str, object]:
    now = CLOCK.now()
    return {
        "command_id": CommandId(CLOCK.new_id()),
        "auth_id": AUTH_ID,
        "issued_at": now,
        "deadline": now + timedelta(seconds=DEADLINE_SECONDS),
    }
