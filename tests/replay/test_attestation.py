"""An attestation proves a log, or says in which way it does not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from eventlog.errors import LogDamaged
from eventlog.memory import MemoryEventLog
from projections.tables import Checkpoint
from replay.attestation import Attestation, attest, check_attestation
from replay.fold import fold_log
from tests.support.events import draft, new_record, store, traits

NOW = datetime(2026, 11, 22, tzinfo=UTC)
KEY = Ed25519PrivateKey.generate()


async def written_log(events: int = 5) -> MemoryEventLog:
    log = MemoryEventLog("demo")
    for number in range(events):
        await store(log, draft(new_record(), traits(number=number)))
    return log


async def attested(log: MemoryEventLog) -> Attestation:
    return attest(log.workspace, (await fold_log(log)).checkpoint, KEY, now=NOW)


async def test_a_log_holds_its_attestation_also_when_it_has_grown() -> None:
    log = await written_log()
    attestation = await attested(log)
    assert await check_attestation(log, attestation, KEY.public_key()) == "holds"
    await store(log, draft(new_record(), traits(number=99)))
    assert await check_attestation(log, attestation, KEY.public_key()) == "holds"


async def test_an_attestation_travels_as_json() -> None:
    log = await written_log()
    sent = (await attested(log)).model_dump_json()
    received = Attestation.model_validate_json(sent)
    assert await check_attestation(log, received, KEY.public_key()) == "holds"


@pytest.mark.parametrize(
    "change",
    [
        {"revision": 4},
        {"log_digest": "0" * 64},
        {"attested_at": datetime(2026, 11, 23, tzinfo=UTC)},
        {"workspace": "other"},
        {"public_key": "0" * 64},
    ],
)
async def test_whatever_is_changed_breaks_the_signature(change: dict[str, object]) -> None:
    log = await written_log()
    forged = (await attested(log)).model_copy(update=change)
    assert await check_attestation(log, forged, KEY.public_key()) == "bad_signature"


async def test_another_key_does_not_do() -> None:
    log = await written_log()
    other = Ed25519PrivateKey.generate().public_key()
    assert await check_attestation(log, await attested(log), other) == "bad_signature"


async def test_a_shorter_log_is_told() -> None:
    attestation = await attested(await written_log(events=5))
    shorter = await written_log(events=4)
    assert await check_attestation(shorter, attestation, KEY.public_key()) == "log_too_short"


async def test_another_log_of_the_same_length_is_told() -> None:
    attestation = await attested(await written_log())
    other = await written_log()
    assert await check_attestation(other, attestation, KEY.public_key()) == "log_differs"


async def test_a_replaced_last_event_is_told() -> None:
    log = await written_log()
    attestation = await attested(log)
    log.damage_body(5, b'{"message_id":null,"source":"shop","traits":{"number":6}}')
    assert await check_attestation(log, attestation, KEY.public_key()) == "log_differs"


async def test_a_replaced_event_within_a_stream_breaks_its_chain() -> None:
    log = MemoryEventLog("demo")
    stream = new_record()
    first = await store(log, draft(stream, traits(number=1)))
    await store(log, draft(stream, traits(number=2)), after=first)
    attestation = await attested(log)
    log.damage_body(1, b'{"message_id":null,"source":"shop","traits":{"number":3}}')
    with pytest.raises(LogDamaged):
        await check_attestation(log, attestation, KEY.public_key())


async def test_another_workspace_is_told() -> None:
    log = await written_log()
    attestation = attest("other", Checkpoint(), KEY, now=NOW)
    assert await check_attestation(log, attestation, KEY.public_key()) == "other_workspace"
