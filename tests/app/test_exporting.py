"""`koseki export`: Parquet files of what one purpose may see (R12), whole or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
import pytest_asyncio

from app.exporting import export_tables
from app.settings import Settings
from domain.errors import Invalid, NotFound
from eventlog.jetstream import JetStreamEventLog
from koseki.v1 import customer_service_pb2
from projections.fold import row_codec
from replay.export import EXPORTED, Export
from replay.parquet import ExportExists, ParquetExport
from tests.services.edge import SECONDS, Edge, edge_over, signal, user

ANN, BOB = user("ann"), user("bob")


@pytest_asyncio.fixture
async def told(sealed: JetStreamEventLog, settings: Settings) -> AsyncIterator[dict[str, Any]]:
    """Ann allows marketing, Bob does not; then the projector stops, and its read side stays."""
    async with edge_over(sealed, settings.read_side_folder) as edge:
        yield {**await _tell(edge), "edge": edge}


async def _tell(edge: Edge) -> dict[str, Any]:
    await edge.define_rules()
    await edge.define_segment("buyers", 'seen("Order Completed", "30d")')
    why = {"purposes": ["service"], "exception": "whom not to write to"}
    stop = await edge.define_segment("stop", "true", **why)
    await edge.until_active("stop", revision=stop.revision)
    ann = await edge.identify(ANN, traits={"tier": "silver"})
    bob = await edge.identify(BOB, traits={"tier": "lead"})
    given = await edge.consent("GIVEN", ANN, notice_version="3")
    await edge.set_traits(ANN, traits={"tier": "gold"})
    await edge.set_traits(ANN, source="desk", traits={"note": "calls back"})
    await edge.ingest(signal("m1", ANN, cds=2))
    last = await edge.ingest(signal("m2", BOB, cds=1))
    revision = last[0].revision
    await edge.get(ANN, at_least_revision=revision)
    return {"ann": ann, "bob": bob, "given": given.revision, "last": revision}


def read(folder: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / f"{table}.parquet").to_pylist()
    return found


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_purpose_gets_what_it_may_see_and_no_more(
    sealed: JetStreamEventLog, settings: Settings, tmp_path: Path
) -> None:
    async with edge_over(sealed, settings.read_side_folder) as edge:
        told = await _tell(edge)
    folder = tmp_path / "marketing"
    seen: list[int] = []
    found = await export_tables(settings, folder, purpose="marketing", progress=seen.append)
    ann = told["ann"].customer_id
    assert (found["customers"], seen, found["left_out"]["purpose_closed"]) == (1, [1], 1)
    assert [row["customer_id"] for row in read(folder, "customers")] == [ann]
    assert [(r["namespace"], r["value"]) for r in read(folder, "identifiers")] == [
        ("user_id", "ann")
    ]
    traits = {r["trait"]: orjson.loads(r["value"]) for r in read(folder, "traits") if r["is_shown"]}
    assert traits == {"tier": "gold"}
    (signals,) = read(folder, "signals")
    assert (signals["message_id"], orjson.loads(signals["properties"])) == ("m1", {"cds": 2.0})
    consents = {r["purpose"]: r for r in read(folder, "consents")}
    assert (consents["marketing"]["is_open"], consents["marketing"]["notice_version"]) == (
        True,
        "3",
    )
    assert [r["state"] for r in read(folder, "consent_acts")] == ["given"]
    assert read(folder, "memberships") == []  # they serve analytics or service alone
    everything = await export_tables(settings, tmp_path / "audit", purpose="audit")
    assert everything["customers"] == 2
    assert {r["trait"] for r in read(tmp_path / "audit", "traits")} == {"tier", "note"}
    members = {(r["customer_id"], r["segment"]) for r in read(tmp_path / "audit", "memberships")}
    names = ("buyers", "stop")
    assert members == {(told[who].customer_id, name) for who in ("ann", "bob") for name in names}
    metadata = pq.read_schema(folder / "traits.parquet").metadata
    assert metadata[b"koseki.purpose"] == b"marketing"
    manifest = orjson.loads((folder / "export.json").read_bytes())
    assert manifest["rows"] == found["rows"]
    assert int(manifest["koseki.revision"]) == found["revision"] >= told["last"]


async def test_a_past_state_is_exported_from_the_log(
    told: dict[str, Any], settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "then"
    found = await export_tables(settings, folder, purpose="marketing", as_of=str(told["given"]))
    assert (found["revision"], found["customers"]) == (told["given"], 1)
    assert [orjson.loads(r["value"]) for r in read(folder, "traits")] == ["silver"]
    assert read(folder, "signals") == read(folder, "memberships") == []
    with pytest.raises(Invalid):
        await export_tables(settings, tmp_path / "later", purpose="marketing", as_of="100000")


@pytest.mark.parametrize("is_destroyed", [True, False])
async def test_who_is_erased_is_in_no_export_now_or_then(
    sealed: JetStreamEventLog, settings: Settings, tmp_path: Path, *, is_destroyed: bool
) -> None:
    async with edge_over(sealed, settings.read_side_folder) as edge:
        told = await _tell(edge)
        ann = told["ann"].customer_id
        request = customer_service_pb2.EraseCustomerRequest(identifiers=[ANN])
        done = await edge.customer.EraseCustomer(request, timeout=SECONDS)
        await edge.get(BOB, at_least_revision=done.revision)
        assert sealed.keys is not None
        if is_destroyed:
            await sealed.keys.destroy([ann])
    now = await export_tables(settings, tmp_path / "now", purpose="audit")
    then = await export_tables(
        settings, tmp_path / "then", purpose="audit", as_of=str(told["last"])
    )
    for found, name in ((now, "now"), (then, "then")):
        assert (found["customers"], found["left_out"]["erased"]) == (1, 1)
        for table in EXPORTED:
            assert ann not in {row["customer_id"] for row in read(tmp_path / name, table)}


async def test_who_is_erased_is_in_no_export_of_a_read_side_that_has_not_heard_of_it(
    told: dict[str, Any], sealed: JetStreamEventLog
) -> None:
    edge = told["edge"]
    with edge.store.snapshot() as behind:
        request = customer_service_pb2.EraseCustomerRequest(identifiers=[ANN])
        await edge.customer.EraseCustomer(request, timeout=SECONDS)
        export = Export(behind, row_codec(sealed), "audit", sealed)
        seen = [row async for batch in export.batches() for row in batch.rows["customers"]]
    assert [row["customer_id"] for row in seen] == [told["bob"].customer_id]
    assert export.left_out.erased == 1


async def test_nothing_is_left_of_an_export_that_fails(
    told: dict[str, Any], settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(NotFound):
        await export_tables(settings, tmp_path / "out", purpose="nonsense", as_of="3")
    assert not [name for name in names_in(tmp_path) if "out" in name]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("not ours")
    with pytest.raises(ExportExists):
        await export_tables(settings, tmp_path / "mine", purpose="audit", as_of="3")
    assert names_in(tmp_path / "mine") == ["file"]


def test_rows_go_out_in_groups_and_every_table_is_there(tmp_path: Path) -> None:
    rows = [{"customer_id": str(number), "record_ids": [str(number)]} for number in range(60_000)]
    with ParquetExport(tmp_path / "groups", about={}) as files:
        for start in range(0, len(rows), 7_000):
            files.add({"customers": rows[start : start + 7_000]})
    written = pq.ParquetFile(tmp_path / "groups" / "customers.parquet")
    assert (written.metadata.num_rows, written.metadata.num_row_groups) == (60_000, 2)
    assert {path.stem for path in (tmp_path / "groups").glob("*.parquet")} == EXPORTED.keys()
    assert (tmp_path / "groups").stat().st_mode & 0o077 == 0
