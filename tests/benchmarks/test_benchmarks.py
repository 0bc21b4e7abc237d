"""The harness itself: its form and its arithmetic, on sizes that measure nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as command_line
from benchmarks import projection, query, resolution, segments, verifying
from benchmarks.log import Load, measure_load
from benchmarks.measuring import Metric, Metrics, Rounds, alternate
from benchmarks.parts import PARTS
from benchmarks.report import one_line, write_results
from benchmarks.segment_lag import LagLoad, measure_lag

TINY = Load(
    rounds=Rounds(1, seconds_max=0),
    appends_per_outstanding=1,
    appends_per_writer=2,
    lone_appends=3,
    scanned_events=500,
    records=2,
    record_events=100,
)


async def test_the_part_log_gives_every_number_beside_its_raw_limit() -> None:
    metrics = await measure_load(TINY)
    fields = json.loads(one_line({"log": metrics}))
    assert {name: metric["unit"] for name, metric in fields.items()} == {
        "append_events_per_second": "events/s",
        "append_64_writers_per_second": "events/s",
        "append_latency_ms": "ms",
        "scan_events_per_second": "events/s",
        "activation_ms": "ms",
    }
    for metric in fields.values():
        assert metric["value"] > 0
        assert metric["ratio"] == pytest.approx(metric["value"] / metric["raw"], rel=0.01)
    assert fields["append_64_writers_per_second"]["raw_pipelined_plain_publishes"] > 0


async def test_operations_take_turns_the_first_round_does_not_count_and_time_is_limited() -> None:
    turns: list[str] = []

    async def ours() -> list[float]:
        turns.append("ours")
        return [float(turns.count("ours"))]

    async def raw() -> list[float]:
        turns.append("raw")
        return [10.0, 20.0]

    assert await alternate(Rounds(9, seconds_max=0), ours=ours, raw=raw) == {
        "ours": 3.0,
        "raw": 15.0,
    }
    assert turns == ["raw", "ours", "ours", "raw", "raw", "ours", "ours", "raw"]


@pytest.mark.parametrize(
    ("metric", "is_as_wanted"),
    [
        (Metric(5, "ms", 10, ratio_at_least=0.5), True),
        (Metric(4, "ms", 10, ratio_at_least=0.5), False),
        (Metric(15, "ms", 10, ratio_at_most=1.5), True),
        (Metric(16, "ms", 10, ratio_at_most=1.5), False),
        (Metric(16, "ms"), True),
    ],
)
def test_a_ratio_is_as_wanted_within_its_bounds(metric: Metric, *, is_as_wanted: bool) -> None:
    assert metric.is_as_wanted == is_as_wanted


def test_the_last_line_of_a_run_is_one_json_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def measure(is_quick: bool) -> Metrics:  # noqa: FBT001  # what every part takes
        assert is_quick
        return {"speed": Metric(2.0, "m/s", 4.0, beside={"precision": 0.5}), "size": Metric(7, "m")}

    monkeypatch.setattr(command_line, "prepare_process", lambda: None)  # it changes ours for good
    monkeypatch.setattr(command_line, "PARTS", {"made_up": lambda: measure})
    assert command_line.main(["--quick", "--json", "made_up"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        "speed": {"value": 2.0, "unit": "m/s", "raw": 4.0, "ratio": 0.5, "precision": 0.5},
        "size": {"value": 7.0, "unit": "m", "raw": None, "ratio": None},
    }


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["nonsense"])
    told = capsys.readouterr().err
    assert all(name in told for name in PARTS)


def test_results_keep_the_parts_that_were_not_run(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results({"one": {"a": Metric(1, "x", 2)}, "two": {"b": Metric(3, "y")}}, path)
    write_results({"two": {"b": Metric(4, "y")}}, path)
    results = json.loads(path.read_text(encoding="utf-8"))
    assert results["one"]["metrics"]["a"]["ratio"] == 0.5
    assert results["two"]["metrics"]["b"]["value"] == 4


async def test_the_parts_of_the_read_side_give_every_number() -> None:
    tiny = Rounds(1, seconds_max=0)
    folded = await projection.measure_load(
        projection.Load(rounds=tiny, events=200, customers=20, segments=5)
    )
    judged = await segments.measure_load(segments.Load(rounds=tiny, customers=50, counts=5))
    late = await measure_lag(LagLoad(seconds=0.1, people=20))
    assert folded.keys() | judged.keys() | late.keys() == {
        "project_events_per_second",
        "count_audience_us",
        "backfill_customers_per_second",
        "window_fold_ms",
        "segment_lag_ms",
        "window_expiry_ms",
    }
    assert all(metric.value > 0 for metric in (*folded.values(), *judged.values(), *late.values()))


async def test_the_part_query_asks_the_real_server_in_a_process_of_its_own() -> None:
    tiny = Rounds(1, seconds_max=0)
    load = query.Load(rounds=tiny, customers=20, asked=5, calls=20)
    asked = (await query.measure_load(load))["get_customer_per_second"].as_fields()
    assert asked["value"] > 0
    assert asked["raw"] is not None
    assert asked["bytes"] > 400  # type: ignore[typeddict-item]  # beside it


async def test_the_part_query_proves_a_read_side_in_processes_of_rays() -> None:
    load = verifying.Load(
        rounds=Rounds(1, seconds_max=0),
        events=200,
        customers=20,
        segments=2,
        processes=2,
        share_events_max=50,  # more shares than processes: each is let go of before the next
    )
    found = (await verifying.measure_load(load))["verify_events_per_second"].as_fields()
    assert found["value"] > 0
    assert found["raw"] is not None
    assert found["in_one_process"] > 0  # type: ignore[typeddict-item]  # beside it


async def test_the_part_identity_resolves_as_the_independent_closure_does() -> None:
    people = (await resolution.measure_people(60))["resolution"].as_fields()
    found = (await resolution.measure_febrl())["febrl"].as_fields()
    assert (people["value"], people["pairs_that_differ"]) == (1.0, 0)  # type: ignore[typeddict-item]  # beside it
    assert found["value"] >= 0.65
    assert found["precision"] >= 0.99  # type: ignore[typeddict-item]  # beside it
