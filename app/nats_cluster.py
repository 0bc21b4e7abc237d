"""How an installation reaches an outside NATS cluster: addresses, a role's credentials, TLS.

`Settings` carry it to every process. It names a file and holds no secret itself, because settings
stand in command lines; each process reads the credentials of its own role (`docs/cluster.md`).
"""

from __future__ import annotations

import ssl
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Role = Literal["host", "reader", "gateway", "worker", "steward", "operator"]
PART_ROLES: tuple[Role, ...] = ("host", "reader", "gateway", "worker", "steward")
"""Those in which `koseki up` runs its parts."""

SERVERS_MAX = 16
Address = Annotated[str, Field(pattern=r"^(nats|tls)://[^@/\s,]+$")]
"""No password in it: addresses are printed."""


class CredentialsFault(Exception):
    """Credentials that cannot be used; the message names the file and the table, no secret."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class RoleCredentials(_Table):
    """What one role connects with: a user and password, or a file with a JWT and its seed."""

    user: str = ""
    password: str = Field("", repr=False)
    creds: Path | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if bool(self.user and self.password) == bool(self.creds):
            raise ValueError("give user and password, or creds")
        return self

    def options(self, folder: Path) -> dict[str, str]:
        """Give what nats-py takes; paths are those of the folder, unless absolute."""
        if self.creds is not None:
            return {"user_credentials": str(folder / self.creds)}
        return {"user": self.user, "password": self.password}


class Certificates(_Table):
    """Whom to trust, and, where the servers ask for it, who we are."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _has_both_halves(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate needs its key, and a key its certificate")
        return self

    def context(self, folder: Path) -> ssl.SSLContext:
        """Read the files. Raises `OSError`."""
        context = ssl.create_default_context(cafile=folder / self.ca)
        if self.certificate is not None and self.key is not None:
            context.load_cert_chain(folder / self.certificate, folder / self.key)
        return context


class NatsCluster(BaseModel):
    """A cluster that others run; every stream of ours has `replicas` replicas on it.

    `credentials` is a TOML file with a table for each role, and one named `tls`; None where the
    cluster asks nobody who they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    servers: Annotated[tuple[Address, ...], Field(min_length=1, max_length=SERVERS_MAX)]
    replicas: Literal[3, 5] = 3
    credentials: Path | None = None

    def has(self, role: Role) -> bool:
        """Say whether a role may be taken. Raises `CredentialsFault`."""
        return self.credentials is None or role in _tables(self.credentials)

    def options(self, role: Role) -> dict[str, Any]:  # Any: nats-py's options are of many types
        """Give what a connection in a role is opened with. Raises `CredentialsFault`."""
        if self.credentials is None:
            return {}
        file, name = self.credentials, str(role)
        tables = _tables(file)
        if role not in tables:
            raise CredentialsFault(f"{file} has no table [{role}]")
        try:
            options: dict[str, Any] = RoleCredentials.model_validate(tables[role]).options(
                file.parent
            )
            name = "tls"
            if name in tables:
                options[name] = Certificates.model_validate(tables[name]).context(file.parent)
        except ValidationError as error:
            fault = error.errors(include_input=False)[0]
            where = ".".join(map(str, [name, *fault["loc"]]))
            raise CredentialsFault(f"{file}: {where}: {fault['msg']}") from None
        except OSError as error:  # of which ssl.SSLError is one
            raise CredentialsFault(f"{file}: {name}: {error.strerror or error}") from None
        # The permissions of a role admit no other inbox (`deploy/nats/workspace.conf`).
        return {**options, "inbox_prefix": f"_INBOX_{role}"}


def _tables(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        # Not the error's text: it may quote a line of the file.
        raise CredentialsFault(f"{file} cannot be read: {type(error).__name__}") from None
