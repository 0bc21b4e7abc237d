"""`koseki replay`, `show`, `diff`, `explain` over the log of an installation that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from actors.clock_turning import begin_manual_clock
from actors.log_clock import LogClock
from app.cli import cli
from app.console import print_json
from app.rehearsing import RulesFault, present_rules, read_rules_file, rehearse_rules
from app.replaying import (
    compare_customer,
    membership_explained,
    merge_explained,
    person_exported,
    replay_log,
    show_customer,
)
from app.settings import Settings, ensure_pepper
from domain.errors import Invalid
from domain.ids import WORKSPACE_STREAM
from domain.workspace_events import SegmentActivated, SegmentDefined
from eventlog.jetstream import JetStreamEventLog
from tests.actors.house import CLOCK, Workspace
from tests.services.edge import PEPPER, Edge, edge_over, loyalty, signal, user
from tests.support.events import attempt, draft

ANN = user("ann")
A_YEAR = timedelta(days=365)


@pytest_asyncio.fixture
async def edge(sealed: JetStreamEventLog, tmp_path: Path) -> AsyncIterator[Edge]:
    async with edge_over(sealed, tmp_path / "served") as edge:
        await edge.define_rules()
        yield edge


@pytest.mark.parametrize("is_long", [False, True])
async def test_the_whole_log_is_folded_up_to_a_revision(
    edge: Edge, settings: Settings, monkeypatch: pytest.MonkeyPatch, *, is_long: bool
) -> None:
    if is_long:
        monkeypatch.setattr("app.scratch.IN_MEMORY_EVENTS_MAX", 0)
    first = await edge.identify(ANN)
    await edge.identify(user("bob"))
    seen: list[int] = []
    found = await replay_log(settings, str(first.revision), progress=seen.append)
    assert (found["revision"], found["customers"]) == (first.revision, 1)
    assert seen == sorted(seen)
    assert seen[-1] == first.revision
    everything = await replay_log(settings, None)
    assert (everything["customers"], everything["events_per_second"] > 0) == (2, True)
    assert everything["rows_digest"] == edge.store.checkpoint.rows_digest.hex()
    with pytest.raises(Invalid):
        await replay_log(settings, "100000")


async def test_a_customer_is_shown_and_compared(edge: Edge, settings: Settings) -> None:
    first = await edge.identify(ANN, traits={"tier": "silver"})
    gold = await edge.set_traits(ANN, traits={"tier": "gold"})
    who = first.customer_id
    then = await show_customer(settings, who, as_of=str(first.revision))
    now = await show_customer(settings, who, as_of=None)
    assert then is not None
    assert now is not None
    shown = [found["traits"][0]["winner"]["value"] for found in (then, now)]
    assert (shown, then["revision"]) == (["silver", "gold"], first.revision)
    assert await show_customer(settings, who, as_of="1") is None
    since, tier = await compare_customer(settings, who, earlier=str(first.revision), later=None)
    assert (tier["field"], tier["before"], tier["after"]) == ("traits.tier", "silver", "gold")
    assert since["field"] == "happened_at.traits.tier"
    for change in (since, tier):
        assert [step["revision"] for step in change["steps"]] == [gold.revision]


@pytest.mark.parametrize("start", [CLOCK.now() - A_YEAR, CLOCK.now() + A_YEAR])
async def test_without_a_moment_it_is_the_time_of_a_clock_that_is_turned_by_hand(
    sealed: JetStreamEventLog, settings: Settings, tmp_path: Path, start: datetime
) -> None:
    await begin_manual_clock(sealed, start, clock=CLOCK)
    clock = LogClock(sealed, CLOCK)
    await clock.refresh()
    house = Workspace(sealed, doubled=True, clock=clock)
    async with edge_over(sealed, tmp_path / "served", house=house) as edge:
        await edge.define_rules()
        until = start + timedelta(hours=1)
        said = {"traits": {"campaign": "spring"}, "happened_at": start, "expires_at": until}
        who = (await edge.identify(ANN, **said)).customer_id
        shown = await show_customer(settings, who, as_of=None)
        exported = await person_exported(settings, who, as_of=None)
        assert shown is not None
        assert exported is not None
        for found in (shown, exported):
            assert [claim["value"] for claim in found["context"]] == ["spring"]
        assert shown["clock"] == exported["known_as_of"]["time"] == start.isoformat()
        assert (await replay_log(settings, None))["clock"] == start.isoformat()


async def test_a_customer_is_shown_by_what_it_held_then(edge: Edge, settings: Settings) -> None:
    settings.pepper_file.parent.mkdir(parents=True, exist_ok=True)
    settings.pepper_file.write_bytes(PEPPER)
    first = await edge.identify(ANN, traits={"tier": "silver"})
    other = await edge.identify(loyalty("77"))
    await edge.identify(ANN, loyalty("77"))
    for revision, held, customer in (
        (first.revision, "user_id: ann ", first.customer_id),
        (other.revision, "loyalty_id:77", other.customer_id),
        (None, "loyalty_id:77", first.customer_id),
    ):
        as_of = None if revision is None else str(revision)
        shown = await show_customer(settings, identifier=held, as_of=as_of)
        assert shown is not None
        assert shown["customer_id"] == customer
        by_id = await show_customer(settings, customer, as_of=as_of)
        assert by_id is not None
        assert {**shown, "clock": 0} == {**by_id, "clock": 0}
    before = str(first.revision)
    assert await show_customer(settings, identifier="loyalty_id:77", as_of=before) is None
    for named in ({}, {"customer": "x", "identifier": "user_id:ann"}, {"identifier": "user_id"}):
        with pytest.raises(Invalid):
            await show_customer(settings, **named, as_of=None)


async def test_what_is_shown_can_be_printed_sums_as_exact_text(
    edge: Edge, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (outcome,) = await edge.ingest(signal("m1", ANN, dollars=29.33))
    shown = await show_customer(settings, outcome.customer_id, as_of=None)
    assert shown is not None
    print_json(shown)
    (tally,) = orjson.loads(capsys.readouterr().out)["tallies"]
    assert tally["sums"]["dollars"] == {"count": 1, "total": "29.33"}


async def test_a_merge_is_explained_by_rule_evidence_and_undoing(
    edge: Edge, settings: Settings
) -> None:
    one = await edge.identify(ANN)
    other = await edge.identify(loyalty("77"))
    merged = await edge.identify(ANN, loyalty("77"))
    (merge_id,) = merged.merge_ids
    found = await merge_explained(settings, merge_id)
    assert found is not None
    assert {found["older"], found["newer"]} == {one.customer_id, other.customer_id}
    assert (found["reason"], found["undone"]) == ("identifiers_met", None)
    assert {e["record_id"] for e in found["evidence"]} == {one.customer_id, other.customer_id}
    assert found["auth_id"]
    assert await merge_explained(settings, "00000000-0000-0000-0000-000000000000") is None


async def test_a_membership_is_explained_by_the_event_that_began_it(
    edge: Edge, sealed: JetStreamEventLog, settings: Settings
) -> None:
    defined = SegmentDefined(
        segment="buyers",
        definition=1,
        expression='count("Order Completed", "30d") >= 1',
        purposes=("analytics",),
        uses=(),
    )
    heads = await sealed.last_heads([WORKSPACE_STREAM])
    told = [
        draft(stream=WORKSPACE_STREAM, body=defined, part=1, parts=2),
        draft(
            stream=WORKSPACE_STREAM,
            body=SegmentActivated(segment="buyers", definition=1),
            part=2,
            parts=2,
        ),
    ]
    stored = await sealed.append(attempt(*told, expected=heads), timeout_seconds=10)
    assert type(stored).__name__ == "Stored"
    done = await edge.identify(ANN)
    out = await membership_explained(settings, "buyers", done.customer_id, as_of=None)
    assert out is not None
    assert (out["is_in"], out["since_revision"]) == (False, None)
    (outcome,) = await edge.ingest(signal("m1", ANN))
    await edge.get(ANN, at_least_revision=outcome.revision)
    found = await membership_explained(settings, "buyers", done.customer_id, as_of=None)
    assert found is not None
    assert (found["is_in"], found["since_cause"]) == (True, "event")
    assert found["since_event_type"] == "koseki.record.signals-recorded.v1"
    [reading] = orjson.loads(orjson.dumps(found))["readings"]  # as the command line prints it
    assert (reading["call"], reading["value"]) == ('count("Order Completed", "30d")', 1)
    assert reading["sure_until"] == found["sure_until"] is not None


async def test_other_identity_rules_are_tried_on_the_log(
    edge: Edge, settings: Settings, tmp_path: Path
) -> None:
    ensure_pepper(settings)
    first = await edge.identify(loyalty("X1"))
    second = await edge.identify(loyalty("x1"))
    rules = await present_rules(settings)
    [changed] = [rule for rule in rules["namespaces"] if rule["name"] == "loyalty_id"]
    changed["normaliser"] = "lower_case"
    file = tmp_path / "rules.json"
    file.write_bytes(orjson.dumps(rules))
    size = len(await edge.house.events())
    seen: list[int] = []
    found = await rehearse_rules(settings, read_rules_file(file), progress=seen.append)
    assert (found["joining"], found["parting"], found["revision"]) == (1, 0, size)
    assert not found["may_be_set"]
    file.write_bytes(orjson.dumps(await present_rules(settings)))
    same = await rehearse_rules(settings, read_rules_file(file))
    assert (same["joining"], same["may_be_set"]) == (0, True)
    assert found["would_join"][0]["customers"] == tuple(
        sorted((first.customer_id, second.customer_id))
    )
    assert seen[-1] == len(await edge.house.events()) == size


NO_ID = [
    ["show"],
    ["diff", "--from", "5"],
    ["replay", "--until", "100"],
    ["explain", "membership", "--segment", "s01"],
    ["export"],
    ["export", "--as-of", "5"],
    ["erase"],
]


@pytest.mark.parametrize("command", NO_ID, ids=" ".join)
@pytest.mark.parametrize("customer", ["zzz", "0190C5A0-0000-7000-8000-00000000000", "a b*>"])
@pytest.mark.usefixtures("sealed")
def test_an_id_that_is_none_is_named_in_one_line(
    settings: Settings, command: list[str], customer: str
) -> None:
    data = ["--data", str(settings.data)]
    done = CliRunner().invoke(cli, [*command, "--customer", customer, *data])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "the id of a customer or record is a UUID\n"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"namespaces": [{"name": "No"}]}'])
def test_a_file_that_holds_no_rules_says_where_it_is_wrong(text: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(text)
    shown = CliRunner().invoke(
        cli, ["identity", "replay", "--rules", str(file), "--data", str(tmp_path)]
    )
    assert shown.exit_code == 2
    with pytest.raises(RulesFault):
        read_rules_file(file)
