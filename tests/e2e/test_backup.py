"""An installation that lost its server's folder comes back from its backups, and proves it."""

from __future__ import annotations

import shutil
from base64 import b64encode
from pathlib import Path

import orjson
import pytest

from domain.ids import RecordId
from eventlog.connection import Connection
from eventlog.jetstream_api import JetStreamApi
from eventlog.keys.jetstream import JetStreamKeyStore
from eventlog.keys.key_stream import KeyStream
from eventlog.keys.workspace_key import key_source
from koseki.v1 import common_pb2, customer_service_pb2
from tests.e2e.installation import Caller, Installation, installed, order, person, run_koseki
from tests.support.sealed import files_with, forms

pytestmark = pytest.mark.timeout(400)

PLANTED = ("planted-鈴木@value.example", "planted trait 値", "planted evidence", "planted-order")


def ran(*command: str) -> dict[str, object]:
    status, printed, errors = run_koseki(*command, "--json")
    assert status == 0, (command, status, printed, errors)
    answer: dict[str, object] = orjson.loads(printed)
    return answer


async def buy(caller: Caller, *numbers: int) -> None:
    for number in numbers:
        await caller.ingest(order(f"o-{number}", person(f"buyer-{number % 7}"), cds=number))


async def plant(running: Installation) -> RecordId:
    """Say what can be said of a person with values that can be recognised; give the record."""
    email, trait, evidence, message = PLANTED
    caller = Caller(running)
    request = customer_service_pb2.IdentifyRequest(
        identifiers=[person(email, "email")], source="shop"
    )
    request.traits.update({trait: trait})
    consent = customer_service_pb2.RecordConsentRequest(
        identifiers=[person(email, "email")],
        purpose="marketing",
        state=common_pb2.CONSENT_STATE_GIVEN,
    )
    consent.evidence.update({evidence: evidence})
    try:
        who = await caller.customer.Identify(request, timeout=15)
        await caller.customer.RecordConsent(consent, timeout=15)
        await caller.ingest(order(message, person(email, "email"), note=trait))
    finally:
        await caller.channel.close()
    return RecordId(who.customer_id)


def found_below(*folders: Path) -> set[str]:
    """Give the planted values that lie in any byte of any file."""
    return {
        value
        for value in PLANTED
        for form in forms(value)
        for folder in folders
        if files_with(folder, form)
    }


async def destroy_key(running: Installation, record: RecordId) -> None:
    """Destroy a record's key, and require that the wrapped key leaves the disk."""
    connection = await Connection.open(running.where["nats"])
    source = key_source(f"file:{running.data}/secrets/workspace-key")
    store = JetStreamKeyStore(connection, "main", source=source)
    await store.open()
    held = await KeyStream(JetStreamApi(connection), "main").read([record])
    wrapped = [message.body for message in held[record]]
    nats = running.data / "nats"
    assert all(files_with(nats, body) for body in wrapped)
    await store.destroy([record])
    for body in wrapped:
        assert not files_with(nats, body)
        assert not files_with(nats, b64encode(body))
    await connection.close()


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
        planted = await plant(running)
        first = running.json("backup", str(log_backup))
        attestation.write_bytes(orjson.dumps(running.json("attest")))
        stood = await with_caller(running, *range(10, 20))
        versions = key_source(f"file:{data}/secrets/workspace-key")()
        (data / "secrets" / "workspace-key").write_text(versions.with_next().text())
        assert running.json("keys", "rotate")["rotated"] == 8
        keys = running.json("keys", "backup", str(key_backup))
        second = running.json("backup", str(log_backup))
        assert second["events_added"] == second["revision"] - first["revision"] > 0
        assert second["attestation"]
        assert found_below(data / "nats", log_backup, key_backup) == set()
        status, _, errors = run_koseki("restore", str(log_backup), "--data", str(data))
        assert (status, "stop it first" in errors) == (2, True)
    shutil.rmtree(data / "nats")
    checked = ran("backup", str(log_backup), "--check")
    status, _, errors = run_koseki("keys", "restore", str(keys["file"]), "--data", str(data))
    assert (status, "holds no log" in errors) == (2, True), errors
    done = ran("restore", str(log_backup), "--data", str(data))
    assert done["log_digest"] == checked["log_digest"] == second["log_digest"]
    assert ran("keys", "restore", str(keys["file"]), "--data", str(data))["restored"] == 8
    counts = ran("keys", "status", "--data", str(data))
    assert (counts["keys_by_version"], counts["rotation_is_due"]) == ({"2": 8}, False)
    with installed(data) as running:
        assert running.json("verify")["holds"]
        assert await with_caller(running, 3) == stood, "known already: all is as it was"
        assert await with_caller(running, 24) != stood
        proof = ("--attestation", str(attestation), "--public-key", str(public_key))
        assert running.json("verify", *proof)["finding"] == "holds"
        assert running.json("verify")["holds"]
        third = running.json("backup", str(log_backup))
        assert third["events_added"] == 1, "the restored log goes on in the same backup"
        assert third["destroyed_keys"] == 0
        await destroy_key(running, planted)
        assert running.json("backup", str(log_backup))["destroyed_keys"] == 1
        again = running.json("keys", "restore", str(keys["file"]))
        assert again == {"restored": 0, "destroyed": 0}, "what is destroyed stays so"
    shutil.rmtree(data / "nats")
    ran("restore", str(log_backup), "--data", str(data))
    assert ran("keys", "restore", str(keys["file"]), "--data", str(data))["restored"] == 7
    assert found_below(data / "nats", log_backup, key_backup) == set()
