"""Dead letters are sealed, and gone from every byte with the key of their day (R14)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from actors.intake.dead_letters import JetStreamDeadLetters
from actors.intake.letter_seal import FAMILY, LetterSeal, OutdatedLetters, is_over
from actors.intake.port import RejectedMessage
from domain.ids import RecordId
from eventlog.errors import LogUnavailable
from eventlog.jetstream_api import JetStreamApi
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_stream import KeyStream
from eventlog.keys.memory import MemoryKeyStore
from tests.intake.running import Intake
from tests.support.sealed import Source, files_with, forms

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEEK = 7 * 86_400.0
PLANTED = "planted-ada@example.com"


async def test_a_letter_lies_sealed_and_is_gone_when_its_day_is_over(
    intake: Intake, tmp_path: Path
) -> None:
    keys = JetStreamKeyStore(intake.connection, "demo", source=Source(), family=FAMILY)
    await keys.open()
    letters = JetStreamDeadLetters(intake.connection, workspace="demo", keys=keys)
    await letters.open()
    data = PLANTED.encode() + PLANTED.encode("utf-16")
    headers = {"ce-subject": PLANTED}
    await letters.put(RejectedMessage("1-0", "MISSING_ID", "s", headers, data, NOW))
    (letter,) = await letters.list()
    assert (letter.data, letter.headers) == (data, headers)
    assert not any(files_with(tmp_path, form) for form in forms(PLANTED))
    now = datetime.now(UTC)
    outdated = OutdatedLetters(keys)
    assert await outdated.destroy(now + timedelta(days=5)) == 0
    assert await outdated.destroy(now + timedelta(days=7)) == 1
    assert await outdated.destroy(now + timedelta(days=7)) == 0
    fresh = JetStreamDeadLetters(intake.connection, workspace="demo", keys=keys)
    assert await fresh.list() == []
    assert await fresh.get(letter.sequence) is None


async def test_what_a_killed_steward_left_of_a_days_key_is_erased_by_the_next(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = JetStreamKeyStore(intake.connection, "demo", source=Source(), family=FAMILY)
    await keys.open()
    sealed = await LetterSeal(keys, kept_seconds=WEEK).seal(b"x")
    owner = RecordId(sealed.partition(b"\n")[0].decode())
    stream = KeyStream(JetStreamApi(intake.connection), "demo", family=FAMILY)
    later = datetime.now(UTC) + timedelta(days=7)

    async def die(_self: KeyStream, _asked: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(KeyStream, "erase", die)
        with pytest.raises(asyncio.CancelledError):
            await OutdatedLetters(keys).destroy(later)
    assert len((await stream.read([owner]))[owner]) == 2
    assert await OutdatedLetters(keys).destroy(later) == 1
    [left] = (await stream.read([owner]))[owner]
    assert left.is_tombstone


@pytest.mark.parametrize("kept", [8.0, 80.0, WEEK])
async def test_no_letter_is_readable_for_longer_or_for_less_than_is_said(kept: float) -> None:
    for part in range(24):
        stored_at = NOW + timedelta(seconds=kept * part / 24)
        sealed = await LetterSeal(MemoryKeyStore(), kept_seconds=kept, now=lambda: stored_at).seal(  # noqa: B023  # called now
            b"x"
        )
        owner = sealed.partition(b"\n")[0].decode()
        assert is_over(owner, stored_at + timedelta(seconds=kept))
        assert not is_over(owner, stored_at + timedelta(seconds=kept * 0.74))


async def test_days_have_keys_of_their_own_and_a_destroyed_one_seals_nothing() -> None:
    keys, now = MemoryKeyStore(), [NOW]
    seal = LetterSeal(keys, kept_seconds=WEEK, now=lambda: now[0])
    first = await seal.seal(b"first")
    now[0] += timedelta(days=1)
    second = await seal.seal(b"second")
    owners = [sealed.partition(b"\n")[0].decode() for sealed in (first, second)]
    assert owners[0] != owners[1]
    await keys.destroy([owners[0]])  # type: ignore[list-item]  # its owners are days
    assert await seal.open(first) is None
    assert await seal.open(second) == b"second"
    now[0] = NOW
    with pytest.raises(LogUnavailable):
        await seal.seal(b"late")


async def test_what_was_changed_or_is_no_letter_opens_as_nothing() -> None:
    seal = LetterSeal(MemoryKeyStore(), kept_seconds=WEEK)
    sealed = await seal.seal(b"letter")
    assert await seal.open(sealed[:-1] + bytes([sealed[-1] ^ 1])) is None
    assert await seal.open(b"") is None
    assert await seal.open(b"\xff\xfe\n1") is None
