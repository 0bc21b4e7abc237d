"""An installation that lost its server's folder comes back from its backups, and proves it."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest

from eventlog.keys.workspace_key import WorkspaceKeys, key_source
from tests.e2e.installation import Caller, Installation, installed, order, person, run_koseki

pytestmark = pytest.mark.timeout(240)


def ran(*command: str) -> dict[str, object]:
    status, printed, errors = run_koseki(*command, "--json")
    assert status == 0, (command, status, printed, errors)
    answer: dict[str, object] = orjson.loads(printed)
    return answer


async def buy(caller: Caller, *numbers: int) -> None:
    for number in numbers:
        await caller.ingest(order(f"o-{number}", person(f"buyer-{number % 7}"), cds=number))


async def with_caller(running: Installation, *numbers: int, rules: bool = False) -> str:
    """Buy, and give how customer 3 stands then."""
    caller = Caller(running)
    try:
        if rules:
            await caller.define_rules()
        await buy(caller, *numbers)
        revision = running.json("status")["log_revision"]
        return str(await caller.get(person("buyer-3"), at_least_revision=revision))
    finally:
        await caller.channel.close()


async def test_a_wiped_server_is_restored_and_the_old_attestation_holds(tmp_path: Path) -> None:
    data, log_backup, key_backup = (tmp_path / name for name in ("data", "log", "keys"))
    public_key = data / "secrets" / "attestation-key.pub"
    attestation = tmp_path / "attestation.json"
    with installed(data) as running:
        await with_caller(running, *range(10), rules=True)
        first = running.json("backup", str(log_backup))
        attestation.write_bytes(orjson.dumps(running.json("attest")))
        stood = await with_caller(running, *range(10, 20))
        rotated = WorkspaceKeys(key_source(f"file:{data}/secrets/workspace-key")().by_version)
        (data / "secrets" / "workspace-key").write_text(rotated.with_next().text())
        assert running.json("keys", "rotate")["rotated"] == 7
        keys = running.json("keys", "backup", str(key_backup))
        second = running.json("backup", str(log_backup))
        assert second["events_added"] == second["revision"] - first["revision"] > 0
        assert second["attestation"]
        status, _, errors = run_koseki("restore", str(log_backup), "--data", str(data))
        assert (status, "stop it first" in errors) == (2, True)
    shutil.rmtree(data / "nats")
    checked = ran("backup", str(log_backup), "--check")
    status, _, errors = run_koseki("keys", "restore", str(keys["file"]), "--data", str(data))
    assert (status, "log is not there" in errors) == (2, True), errors
    done = ran("restore", str(log_backup), "--data", str(data))
    assert done["log_digest"] == checked["log_digest"] == second["log_digest"]
    assert ran("keys", "restore", str(keys["file"]), "--data", str(data))["restored"] == 7
    counts = ran("keys", "status", "--data", str(data))
    assert (counts["keys_by_version"], counts["rotation_is_due"]) == ({"2": 7}, False)
    with installed(data) as running:
        assert running.json("verify")["holds"]
        assert await with_caller(running, 3) == stood, "known already: all is as it was"
        assert await with_caller(running, 24) != stood
        proof = ("--attestation", str(attestation), "--public-key", str(public_key))
        assert running.json("verify", *proof)["finding"] == "holds"
        assert running.json("verify")["holds"]
        third = running.json("backup", str(log_backup))
        assert third["events_added"] == 1, "the restored log goes on in the same backup"
