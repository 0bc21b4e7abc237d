"""The example finds the customers of a workspace, the merged ones once."""

from __future__ import annotations

import asyncio

from domain.identity import Edge
from domain.identity_events import CustomersMerged
from domain.ids import CLOCK_STREAM, MergeId
from domain.workspace_events import ClockAdvanced
from eventlog.jetstream import JetStreamEventLog
from examples.read_customers import read_customers
from tests.eventlog_recorder.servers import Servers, variables
from tests.support.events import NOON, draft, new_id, new_record, store, traits
from tests.support.nats import new_workspace


async def test_customers_are_read_with_the_librarys_tools() -> None:
    connection = await Servers.connect()
    log = JetStreamEventLog(connection, new_workspace())
    await log.ensure_stream(replicas=int(Servers.replicas))
    older, newer = sorted([new_record(), new_record()])
    single = new_record()
    edge = Edge(merge_id=MergeId(new_id()), older=older.key, newer=newer.key)
    merged = CustomersMerged(
        root=older.key,
        edges=(edge,),
        evidence=(),
        component=(older.key, newer.key),
        live_edges=(edge,),
    )
    first = await store(log, draft(older, traits(city="Kyoto")), draft(newer, traits(age=40)))
    await store(log, draft(older, merged), draft(newer, merged), after=first)
    await store(
        log, draft(single, traits(city="Nara")), draft(CLOCK_STREAM, ClockAdvanced(to=NOON))
    )
    env = variables(KOSEKI_APPLICATION="", KOSEKI_WORKSPACE=log.workspace)

    lines = await asyncio.to_thread(lambda: list(read_customers(env)))

    assert sorted(lines) == sorted(
        [
            f"{older.key}: 2 records, 0 identifiers, 4 events, traits: age, city",
            f"{single.key}: 1 records, 0 identifiers, 1 events, traits: city",
        ]
    )
    await connection.close()
