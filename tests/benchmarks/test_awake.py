"""The run over customers awake and asleep: everybody is woken, and the cap holds."""

from __future__ import annotations

import json

import pytest

from benchmarks.awake import main


@pytest.mark.timeout(90)
def test_a_small_run_wakes_everybody_and_keeps_the_cap(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--customers", "40", "--asleep", "30"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["awake"], found["asleep"]) == (40, 30)
    # Whoever was woken last may still be there until the next round.
    assert found["awake_after"] <= 41
    assert found["events"] == 7 + 40 * 4 + 30 * 2
    assert found["memory_bytes"] > 0
    assert found["command_to_somebody_asleep_ms"]["p50"] > 0
