"""`koseki rebuild` and replicas of the read side, on a running installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lmdb
import orjson

from projections.generations import serving_folder
from tests.e2e.installation import (
    Caller,
    Installation,
    are_ready,
    installed,
    order,
    person,
    run_koseki,
)
from tests.support.waiting import until

READY_SECONDS_MAX = 90.0
READ_SIDES = ("read-side", "read-side-1")
MAP_BYTES = 1 << 36


def at_one_revision(installation: Installation) -> dict[str, Any]:
    replicas: dict[str, Any] = installation.json("status")["replicas"]
    return replicas


async def test_replicas_are_rebuilt_while_they_serve_and_have_one_digest(tmp_path: Path) -> None:
    with installed(tmp_path / "data", "--projectors", "2") as installation:
        await until(lambda: are_ready(installation.parts()), timeout_seconds=READY_SECONDS_MAX)
        caller = Caller(installation)
        await caller.define_rules()
        before = at_one_revision(installation)
        rebuilt = installation.json("rebuild")
        after = at_one_revision(installation)
        assert {rebuilt[name]["generation"] for name in READ_SIDES} == {"generation-2"}
        assert before["read-side"]["revision"] <= after["read-side"]["revision"]
        assert len({after[name]["rows_digest"] for name in READ_SIDES}) == 1
        assert all(after[name]["behind_events"] == 0 for name in READ_SIDES)
        proof = installation.json("verify")
        assert (proof["holds"], proof["read_sides"]) == (True, list(READ_SIDES))
        await caller.channel.close()
        installation.interrupt()
    assert installation.left_behind() == set()


def lose_a_row(read_side: Path) -> None:
    """Take the profile of somebody out of a replica, past everything that keeps it."""
    with lmdb.open(str(serving_folder(read_side)), max_dbs=200, map_size=MAP_BYTES) as environment:
        profiles = environment.open_db(b"profiles", create=False)
        with environment.begin(db=profiles, write=True) as rows, rows.cursor() as cursor:
            assert cursor.first()
            assert cursor.delete()


async def test_a_row_that_any_replica_lost_is_found(tmp_path: Path) -> None:
    with installed(tmp_path / "data", "--hosts", "1", "--projectors", "2") as installation:
        await until(lambda: are_ready(installation.parts()), timeout_seconds=READY_SECONDS_MAX)
        caller = Caller(installation)
        await caller.define_rules()
        (outcome,) = await caller.ingest(order("o1", person("anne"), cds=1))
        await caller.get(person("anne"), at_least_revision=outcome.revision)
        await until(
            lambda: all(
                side["behind_events"] == 0 for side in at_one_revision(installation).values()
            )
        )
        await caller.channel.close()
        lose_a_row(installation.data / READ_SIDES[1])
        status, printed, _ = run_koseki("verify", "--data", str(installation.data), "--json")
        proof = orjson.loads(printed)
        assert (status, proof["holds"], proof["read_sides"]) == (1, False, list(READ_SIDES))
        assert proof["first_divergence"]["table"] == "profiles"
        installation.interrupt()
