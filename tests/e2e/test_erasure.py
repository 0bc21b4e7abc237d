"""A person erased from a whole installation: no byte of any file and no answer tells of them (R14).

Values are planted wherever a person's word can come to lie: identifiers, traits, signals, contexts,
evidence, preferences, intake messages, malformed dead letters. After the named times, set to
seconds here, they are looked for in every byte, while others go on buying.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import nats
import orjson
import pytest

from koseki.v1 import (
    common_pb2,
    customer_service_pb2,
    ingest_service_pb2,
    query_service_pb2,
)
from tests.e2e.installation import (
    CALL_SECONDS,
    Caller,
    Installation,
    installed,
    order,
    person,
    run_koseki,
    track,
)
from tests.support.sealed import files_with, forms
from tests.support.waiting import until

KEPT_SECONDS = 8.0
WAIT_SECONDS = 60.0
BROKEN = 2
"""Messages of hers that can only become dead letters."""
OPTIONS = ("--hosts", "1", "--projectors", "2")
TIMES = ("--intake-kept", str(KEPT_SECONDS), "--dead-letters-kept", str(KEPT_SECONDS))
WORDS = """user email@example.com trait context property evidence method topic intake letter
header signal message key"""
PLANTED = {name: f"planted-{name}-7c1f" for name in WORDS.split()}
ADA = person(PLANTED["user"])
MAIL = person(PLANTED["email@example.com"], "email")
BOB = person("bob")
DEVICE = person("shared-tablet", "device_id")


class Lives:
    """Somebody who leaves traces everywhere, and others who go on."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.caller = Caller(installation)
        self.subject = f"koseki.{installation.where['workspace']}.ingest.shop"

    async def plant(self) -> str:
        """Leave a trace of every kind; give the customer's id."""
        caller = self.caller
        await caller.define_rules()
        said = order(PLANTED["message"], ADA, note=PLANTED["property"])
        said.name = PLANTED["signal"]
        said.context.update({"page": PLANTED["context"]})
        await caller.ingest(said)
        await caller.ingest(order("m-mail", MAIL, note=PLANTED["property"]))
        identify = customer_service_pb2.IdentifyRequest(source="shop", identifiers=[ADA, MAIL])
        identify.traits.update({"city": PLANTED["trait"], PLANTED["key"]: 1})
        done = await caller.customer.Identify(identify, timeout=CALL_SECONDS)
        consent = customer_service_pb2.RecordConsentRequest(
            identifiers=[MAIL],
            purpose="marketing",
            state=common_pb2.CONSENT_STATE_GIVEN,
            method=PLANTED["method"],
        )
        consent.evidence.update({"form": PLANTED["evidence"]})
        await caller.customer.RecordConsent(consent, timeout=CALL_SECONDS)
        preference = customer_service_pb2.Preference(
            channel="email", topic=PLANTED["topic"], frequency="weekly"
        )
        preferred = customer_service_pb2.SetPreferencesRequest(
            identifiers=[ADA], preferences=[preference]
        )
        await caller.customer.SetPreferences(preferred, timeout=CALL_SECONDS)
        await caller.ingest(order("m-bob", BOB), order("m-device", DEVICE))
        await self._publish()
        return str(done.customer_id)

    async def _publish(self) -> None:
        """Send through intake what is taken, and what can only become a dead letter."""
        publisher = await nats.connect(self.installation.where["nats"])
        try:
            noted = {"note": PLANTED["intake"]}
            for data in (
                orjson.dumps(track("m-intake", PLANTED["user"], properties=noted)),
                b'{"broken": "' + PLANTED["letter"].encode(),
                b'{"broken": "' + PLANTED["letter"].encode("utf-16-le"),
            ):
                headers = {"x-person": PLANTED["header"]}
                await publisher.request(self.subject, data, headers=headers, timeout=CALL_SECONDS)
        finally:
            await publisher.close()

    def is_settled(self) -> bool:
        """Whether intake has taken in all of it, and buried the rest."""
        worker = self.installation.parts().get("ingest-worker", {})
        buried = worker.get("dead_lettered", {})
        return bool(worker.get("recorded")) and sum(buried.values()) == BROKEN

    async def buy_for_ever(self) -> None:
        """Let others go on, over gRPC and over NATS."""
        publisher = await nats.connect(self.installation.where["nats"])
        try:
            for number in range(100_000):
                await self.caller.ingest(order(f"more-{number}", BOB))
                again = track(f"published-{number}", "bob")
                await publisher.publish(self.subject, orjson.dumps(again))
                await asyncio.sleep(0.05)
        finally:
            await publisher.close()


@asynccontextmanager
async def lives(data: Path) -> AsyncIterator[Lives]:
    with installed(data, *OPTIONS, *TIMES) as installation:
        found = Lives(installation)
        try:
            yield found
        finally:
            await found.caller.channel.close()


def places_of(folder: Path) -> Iterator[tuple[str, str]]:
    """Name every planted value that stands anywhere, and where."""
    for name, value in PLANTED.items():
        for form in forms(value):
            for path in files_with(folder, form):
                yield name, str(path.relative_to(folder))


