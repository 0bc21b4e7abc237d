"""R6 over random histories: links, merges, signals, traits, consents, undos in any order.

After each step every record, and each customer, must equal the fold of the same log without what
was undone (`undone.py`); nobody who was parted is together again but by an explicit merge.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st

from domain.commands import PersonCommand
from domain.consequences import winners
from domain.gate import gate_of
from domain.identity_rules import DEFAULT_IDENTITY_RULES
from tests.domain.asking import (
    act,
    identify,
    merge,
    set_traits,
    signal,
    signals,
    undo,
    unlink,
    unmerge,
)
from tests.domain.facts import RULES, at, email, identifier, user
from tests.domain.scenario import Scenario, given
from tests.domain.undone import Fact, Told, number

IDENTIFIERS = [
    user("a"),
    user("b"),
    email("e"),
    email("f"),
    identifier("device_id", "g"),
    identifier("device_id", "h"),
]
STRICT = replace(RULES, identity=DEFAULT_IDENTITY_RULES)
KINDS = ["link", "link", "link", "signal", "traits", "consent", "consent", "consent", "merge"]
KINDS += ["undo", "undo", "unmerge", "unlink", "again"]
OFTEN = ("given", "given", "refused", "withdrawn", "renewed")
SELDOM = ("revoked", "invalidated", "terminated", "expired", "requested")
EXPIRED = 50
"""Minutes after which what is valid for a time is over."""


class Step(NamedTuple):
    """One command, chosen by numbers."""

    kind: str
    one: int
    other: int
    minute: int
    variety: int = 0


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(KINDS),
        st.integers(0, 5),
        st.integers(0, 5),
        st.integers(0, 9),
        st.integers(0, 11),
    ),
    min_size=8,
    max_size=30,
)


@dataclass
class Course:
    """A history under way: the state, the bare log beside it, and who was parted by whom."""

    scenario: Scenario = field(default_factory=lambda: given().under(STRICT))
    facts: list[Fact] = field(default_factory=list)
    sent: list[PersonCommand] = field(default_factory=list)
    commands: int = 0

    def take(self, step: Step) -> None:
        """Carry one command out; one that is refused changes nothing."""
        command = self._command(step)
        if command is None:
            return
        self.sent.append(command)
        decision = self.scenario.when(command).decision
        if decision is None or not decision.changes:
            return
        said_to: int | None = None
        revision = self.scenario.revision
        for change in decision.changes:
            revision += 1
            if change.stream.kind != "record":
                continue
            body = change.body.model_dump()
            record = number(change.stream.key)
            if "act_id" in body and said_to is None:
                said_to = self._addressed(command, record)
            event_id = f"{revision:09d}"
            self.facts.append(
                Fact(
                    record,
                    type(change.body).__name__,
                    body,
                    change.happened_at,
                    revision,
                    event_id,
                    said_to if "act_id" in body else None,
                )
            )
        self.scenario = stored(self.scenario, decision.changes, command)

    def _addressed(self, command: PersonCommand, created: int) -> int:
        """Say whom an act was said to: the record that is named, or holds the identifier."""
        if command.record_id is not None:
            return number(command.record_id)
        key = command.identifiers[0].key
        told = Told(self.facts)
        return next((r for r in sorted(told.records) if key in told.identifiers(r)), created)

    def _command(self, step: Step) -> PersonCommand | None:
        self.commands += 1
        n, kind, one, other, minute, _ = self.commands, *step
        new: dict[str, Any] = {"new": 100 + n}
        whom = list(dict.fromkeys([IDENTIFIERS[one], IDENTIFIERS[other]]))
        match kind:
            case "link":
                return identify(n, *whom, **new)
            case "signal":
                messages = [signal(f"m{minute % 4}", minute)]
                source = "ads" if minute > 7 else "shop"
                return signals(n, *whom, messages=messages, source=source, **new)
            case "traits":
                said = {"x": n, f"y{minute % 2}": n}
                return set_traits(n, IDENTIFIERS[one], traits=said, happened_at=at(minute), **new)
            case "consent":
                return self._consent(step, new)
            case "again":
                return self.sent[(one * 6 + other) % len(self.sent)] if self.sent else None
            case "unlink":
                return unlink(n, IDENTIFIERS[one], **new)
            case _:
                return self._merging(step)

    def _merging(self, step: Step) -> PersonCommand | None:
        n, kind, one, other, *_ = self.commands, *step
        records = sorted(self.scenario.records)
        if not records:
            return None
        first, second = (number(records[place % len(records)]) for place in (one, other))
        if kind == "merge":
            return merge(n, first, second)
        if kind == "unmerge":
            return unmerge(n, first)
        edges = [edge for customer in self.scenario.customers for edge in customer.edges]
        if not edges:
            return None
        edge = edges[(one * 6 + other) % len(edges)]
        return undo(n, edge.merge_id, named=number(edge.newer))

    def _consent(self, step: Step, new: dict[str, Any]) -> PersonCommand:
        n, when = self.commands, at(step.minute)
        state = (*OFTEN, SELDOM[step.variety % len(SELDOM)])[step.other]
        purpose = ("marketing", "analytics")[step.one % 2]
        said = {"purpose": purpose, "happened_at": when, "is_imported": step.variety % 3 == 0}
        if state in ("given", "renewed") and step.variety % 4 == 1:
            said["valid_until"] = at(EXPIRED)
        records = sorted(self.scenario.records)
        if records and step.minute % 2:
            named = number(records[step.one % len(records)])
            return act(n, state, named=named, **said)
        return act(n, state, IDENTIFIERS[step.one], **said, **new)


def stored(scenario: Scenario, changes: Any, command: PersonCommand) -> Scenario:
    """Store changes under event ids that the slow fold knows as well."""
    for change in changes:
        scenario = scenario.happened(
            change.stream,
            change.body,
            happened_at=change.happened_at,
            command_id=command.command_id,
            event_id=f"{scenario.revision + 1:09d}",
        )
    return scenario


def compare(scenario: Scenario, told: Told) -> None:
    customers = scenario.customers
    assert {frozenset(map(number, c.records)) for c in customers} == told.people()
    for customer in customers:
        records = {number(r) for r in customer.records}
        assert customer.root == min(customer.records)
        assert len(customer.edges) == len(records) - 1
        for record in customer.records.values():
            assert record.root == customer.root
            assert set(record.identifiers) == told.identifiers(number(record.id))
            assert len(record.messages) == len(told.messages(number(record.id)))
        shown = {
            trait: said.value for trait, (_, said) in winners(STRICT, customer.records).items()
        }
        assert shown == told.traits(records)
        for purpose in ("marketing", "analytics"):
            basis = STRICT.purposes[purpose].basis
            for now in (at(EXPIRED - 1), at(EXPIRED)):
                judged = gate_of(STRICT, customer.records, at=now).standing(
                    STRICT.purposes[purpose]
                )
                slow = told.is_open(records, purpose, basis, at=now)
                assert judged.is_open == slow, (purpose, records, now)
    held = [
        key for customer in customers for r in customer.records.values() for key in r.identifiers
    ]
    assert len(held) == len(set(held))


def require_apart(told: Told) -> None:
    """Nobody parted is together but by an explicit merge that came later and joined both."""
    for fact in told.facts:
        for edge in fact.body.get("removed", ()):
            one, other = number(edge["older"]), number(edge["newer"])
            if other not in told.customer(one):
                continue
            assert any(
                later.revision > fact.revision
                and later.body.get("reason") == "explicit"
                and {one, other} <= {number(r) for r in later.body["component"]}
                for later in told.facts
            ), (one, other)


def require_bound(told: Told) -> None:
    """Every act stands on every record that was a member when it was made (R7)."""
    for fact in told.facts:
        if fact.said_to == fact.record:
            assert told.copies(fact) == told._bound(fact)  # the slow fold's own


@given_any(STEPS)
@settings(max_examples=300, deadline=None)
def test_an_undo_leaves_the_fold_of_the_log_without_what_was_undone(steps: list[Step]) -> None:
    course = Course()
    for place in range(len(IDENTIFIERS)):
        course.take(Step("link", place, place, 0))
    for step in steps:
        course.take(step)
    told = Told(course.facts)
    compare(course.scenario, told)
    require_apart(told)
    require_bound(told)


@given_any(STEPS)
@settings(max_examples=100, deadline=None)
def test_sending_everything_again_changes_nothing(steps: list[Step]) -> None:
    course = Course()
    for step in steps:
        course.take(step)
    for command in list(course.sent):
        if course.scenario.revision and any(
            command.command_id in record.commands for record in course.scenario.records.values()
        ):
            decision = course.scenario.when(command).decision
            assert decision is not None
            assert not decision.changes


DELIVERIES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 9)))


@given_any(DELIVERIES, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_and_number_of_deliveries_changes_nothing(
    deliveries: list[tuple[int, int, int]], drawn: Any
) -> None:
    """Within one set of links and consents: the same profiles, the same messages."""
    linked = given().under(STRICT)
    for place, item in enumerate(IDENTIFIERS[2:6]):
        linked = linked.after(identify(place + 1, item, new=place + 1))
    linked = linked.after(identify(9, *IDENTIFIERS[2:4]))
    shuffled = [*deliveries, *drawn.sample(deliveries, len(deliveries) // 2)]
    drawn.shuffle(shuffled)
    assert profile(linked, deliveries) == profile(linked, shuffled)


def profile(scenario: Scenario, deliveries: list[tuple[int, int, int]]) -> list[Any]:
    for place, (who, what, minute) in enumerate(deliveries, start=1_000):
        item = IDENTIFIERS[2 + who]
        message = f"m{what}-{minute}"
        sent: PersonCommand
        if what % 2:
            sent = signals(place, item, messages=[signal(message, minute)])
        else:
            # One instant says one thing: ties are broken by ids, which deliveries do change.
            said = {f"t{what}": minute}
            sent = set_traits(place, item, traits=said, happened_at=at(minute), message_id=message)
        outcome = scenario.when(sent)
        assert outcome.decision is not None
        scenario = stored(scenario, outcome.decision.changes, sent)
    return [
        (
            {t: s.value for t, (_, s) in winners(STRICT, customer.records).items()},
            {key for record in customer.records.values() for key in record.messages},
        )
        for customer in scenario.customers
    ]
