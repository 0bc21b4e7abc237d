"""Publishers over NATS: what cannot be used is kept with its reason; the next good one counts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Any
from urllib.parse import urlparse

import orjson

from app.demo.purchases import SOURCE, Purchase, external_id, read_purchases
from eventlog.connection import Connection
from tests.e2e.installation import Caller, Installation, cloud_event, person, track
from tests.support.waiting import until_async

SUBJECT = "koseki.main.ingest.shop"
SECONDS = 10.0
CONTROLS = "a\u0000b\u001b[2J\r\n"

Sent = tuple[str, bytes, Mapping[str, str]]


def structured(event: object, subject: str = SUBJECT) -> Sent:
    """Make a message of a CloudEvent in JSON."""
    return subject, orjson.dumps(event), {}


BAD: dict[str, tuple[Sent, str]] = {
    "malformed JSON": ((SUBJECT, b'{"specversion": "1.0", ', {}), "MALFORMED_JSON"),
    "no JSON at all": ((SUBJECT, b"\xff\xfe\x00", {}), "MALFORMED_JSON"),
    "a missing id": (
        structured({k: v for k, v in track("x", "1").items() if k != "id"}),
        "MISSING_ID",
    ),
    "control characters in the id": (structured(track(CONTROLS, "1")), "INVALID_MESSAGE_ID"),
    "control characters in the messageId": (
        structured(track("x", "1", messageId=CONTROLS)),
        "INVALID_MESSAGE_ID",
    ),
    "an unknown source": (
        structured(track("x", "1"), "koseki.main.ingest.nowhere"),
        "UNKNOWN_SOURCE",
    ),
    "a source that is none": (
        structured(track("x", "1"), "koseki.main.ingest.SHOP"),
        "INVALID_SOURCE",
    ),
    "an empty identifier": (structured(track("x", "")), "EMPTY_IDENTIFIER"),
    "nobody": (structured(cloud_event("x", {"type": "track", "event": "E"})), "MISSING_IDENTIFIER"),
    "no CloudEvent": (structured({"event": "Order Completed"}), "NOT_A_CLOUD_EVENT"),
    "a call of another spec": (structured(cloud_event("x", {"type": "shout"})), "UNKNOWN_CALL"),
    "a time that is none": (
        structured(track("x", "1", timestamp="yesterday")),
        "INVALID_TIMESTAMP",
    ),
    "2 MB": (structured(track("x", "1", properties={"essay": "x" * 2_000_000})), "TOO_LARGE"),
}


async def publish(connection: Connection, sent: Sent) -> dict[str, Any]:
    """Publish, and give what the server acknowledged."""
    subject, data, headers = sent
    answer = await connection.request(
        subject, data, headers=headers or None, timeout_seconds=SECONDS
    )
    acknowledged: dict[str, Any] = orjson.loads(answer.data)
    assert "error" not in acknowledged, acknowledged
    return acknowledged


async def goes_through(caller: Caller, connection: Connection, who: str) -> None:
    """Require that a good message is recorded, and seen by whoever asks for what comes after it."""
    await publish(connection, structured(track(f"good-{who}", who, properties={"cds": 2})))

    async def is_known() -> bool:
        return bool((await caller.get_many([person(who)])).results[0].customer.customer_id)

    await until_async(is_known)
    done = await caller.consent(person(who), command_id="")
    seen = await caller.get(person(who), at_least_revision=done.revision)
    assert [(tally.count, dict(tally.sums)) for tally in seen.signals] == [(1, {"cds": "2"})]


async def drained(installation: Installation) -> dict[str, Any]:
    """Wait until everything published is settled and folded; give the status."""
    while True:
        status = await asyncio.to_thread(installation.json, "status")
        if status["intake"]["is_drained"] and not status["read_side_behind_events"]:
            return status


async def test_what_cannot_be_used_is_listed_with_its_reason_and_shown_as_it_came(
    installation: Installation, caller: Caller, connection: Connection
) -> None:
    before = installation.json("dead-letters", "list", "--limit", "1000")["dead_letters"]
    for sent, _reason in BAD.values():
        await publish(connection, sent)
    await goes_through(caller, connection, "after-bad-ones")
    await drained(installation)
    letters = installation.json("dead-letters", "list", "--limit", "1000")["dead_letters"]
    letters = letters[len(before) :]
    wanted = sorted((sent[0], len(sent[1]), reason) for sent, reason in BAD.values())
    found = sorted((letter["subject"], letter["bytes"], letter["reason"]) for letter in letters)
    assert found == wanted
    by_reason = installation.json("dead-letters", "list", "--reason", "MISSING_ID")
    [missing] = by_reason["dead_letters"][-1:]
    shown = installation.json("dead-letters", "show", str(missing["number"]))
    assert shown["data"].encode() == BAD["a missing id"][0][1]
    largest = next(letter for letter in letters if letter["reason"] == "TOO_LARGE")
    shown = installation.json("dead-letters", "show", str(largest["number"]))
    assert len(shown["data"]) == largest["bytes"]
    assert not shown["is_truncated"]
    number = missing["number"]
    replayed = installation.json("dead-letters", "replay", str(number), "999999")
    assert (replayed["replayed"], replayed["unknown"]) == ([number], [999_999])
    await drained(installation)
    again = installation.json("dead-letters", "list", "--reason", "MISSING_ID")["dead_letters"]
    assert again[-1]["number"] > number
    assert again[-1]["bytes"] == missing["bytes"]
    replayed = installation.json("dead-letters", "replay", str(number))
    assert (replayed["replayed"], replayed["replayed_before"]) == ([], [number])


RAW_SUBJECTS = [
    "koseki.main.ingest.*",
    "koseki.main.ingest.>",
    "koseki.main.ingest.a*b",
    "koseki.main.ingest.a b",
    "koseki.main.ingest.shop 7 7",
    "koseki.main.ingest..shop",
]


async def test_a_subject_with_a_wildcard_or_a_space_harms_nobody_else(
    installation: Installation, caller: Caller, connection: Connection
) -> None:
    before = installation.json("dead-letters", "list", "--limit", "1000")["dead_letters"]
    said = {
        subject: await publish_raw(installation.where["nats"], subject, b"{}")
        for subject in RAW_SUBJECTS
    }
    await goes_through(caller, connection, "after-odd-subjects")
    await drained(installation)
    letters = installation.json("dead-letters", "list", "--limit", "1000")["dead_letters"]
    kept = {letter["subject"]: letter["reason"] for letter in letters[len(before) :]}
    # The server reads a space as the start of the reply's subject, as its protocol has it.
    assert kept == {
        "koseki.main.ingest.*": "INVALID_SOURCE",
        "koseki.main.ingest.>": "INVALID_SOURCE",
        "koseki.main.ingest.a*b": "INVALID_SOURCE",
        "koseki.main.ingest.a": "NOT_A_CLOUD_EVENT",
    }
    assert b"-ERR" in said["koseki.main.ingest..shop"]


async def publish_raw(url: str, subject: str, data: bytes) -> bytes:
    """Publish over the bare protocol what no client library lets through; give what was said."""
    address = urlparse(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b'CONNECT {"verbose":true,"pedantic":true}\r\n')
    writer.write(f"PUB {subject} {len(data)}\r\n".encode() + data + b"\r\nPING\r\n")
    said = b""
    try:
        async with asyncio.timeout(SECONDS):
            while b"PONG" not in said and (more := await reader.read(65_536)):
                said += more
    finally:
        writer.close()
    return said.partition(b"\r\n")[2]


def renamed(purchase: Purchase, prefix: str) -> dict[str, Any]:
    """Make a purchase that of somebody else, of the same habits; joined by a later identify."""
    call = purchase.call()
    if "userId" in call:
        call["userId"] = f"{prefix}{purchase.user_id}"
    else:
        call["context"] = external_id(f"{prefix}{purchase.loyalty_id}")
    return cloud_event(f"{prefix}{purchase.line}", call | {"messageId": f"{prefix}{purchase.line}"})


def identifying(purchase: Purchase, prefix: str) -> dict[str, Any]:
    """Say that both identifiers of a purchase are one person's."""
    call = {
        "type": "identify",
        "userId": f"{prefix}{purchase.user_id}",
        "context": external_id(f"{prefix}{purchase.loyalty_id}"),
    }
    return cloud_event(f"{prefix}identify-{purchase.user_id}", call)


