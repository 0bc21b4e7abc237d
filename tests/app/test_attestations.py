"""Attestations that an installation signs by itself: whole files, so many, none for nothing new."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app import attestations
from app.attestations import attest_for_ever, attest_once, last_attestation
from app.integrity import known_witnesses
from app.settings import Settings
from eventlog.errors import LogDamaged
from eventlog.port import Witness
from projections.tables import Checkpoint
from tests.support.waiting import until

DIGEST = bytes(range(32))


@pytest.fixture
def installation(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path, attest_every_seconds=0.01)


def at(revision: int) -> Checkpoint:
    return Checkpoint(revision, DIGEST, DIGEST, DIGEST)


def kept(settings: Settings) -> list[int]:
    return sorted(int(path.stem) for path in settings.attestations_folder.iterdir())


def test_nothing_new_is_not_signed_again(installation: Settings) -> None:
    assert attest_once(installation, at(0)) is None
    assert last_attestation(installation) is None
    assert attest_once(installation, at(7)) is not None
    assert attest_once(installation, at(7)) is None
    assert kept(installation) == [7]


def test_only_the_newest_are_kept(installation: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attestations, "ATTESTATIONS_MAX", 3)
    for revision in (8, 9, 10, 11):
        attest_once(installation, at(revision))
    assert kept(installation) == [9, 10, 11]
    last = last_attestation(installation)
    assert last is not None
    assert (last.revision, last.event_digest) == (11, DIGEST.hex())


def test_the_last_one_is_a_witness_and_a_spoilt_one_is_damage(installation: Settings) -> None:
    attest_once(installation, at(7))
    assert Witness("attested", 7, DIGEST) in known_witnesses(installation, Checkpoint())
    [path] = installation.attestations_folder.iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(LogDamaged):
        known_witnesses(installation, Checkpoint())


async def test_a_log_that_does_not_hold_is_not_signed(installation: Settings) -> None:
    revision, is_sound = 1, True
    signing = asyncio.create_task(
        attest_for_ever(installation, lambda: at(revision), is_sound=lambda: is_sound)
    )
    folder = installation.attestations_folder
    await until(lambda: folder.exists() and kept(installation) == [1])
    revision = 2
    await until(lambda: kept(installation) == [1, 2])
    is_sound = False
    revision = 3
    await asyncio.sleep(0.1)
    assert kept(installation) == [1, 2]
    signing.cancel()
    await asyncio.gather(signing, return_exceptions=True)