async def until_gone(folder: Path) -> None:
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while left := sorted(set(places_of(folder))):
        assert asyncio.get_running_loop().time() < deadline, left
        await asyncio.sleep(0.5)


async def refused(call: Any) -> str:
    """Require that a call is refused; give the reason."""
    from services.client import reason_of

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return reason_of(caught.value)


async def assert_forgotten(caller: Caller, customer: str) -> None:
    """Ask in every way."""
    query, seconds = caller.query, CALL_SECONDS
    for named in ({"customer_id": customer}, {"identifier": MAIL}):
        reference = common_pb2.CustomerReference(**named)
        get = query_service_pb2.GetCustomerRequest(purpose="service", **named)
        assert await refused(query.GetCustomer(get, timeout=seconds)) == "CUSTOMER_ERASED"
        get.as_of.revision = 12
        assert await refused(query.GetCustomer(get, timeout=seconds)) == "CUSTOMER_ERASED"
        timeline = query_service_pb2.ListTimelineRequest(reference=reference, purpose="service")
        assert await refused(query.ListTimeline(timeline, timeout=seconds)) == "CUSTOMER_ERASED"
        segments = query_service_pb2.ListSegmentsOfRequest(reference=reference, purpose="service")
        assert await refused(query.ListSegmentsOf(segments, timeout=seconds)) == "CUSTOMER_ERASED"
        history = query_service_pb2.ListConsentHistoryRequest(purpose="service", **named)
        asked = query.ListConsentHistory(history, timeout=seconds)
        assert await refused(asked) == "CUSTOMER_ERASED"
        many = query_service_pb2.BatchGetCustomersRequest(references=[reference], purpose="service")
        answer = await query.BatchGetCustomers(many, timeout=seconds)
        assert answer.results[0].reason == "CUSTOMER_ERASED"
    assert not (await caller.check(ADA, "service")).open
    check = query_service_pb2.CheckConsentRequest(customer_id=customer, purpose="service")
    assert not (await query.CheckConsent(check, timeout=seconds)).open
    request = ingest_service_pb2.IngestRequest(
        source="shop", signals=[order(PLANTED["message"], ADA), order("m-new", MAIL)]
    )
    outcomes = (await caller.signals.Ingest(request, timeout=seconds)).outcomes
    assert {outcome.reason for outcome in outcomes} == {"IDENTIFIER_ERASED"}


@pytest.mark.timeout(400)
async def test_nothing_is_left_of_an_erased_person_anywhere(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with lives(data) as found:
        customer = await found.plant()
        await until(found.is_settled, timeout_seconds=WAIT_SECONDS)
        assert any(name == "intake" for name, _ in places_of(data))
        status, printed, errors = await asyncio.to_thread(
            run_koseki, "export", "--customer", customer, "--data", str(data)
        )
        assert status == 0, errors
        for name in ("user", "trait", "property", "evidence", "intake", "topic", "signal"):
            assert PLANTED[name] in printed, name
        others = asyncio.create_task(found.buy_for_ever())
        erase = ("erase", "--customer", customer, "--reference", "ticket 4")
        would = await asyncio.to_thread(found.installation.json, *erase, "--dry-run")
        assert len(would["records"]) == 2
        os.kill(found.installation.pid_of("steward"), signal.SIGKILL)  # another goes on
        erased = await asyncio.to_thread(found.installation.json, *erase, "--wait", "30")
        assert erased["complete"], erased
        assert erased["receipt"]["read_sides"] == 2
        await assert_forgotten(found.caller, customer)
        await until_gone(data)
        await assert_forgotten(found.caller, customer)
        others.cancel()
        await asyncio.gather(others, return_exceptions=True)
        await _assert_proved(found, customer)
        assert (await found.caller.check(BOB, "service")).open
        assert (await found.caller.get(DEVICE)).customer_id
    assert not sorted(set(places_of(tmp_path)))


async def _assert_proved(found: Lives, customer: str) -> None:
    """The log is whole, the read side equals it, the receipt is ours; nobody is shown."""
    installation = found.installation
    assert (await asyncio.to_thread(installation.json, "verify"))["holds"]
    await asyncio.to_thread(installation.json, "rebuild")
    assert (await asyncio.to_thread(installation.json, "verify"))["holds"]
    key = str(installation.data / "secrets" / "attestation-key.pub")
    proof = await asyncio.to_thread(
        installation.json, "receipt", "--customer", customer, "--public-key", key
    )
    assert proof["signature_holds"]
    for command in (
        ("show", "--customer", customer, "--as-of", "12"),
        ("diff", "--customer", customer, "--from", "10"),
        ("export", "--customer", customer),
        ("explain", "membership", "--segment", "any", "--customer", customer),
    ):
        status, printed, errors = await asyncio.to_thread(
            run_koseki, *command, "--data", str(installation.data)
        )
        assert status == 2, (command, printed)
        assert "the customer was erased" in errors
