"""`koseki rebuild` and replicas of the read side, on a running installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.installation import Caller, Installation, are_ready, installed
from tests.support.waiting import until

READY_SECONDS_MAX = 90.0
READ_SIDES = ("read-side", "read-side-1")


def at_one_revision(installation: Installation) -> dict[str, Any]:
    replicas: dict[str, Any] = installation.json("status")["replicas"]
    return replicas


async def test_replicas_are_rebuilt_while_they_serve_and_have_one_digest(tmp_path: Path) -> None:
    with installed(tmp_path / "data", "--projectors", "2") as installation:
        await until(lambda: are_ready(installation.parts()), timeout_seconds=READY_SECONDS_MAX)
        caller = Caller(installation)
        await caller.define_rules()
        before = at_one_revision(installation)
        rebuilt = installation.json("rebuild")
        after = at_one_revision(installation)
        assert {rebuilt[name]["generation"] for name in READ_SIDES} == {"generation-2"}
        assert before["read-side"]["revision"] <= after["read-side"]["revision"]
        assert len({after[name]["rows_digest"] for name in READ_SIDES}) == 1
        assert all(after[name]["behind_events"] == 0 for name in READ_SIDES)
        assert installation.json("verify")["holds"]
        await caller.channel.close()
        installation.interrupt()
    assert installation.left_behind() == set()
