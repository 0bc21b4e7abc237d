"""A server of the shipped configuration that stands still, as a paused machine does."""

from __future__ import annotations

import asyncio
from pathlib import Path

from eventlog.direct_get import ask_last_message
from eventlog.errors import LogUnavailable
from eventlog.jetstream import JetStreamEventLog
from eventlog.jetstream_api import JetStreamApi
from eventlog.subjects import Subjects
from tests.cluster.shipped import WORKSPACE, shipped_servers
from tests.support.waiting import until_async

SUBJECTS = Subjects(WORKSPACE)
READS = 40
SOON_SECONDS, LATE_SECONDS = 20.0, 0.5
FOLLOWERS_ANSWER_AFTER_SECONDS = 4.0


async def test_soon_a_server_that_stands_still_is_asked_nothing_any_more(tmp_path: Path) -> None:
    async with shipped_servers(tmp_path / "nats", servers=3) as roles:
        operator = await roles.connect("operator")
        await JetStreamEventLog(operator, WORKSPACE).ensure_stream(replicas=3)
        log = SUBJECTS.log_name
        servers = (await JetStreamApi(operator).call(f"STREAM.INFO.{log}"))["cluster"]
        reader = await roles.connect("reader", to=servers["leader"])

        async def are_all_answered() -> bool:
            try:
                for _ in range(READS):
                    await ask_last_message(
                        reader, log, SUBJECTS.filters[0], timeout_seconds=LATE_SECONDS
                    )
            except LogUnavailable:
                return False
            return True

        await asyncio.sleep(FOLLOWERS_ANSWER_AFTER_SECONDS)
        assert await are_all_answered()
        roles.pause(servers["replicas"][0]["name"])
        assert not await are_all_answered()
        await until_async(are_all_answered, timeout_seconds=SOON_SECONDS)
