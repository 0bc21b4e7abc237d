"""The command line where nothing runs: help, one clear line, and exit status 2."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.processes import hold
from app.settings import Settings

COMMANDS = ("up", "status", "verify", "demo", "dead-letters")


def test_help_names_every_command() -> None:
    done = CliRunner().invoke(cli, ["--help"])
    assert done.exit_code == 0
    for command in COMMANDS:
        assert command in done.output


@pytest.mark.parametrize("command", [[name] for name in COMMANDS] + [["dead-letters", "list"]])
def test_every_command_explains_itself_and_its_json(command: list[str]) -> None:
    done = CliRunner().invoke(cli, [*command, "--help"], env={"COLUMNS": "120"})
    assert done.exit_code == 0
    assert "--json" in done.output or command == ["dead-letters"]


ASKING = [["status"], ["verify"], ["dead-letters", "list"], ["dead-letters", "show", "1"]]


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["people", "json"])
def test_where_nothing_runs_a_command_says_so_in_one_line(
    tmp_path: Path, command: list[str], options: list[str]
) -> None:
    done = CliRunner().invoke(cli, [*command, "--data", str(tmp_path), *options])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr == f"nothing runs on {tmp_path}; start it with: koseki up\n"


def test_the_folder_may_come_from_the_environment(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["status"], env={"KOSEKI_DATA": str(tmp_path)})
    assert str(tmp_path) in done.stderr


def test_what_a_killed_supervisor_left_does_not_pass_for_running(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, nats_url="nats://127.0.0.1:1")
    running = {"settings": settings.model_dump(mode="json"), "supervisor_pid": 1}
    settings.running_file.write_bytes(orjson.dumps(running))
    settings.lock_file.touch()
    done = CliRunner().invoke(cli, ["status", "--data", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr.startswith("nothing runs on ")


WRONG = {
    "workspace": ["--workspace", "a b"],
    "hosts": ["--hosts", "0"],
    "ingest_workers": ["--workers", "65"],
    "gateways": ["--gateways", "-1"],
    "grpc_port": ["--port", "65536"],
}


@pytest.mark.parametrize("setting", WRONG)
def test_a_setting_out_of_its_limits_is_named_in_one_line(tmp_path: Path, setting: str) -> None:
    done = CliRunner().invoke(cli, ["up", "--data", str(tmp_path / "data"), *WRONG[setting]])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"{setting}: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    assert hold(Settings(data=tmp_path).lock_file) is not None
    done = CliRunner().invoke(cli, ["up", "--data", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr == f"koseki runs on {tmp_path} already\n"
