"""`cluster.yaml` is what `ray up` accepts, and says what every node must have."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ADVISED = (
    "RAY_AUTH_MODE=",
    "RAY_worker_niceness=0",
    "RAY_task_events_report_interval_ms=0",
    "RAY_enable_timeline=0",
    "RAY_USAGE_STATS_ENABLED=0",
)
STARTS = ("head_start_ray_commands", "worker_start_ray_commands")


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return loaded


def start_command(cluster: dict[str, Any], commands: str) -> str:
    lines: list[str] = cluster[commands]
    return next(line for line in lines if "ray start" in line)


def setting(command: str, name: str) -> str:
    return next(w.split("=", 1)[1] for w in command.split() if w.startswith(f"{name}="))


def ray_schema() -> dict[str, Any]:
    text = files("ray").joinpath("autoscaler/ray-schema.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def test_it_is_valid_against_the_schema_of_the_installed_ray(cluster: dict[str, Any]) -> None:
    jsonschema.validate(cluster, ray_schema())


def test_the_schema_refuses_a_misspelt_key(cluster: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "worker_starts": []}, ray_schema())


def test_it_has_a_head_and_as_many_workers_as_it_allows(cluster: dict[str, Any]) -> None:
    provider = cluster["provider"]
    assert provider["type"] == "local"
    assert cluster["max_workers"] == len(provider["worker_ips"]) >= 1
    assert provider["head_ip"] not in provider["worker_ips"]


def test_every_node_installs_this_project(cluster: dict[str, Any]) -> None:
    target = next(iter(cluster["file_mounts"]))
    assert any(
        "pip install" in line and f"{target}[cluster]" in line for line in cluster["setup_commands"]
    )


@pytest.mark.parametrize("commands", STARTS)
@pytest.mark.parametrize("advised", ADVISED)
def test_every_node_starts_with_the_settings_that_were_measured(
    cluster: dict[str, Any], commands: str, advised: str
) -> None:
    assert advised in start_command(cluster, commands)


def test_head_and_workers_agree_on_authentication_and_on_three_nats_servers(
    cluster: dict[str, Any],
) -> None:
    starts = [start_command(cluster, commands) for commands in STARTS]
    assert len({setting(start, "RAY_AUTH_MODE") for start in starts}) == 1
    assert len({setting(start, "KOSEKI_NATS_SERVERS") for start in starts}) == 1
    assert len(setting(starts[0], "KOSEKI_NATS_SERVERS").split(",")) == 3
