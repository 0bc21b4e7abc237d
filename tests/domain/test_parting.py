"""Undo (R6, R7): which events, on which records, and what binds each side afterwards."""

from __future__ import annotations

from domain.identity import Separation
from domain.identity_events import CustomersMerged, CustomersParted
from domain.ids import derived_id
from tests.domain.asking import act, check, identify, merge, set_traits, signals, undo, unmerge
from tests.domain.facts import at, command_id, consent, edge, email, linked, on, record_id, user
from tests.domain.scenario import Scenario, given

A, B, C, D = user("a"), email("b"), user("c"), user("d")
FOUR = given(on(1, linked(A)), on(2, linked(B)), on(3, linked(C)), on(4, linked(D)))
AB = edge(10, 1, 2)
BC = edge(11, 2, 3)
CHAIN = FOUR.after(identify(10, A, B)).after(identify(11, B, C))


def apart(one: int, other: int, *lifted_by: str) -> Separation:
    return Separation(one=record_id(one), other=record_id(other), lifted_by=lifted_by)


def people(scenario: Scenario) -> list[list[int]]:
    return [sorted(int(r[:8], 16) for r in customer.records) for customer in scenario.customers]


def opened(scenario: Scenario, number: int) -> bool:
    decision = scenario.when(check(0xFFFF, named=number)).decision
    assert decision is not None
    assert decision.verdict is not None
    return decision.verdict.is_open


def test_an_undo_stands_on_every_record_and_whole_on_each_new_root() -> None:
    roots = (record_id(1), record_id(2))
    plain = CustomersParted(customer=record_id(1), root=record_id(2), removed=(AB,))
    decision = CHAIN.when(undo(12, AB.merge_id, named=3)).then(
        on(
            1,
            CustomersParted(
                customer=record_id(1),
                root=record_id(1),
                removed=(AB,),
                roots=roots,
                component=(record_id(1),),
                separations=(apart(1, 2),),
            ),
        ),
        on(
            2,
            plain.model_copy(
                update={
                    "roots": roots,
                    "component": (record_id(2), record_id(3)),
                    "live_edges": (BC,),
                    "separations": (apart(1, 2),),
                }
            ),
        ),
        on(3, plain),
    )
    assert decision.customer_id == record_id(2)


def test_what_is_still_connected_stays_together() -> None:
    assert people(CHAIN.after(undo(12, AB.merge_id, named=1))) == [[1], [2, 3], [4]]
    assert people(CHAIN.after(undo(12, BC.merge_id, named=1))) == [[1, 2], [3], [4]]


def test_a_record_is_unmerged_from_all_at_once() -> None:
    after = CHAIN.after(unmerge(12, 2))
    assert people(after) == [[1], [2], [3], [4]]
    assert after.record(2).separations == (apart(1, 2), apart(2, 3))
    assert after.record(1).separations == (apart(1, 2),)
    after.when(unmerge(13, 2)).then_fails("NOT_MERGED")


def test_merges_are_undone_in_any_order() -> None:
    for first, second in ((AB, BC), (BC, AB)):
        once = CHAIN.after(undo(12, first.merge_id, named=2))
        assert people(once.after(undo(13, second.merge_id, named=2))) == [[1], [2], [3], [4]]


def test_only_a_live_merge_of_the_customer_is_undone() -> None:
    CHAIN.when(undo(12, AB.merge_id, named=4)).then_fails("UNKNOWN_MERGE")
    CHAIN.when(undo(12, command_id(7), named=1)).then_fails("UNKNOWN_MERGE")
    CHAIN.when(undo(12, AB.merge_id, named=99)).then_fails("UNKNOWN_CUSTOMER")
    once = CHAIN.after(undo(12, AB.merge_id, named=1))
    once.when(undo(13, AB.merge_id, named=1)).then_fails("UNKNOWN_MERGE")


