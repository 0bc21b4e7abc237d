"""What was attested can be proved later, with nothing but NATS and a public key."""

from __future__ import annotations

from pathlib import Path

import orjson

from tests.e2e.installation import Caller, Installation, order, person, run_koseki


async def test_an_attestation_is_proved_and_a_forged_one_refuted(
    installation: Installation, caller: Caller, tmp_path: Path
) -> None:
    await caller.ingest(order("attested-1", person("attested"), cds=1))
    attested = installation.json("attest")
    public_key = installation.data / "secrets" / "attestation-key.pub"
    genuine, forged = tmp_path / "genuine.json", tmp_path / "forged.json"
    genuine.write_bytes(orjson.dumps(attested))
    forged.write_bytes(orjson.dumps({**attested, "revision": attested["revision"] - 1}))

    def check(file: Path) -> tuple[int, str]:
        status, printed, _errors = run_koseki(
            *("verify", "--json", "--nats", installation.where["nats"]),
            *("--attestation", str(file), "--public-key", str(public_key)),
        )
        return status, orjson.loads(printed)["finding"]

    await caller.ingest(order("attested-2", person("attested"), cds=1))
    assert check(genuine) == (0, "holds")
    assert check(forged) == (1, "bad_signature")
    assert (installation.data / "secrets" / "attestation-key.pem").stat().st_mode & 0o777 == 0o600
