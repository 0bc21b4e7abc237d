"""Find who is whom in a FEBRL file: people without ids, by any two of name, address, birth date.

Shows how a workspace comes by rules of its own. Run it beside `koseki up --data DIR` on a new DIR;
what it printed is the address. The files (FEBRL 4 comes in two) name the duplicates, so the result
can be judged:

    python -m examples.febrl 127.0.0.1:50051 benchmarks/data/febrl/dataset1.csv
"""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from domain.consent import LawfulBasis
from domain.identity_rules import IdentityRules, Namespace, Part
from examples.population.agreement import agreement
from koseki.v1 import (
    common_pb2,
    customer_service_pb2,
    customer_service_pb2_grpc,
    query_service_pb2,
    query_service_pb2_grpc,
    workspace_service_pb2,
    workspace_service_pb2_grpc,
)
from services.client import Client
from services.identity_rules import namespace_messages

SOURCE = "register"
PURPOSE = "service"
RECORD = "record_number"
CALLS_AT_ONCE = 32
BATCH = 100
CALL_SECONDS_MAX = 60.0
VALUES_MAX = 64

NAME = Part(name="name", normaliser="words")
ADDRESS = Part(name="address", normaliser="unspaced")
BIRTHDAY = Part(name="birthday")
RULES = IdentityRules(
    namespaces=(
        Namespace(name="name_and_birthday", values_max=VALUES_MAX, parts=(NAME, BIRTHDAY)),
        Namespace(name="name_and_address", values_max=VALUES_MAX, parts=(NAME, ADDRESS)),
        Namespace(name="address_and_birthday", values_max=VALUES_MAX, parts=(ADDRESS, BIRTHDAY)),
        Namespace(name=RECORD, values_max=VALUES_MAX),
    )
)
"""Any two name a person; twins in one house are one by these rules. A record's own number names it,
so that one without two of them is somebody too."""


@dataclass(frozen=True, slots=True)
class FebrlRecord:
    """A record, what it says of a person, and the truth: which person it is of."""

    number: str
    traits: Mapping[str, str]
    person: str


def read_records(path: Path) -> Iterator[FebrlRecord]:
    """Read a FEBRL file; fields that are empty say nothing. The social security number is unused.

    `rec-12-org` is the first record of person 12, `rec-12-dup-0` a duplicate with errors.
    """
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, skipinitialspace=True):
            said = {
                "name": f"{row['given_name']} {row['surname']}",
                "address": f"{row['street_number']} {row['address_1']}",
                "birthday": row["date_of_birth"],
            }
            traits = {name: text.strip() for name, text in said.items() if text.strip()}
            yield FebrlRecord(row["rec_id"], traits, row["rec_id"].split("-")[1])


def identifiers(record: FebrlRecord) -> list[common_pb2.Identifier]:
    """Give the identifiers that the rules make of a record."""
    found = [common_pb2.Identifier(namespace=RECORD, value=record.number)]
    for namespace in RULES.namespaces:
        parts = [part.name for part in namespace.parts]
        if parts and all(part in record.traits for part in parts):
            values = {part: record.traits[part] for part in parts}
            found.append(common_pb2.Identifier(namespace=namespace.name, parts=values))
    return found


async def set_rules(address: str) -> None:
    """Let the workspace tell people by these rules, and know the file as a source."""
    async with Client(address) as client, grpc.aio.insecure_channel(address) as channel:
        await client.define_purpose(PURPOSE, LawfulBasis.CONTRACT)
        await client.register_source(SOURCE, [PURPOSE])
        workspaces = workspace_service_pb2_grpc.WorkspaceServiceStub(channel)
        request = workspace_service_pb2.SetIdentityRulesRequest(
            namespaces=namespace_messages(RULES)
        )
        await workspaces.SetIdentityRules(request, timeout=CALL_SECONDS_MAX)


async def resolve(address: str, records: Sequence[FebrlRecord]) -> dict[str, str]:
    """Tell Koseki of each record; give the customer of each when all were told."""
    gate = asyncio.Semaphore(CALLS_AT_ONCE)
    async with grpc.aio.insecure_channel(address) as channel:
        customers = customer_service_pb2_grpc.CustomerServiceStub(channel)

        async def tell(record: FebrlRecord) -> int:
            request = customer_service_pb2.IdentifyRequest(
                identifiers=identifiers(record), source=SOURCE
            )
            request.traits.update(dict(record.traits))
            async with gate:
                return (await customers.Identify(request, timeout=CALL_SECONDS_MAX)).revision

        revision = max(await asyncio.gather(*(tell(record) for record in records)))
        queries = query_service_pb2_grpc.QueryServiceStub(channel)
        found: dict[str, str] = {}
        for start in range(0, len(records), BATCH):
            some = records[start : start + BATCH]
            found |= await _customers_of(queries, some, revision=revision)
        return found


async def _customers_of(
    queries: query_service_pb2_grpc.QueryServiceAsyncStub,
    records: Sequence[FebrlRecord],
    *,
    revision: int,
) -> dict[str, str]:
    named = [common_pb2.Identifier(namespace=RECORD, value=record.number) for record in records]
    request = query_service_pb2.BatchGetCustomersRequest(
        references=[common_pb2.CustomerReference(identifier=name) for name in named],
        purpose=PURPOSE,
        at_least_revision=revision,
    )
    answer = await queries.BatchGetCustomers(request, timeout=CALL_SECONDS_MAX)
    return {
        record.number: result.customer.customer_id
        for record, result in zip(records, answer.results, strict=True)
    }


async def main(address: str, paths: Sequence[Path]) -> None:
    """Resolve the records of all files together, and print how well it went."""
    records = [record for path in paths for record in read_records(path)]
    await set_rules(address)
    found = await resolve(address, records)
    judged = agreement(found, {record.number: record.person for record in records})
    print(f"{len(records):,} records, {len(set(found.values())):,} customers")
    print(
        f"precision {judged.precision:.4f}, recall {judged.recall:.4f} of {judged.wanted:,} pairs"
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], [Path(path) for path in sys.argv[2:]]))