def test_the_same_evidence_does_not_weld_again_what_was_undone() -> None:
    parted = CHAIN.after(undo(12, AB.merge_id, named=1))
    decision = parted.when(signals(13, A, B)).decision
    assert decision is not None
    assert decision.customer_id == record_id(1)
    assert [(item.key, item.reason.value) for item in decision.left_out] == [(B.key, "SEPARATED")]
    # Nor do others that would bring the two records together.
    assert people(parted.after(identify(14, A, C))) == [[1], [2, 3], [4]]
    joined = parted.after(identify(15, A, D))
    assert people(joined.after(identify(16, D, C))) == [[1, 4], [2, 3]]


def test_an_explicit_merge_lifts_the_separation_and_its_undo_brings_it_back() -> None:
    parted = CHAIN.after(undo(12, AB.merge_id, named=1))
    merge_id = derived_id(command_id(13), "merge:1")
    decision = parted.when(merge(13, 1, 3)).decision
    assert decision is not None
    whole = decision.changes[0].body
    assert isinstance(whole, CustomersMerged)
    assert whole.reason == "explicit"
    assert whole.separations == (apart(1, 2, merge_id),)
    joined = parted.after(merge(13, 1, 3))
    assert people(joined) == [[1, 2, 3], [4]]
    again = joined.after(undo(14, merge_id, named=1))
    assert again.record(1).separations == (apart(1, 2), apart(1, 3))
    assert people(again.after(identify(15, A, B))) == [[1], [2, 3], [4]]


def test_what_held_two_records_together_lifts_nothing_once_they_are_apart() -> None:
    parted = CHAIN.after(undo(12, AB.merge_id, named=1)).after(undo(13, BC.merge_id, named=2))
    ends = parted.after(identify(14, A, C)).after(identify(15, B, D))
    joined = ends.after(merge(16, 3, 4))
    assert people(joined) == [[1, 2, 3, 4]]
    left = joined.after(unmerge(17, 1)).after(unmerge(18, 2))
    assert people(left) == [[1], [2], [3, 4]]
    assert people(left.after(identify(19, A, B))) == people(left)
    again = left.after(unmerge(20, 3))
    assert people(again.after(identify(21, A, B))) == [[1], [2], [3], [4]]


def test_merging_one_customer_with_itself_changes_nothing() -> None:
    CHAIN.when(merge(13, 1, 3)).then_nothing()
    CHAIN.when(merge(13, 1, 77)).then_fails("UNKNOWN_CUSTOMER")


def test_a_no_is_kept_where_a_yes_of_another_had_the_same_id() -> None:
    two = given(
        on(1, linked(A)),
        on(1, consent(10, "given")),
        on(3, linked(C)),
        on(3, consent(10, "refused")),
    )
    assert opened(two, 1)
    assert not opened(two, 3)
    assert not opened(two.after(merge(11, 1, 3)), 1)


def test_old_ids_go_on_resolving_after_an_undo() -> None:
    parted = CHAIN.after(undo(12, AB.merge_id, named=1))
    for number, customer in ((1, 1), (2, 2), (3, 2)):
        decision = parted.when(check(13, named=number)).decision
        assert decision is not None
        assert decision.customer_id == record_id(customer)


def test_a_grant_made_while_merged_goes_with_the_record_that_it_was_said_to() -> None:
    granted = CHAIN.after(act(12, "given", A))
    assert opened(granted, 3)
    parted = granted.after(undo(13, AB.merge_id, named=1))
    assert opened(parted, 1)
    assert not opened(parted, 2)
    assert not opened(parted, 3)
    stayed = CHAIN.after(act(12, "given", C)).after(undo(13, AB.merge_id, named=1))
    assert [opened(stayed, n) for n in (1, 2, 3)] == [False, True, True]


