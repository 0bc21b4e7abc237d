"""The example of rules of one's own finds the duplicates of FEBRL's first file, through gRPC."""

from __future__ import annotations

from pathlib import Path

from eventlog.memory import MemoryEventLog
from examples.febrl import identifiers, read_records, resolve, set_rules
from examples.population.agreement import agreement
from tests.services.edge import edge_over

FILE = Path(__file__).parents[2] / "benchmarks" / "data" / "febrl" / "dataset1.csv"


def test_what_a_record_does_not_say_makes_no_identifier(tmp_path: Path) -> None:
    header = FILE.read_text().splitlines()[0]
    file = tmp_path / "three.csv"
    file.write_text(
        f"{header}\n"
        "rec-1-org, ada, lovelace, 12, st james square, , london, 1, nsw, 18151210, 1\n"
        "rec-1-dup-0, , , 12, st james square, , london, 1, nsw, 18151210, 1\n"
        "rec-2-org, , , , , , , , , , 1\n"
    )
    whole, half, nothing = read_records(file)
    assert [item.namespace for item in identifiers(whole)] == [
        "record_number",
        "name_and_birthday",
        "name_and_address",
        "address_and_birthday",
    ]
    assert [item.namespace for item in identifiers(half)][1:] == ["address_and_birthday"]
    assert [item.value for item in identifiers(nothing)] == ["rec-2-org"]
    assert (whole.person, half.person, nothing.person) == ("1", "1", "2")


async def test_any_two_of_name_address_and_birthday_find_the_duplicates(tmp_path: Path) -> None:
    records = list(read_records(FILE))
    async with edge_over(MemoryEventLog("test"), tmp_path / "read-side") as edge:
        await set_rules(edge.address)
        found = await resolve(edge.address, records)
    judged = agreement(found, {record.number: record.person for record in records})
    assert judged.wanted == 500
    assert judged.precision >= 0.99
    assert judged.recall >= 0.65
