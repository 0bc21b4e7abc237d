"""What one installation is: its workspace, folder and sizes. Travels to every process as JSON."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import Annotated, Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from pydantic import BaseModel, ConfigDict, Field

from actors.intake.streams import INTAKE_STREAMS
from app.nats_cluster import NatsCluster
from domain.ids import Name
from eventlog.keys.workspace_key import KeySource, key_source, new_workspace_key

PEPPER_BYTES = 32


class Settings(BaseModel):
    """Settings of one workspace on one machine.

    `grpc_port` 0 means a free one. What an ingest worker took and does not acknowledge is delivered
    again after `redeliver_after_seconds`. The log's digest is signed every `attest_every_seconds`
    (`attestations_folder`). `workspace_key` says where the key that wraps all others
    comes from: `file:PATH`, `env:NAME` or `command:WORDS`; a file beside the pepper if it is empty.
    `clock` is `system`, or `manual=` and the time at which a new workspace's clock begins.
    What intake has settled is kept for `intake_kept_seconds`, a dead letter can be read for
    `dead_letters_kept_seconds` at most, and keys that were destroyed have left the logs of replicas
    within `turn_over_seconds`: after an erasure these times run (docs/erasure.md).
    With `serve_audits` whoever reaches the gRPC port may read as an auditor.
    Without a `nats_cluster` it is for development: one server of our own, one replica.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace: Name = "main"
    data: Path
    hosts: Annotated[int, Field(ge=1, le=64)] = 2
    ingest_workers: Annotated[int, Field(ge=1, le=INTAKE_STREAMS)] = 1
    gateways: Annotated[int, Field(ge=1, le=64)] = 1
    projectors: Annotated[int, Field(ge=1, le=8)] = 1
    redeliver_after_seconds: Annotated[float, Field(ge=1.0, le=600.0)] = 10.0
    attest_every_seconds: Annotated[float, Field(gt=0.0, le=86_400.0)] = 3_600.0
    intake_kept_seconds: Annotated[float, Field(ge=1.0, le=604_800.0)] = 86_400.0
    dead_letters_kept_seconds: Annotated[float, Field(ge=1.0, le=604_800.0)] = 604_800.0
    turn_over_seconds: Annotated[float, Field(ge=0.0, le=86_400.0)] = 3_600.0
    grpc_host: str = "127.0.0.1"
    grpc_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    workspace_key: str = ""
    clock: str = "system"
    serve_audits: bool = False
    nats_cluster: NatsCluster | None = None
    nats_url: str = ""
    nats_server_name: str = ""

    @property
    def mode(self) -> str:
        """What the installation is good for."""
        return "development" if self.nats_cluster is None else "cluster"

    @property
    def replicas(self) -> int:
        """How many servers keep each stream."""
        return 1 if self.nats_cluster is None else self.nats_cluster.replicas

    @property
    def nats_servers(self) -> tuple[str, ...]:
        """Where NATS answers: the cluster's addresses, or that of the embedded server."""
        return (self.nats_url,) if self.nats_cluster is None else self.nats_cluster.servers

    @property
    def nats_folder(self) -> Path:
        """Where the embedded server keeps its streams, configuration and log."""
        return self.data / "nats"

    @property
    def read_side_folder(self) -> Path:
        """Where the read side lies: the first replica of it."""
        return self.data / "read-side"

    @property
    def read_side_folders(self) -> tuple[Path, ...]:
        """Where each projector keeps its replica of the read side."""
        first = self.read_side_folder
        others = range(1, self.projectors)
        return (first, *(first.with_name(f"{first.name}-{number}") for number in others))

    @property
    def logs_folder(self) -> Path:
        """Where processes write their logs."""
        return self.data / "logs"

    @property
    def pepper_file(self) -> Path:
        """The secret under which identifiers become HMACs."""
        return self.data / "secrets" / "identifier-pepper"

    @property
    def workspace_key_file(self) -> Path:
        """The key that wraps all data keys, unless `workspace_key` names another source."""
        return self.data / "secrets" / "workspace-key"

    @property
    def workspace_key_source(self) -> KeySource:
        """Where the workspace key comes from."""
        return key_source(self.workspace_key or f"file:{self.workspace_key_file}")

    @property
    def lock_file(self) -> Path:
        """Held by the one supervisor that runs on the folder."""
        return self.data / "lock"

    @property
    def attestation_key_file(self) -> Path:
        """The private key that signs attestations; its public half lies beside it."""
        return self.data / "secrets" / "attestation-key.pem"

    @property
    def attestations_folder(self) -> Path:
        """What was signed by itself, one file per revision."""
        return self.data / "attestations" / self.workspace

    @property
    def marks_folder(self) -> Path:
        """What each process last acknowledged."""
        return self.data / "marks" / self.workspace

    @property
    def closed_file(self) -> Path:
        """What was accepted as lost, by whom, and the records that stay closed since."""
        return self.data / "closed" / f"{self.workspace}.json"

    @property
    def set_aside_folder(self) -> Path:
        """What contradicted a log when its loss was accepted; kept as evidence."""
        return self.data / "set-aside"

    @property
    def running_file(self) -> Path:
        """Addresses and process ids, while the installation runs."""
        return self.data / "running.json"

    @property
    def processes_file(self) -> Path:
        """What Ray's processes last said of themselves."""
        return self.data / "processes.json"

    def to_bytes(self) -> bytes:
        """Write the settings as JSON."""
        return self.model_dump_json().encode()

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Settings:
        """Read settings that `to_bytes` wrote."""
        return cls.model_validate_json(encoded)


def ensure_pepper(settings: Settings) -> bytes:
    """Read the pepper, or make it: once, before anything is written with it.

    Raises `OSError`, also where the file does not hold a pepper.
    """
    _make_once(settings.pepper_file, secrets.token_bytes(PEPPER_BYTES))
    return read_pepper(settings)


def read_pepper(settings: Settings) -> bytes:
    """Read the pepper of an installation that has one. Raises `OSError`."""
    path = settings.pepper_file
    pepper = path.read_bytes()
    if len(pepper) != PEPPER_BYTES:
        raise OSError(errno.EINVAL, f"not a pepper of {PEPPER_BYTES} bytes", str(path))
    return pepper


def ensure_workspace_key(settings: Settings) -> None:
    """Make the workspace key's file, once, unless it comes from elsewhere. Raises `OSError`."""
    if not settings.workspace_key:
        _make_once(settings.workspace_key_file, new_workspace_key().text().encode())


def ensure_attestation_key(settings: Settings) -> Ed25519PrivateKey:
    """Read the key that signs attestations, or make it, with its public half. Raises `OSError`."""
    path = settings.attestation_key_file
    fresh = Ed25519PrivateKey.generate()
    _make_once(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise OSError(errno.EINVAL, "not an Ed25519 key", str(path))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_atomically(path.with_suffix(".pub"), public)
    return key


def _make_once(path: Path, secret: bytes) -> None:
    """Write a secret that only its owner may read, unless there is one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        return
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, secret)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.rename(path)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content, so that a reader sees the old or the new, never a part."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.write_bytes(content)
    fresh.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; empty where there is none yet."""
    try:
        found = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
