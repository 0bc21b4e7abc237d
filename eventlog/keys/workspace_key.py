"""The workspace key, which wraps every data key: read from outside, in as many versions as live.

A source is `file:PATH`, `env:NAME` or `command:WORDS`, and gives lines of `VERSION BASE64`. Before
a rotation a line is added with a higher version; after it the older line is taken away.
"""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.ids import RecordId
from eventlog.errors import WorkspaceKeyMissing
from eventlog.keys.port import DataKey

WORKSPACE_KEY_BYTES = 32
NONCE_BYTES = 12
VERSION_MAX = 1_000_000
COMMAND_SECONDS_MAX = 30.0
_CHECK = b"koseki workspace key"


class WrappingBroken(Exception):
    """A wrapped key that does not open under the workspace key of its version."""


@dataclass(frozen=True)
class WorkspaceKeys:
    """The versions of the workspace key that are at hand; never shown."""

    by_version: Mapping[int, bytes] = field(repr=False)

    @property
    def newest(self) -> int:
        """The version to which a rotation goes."""
        return max(self.by_version)

    def wrap(self, record_id: RecordId, key: DataKey, version: int) -> bytes:
        """Wrap a data key for its record; the same key gives other bytes each time."""
        return self._seal(key, f"{record_id}/{version}", version)

    def unwrap(self, record_id: RecordId, wrapped: bytes, version: int) -> DataKey:
        """Undo `wrap`. Raises `WrappingBroken`, or `WorkspaceKeyMissing` without the version."""
        return DataKey(self._open(wrapped, f"{record_id}/{version}", version))

    def check_value(self, version: int) -> bytes:
        """Give what proves later that a version is the same key; it tells nothing of it."""
        return self._seal(_CHECK, f"check/{version}", version)

    def passes(self, check_value: bytes, version: int) -> bool:
        """Say whether a version is the key that made a check value."""
        try:
            return self._open(check_value, f"check/{version}", version) == _CHECK
        except WrappingBroken:
            return False

    def with_next(self) -> WorkspaceKeys:
        """Add a new version."""
        fresh = {self.newest + 1: secrets.token_bytes(WORKSPACE_KEY_BYTES)}
        return WorkspaceKeys({**self.by_version, **fresh})

    def text(self) -> str:
        """Write the versions as lines, as a source gives them."""
        lines = sorted(self.by_version.items())
        return "".join(f"{version} {b64encode(key).decode()}\n" for version, key in lines)

    def _seal(self, secret: bytes, associated: str, version: int) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher(version).encrypt(nonce, secret, associated.encode())

    def _open(self, sealed: bytes, associated: str, version: int) -> bytes:
        nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        cipher = self._cipher(version)
        try:
            return cipher.decrypt(nonce, rest, associated.encode())
        except (InvalidTag, ValueError):
            raise WrappingBroken from None

    def _cipher(self, version: int) -> AESGCM:
        key = self.by_version.get(version)
        if key is None:
            raise WorkspaceKeyMissing(f"version {version} of the workspace key is not at hand")
        return AESGCM(key)


KeySource = Callable[[], WorkspaceKeys]
"""Reads the versions anew each time; raises `WorkspaceKeyMissing`."""


def new_workspace_key() -> WorkspaceKeys:
    """Make a first version."""
    return WorkspaceKeys({1: secrets.token_bytes(WORKSPACE_KEY_BYTES)})


def key_source(where: str) -> KeySource:
    """Give the source that a text names; `ValueError` for one of another form."""
    kind, _, rest = where.partition(":")
    if rest and kind == "file":
        return lambda: _parse(_read_file(Path(rest)))
    if rest and kind == "env":
        return lambda: _parse(_read_variable(rest))
    if rest and kind == "command":
        return lambda: _parse(_read_command(shlex.split(rest)))
    raise ValueError("a workspace key comes from file:PATH, env:NAME or command:WORDS")


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise WorkspaceKeyMissing(f"the workspace key's file: {type(error).__name__}") from None


def _read_variable(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise WorkspaceKeyMissing(f"the environment has no {name}") from None


def _read_command(words: list[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # the operator's own command, from the settings
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=COMMAND_SECONDS_MAX,
        )
        return done.stdout.decode("ascii")
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        # Not the error itself: it may hold what the command printed.
        raise WorkspaceKeyMissing(f"the workspace key's command: {type(error).__name__}") from None


def _parse(text: str) -> WorkspaceKeys:
    keys: dict[int, bytes] = {}
    try:
        for line in filter(str.strip, text.splitlines()):
            version, encoded = line.split()
            keys[int(version)] = b64decode(encoded, validate=True)
    except ValueError:
        raise WorkspaceKeyMissing("a line of the workspace key is not VERSION BASE64") from None
    sizes = {len(key) for key in keys.values()}
    if sizes != {WORKSPACE_KEY_BYTES} or not all(0 < v <= VERSION_MAX for v in keys):
        raise WorkspaceKeyMissing(f"a workspace key has {WORKSPACE_KEY_BYTES} bytes and a version")
    return WorkspaceKeys(keys)
