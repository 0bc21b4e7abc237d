"""Calls to a host whose server dies under them: they are made again, and carried out once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from actors.host import CustomerHost
from actors.lanes import HostTable, RequestLane, ServingHost
from actors.router import CommandRouter
from actors.slots import Placement
from domain.replies import Done
from eventlog.lanes import NatsLanes
from eventlog.memory import MemoryEventLog
from eventlog.port import Attempt, Outcome
from tests.actors.house import CLOCK, Unused, Workspace, track, user
from tests.support.cluster import Cluster
from tests.support.waiting import until

DEADLINE_SECONDS, SOON_SECONDS = 60, 15
LATE_SECONDS = 0.3
"""Longer than a reply takes, shorter than a host is waited for that says nothing."""


class FatalLog(MemoryEventLog):
    """A log after whose next append something happens, before anybody hears of it."""

    then: Callable[[], None] | None = None

    async def append(self, attempt: Attempt, *, timeout_seconds: float) -> Outcome:
        outcome = await super().append(attempt, timeout_seconds=timeout_seconds)
        if self.then is not None:
            self.then()
            self.then = None
        return outcome


async def test_a_reply_that_is_lost_with_the_server_of_the_host_is_asked_for_again(
    own_cluster: Cluster,
) -> None:
    of_host, of_caller, _ = own_cluster.members
    log = FatalLog("shop")
    house = Workspace(log)
    await house.define_rules()
    serving_on, calling_on = [await own_cluster.connect(m) for m in (of_host, of_caller)]
    host = CustomerHost(log, owns=lambda _: True, clock=CLOCK)
    serving = ServingHost(host, NatsLanes(serving_on, "shop"), number=0, epoch=CLOCK.new_id())
    await serving.start()
    table, lanes = HostTable(1), NatsLanes(calling_on, "shop")
    await table.start(lanes)
    lane = RequestLane("command", lanes, table, larger=Unused())
    router = CommandRouter(log, lane, placement=Placement(1), clock=CLOCK, table=table)
    await until(lambda: table.epoch_of(0) is not None)
    losses = [connection.losses for connection in (serving_on, calling_on)]
    log.then = of_host.pause  # so that the reply still gets to the server, but no further
    async with asyncio.timeout(SOON_SECONDS):
        call = asyncio.create_task(
            router.execute(track("m1", user("ann"), seconds=DEADLINE_SECONDS))
        )
        await until(lambda: log.then is None)
        await asyncio.sleep(LATE_SECONDS)
        assert not call.done()
        await of_host.kill()
        reply = await call
    assert isinstance(reply, Done), reply
    assert await house.messages() == {"m1": 1}
    assert [connection.losses for connection in (serving_on, calling_on)] == [
        losses[0] + 1,
        losses[1],
    ]
    await table.close()
    await serving.close()
    await house.rules.close()
    for connection in (serving_on, calling_on):
        await connection.close()
