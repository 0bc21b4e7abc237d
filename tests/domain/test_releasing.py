"""Identifiers that leave, move to somebody else, and come back after an erasure."""

from __future__ import annotations

from domain.commands import ReadmitIdentifier
from domain.identity import Identifier, PastHolder
from domain.identity_events import (
    IdentifierReadmitted,
    IdentifierReleased,
    IdentifiersTakenOver,
    IdentifiersUnlinked,
    IdentifierTombstoned,
)
from domain.ids import identifier_stream, made_at_milliseconds
from tests.domain.asking import identify, signals, unlink
from tests.domain.facts import at, claim, command_id, email, linked, on, record_id, touched, user
from tests.domain.scenario import given

A, B, C = user("a"), email("b"), user("c")
TWO = given(on(1, linked(A, B)), on(2, linked(C)))


def released(item: object, record: int) -> tuple[object, object]:
    key = item.key  # type: ignore[attr-defined] # an Identifier
    return identifier_stream(key), IdentifierReleased(record_id=record_id(record))


def taken(item: Identifier, record: int, by: int | None = None) -> IdentifiersTakenOver:
    """Say that an identifier was another record's until a command took it from there."""
    until = made_at_milliseconds(command_id(by)) if by else 0
    holder = PastHolder(key=item.key, record_id=record_id(record), until=until)
    return IdentifiersTakenOver(holders=(holder,))


def test_an_identifier_is_taken_from_the_record_that_holds_it() -> None:
    TWO.when(unlink(3, B)).then(released(B, 1), on(1, IdentifiersUnlinked(keys=(B.key,))))  # type: ignore[arg-type] # placed
    joined = TWO.after(identify(3, A, C))
    joined.when(unlink(4, C)).then(
        released(C, 2),  # type: ignore[arg-type] # placed
        on(2, IdentifiersUnlinked(keys=(C.key,))),
        on(1, touched(2)),
    )


def test_it_is_taken_only_where_it_is() -> None:
    TWO.when(unlink(3, B, named=2)).then_fails("UNKNOWN_IDENTIFIER")
    TWO.when(unlink(3, user("nobody"))).then_fails("UNKNOWN_IDENTIFIER")
    TWO.when(unlink(3, B, named=9)).then_fails("UNKNOWN_CUSTOMER")


def test_what_was_released_is_claimed_by_who_comes_with_it_next() -> None:
    free = TWO.after(unlink(3, B))
    taken_over = on(2, taken(B, 1, by=3))
    free.when(identify(4, C, B)).then(claim(B, 2), on(2, linked(B)), taken_over)
    moved = free.after(identify(4, C, B))
    decision = moved.when(signals(5, B)).decision
    assert decision is not None
    assert decision.customer_id == record_id(2)


def test_unlinking_undoes_no_merge() -> None:
    joined = TWO.after(identify(3, A, C)).after(unlink(4, C))
    assert joined.record(1).component == (record_id(1), record_id(2))
    assert not joined.record(2).identifiers


def test_unlinking_the_same_twice_is_once() -> None:
    TWO.after(unlink(3, B)).when(unlink(3, B)).then_nothing()


def readmit(number: int) -> ReadmitIdentifier:
    return ReadmitIdentifier(
        command_id=command_id(number),
        auth_id="test",
        issued_at=at(0),
        deadline=at(9_999),
        new_record_id=record_id(99),
        identifiers=(B,),
        reference="ticket 7",
    )


def test_a_tombstoned_identifier_is_used_again_only_when_readmitted() -> None:
    erased = given(
        on(2, linked(C)), (identifier_stream(B.key), IdentifierTombstoned(record_id=record_id(1)))
    )
    erased.when(identify(3, B)).then_fails("IDENTIFIER_ERASED")
    body = IdentifierReadmitted(reference="ticket 7")
    erased.when(readmit(4)).then((identifier_stream(B.key), body))
    back = erased.after(readmit(4))
    taken_over = on(2, taken(B, 1))
    back.when(identify(5, C, B)).then(claim(B, 2), on(2, linked(B)), taken_over)
    back.when(readmit(6)).then_fails("NOT_ERASED")


def test_who_was_erased_after_a_readmission_is_not_readmitted_by_the_same_command() -> None:
    stream = identifier_stream(B.key)
    erased = given(on(2, linked(C)), (stream, IdentifierTombstoned(record_id=record_id(1))))
    back = erased.after(readmit(4))
    for later in (
        back,
        back.after(identify(5, C, B)),
        back.happened(stream, IdentifierTombstoned(record_id=record_id(2))),
    ):
        decision = later.when(readmit(4)).then_nothing()
        assert decision.repeated_revision == back.revision
        assert decision.customer_id is None
