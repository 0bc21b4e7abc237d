"""The environment of the persistence module, read once by its factory; `__init__.py` lists it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from eventsourcing.utils import Environment

from eventlog.keys.workspace_key import KeySource, key_source
from eventlog.recorder.errors import Misconfigured
from eventlog.subjects import WORKSPACE_NAME

NATS_URL = "KOSEKI_NATS_URL"
NATS_SERVERS = "KOSEKI_NATS_SERVERS"
APPLICATION = "KOSEKI_APPLICATION"
WORKSPACE = "KOSEKI_WORKSPACE"
REPLICAS = "KOSEKI_REPLICAS"
TIMEOUT_SECONDS = "KOSEKI_TIMEOUT_SECONDS"
NATS_CREDENTIALS = "KOSEKI_NATS_CREDENTIALS"
WORKSPACE_KEY = "KOSEKI_WORKSPACE_KEY"
ORIGINATOR_ID_TYPE = "ORIGINATOR_ID_TYPE"

APPLICATION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
TIMEOUT_SECONDS_MAX = 600.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says; one of `application` and `workspace` is empty."""

    servers: tuple[str, ...]
    application: str
    workspace: str
    replicas: int
    timeout_seconds: float
    credentials: str
    workspace_key: KeySource | None
    has_text_ids: bool


def read_settings(env: Environment) -> Settings:
    """Read the environment, or raise `Misconfigured`."""
    workspace = env.get(WORKSPACE, "")
    named = env.get(APPLICATION, "")
    if workspace and named:
        raise Misconfigured(f"{APPLICATION} and {WORKSPACE} exclude each other")
    if workspace and not WORKSPACE_NAME.fullmatch(workspace):
        raise Misconfigured(f"{WORKSPACE} must match {WORKSPACE_NAME.pattern}")
    application = "" if workspace else named or env.name
    if not workspace and not APPLICATION_NAME.fullmatch(application):
        raise Misconfigured(f"{APPLICATION} must match {APPLICATION_NAME.pattern}")
    return Settings(
        servers=_servers(env),
        application=application,
        workspace=workspace,
        replicas=int(_number(env, REPLICAS, "1", allowed=(1, 3, 5))),
        timeout_seconds=_number(env, TIMEOUT_SECONDS, "10"),
        credentials=env.get(NATS_CREDENTIALS, ""),
        workspace_key=_key_source(env),
        has_text_ids=_has_text_ids(env),
    )


def _key_source(env: Environment) -> KeySource | None:
    where = env.get(WORKSPACE_KEY, "")
    try:
        return key_source(where) if where else None
    except ValueError as error:
        raise Misconfigured(f"{WORKSPACE_KEY}: {error}") from None


def _servers(env: Environment) -> tuple[str, ...]:
    text = env.get(NATS_URL, "") or env.get(NATS_SERVERS, "")
    servers = tuple(part.strip() for part in text.split(",") if part.strip())
    if not servers:
        raise Misconfigured(f"{NATS_URL} must name at least one server")
    return servers


def _number(
    env: Environment, name: str, default: str, *, allowed: tuple[float, ...] | None = None
) -> float:
    try:
        value = float(env.get(name, "") or default)
    except ValueError:
        raise Misconfigured(f"{name} must be a number") from None
    if allowed is not None and value not in allowed:
        raise Misconfigured(f"{name} must be one of {', '.join(map(str, allowed))}")
    if not 0 < value <= TIMEOUT_SECONDS_MAX:
        raise Misconfigured(f"{name} must be above 0 and at most {TIMEOUT_SECONDS_MAX:.0f}")
    return value


def _has_text_ids(env: Environment) -> bool:
    kind = (env.get(ORIGINATOR_ID_TYPE, "") or "uuid").lower()
    if kind not in {"uuid", "text"}:
        raise Misconfigured(f"{ORIGINATOR_ID_TYPE} must be uuid or text")
    return kind == "text"