def test_a_grant_that_left_does_not_come_back_over_a_closing_act_by_a_new_merge() -> None:
    closed = FOUR.after(act(8, "refused", B, happened_at=at(0))).after(identify(10, A, B))
    granted = closed.after(act(11, "given", A))
    assert opened(granted, 2)
    parted = granted.after(undo(12, AB.merge_id, named=1))
    assert not opened(parted.after(merge(13, 1, 2)), 1)


def test_a_closing_act_made_while_merged_binds_both_sides() -> None:
    granted = FOUR.after(act(8, "given", A)).after(act(9, "given", B)).after(identify(10, A, B))
    closed = granted.after(act(12, "withdrawn", A, happened_at=at(5)))
    decision = closed.when(undo(13, AB.merge_id, named=1)).decision
    assert decision is not None
    assert decision.consequences is not None
    assert decision.consequences.closing_acts == (command_id(12),)
    parted = closed.after(undo(13, AB.merge_id, named=1))
    assert not opened(parted, 1)
    assert not opened(parted, 2)


def test_a_signal_declined_while_merged_stays_declined() -> None:
    merged = CHAIN.after(signals(12, A, source="ads", messages=["m1"]))
    parted = merged.after(undo(13, AB.merge_id, named=1)).after(act(14, "given", A))
    decision = parted.when(signals(15, A, source="ads", messages=["m1"])).then_nothing()
    assert [*decision.signals] == ["declined"]


def test_a_signal_counts_again_only_for_the_side_that_never_had_it() -> None:
    sent = CHAIN.after(signals(12, A, messages=["m1"]))
    parted = sent.after(undo(13, AB.merge_id, named=1))
    for number, item, result in ((14, A, "duplicate"), (15, B, "recorded")):
        decision = parted.when(signals(number, item, messages=["m1"])).decision
        assert decision is not None
        assert [*decision.signals] == [result]


def test_a_dry_run_stores_nothing_and_names_what_would_change() -> None:
    full = (
        CHAIN.after(set_traits(12, A, traits={"city": "Kyoto", "tier": "gold"}))
        .after(set_traits(13, C, traits={"city": "Osaka"}, happened_at=at(5)))
        .after(act(14, "given", A))
    )
    decision = full.when(undo(15, AB.merge_id, named=1, dry_run=True)).then_nothing()
    said = decision.consequences
    assert said is not None
    assert [(c.customer_id, c.record_ids) for c in said.customers] == [
        (record_id(1), (record_id(1),)),
        (record_id(2), (record_id(2), record_id(3))),
    ]
    assert [[i.key for i in c.identifiers] for c in said.customers] == [[A.key], [B.key, C.key]]
    assert [(t.customer_id, t.trait) for t in said.traits] == [
        (record_id(1), "city"),
        (record_id(2), "tier"),
    ]
    assert [(c.customer_id, c.purpose, c.open_after) for c in said.consents] == [
        (record_id(2), "marketing", False)
    ]
    assert "Kyoto" not in said.model_dump_json()


def test_a_merge_can_be_tried_dry() -> None:
    decision = FOUR.when(merge(12, 1, 3, dry_run=True)).then_nothing()
    assert decision.consequences is not None
    assert [c.record_ids for c in decision.consequences.customers] == [(record_id(1), record_id(3))]


def test_a_dry_run_and_the_undo_say_the_same() -> None:
    dry = CHAIN.when(undo(12, AB.merge_id, named=1, dry_run=True)).decision
    real = CHAIN.when(undo(12, AB.merge_id, named=1)).decision
    assert dry is not None
    assert real is not None
    assert dry.consequences == real.consequences


def test_a_command_carried_out_while_merged_is_remembered_by_who_parted() -> None:
    once = CHAIN.after(set_traits(12, A)).after(undo(13, AB.merge_id, named=1))
    once.when(set_traits(12, A)).then_nothing()
    once.when(undo(13, AB.merge_id, named=3)).then_nothing()
    assert set(once.customers[1].parted) == {record_id(1)}
