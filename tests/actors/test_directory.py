"""What a router believes of owners and roots: from the log and from replies, never relied on."""

from __future__ import annotations

from actors.directory import Directory
from domain.ids import RecordId
from domain.replies import Moved
from tests.actors.house import Workspace, check, identify, loyalty, track, traits, user, workspace

A, B, C = user("a"), loyalty("b"), user("c")


def owners(house: Workspace, *items: object) -> dict[str, str]:
    """Ask the router's directory, without the log."""
    routed, _ = house.router._directory.route(check(*items))  # type: ignore[arg-type] # identifiers
    return {str(key): str(record) for key, record in routed.owners.items()}


async def test_owners_are_looked_up_in_the_log_once() -> None:
    async with workspace() as house:
        root = str((await house.done(track("m1", A))).customer_id)
        directory = Directory(house.log)
        await directory.look_up([check(A, B)])
        house.memory.is_available = False
        await directory.look_up([check(A)])
        routed, target = directory.route(check(A, B))
        assert routed.owners == {A.key: root}
        assert target == root


async def test_what_a_command_linked_is_known_without_asking() -> None:
    async with workspace() as house:
        root = str((await house.done(track("m1", A))).customer_id)
        await house.done(identify(A, B))
        assert owners(house, A, B) == {A.key: root, B.key: root}


async def test_a_duplicate_or_a_declined_signal_teaches_nothing() -> None:
    async with workspace() as house:
        root = str((await house.done(track("m1", A))).customer_id)
        await house.done(track("m1", A, B))
        await house.done(track("m2", A, C, source="ads"))
        assert owners(house, A, B, C) == {A.key: root}


async def test_people_unknown_go_where_others_with_the_same_identifier_went() -> None:
    async with workspace() as house:
        directory = Directory(house.log)
        first, second, third = track("m1", A, B), track("m2", B, C), track("m3", C)
        targets = {directory.route(command)[1] for command in (first, second, third)}
        assert targets == {first.new_record_id}


async def test_a_root_that_was_learned_is_where_commands_go() -> None:
    async with workspace() as house:
        old, new = (RecordId(f"0000000{n}-0000-7000-8000-000000000000") for n in (1, 2))
        directory = Directory(house.log)
        _, target = directory.route(traits(record_id=new))
        assert target == new
        directory.learn_moved(traits(record_id=new), Moved(root=old, roots={new: old}))
        assert directory.route(traits(record_id=new))[1] == old
        assert directory.root_of(old) == old
