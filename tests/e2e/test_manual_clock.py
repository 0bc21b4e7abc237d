"""A clock that is turned by hand is the only one: months pass when a test says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.installation import Caller, installed, order, person, run_koseki


@pytest.mark.timeout(120)
async def test_what_is_decided_is_recorded_at_the_time_that_was_set(tmp_path: Path) -> None:
    options = ("--hosts", "1", "--clock", "manual=2024-02-01T00:00:00Z")
    with installed(tmp_path / "data", *options) as installation:
        caller = Caller(installation)
        await caller.define_rules()
        assert installation.json("clock", "show") == {
            "clock": "2024-02-01T00:00:00+00:00",
            "mode": "manual",
        }
        await caller.ingest(order("before", person("clock"), cds=1))
        turned = installation.json("clock", "advance", "--to", "2024-05-01T12:00:00Z")
        assert turned["clock"] == "2024-05-01T12:00:00+00:00"
        verdict = await caller.check(person("clock"), "service")
        assert verdict.decided_at.ToJsonString() == "2024-05-01T12:00:00Z"
        status, _printed, errors = run_koseki(
            *("clock", "advance", "--to", "2024-03-01T00:00:00Z"),
            *("--data", str(installation.data)),
        )
        assert (status, errors.strip()) == (2, "the clock stands at a later time already")
        await caller.channel.close()
