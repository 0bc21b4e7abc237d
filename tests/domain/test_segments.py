"""The life of a segment: given what was said, when something is asked, then these events."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from domain import segments
from domain.commands import ActivateSegment, ArchiveSegment, DefineSegment, RulesCommand
from domain.errors import Invalid, NotFound, Refused
from domain.event import Event
from domain.rules import Rules, decide_rules, fold_rules
from domain.segments import SEGMENT_NESTING_MAX
from domain.workspace_events import (
    PurposeDefined,
    SegmentActivated,
    SegmentArchived,
    SegmentDefined,
)
from tests.projections.segments.happenings import Happenings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ANY = str(UUID(int=1))


def given(*bodies: Event) -> Rules:
    history = Happenings()
    for body in (PurposeDefined(purpose="analytics", basis="contract"), *bodies):
        history.tell(body)
    return fold_rules(Rules(), history.events)


def asked(kind: type[RulesCommand], segment: str, **fields: object) -> RulesCommand:
    common = {"command_id": ANY, "auth_id": "me", "issued_at": NOW, "deadline": NOW}
    return kind.model_validate({**common, "segment": segment, **fields})


def define(segment: str, *uses: str, expression: str = "true", **fields: object) -> RulesCommand:
    fields = {"purposes": ("analytics",), **fields}
    return asked(DefineSegment, segment, expression=expression, uses=uses, **fields)


def defined(segment: str, *uses: str, number: int = 1, expression: str = "true") -> SegmentDefined:
    return SegmentDefined(
        segment=segment,
        definition=number,
        expression=expression,
        purposes=("analytics",),
        uses=uses,
    )


def activated(segment: str, number: int = 1) -> SegmentActivated:
    return SegmentActivated(segment=segment, definition=number)


def test_a_definition_gets_the_next_number_and_the_same_again_changes_nothing() -> None:
    assert decide_rules(given(), define("a")) == [defined("a")]
    known = given(defined("a"), activated("a"))
    assert decide_rules(known, define("a")) == []
    again = decide_rules(known, define("a", expression="false"))
    assert again == [defined("a", number=2, expression="false")]


def test_a_definition_takes_effect_when_it_is_activated_and_only_the_latest_can_be() -> None:
    waiting = given(defined("a"), activated("a"), defined("a", number=2, expression="false"))
    active = waiting.segments["a"].active
    assert active is not None
    assert active.number == 1
    assert decide_rules(waiting, asked(ActivateSegment, "a", definition=2)) == [activated("a", 2)]
    with pytest.raises(Refused, match="another definition"):
        decide_rules(waiting, asked(ActivateSegment, "a", definition=1))


def test_no_purpose_is_served_by_way_of_a_segment_that_does_not_serve_it() -> None:
    other = PurposeDefined(purpose="marketing", basis="consent")
    rules = given(other, defined("a"), activated("a"), defined("b", "a"), activated("b"))
    both, ads = ("analytics", "marketing"), ("marketing",)
    for refused in (define("c", "a", purposes=both), define("c", "b", purposes=ads)):
        with pytest.raises(Refused) as found:
            decide_rules(rules, refused)
        assert found.value.reason == "PURPOSE_NOT_SERVED"
    with pytest.raises(Refused, match="uses this one"):
        decide_rules(rules, define("a", purposes=ads))
    assert decide_rules(rules, define("a", purposes=both))
    assert decide_rules(rules, define("c", "a", purposes=ads, exception="suppression"))
    assert decide_rules(rules, define("a", purposes=ads, exception="suppression"))
    excepted = given(
        other, defined("a").model_copy(update={"exception": "suppression"}), activated("a")
    )
    assert decide_rules(excepted, define("c", "a", purposes=ads))


def test_a_segment_may_use_active_ones_but_never_itself() -> None:
    rules = given(defined("a"), activated("a"), defined("b", "a"), activated("b"), defined("c"))
    assert decide_rules(rules, define("d", "b"))
    with pytest.raises(NotFound):
        decide_rules(rules, define("d", "c"))
    for circle in (define("a", "b"), define("a", "a")):
        with pytest.raises(Invalid) as refused:
            decide_rules(rules, circle)
        assert refused.value.reason == "CIRCULAR_SEGMENT"


def test_segments_nest_so_deep_and_no_deeper_whichever_is_defined_last() -> None:
    def chain(name: str, length: int) -> list[Event]:
        uses = [(f"{name}{n}", [f"{name}{n - 1}"] if n else []) for n in range(length)]
        return [e for one, used in uses for e in (defined(one, *used), activated(one))]

    rules = given(*chain("a", SEGMENT_NESTING_MAX), *chain("z", 3))
    top = f"a{SEGMENT_NESTING_MAX - 1}"
    assert decide_rules(rules, define("over", top))
    assert decide_rules(rules, define("a0", "z0"))
    for deeper in (define("a0", "z1"), define("a1", "z2")):
        with pytest.raises(Invalid) as refused:
            decide_rules(rules, deeper)
        assert refused.value.reason == "SEGMENT_TOO_DEEP"
    with pytest.raises(Invalid) as refused:
        decide_rules(rules, define("a0", top))
    assert refused.value.reason == "CIRCULAR_SEGMENT"


def test_a_waiting_definition_cannot_close_a_circle_either() -> None:
    rules = given(
        defined("a"), activated("a"), defined("b"), activated("b"), defined("a", "b", number=2)
    )
    with pytest.raises(Invalid):
        decide_rules(rules, define("b", "a"))


def test_a_segment_that_is_used_stays() -> None:
    rules = given(defined("a"), activated("a"), defined("b", "a"))
    with pytest.raises(Refused):
        decide_rules(rules, asked(ArchiveSegment, "a"))
    assert decide_rules(rules, asked(ArchiveSegment, "b")) == [SegmentArchived(segment="b")]


def test_an_archived_segment_has_no_definition_in_effect_until_it_is_defined_again() -> None:
    rules = given(defined("a"), activated("a"), SegmentArchived(segment="a"))
    assert rules.segments["a"].active is None
    with pytest.raises(NotFound):
        decide_rules(rules, asked(ActivateSegment, "a", definition=1))
    assert decide_rules(rules, define("a")) == [defined("a", number=2)]


def test_a_workspace_has_so_many_segments_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENTS_MAX", 2)
    rules = given(defined("a"), defined("b"))
    with pytest.raises(Refused):
        decide_rules(rules, define("c"))
    assert decide_rules(rules, define("b", expression="false"))
