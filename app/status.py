"""What `koseki status` says: counts as the projector made them, streams, processes, restarts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from actors.intake.jetstream import JetStreamIntake
from app.bootstrap import open_connection
from app.processes import is_held
from app.settings import Settings, read_json
from eventlog.connection import Connection
from eventlog.errors import LogError
from eventlog.jetstream import JetStreamEventLog
from eventlog.server import DISK_RESERVE_BYTES
from projections.counts import read_counts
from projections.erasures import pending
from projections.errors import ReadSideError
from projections.generations import rebuilding_folder
from projections.parking import parked
from projections.store import Store


class NotRunning(Exception):
    """Nothing runs on the data folder."""


def running_settings(settings: Settings) -> Settings:
    """Give the settings of the installation that runs on the data folder, addresses included."""
    running = read_json(settings.running_file)
    if not running or not is_held(settings.lock_file):
        raise NotRunning(f"nothing runs on {settings.data}; start it with: koseki up")
    return Settings.model_validate(running["settings"])


async def read_status(settings: Settings) -> dict[str, Any]:
    """Collect the status. Raises `NotRunning`."""
    settings = running_settings(settings)
    running = read_json(settings.running_file)
    status: dict[str, Any] = {
        "workspace": settings.workspace,
        "mode": settings.mode,
        "grpc": f"{settings.grpc_host}:{settings.grpc_port}",
        "nats": ",".join(settings.nats_servers),
        **_disk(settings, running),
        **_read_side(settings),
        "replicas": {folder.name: _replica(folder) for folder in settings.read_side_folders},
        **await _streams(settings),
        "processes": _processes(settings, running),
        "restarts": {
            "nats-server": running["nats_server_restarts"],
            "runtime": running["runtime_restarts"],
        },
    }
    parts = status["processes"].values()
    told = {fault for part in parts for fault in part.get("log_faults", ())}
    status["log_faults"] = sorted(told | set(status.get("log_faults", ())))
    status["log_sound"] = not status["log_faults"]
    if status.get("log_revision") is not None and status["read_revision"] is not None:
        status["read_side_behind_events"] = status["log_revision"] - status["read_revision"]
    for replica in status["replicas"].values():
        if status.get("log_revision") is not None and "revision" in replica:
            replica["behind_events"] = max(0, status["log_revision"] - replica["revision"])
    return status


def _disk(settings: Settings, running: dict[str, Any]) -> dict[str, Any]:
    """Say how much room the log's disk has; while there is none, nothing is stored."""
    if settings.nats_cluster is not None:
        return {}
    free = shutil.disk_usage(settings.nats_folder).free
    has_room = running["disk_has_room"]
    reserve = DISK_RESERVE_BYTES
    return {"disk_free_bytes": free, "disk_reserve_bytes": reserve, "disk_has_room": has_room}


def _read_side(settings: Settings) -> dict[str, Any]:
    try:
        store = Store.open_reader(settings.read_side_folder)
    except ReadSideError as error:
        return {"read_revision": None, "read_side_fault": error.reason}
    try:
        with store.snapshot() as tables:
            counts = read_counts(tables)
            return {
                "read_revision": tables.checkpoint.revision,
                "events": counts.events,
                "records": counts.records,
                "merges": counts.merges,
                "customers": counts.customers,
                "signals": counts.signals,
                "declined": counts.declined,
                "parked": sum(1 for _ in parked(tables)),
                "erasures_pending": sum(1 for _ in pending(tables)),
            }
    finally:
        store.close()


def _replica(folder: Path) -> dict[str, Any]:
    """Say how far a replica is; two at one revision have one digest (R17)."""
    making = rebuilding_folder(folder)
    rebuild = {} if making is None else {"rebuilding": making.name}
    try:
        store = Store.open_reader(folder)
    except ReadSideError as error:
        return {"fault": error.reason, **rebuild}
    try:
        at = store.checkpoint
    finally:
        store.close()
    return {"revision": at.revision, "rows_digest": at.rows_digest.hex(), **rebuild}


async def _streams(settings: Settings) -> dict[str, Any]:
    try:
        connection = await open_connection(settings, "status", role="worker")
    except LogError as error:
        return {"log_revision": None, "log_fault": error.reason}
    try:
        return await _stream_figures(connection, settings.workspace)
    except LogError as error:
        return {"log_revision": None, "log_fault": error.reason}
    finally:
        await connection.close()


async def _stream_figures(connection: Connection, workspace: str) -> dict[str, Any]:
    shape = await JetStreamEventLog(connection, workspace).shape()
    intake = await JetStreamIntake(connection, workspace=workspace).stats()
    return {
        "log_revision": shape.last_revision,
        "log_faults": shape.faults,
        "intake": {
            "pending": intake.pending,
            "unacknowledged": intake.ack_pending,
            "is_drained": intake.is_drained,
        },
    }


def _processes(settings: Settings, running: dict[str, Any]) -> dict[str, Any]:
    server = {"nats-server": {"pid": running["nats_server_pid"]}}
    return {
        "supervisor": {"pid": running["supervisor_pid"]},
        **(server if settings.nats_cluster is None else {}),
        "runtime": {"pid": running["runtime_pid"]},
        **read_json(settings.processes_file),
    }
