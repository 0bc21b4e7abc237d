"""A large population on one machine, step by step: `python -m benchmarks.scale --folder DIR`.

Not a part of `make bench`: a million customers take hours and 65 GB of disk. A run that was stopped
goes on where it was; what it has measured stands in `scale.json` by the number of customers, from
which `scale_table.py` makes the README's table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from benchmarks.scale_log import EVENTS_EACH
from benchmarks.scale_state import State, own_memory_bytes
from benchmarks.scale_steps import KEY_FILE, WORKSPACE, Place, run_step
from eventlog.connection import Connection
from eventlog.errors import LogError
from eventlog.jetstream import JetStreamEventLog
from eventlog.keys.workspace_key import new_workspace_key
from eventlog.server import EmbeddedServer

RESULTS = Path(__file__).parent / "scale.json"
CUSTOMERS, SEGMENTS = 1_000_000, 1_000
BYTES_PER_EVENT = 6_500
"""On disk at most: the log, and two generations of the read side while one is made anew."""

START_SECONDS_MAX = 3_600.0
ASK_SECONDS = 0.05
RESTART = "restart"
ORDER = (
    "append_quarter",
    "restart_quarter",
    "append_rest",
    "restart_all",
    "project",
    "count",
    "backfill_traits",
    "backfill_windowed",
    "rebuild",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the steps that are not done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the data lie; kept")
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--segments", type=int, default=SEGMENTS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    _require_room(options.folder, options.customers)
    asyncio.run(_run(options))
    return 0


async def _run(options: argparse.Namespace) -> None:
    state = State(options.folder)
    key_file = options.folder / KEY_FILE
    if not key_file.exists():
        key_file.write_text(new_workspace_key().text())
    server = EmbeddedServer(options.folder / "nats", start_timeout_seconds=START_SECONDS_MAX)
    await server.start()
    try:
        place = Place(options.folder, server.url, options.customers, options.segments)
        for step in ORDER:
            if state.is_done(step):
                continue
            print(f"{datetime.now(UTC):%H:%M:%S} {step}", flush=True)
            if step.startswith(RESTART):
                await _restart(server, state, step)
            else:
                await _in_process(step, place)
            write_results(options, state)
    finally:
        await server.stop()


async def _in_process(step: str, place: Place) -> None:
    process = multiprocessing.get_context("spawn").Process(target=run_step, args=(step, place))
    process.start()
    await asyncio.to_thread(process.join)
    if process.exitcode:
        raise RuntimeError(f"the step {step} ended with {process.exitcode}")


async def _restart(server: EmbeddedServer, state: State, step: str) -> None:
    """Kill the server with SIGKILL, and time until it answers what the log's shape is."""
    memory = own_memory_bytes(server.pid)
    begun = perf_counter()
    await server.kill()
    await server.wait_ready(timeout_seconds=START_SECONDS_MAX)
    connection = await Connection.open(server.url, name="scale")
    try:
        while True:
            try:
                await JetStreamEventLog(connection, WORKSPACE).shape()
                break
            except LogError:
                await asyncio.sleep(ASK_SECONDS)
    finally:
        await connection.close()
    state.note(step, seconds=perf_counter() - begun, memory_bytes=memory)


def write_results(options: argparse.Namespace, state: State) -> None:
    """Write what was measured of this number of customers; others stay as they are."""
    path: Path = options.results
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    results[str(options.customers)] = {
        "customers": options.customers,
        "segments": options.segments,
        "events": options.customers * EVENTS_EACH,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "steps": {name: fields for name, fields in state.read().items() if fields.get("done")},
    }
    path.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _require_room(folder: Path, customers: int) -> None:
    wanted = customers * EVENTS_EACH * BYTES_PER_EVENT
    used = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    if shutil.disk_usage(folder).free + used < wanted:
        raise SystemExit(f"{wanted / 1e9:.0f} GB of disk are wanted, and are not free")


if __name__ == "__main__":
    raise SystemExit(main())
