"""`koseki rebuild` and replicas of the read side, on a running installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lmdb
import orjson
import psutil

from koseki.v1 import segment_service_pb2, segment_service_pb2_grpc
from projections.generations import serving_folder
from tests.e2e.installation import (
    CALL_SECONDS,
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


def lose_a_row(read_side: Path, table: str) -> None:
    """Take a row of somebody out of a replica, past everything that keeps it."""
    with lmdb.open(str(serving_folder(read_side)), max_dbs=200, map_size=MAP_BYTES) as environment:
        database = environment.open_db(table.encode(), create=False)
        with environment.begin(db=database, write=True) as rows, rows.cursor() as cursor:
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
        lose_a_row(installation.data / READ_SIDES[1], "profiles")
        status, printed, _ = run_koseki("verify", "--data", str(installation.data), "--json")
        proof = orjson.loads(printed)
        assert (status, proof["holds"], proof["read_sides"]) == (1, False, list(READ_SIDES))
        assert proof["first_divergence"]["table"] == "profiles"
        installation.interrupt()


async def test_a_rebuild_ends_where_the_projector_fails_in_each_start(tmp_path: Path) -> None:
    with installed(tmp_path / "data", "--hosts", "1") as installation:
        await until(lambda: are_ready(installation.parts()), timeout_seconds=READY_SECONDS_MAX)
        caller, projector = Caller(installation), installation.pid_of("projector")
        await caller.define_rules()
        (first,) = await caller.ingest(order("o1", person("anne"), cds=1))
        await caller.get(person("anne"), at_least_revision=first.revision)
        lose_a_row(installation.data / READ_SIDES[0], "memberships")
        segments = segment_service_pb2_grpc.SegmentServiceStub(caller.channel)
        await segments.IndexTrait(
            segment_service_pb2.IndexTraitRequest(trait="plan", purposes=["service"]),
            timeout=CALL_SECONDS,
        )
        await until(lambda: not psutil.pid_exists(projector), timeout_seconds=READY_SECONDS_MAX)
        (second,) = await caller.ingest(order("o2", person("bert"), cds=2))
        assert len((await caller.get(person("anne"))).signals) == 1  # from the rows as they are
        rebuilt = installation.json("rebuild")
        assert rebuilt[READ_SIDES[0]]["generation"] == "generation-2"
        bert = await caller.get(person("bert"), at_least_revision=second.revision)
        assert len(bert.signals) == 1
        assert installation.json("verify")["holds"]
        await caller.channel.close()
        installation.interrupt()
    assert installation.left_behind() == set()
