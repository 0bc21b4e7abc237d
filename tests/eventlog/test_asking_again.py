"""Reads wait, up to their deadline, for somebody who answers them."""

from __future__ import annotations

import asyncio

import pytest

from eventlog import direct_get
from eventlog.asking_again import until_answered
from eventlog.connection import Connection
from eventlog.errors import LogUnavailable
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import STREAM_NOT_FOUND, ApiError
from tests.support.events import new_record
from tests.support.nats import new_workspace


async def test_a_read_that_nobody_is_there_to_answer_is_answered_once_somebody_is(
    connection: Connection,
) -> None:
    log = JetStreamEventLog(connection, new_workspace())
    loading = asyncio.create_task(log.load(new_record()))
    await asyncio.sleep(0)
    await log.ensure_stream()
    assert await loading == []


async def test_a_read_that_nobody_answers_ends_at_its_deadline(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_get, "READ_TIMEOUT_SECONDS", 0.2)
    log = JetStreamEventLog(connection, new_workspace())
    async with asyncio.timeout(5):
        with pytest.raises(LogUnavailable):
            await log.load(new_record())


async def test_what_asking_again_would_not_change_is_asked_once(connection: Connection) -> None:
    asked = 0

    async def ask(_timeout_seconds: float) -> None:
        nonlocal asked
        asked += 1
        raise ApiError(STREAM_NOT_FOUND)

    with pytest.raises(ApiError):
        await until_answered(connection, ask, timeout_seconds=5)
    assert asked == 1


async def test_a_cluster_that_elects_a_leader_is_asked_until_it_has_one(
    connection: Connection,
) -> None:
    answers = iter([ApiError(10008), LogUnavailable("lost"), None])

    async def ask(_timeout_seconds: float) -> str:
        if error := next(answers):
            raise error
        return "here"

    assert await until_answered(connection, ask, timeout_seconds=5) == "here"