Totals = dict[str, tuple[int, dict[str, str]]]


async def totals(caller: Caller, people: list[Purchase], prefix: str) -> Totals:
    """Read purchases and sums of each customer, who is one by either identifier."""
    by_user = await caller.get_many([person(f"{prefix}{one.user_id}") for one in people])
    by_loyalty = await caller.get_many(
        [person(f"{prefix}{one.loyalty_id}", "loyalty_id") for one in people]
    )
    assert by_user.results == by_loyalty.results
    assert len({r.customer.customer_id for r in by_user.results}) == len(people)
    found: Totals = {}
    for one, result in zip(people, by_user.results, strict=True):
        [tally] = result.customer.signals
        found[one.user_id] = (tally.count, dict(tally.sums))
    return found


async def test_the_same_purchases_twice_or_in_another_order_give_the_same_customers(
    installation: Installation, caller: Caller, connection: Connection
) -> None:
    assert SOURCE == "shop"
    purchases = read_purchases()[:300]
    people = list({purchase.user_id: purchase for purchase in purchases}.values())
    shuffled = [*purchases, *people]
    Random(7).shuffle(shuffled)
    ways = {
        "once-": [*purchases, *people],
        "twice-": [*purchases, *purchases, *people, *purchases, *people],
        "shuffled-": shuffled,
    }
    for prefix, sent in ways.items():
        known: set[int] = set()
        for item in sent:
            is_identify = any(item is one for one in people) and item.line in known
            known.add(item.line)
            event = identifying(item, prefix) if is_identify else renamed(item, prefix)
            await publish(connection, structured(event))
    status = await drained(installation)
    found = {prefix: await totals(caller, people, prefix) for prefix in ways}
    assert found["twice-"] == found["once-"] == found["shuffled-"]
    counted = sum(count for count, _sums in found["once-"].values())
    cds = sum(int(sums["cds"]) for _count, sums in found["once-"].values())
    assert (counted, cds) == (300, sum(purchase.cds for purchase in purchases))
    assert status["parked"] == 0
