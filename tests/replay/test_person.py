"""Everything about one person, and where each part of it came from (`koseki export --customer`)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from domain.commands import (
    EraseCustomer,
    LinkHousehold,
    RegisterSource,
    SetPreferences,
    UndoMerge,
    UnlinkHousehold,
)
from domain.ids import RecordId
from domain.preference_events import Preference
from projections.errors import CustomerErased
from replay.as_of import AsOf, find_prefix
from replay.person import export_person
from tests.actors.house import (
    CLOCK,
    Workspace,
    asked,
    consent,
    identify,
    loyalty,
    person,
    signal,
    track,
    user,
)
from tests.actors.house import workspace as open_workspace

A, B, BOB = user("ada"), loyalty("card"), user("bob")
HOUSEHOLD = str(UUID(int=7))


async def exported(house: Workspace, customer: str) -> dict[str, Any] | None:
    """Export as of now, as it is printed."""
    now = datetime.now(UTC) + timedelta(seconds=1)
    prefix = await find_prefix(house.log, AsOf(), now=now)
    found = await export_person(house.log, prefix, RecordId(customer))
    if found is None:
        return None
    printed: dict[str, Any] = orjson.loads(orjson.dumps(found))
    return printed


async def told(house: Workspace) -> str:
    """Tell of somebody who has two records, and of somebody else."""
    await house.done(track("m1", A, signals=(signal("m1", note="blue"),)))
    await house.done(track("m2", B, signals=(signal("m2", note="red"),)))
    done = await house.done(identify(A, B, traits={"tier": "silver"}))
    await house.done(identify(A, source="ads", traits={"tier": "gold"}, on_closed="decline"))
    await house.done(consent("given", A, evidence={"form": "f1"}, method="web"))
    await house.done(identify(A, source="ads", traits={"tier": "gold"}))
    preference = Preference(channel="email", topic="news", frequency="weekly")
    said = {"preferences": (preference,), "happened_at": CLOCK.now()}
    await house.done(SetPreferences(**person((A,), said)))
    await house.done(track("m3", BOB, signals=(signal("m3", note="not hers"),)))
    at_home = {"household_id": HOUSEHOLD, "happened_at": CLOCK.now()}
    await house.done(LinkHousehold(**person((A,), {**at_home, "source": "ads"})))
    await house.done(UnlinkHousehold(**person((A,), {**at_home, "happened_at": CLOCK.now()})))
    later = {**at_home, "happened_at": CLOCK.now()}
    for who in (B, BOB):
        await house.done(LinkHousehold(**person((who,), {**later, "source": "shop"})))
    return str(done.customer_id)


async def test_each_fact_names_its_source_its_time_and_an_event_that_says_it() -> None:
    async with open_workspace() as house:
        customer = await told(house)
        found = await exported(house, customer)
        assert found is not None
        history = {event["event_id"]: event for event in found["history"]}
        assert found["customer"] == customer
        assert len(found["records"]) == 2
        held = {item["value"]: item for item in found["identifiers"]}
        assert held.keys() == {"ada", "card"}
        [tier] = found["traits"]
        [preference] = found["preferences"]
        facts = [*(link for item in held.values() for link in item["linked_by"]), tier, preference]
        facts += tier["other_words"]
        [household] = found["households"]
        [link] = household["linked_by"]
        assert (household["household_id"], link["source"]) == (HOUSEHOLD, "shop")
        facts.append(link)
        for fact in facts:
            event = history[fact["event_id"]]
            for name in ("revision", "recorded_at", "happened_at", "record_id"):
                assert fact[name] == event[name]
        for word in (tier, *tier["other_words"]):
            what = history[word["event_id"]]["what"]
            assert (what["source"], what["traits"]["tier"]) == (word["source"], word["value"])
        assert {word["value"] for word in (tier, *tier["other_words"])} == {"silver", "gold"}
        [act] = found["consent_history"]
        decided = {place["purpose"]: place["decided_by"] for place in found["consents"]}
        assert decided == {"marketing": act["act_id"], "analytics": None, "service": None}
        assert (act["method"], act["evidence"]) == ("web", {"form": "f1"})
        notes = [
            signal["properties"]["note"]
            for event in found["history"]
            for signal in event["what"].get("signals", ())
        ]
        assert sorted(notes) == ["blue", "red"]
        assert "not hers" not in str(found)


async def test_of_nobody_and_of_who_is_erased_there_is_nothing_to_give() -> None:
    async with open_workspace() as house:
        customer = await told(house)
        assert await exported(house, CLOCK.new_id()) is None
        await house.done(EraseCustomer(**person((B,), {})))
        with pytest.raises(CustomerErased):
            await exported(house, customer)


async def test_an_undo_leaves_to_the_other_side_those_acts_alone_that_close() -> None:
    async with open_workspace() as house:
        categories = {"Advertising": ("marketing",), "Measuring": ("analytics",)}
        source = {"source": "site", "purposes": ("service",), "consent_categories": categories}
        await house.rules.execute(RegisterSource(**asked(source)))
        ada = (await house.done(identify(A))).customer_id
        card = (await house.done(identify(B))).customer_id
        [merge] = (await house.done(identify(A, B))).merge_ids
        choices = {"Advertising": True, "Measuring": False}
        await house.done(track("m1", A, source="site", category_preferences=choices))
        await house.done(consent("renewed", A, evidence={"form": "hers"}))
        await house.done(consent("withdrawn", A, method="for both"))
        await house.done(UndoMerge(**person((A,), {"merge_id": merge})))
        assert await acts_told(house, ada) == [
            ("analytics", "marketing"),
            {"form": "hers"},
            "for both",
        ]
        # How it came about is hers alone: an erasure of hers does not reach what his key seals.
        assert await acts_told(house, card) == [("analytics",), {}]


async def acts_told(house: Workspace, customer: str | None) -> list[Any]:
    """Give of the acts in an exported history what is their own."""
    found = await exported(house, str(customer))
    assert found is not None
    whats = [event["what"] for event in found["history"] if "consent" in event["type"]]
    return [
        tuple(act["purpose"] for act in what["acts"])
        if "acts" in what
        else what["method"] or what["evidence"]
        for what in whats
    ]
