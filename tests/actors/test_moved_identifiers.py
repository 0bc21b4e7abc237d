"""A command that is sent again after its identifier went to somebody else, or to nobody.

It answers as it did at first, and changes nobody: not whom it means now, nor whom it meant then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from actors.router import CommandRouter
from domain.commands import (
    EraseCustomer,
    LinkIdentifiers,
    PersonCommand,
    ReadmitIdentifier,
    UnlinkIdentifier,
)
from domain.identity import Identifier
from domain.identity_events import IdentifierReadmitted, IdentifiersTakenOver
from domain.ids import RecordId, Stream, identifier_stream, record_stream
from domain.replies import Done, Failed
from eventlog.jetstream import JetStreamEventLog
from eventlog.memory import MemoryEventLog
from eventlog.port import EMPTY, Entry, Head
from eventlog.server import EmbeddedServer
from tests.actors.house import (
    CLOCK,
    HandClock,
    PlainLink,
    Workspace,
    consent,
    id_of,
    identify,
    loyalty,
    person,
    signal,
    track,
    traits,
    user,
    workspace,
)
from tests.support.nats import connect, new_workspace

MOVED, KEPT, OTHER, THIRD = loyalty("moved"), user("kept"), user("other"), user("third")
DAY = timedelta(days=1)


def unlink(item: Identifier) -> UnlinkIdentifier:
    return UnlinkIdentifier(**person((item,), {"seconds": 60}))


def readmit(item: Identifier) -> ReadmitIdentifier:
    return ReadmitIdentifier(**person((item,), {"reference": "ticket 1", "seconds": 60}))


def erase(*items: Identifier) -> EraseCustomer:
    return EraseCustomer(**person(items, {"seconds": 60}))


def link(*items: Identifier) -> LinkIdentifiers:
    said = {"source": "shop", "happened_at": CLOCK.now()}
    return LinkIdentifiers(**person(items, said))


COMMANDS: dict[str, Callable[[], PersonCommand]] = {
    "sets traits": lambda: traits(MOVED),
    "identifies": lambda: identify(MOVED, traits={"x": 1}),
    "identifies by a message": lambda: identify(MOVED, traits={"x": 1}, message_id="m9"),
    "links": lambda: link(MOVED, loyalty("more")),
    "consents": lambda: consent("given", MOVED),
    "records signals": lambda: track("m8 m9", MOVED),
    "records signals, linking": lambda: track("m9", MOVED, loyalty("more")),
}


async def to_nobody(house: Workspace) -> None:
    await house.done(unlink(MOVED))


async def to_another(house: Workspace) -> None:
    await to_nobody(house)
    await house.done(identify(OTHER, MOVED))


async def to_somebody_new(house: Workspace) -> None:
    await to_nobody(house)
    await house.done(track("new", MOVED))


async def to_a_third(house: Workspace) -> None:
    await to_another(house)
    await house.done(unlink(MOVED))
    await house.done(identify(THIRD, MOVED))


async def to_nobody_again(house: Workspace) -> None:
    await to_another(house)
    await house.done(unlink(MOVED))


async def to_another_who_merges(house: Workspace) -> None:
    await to_another(house)
    await house.done(identify(OTHER, THIRD))


async def to_another_who_is_merged_then(house: Workspace) -> None:
    await house.done(identify(OTHER, THIRD))
    await to_nobody(house)
    await house.done(identify(THIRD, MOVED))


async def from_a_merged_customer(house: Workspace) -> None:
    await house.done(identify(THIRD, KEPT))
    await to_another(house)


async def past_an_erasure(house: Workspace) -> None:
    await house.done(erase(KEPT))
    await house.done(readmit(MOVED))
    await house.done(identify(OTHER, MOVED))


MOVES = {
    move.__name__: move
    for move in (
        to_nobody,
        to_another,
        to_somebody_new,
        to_a_third,
        to_nobody_again,
        to_another_who_merges,
        to_another_who_is_merged_then,
        from_a_merged_customer,
    )
}


async def settled(house: Workspace) -> None:
    await house.done(identify(OTHER))
    await house.done(identify(THIRD))
    await house.done(identify(KEPT, MOVED))


async def sent_again(
    house: Workspace, command: PersonCommand, move: Callable[[Workspace], Awaitable[None]]
) -> None:
    """Carry a command out, let its identifier go, and send it again, before and after a restart."""
    first = await house.done(command)
    await move(house)
    size = len(await house.events())
    whose = await house.customer_of(KEPT) or first.customer_id  # nobody's, of somebody erased

    async def again() -> None:
        repeated = await house.done(command)
        assert repeated.customer_id == whose
        assert repeated.revision >= first.revision
        assert repeated.signals == ("duplicate",) * len(first.signals)
        assert len(await house.events()) == size

    await house.both_ways(again)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("name", COMMANDS)
async def test_it_is_not_carried_out_on_another(name: str, move: str) -> None:
    async with workspace() as house:
        await settled(house)
        await sent_again(house, COMMANDS[name](), MOVES[move])


async def test_so_it_is_over_a_log_on_a_server(own_server: EmbeddedServer) -> None:
    connection = await connect(own_server)
    log = JetStreamEventLog(connection, new_workspace())
    await log.ensure_stream()
    async with workspace(log=log) as house:
        await settled(house)
        await sent_again(house, traits(MOVED, seconds=60), to_nobody)
        await house.done(identify(KEPT, MOVED))
        await sent_again(house, track("m8 m9", MOVED, seconds=60), to_a_third)
        assert await house.count(IdentifiersTakenOver) == 3
        await house.done(erase(THIRD))
        command = readmit(MOVED)
        first = await house.done(command)
        await house.done(identify(OTHER, MOVED))
        assert await house.done(command) == first
    await connection.close()


@pytest.mark.parametrize("name", ["sets traits", "identifies", "links", "consents"])
async def test_nor_after_its_person_was_erased(name: str) -> None:
    async with workspace() as house:
        await settled(house)
        await sent_again(house, COMMANDS[name](), past_an_erasure)


async def test_what_takes_an_identifier_from_its_holder_takes_it_from_nobody_else() -> None:
    async with workspace() as house:
        await settled(house)
        command = unlink(MOVED)
        first = await house.done(command)

        async def again() -> None:
            repeated = await house.done(command)
            assert (repeated.customer_id, repeated.revision) == (first.customer_id, first.revision)

        await house.both_ways(again)
        other = (await house.done(identify(OTHER, MOVED))).customer_id
        await house.both_ways(again)
        assert await house.customer_of(MOVED) == other


async def test_what_erases_somebody_erases_nobody_else() -> None:
    async with workspace() as house:
        await settled(house)
        command = erase(MOVED)
        first = await house.done(command)
        await house.done(readmit(MOVED))
        other = (await house.done(identify(OTHER, MOVED))).customer_id

        async def again() -> None:
            repeated = await house.done(command)
            assert repeated.customer_id == first.customer_id
            assert repeated.revision <= first.revision
            assert await house.customer_of(MOVED) == other

        await house.both_ways(again)


async def nowhere(_house: Workspace) -> None:
    """Let nothing happen."""


async def to_another_after_an_erasure(house: Workspace) -> None:
    await house.done(identify(OTHER, MOVED))


async def to_another_who_is_erased(house: Workspace) -> None:
    await to_another_after_an_erasure(house)
    await house.done(erase(OTHER))


@pytest.mark.parametrize(
    "move",
    [nowhere, to_another_after_an_erasure, to_another_who_is_erased],
    ids=lambda m: m.__name__,
)
async def test_what_readmits_an_identifier_readmits_it_once(
    move: Callable[[Workspace], Awaitable[None]],
) -> None:
    async with workspace() as house:
        await settled(house)
        await house.done(erase(KEPT))
        command = readmit(MOVED)
        first = await house.done(command)
        await move(house)
        size = len(await house.events())

        async def again() -> None:
            assert await house.done(command) == first
            assert len(await house.events()) == size

        await house.both_ways(again)


async def test_what_readmits_an_identifier_and_comes_twice_at_once_readmits_it_once() -> None:
    async with workspace(hosts_wanted=1) as house:
        await settled(house)
        await house.done(erase(KEPT))
        command = readmit(MOVED)
        replies = await house.all_done([command, command, identify(OTHER, MOVED), command])
        assert await house.count(IdentifierReadmitted) == 1
        assert replies[2].left_out == ()
        for reply in (replies[1], replies[3], await house.done(command)):
            assert reply.revision >= replies[0].revision


async def test_a_message_that_comes_again_by_another_command_counts_once() -> None:
    async with workspace() as house:
        await settled(house)
        await house.done(track("m1 m2", MOVED))
        await to_another(house)
        again = await house.done(track("m1 m3", MOVED))
        assert [*again.signals] == ["duplicate", "recorded"]
        assert again.customer_id == await house.customer_of(OTHER)
        by_another = await house.done(track("m2", OTHER))
        assert [*by_another.signals] == ["recorded"]
        counted = await house.messages()
        assert (counted["m1"], counted["m3"]) == (1, 1)


def second_router(house: Workspace) -> CommandRouter:
    """Make a way to the same hosts that finds each customer in another one."""
    turned = [*house.hosts[1:], *house.hosts[:1]]
    return CommandRouter(house.log, PlainLink(turned), placement=house.placement, clock=house.clock)


@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.parametrize("name", COMMANDS)
async def test_a_host_that_knew_them_before_reads_on(name: str, *, knows: bool) -> None:
    async with workspace(doubled=True) as house:
        await settled(house)
        second = second_router(house)
        for item in (KEPT, OTHER, MOVED):
            assert isinstance(await second.execute(track(f"seen-{item.value}", item)), Done)
        command = COMMANDS[name]()
        first = await house.done(command)
        await to_another(house)
        size = len(await house.events())
        if not knows:
            second = second_router(house)
        repeated = await second.execute(command)
        assert isinstance(repeated, Done), repeated
        assert repeated.customer_id == first.customer_id
        assert len(await house.events()) == size


class LaggingLog(MemoryEventLog):
    """Read some streams from a replica that has not heard of anything after a revision."""

    def __init__(self) -> None:
        super().__init__("test")
        self.heard: dict[Stream, int] = {}

    async def load(self, stream: Stream, *, after: Head = EMPTY) -> list[Entry]:
        """Read a stream as far as the replica has it."""
        entries = await super().load(stream, after=after)
        heard = self.heard.get(stream)
        return [e for e in entries if heard is None or e.revision <= heard]


async def test_nothing_is_carried_out_where_a_replica_still_has_it_with_whom_it_was() -> None:
    log = LaggingLog()
    async with workspace(log=log) as house:
        await settled(house)
        command = traits(MOVED, seconds=60)
        heard = len(await house.events())
        first = await house.done(command)
        await to_another(house)
        await house.restart()
        size = len(await house.events())
        log.heard[record_stream(RecordId(str(first.customer_id)))] = heard
        assert await house.fails(command) == "LOG_UNAVAILABLE"
        log.heard.clear()
        assert (await house.done(command)).revision == first.revision
        assert len(await house.events()) == size


async def test_only_who_comes_with_an_identifier_of_a_broken_stream_is_refused() -> None:
    async with workspace() as house:
        await settled(house)
        await house.done(unlink(MOVED))
        claim = next(e for e in await house.events() if e.stream == identifier_stream(MOVED.key))
        another = f'{{"record_id":"{CLOCK.new_id()}"}}'
        house.memory.damage_body(claim.revision, another.encode())
        broken, sound = await house.router.execute_many([track("m1", MOVED), track("m2", OTHER)])
        assert isinstance(broken, Failed)
        assert broken.reason == "CUSTOMER_UNREADABLE"
        assert isinstance(sound, Done)


async def test_all_of_it_at_once_is_carried_out_once() -> None:
    async with workspace(hosts_wanted=1) as house:
        await settled(house)
        command = traits(MOVED)
        batch: list[PersonCommand] = [command, unlink(MOVED), identify(OTHER, MOVED), command]
        replies = await house.all_done(batch)
        carried_out = [e for e in await house.events() if e.command_id == command.command_id]
        assert len(carried_out) == 1
        assert replies[3].customer_id == replies[0].customer_id


async def test_who_let_go_longer_ago_than_commands_are_remembered_is_not_looked_for() -> None:
    clock = HandClock()
    async with workspace(clock=clock) as house:
        await settled(house)
        await house.done(unlink(MOVED))
        clock.ahead = DAY + timedelta(minutes=11)

        def now(command: PersonCommand) -> PersonCommand:
            deadline = clock.now() + timedelta(seconds=10)
            fresh = {"command_id": id_of(clock.now()), "deadline": deadline}
            return command.model_copy(update=fresh)

        await house.done(now(identify(OTHER, MOVED)))
        assert await house.count(IdentifiersTakenOver) == 0


async def test_what_is_taken_over_names_who_held_it() -> None:
    async with workspace() as house:
        await settled(house)
        await to_a_third(house)
        (one, two) = [
            e.body for e in await house.events() if isinstance(e.body, IdentifiersTakenOver)
        ]
        kept, other = [str(await house.customer_of(item)) for item in (KEPT, OTHER)]
        assert [h.record_id for h in one.holders] == [RecordId(kept)]
        assert [h.record_id for h in two.holders] == [RecordId(kept), RecordId(other)]


async def test_signals_of_who_took_an_identifier_over_are_recorded_all_the_same() -> None:
    async with workspace() as house:
        await settled(house)
        await to_another(house)
        command = track("x1", MOVED).model_copy(update={"signals": (signal("x1"), signal("x2"))})
        done = await house.done(command)
        assert [*done.signals] == ["recorded", "recorded"]
        assert done.customer_id == await house.customer_of(OTHER)
