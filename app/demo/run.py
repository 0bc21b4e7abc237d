"""The story of the demo, from publishing to a verified read side."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from actors.intake.jetstream import JetStreamIntake
from actors.intake.publisher import IntakePublisher
from app.bootstrap import open_connection
from app.demo.faults import KINDS, FaultMaker, waiting
from app.demo.purchases import ORDER, SOURCE, Purchase, external_id, read_purchases, truth_of
from app.demo.report import agrees, show
from app.settings import Settings
from app.supervisor import Supervisor
from domain.consent import ConsentState, LawfulBasis
from eventlog.connection import Connection
from eventlog.errors import LogError
from services.client import Answered, Client, SignalTotal

WORKSPACE = "demo"
CALLS_AT_ONCE = 64
PUBLISHED_AT_ONCE = 1_000
REFERENCES_PER_CALL = 500
DRAINED_SECONDS_MAX = 120.0
LOOK_EVERY_SECONDS = 0.05
REFUSE_EVERY = 5
ORDER_FIGURES = ("purchases", "cds", "dollars")
REDELIVER_SECONDS = 3.0

Item = TypeVar("Item")
Step = Callable[[int], None]


async def run_demo(console: Console) -> tuple[dict[str, Any], bool]:
    """Run it in a temporary folder; give what was found, and whether all of it agrees."""
    with tempfile.TemporaryDirectory(prefix="koseki-demo-") as folder:
        settings = Settings(
            workspace=WORKSPACE, data=Path(folder), redeliver_after_seconds=REDELIVER_SECONDS
        )
        started = time.monotonic()
        console.print("Starting nats-server, Ray, hosts, projector and gateway …")
        async with Supervisor(settings) as supervisor:
            found = await Story(supervisor, console).tell()
            console.print("Stopping …")
    found["seconds"] = round(time.monotonic() - started, 1)
    truth = truth_of(read_purchases())
    show(console, found, truth)
    return found, agrees(found, truth)


class Story:
    """Publish, merge, consent, ask, verify: each step through a public way in."""

    def __init__(self, supervisor: Supervisor, console: Console) -> None:
        self._supervisor = supervisor
        self._settings = supervisor.settings
        self._purchases = read_purchases()
        self._customers = {p.user_id: p.loyalty_id for p in self._purchases}
        self._progress = Progress(
            TextColumn("{task.description:<34}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )

    async def tell(self) -> dict[str, Any]:
        """Tell it; give what the system answered."""
        connection = await open_connection(self._settings, "demo", role="worker")
        address = f"{self._settings.grpc_host}:{self._settings.grpc_port}"
        try:
            async with Client(address) as client:
                with self._progress:
                    return await self._tell(connection, client)
        finally:
            await connection.close()

    async def _tell(self, connection: Connection, client: Client) -> dict[str, Any]:
        await define_rules(client)
        found = await self._publish_purchases(connection)
        found["records"] = (await self._status())["records"]
        await self._identify_all(connection)
        status = await self._status()
        found |= {"merges": status["merges"], "customers": status["customers"]}
        found["redelivered"] = status["processes"]["ingest-worker"]["redelivered"]
        await self._record_consents(client)
        found |= await self._ask_all(client)
        found |= await self._read_totals(client)
        proof = await self._command("verify")
        found["lost"] = len(self._purchases) - proof["signals_recorded"]
        found["duplicated"] = proof["signals_duplicated"]
        found["divergences"] = proof["divergences"]
        return found

    async def _publish_purchases(self, connection: Connection) -> dict[str, Any]:
        publisher = self._publisher(connection)
        intake = JetStreamIntake(connection, workspace=WORKSPACE)
        faults = FaultMaker(self._settings, intake, server_pid=lambda: self._supervisor.server.pid)
        step = self._bar("Purchases published", len(self._purchases))

        async def publish(purchase: Purchase) -> None:
            await publisher.publish(str(purchase.line), purchase.call(), time=purchase.time)
            step(1)

        started = time.monotonic()
        share = -(-len(self._purchases) // len(KINDS))
        for kind, purchases in zip(KINDS, in_batches(self._purchases, share), strict=True):
            await asyncio.gather(
                faults.kill(kind), gather_bounded(publish, purchases, at_once=PUBLISHED_AT_ONCE)
            )
        await self._drained(intake, "Purchases resolved and recorded")
        seconds = time.monotonic() - started
        return {
            **{f"{kind}_kills": kills for kind, kills in faults.report.kills.items()},
            "in_flight_at_kill": min(faults.report.in_flight),
            "sent_again": publisher.counters.sent_again,
            "signals_per_second": round(len(self._purchases) / seconds),
        }

    async def _identify_all(self, connection: Connection) -> None:
        publisher = self._publisher(connection)
        step = self._bar("Customers identified", len(self._customers))

        async def identify(customer: tuple[str, str]) -> None:
            user_id, loyalty_id = customer
            call = {
                "type": "identify",
                "userId": user_id,
                "context": external_id(loyalty_id),
                "traits": {"sample_id": int(user_id)},
            }
            await publisher.publish(f"identify-{user_id}", call, time=datetime.now(UTC))
            step(1)

        await gather_bounded(identify, list(self._customers.items()), at_once=PUBLISHED_AT_ONCE)
        await self._drained(
            JetStreamIntake(connection, workspace=WORKSPACE), "Customers resolved and merged"
        )

    async def _record_consents(self, client: Client) -> None:
        step = self._bar("Consent recorded", len(self._customers))

        async def record(user_id: str) -> None:
            refuses = int(user_id) % REFUSE_EVERY == 0
            state = ConsentState.REFUSED if refuses else ConsentState.GIVEN
            await client.record_consent(
                ("user_id", user_id), "marketing", state, notice_version="1"
            )
            step(1)

        await gather_bounded(record, list(self._customers), at_once=CALLS_AT_ONCE)

    async def _ask_all(self, client: Client) -> dict[str, Any]:
        step = self._bar("Consent asked for", len(self._customers))
        answers: list[Answered] = []

        async def ask(loyalty_id: str) -> None:
            answers.append(await client.check_consent(("loyalty_id", loyalty_id), "marketing"))
            step(1)

        await gather_bounded(ask, list(self._customers.values()), at_once=CALLS_AT_ONCE)
        refused = [a for a in answers if a.state is ConsentState.REFUSED and not a.is_open]
        return {
            "marketing_granted": sum(answer.is_open for answer in answers),
            "marketing_refused": len(refused),
        }

    async def _read_totals(self, client: Client) -> dict[str, Any]:
        loyalty_ids = sorted(self._customers.values())
        step = self._bar("Customers read", len(loyalty_ids))
        rows: dict[str, dict[str, Any]] = {}
        for batch in in_batches(loyalty_ids, REFERENCES_PER_CALL):
            keys = [("loyalty_id", loyalty_id) for loyalty_id in batch]
            totals = await client.signal_totals(keys, "service", ORDER)
            rows |= {who: order_totals(total) for who, total in zip(batch, totals, strict=True)}
            step(len(batch))
        everybody = {name: sum(row[name] for row in rows.values()) for name in ORDER_FIGURES}
        first = rows[self._purchases[0].loyalty_id]
        return {**in_words(everybody), "first_customer": in_words(first)}

    async def _drained(self, intake: JetStreamIntake, what: str) -> None:
        """Wait until intake is empty and the read side has seen everything."""
        step = self._bar(what, 0)
        task = self._progress.tasks[-1].id
        async with asyncio.timeout(DRAINED_SECONDS_MAX):
            while True:
                with suppress(LogError):
                    stats = await intake.stats()
                    done = stats.kept_messages - waiting(stats)
                    self._progress.update(task, total=stats.kept_messages, completed=done)
                    if stats.is_drained:
                        break
                await asyncio.sleep(LOOK_EVERY_SECONDS)
            while (await self._status())["read_side_behind_events"]:  # noqa: ASYNC110  # a command
                await asyncio.sleep(LOOK_EVERY_SECONDS)
        step(0)

    async def _status(self) -> dict[str, Any]:
        return await self._command("status")

    async def _command(self, name: str) -> dict[str, Any]:
        """Run a command of `koseki` in a process of its own, and read its JSON."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app.cli", name, "--json"),
            *("--data", str(self._settings.data)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        printed, _nothing = await process.communicate()
        answer: dict[str, Any] = orjson.loads(printed)
        return answer

    def _publisher(self, connection: Connection) -> IntakePublisher:
        return IntakePublisher(connection, workspace=WORKSPACE, source=SOURCE)

    def _bar(self, what: str, total: int) -> Step:
        task = self._progress.add_task(what, total=total or None)
        return lambda steps: self._progress.advance(task, steps)


async def define_rules(client: Client) -> None:
    """Define the purposes of the demo, and the source that declares them all."""
    purposes = {
        "service": LawfulBasis.CONTRACT,
        "analytics": LawfulBasis.LEGITIMATE_INTEREST,
        "marketing": LawfulBasis.CONSENT,
    }
    for purpose, basis in purposes.items():
        await client.define_purpose(purpose, basis)
    await client.register_source(SOURCE, list(purposes))


def order_totals(total: SignalTotal | None) -> dict[str, Any]:
    """Give purchases, CDs and dollars of one customer; nothing of nobody."""
    known = total or SignalTotal()
    return {
        "purchases": known.count,
        "cds": int(known.sums.get("cds", 0)),
        "dollars": known.sums.get("dollars", Decimal(0)),
    }


def in_words(figures: dict[str, Any]) -> dict[str, Any]:
    """Write the dollars as text, so that no float comes near them."""
    return {**figures, "dollars": f"{figures['dollars']:.2f}"}


def in_batches(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Cut a sequence into pieces of at most this size."""
    return [items[start : start + size] for start in range(0, len(items), size)]


async def gather_bounded(
    work: Callable[[Item], Awaitable[None]], items: Iterable[Item], *, at_once: int
) -> None:
    """Work on all items, in their order, so many at once."""
    waiting_items = iter(items)

    async def take() -> None:
        for item in waiting_items:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(take())
