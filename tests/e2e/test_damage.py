"""An installation over a damaged log: it runs, stores nothing, says no, and says what is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from koseki.v1 import common_pb2, customer_service_pb2, query_service_pb2
from tests.damage.stored_bytes import blocks, messages_folder
from tests.e2e.installation import Caller, Installation, installed, person, run_koseki
from tests.support.waiting import until

LEFT_BYTES = 9_000


async def write(data: Path) -> int:
    """Let 20 people consent, and wait until that is folded and signed; give the last revision."""
    with installed(data, "--attest-every", "0.2") as running:
        caller = Caller(running)
        await caller.define_rules()
        for number in range(20):
            await caller.consent(person(f"p{number}"), command_id="")
        revision = running.json("status")["log_revision"]
        await caller.get(person("p0"), at_least_revision=revision)
        attested = data / "attestations" / "main" / f"{revision:020}.json"
        await until(attested.exists)
        await caller.channel.close()
        running.interrupt()
    return int(revision)


def damage(data: Path) -> None:
    folder = messages_folder(data / "nats", "main")
    (folder / "index.db").unlink()
    os.truncate(blocks(folder)[-1], LEFT_BYTES)


async def test_a_damaged_log_is_told_everywhere_and_nothing_is_stored(tmp_path: Path) -> None:
    data = tmp_path / "data"
    last_revision = await write(data)
    damage(data)
    with installed(data) as running:
        status = running.json("status")
        left = status["log_revision"]
        assert 0 < left < last_revision
        assert status["log_sound"] is False
        lost = {f"{who}_events_lost" for who in ("acknowledged", "read_side", "attested")}
        assert set(status["log_faults"]) == lost
        await require_refusals(running)
        require_proof(running, left, last_revision)
        assert running.json("status")["log_revision"] == left


async def require_refusals(running: Installation) -> None:
    caller = Caller(running)
    consent = customer_service_pb2.RecordConsentRequest(
        identifiers=[person("p1")],
        purpose="marketing",
        state=common_pb2.CONSENT_STATE_GIVEN,
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await caller.customer.RecordConsent(consent, timeout=15)
    assert refused.value.code() is grpc.StatusCode.DATA_LOSS
    check = query_service_pb2.CheckConsentRequest(identifiers=[person("p1")], purpose="marketing")
    answer = await caller.query.CheckConsent(check, timeout=15)
    assert (answer.open, answer.reason) == (False, "LOG_DAMAGED")
    assert (await caller.get(person("p1"))).customer_id
    health: Any = health_pb2_grpc.HealthStub(caller.channel)
    wanted = {"": "NOT_SERVING", "koseki.v1.QueryService": "SERVING"}
    for service, name in wanted.items():
        request = health_pb2.HealthCheckRequest(service=service)
        found = await health.Check(request, timeout=15)
        assert health_pb2.HealthCheckResponse.ServingStatus.Name(found.status) == name
    await caller.channel.close()


def require_proof(running: Installation, left: int, last_revision: int) -> None:
    code, printed, _errors = run_koseki("verify", "--data", str(running.data), "--json")
    found = orjson.loads(printed)
    assert code == 1
    assert found["holds"] is False
    assert found["server_role"] == "only"
    assert found["lost_revisions"] == [f"{left + 1}-{last_revision}"]
    assert found["records_touched"] == len(found["records"]) > 0
    newest = max(record["revision_expected"] for record in found["records"])
    assert left < newest <= last_revision
    attestation = max((running.data / "attestations" / "main").iterdir())
    key = running.data / "secrets" / "attestation-key.pub"
    code, printed, _errors = run_koseki(
        *("verify", "--json", "--nats", running.where["nats"]),
        *("--attestation", str(attestation), "--public-key", str(key)),
    )
    assert (code, orjson.loads(printed)["finding"]) == (1, "log_too_short")
