"""How a log's stream must be set, and the refusal to work with one that could lose events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eventlog.errors import UnsafeStream
from eventlog.jetstream_api import STREAM_NOT_FOUND, ApiError, JetStreamApi, Json
from eventlog.stream_making import find_or_make
from eventlog.subjects import Subjects

DUPLICATE_WINDOW_SECONDS = 1
"""The log uses no message ids; each would cost the server memory for this long."""

_REQUIRED = {
    "retention": "limits",
    "storage": "file",
    "discard": "new",
    "allow_atomic": True,
    "allow_direct": True,
    "deny_delete": True,
    "deny_purge": True,
}
RESTORING = "koseki.restoring"
"""Metadata of a stream that a restore has begun to fill: its value is the last revision to be."""

UNCAPPED = (
    "max_age",
    "max_bytes",
    "max_consumers",
    "max_msg_size",
    "max_msgs",
    "max_msgs_per_subject",
)
_FORBIDDEN = (
    "allow_rollup_hdrs",
    "allow_msg_ttl",
    "first_seq",
    "mirror",
    "no_ack",
    "sealed",
    "sources",
    "subject_transform",
)


def log_config(subjects: Subjects, *, replicas: int) -> Json:
    """Give the settings of a new log."""
    return {
        "name": subjects.log_name,
        "subjects": list(subjects.filters),
        "num_replicas": replicas,
        "duplicate_window": DUPLICATE_WINDOW_SECONDS * 1_000_000_000,
        **_REQUIRED,
        **{name: 0 if name == "max_age" else -1 for name in UNCAPPED},
    }


async def ensure_stream(api: JetStreamApi, subjects: Subjects, *, replicas: int) -> None:
    """Create the log's stream, or check the one there is; `UnsafeStream` says what to change."""
    answer = await find_or_make(api, log_config(subjects, replicas=replicas))
    _require_safe(answer["config"], subjects, replicas=replicas)


async def require_stream(api: JetStreamApi, subjects: Subjects, *, replicas: int = 1) -> None:
    """Require a log that is there and whole. Raises `UnsafeStream`."""
    try:
        answer = await api.call(f"STREAM.INFO.{subjects.log_name}")
    except ApiError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        raise UnsafeStream(f"stream {subjects.log_name} is not there") from None
    _require_safe(answer["config"], subjects, replicas=replicas)


def _require_safe(config: Json, subjects: Subjects, *, replicas: int) -> None:
    faults = list(unsafe_settings(config, subjects.filters, replicas=replicas))
    if RESTORING in (config.get("metadata") or {}):
        faults.append("a restore must be finished: koseki restore")
    if faults:
        raise UnsafeStream(f"stream {subjects.log_name}: {'; '.join(faults)}")


def unsafe_settings(
    config: Mapping[str, Any],  # Any: the server's JSON
    subjects: Sequence[str],
    *,
    replicas: int,
    required: Mapping[str, object] = _REQUIRED,
    uncapped: Sequence[str] = UNCAPPED,
) -> Iterator[str]:
    """Name every setting under which messages could be lost, and what it must be."""
    for name, wanted in required.items():
        if config.get(name, False) != wanted:
            yield f"{name} must be {wanted}"
    for name in uncapped:
        if config.get(name, 0) > 0:
            yield f"{name} must be unlimited"
    for name in _FORBIDDEN:
        if config.get(name):
            yield f"{name} must not be set"
    if config.get("persist_mode") == "async":
        yield "persist_mode must not be async"
    if config.get("num_replicas", 1) < replicas:
        yield f"num_replicas must be at least {replicas}"
    if set(config.get("subjects") or ()) != set(subjects):
        yield f"subjects must be {', '.join(subjects)}"
