"""Indexes over traits: given what was said, when something is asked, then these events."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from domain import trait_indexes
from domain.commands import DropTraitIndex, IndexTrait
from domain.errors import NotFound, Refused
from domain.event import Event
from domain.rules import Rules, decide_rules, fold_rules
from domain.workspace_events import PurposeDefined, TraitIndexDropped, TraitIndexed
from tests.projections.segments.happenings import Happenings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COMMON = {"command_id": str(UUID(int=1)), "auth_id": "me", "issued_at": NOW, "deadline": NOW}


def given(*bodies: Event) -> Rules:
    history = Happenings()
    for name in ("analytics", "marketing"):
        history.tell(PurposeDefined(purpose=name, basis="contract"))
    for body in bodies:
        history.tell(body)
    return fold_rules(Rules(), history.events)


def index(trait: str, *purposes: str, open_reason: str | None = None) -> IndexTrait:
    asked = {"trait": trait, "purposes": purposes or ("analytics",), "open_reason": open_reason}
    return IndexTrait.model_validate({**COMMON, **asked})


def drop(trait: str) -> DropTraitIndex:
    return DropTraitIndex.model_validate({**COMMON, "trait": trait})


def indexed(trait: str, *purposes: str, number: int = 1) -> TraitIndexed:
    return TraitIndexed(trait=trait, number=number, purposes=purposes or ("analytics",))


def test_an_index_is_declared_once_and_again_where_it_changes() -> None:
    assert decide_rules(given(), index("plan")) == [indexed("plan")]
    known = given(indexed("plan"))
    assert decide_rules(known, index("plan", "analytics", "analytics")) == []
    both = indexed("plan", "analytics", "marketing", number=2)
    assert decide_rules(known, index("plan", "marketing", "analytics")) == [both]
    [opened] = decide_rules(known, index("plan", open_reason="three plans"))
    assert opened == indexed("plan", number=2).model_copy(update={"open_reason": "three plans"})


def test_an_index_that_was_dropped_is_none_until_it_is_declared_anew() -> None:
    known = given(indexed("plan"))
    assert decide_rules(known, drop("plan")) == [TraitIndexDropped(trait="plan")]
    dropped = given(indexed("plan"), TraitIndexDropped(trait="plan"))
    assert decide_rules(dropped, drop("plan")) == []
    assert decide_rules(dropped, index("plan")) == [indexed("plan", number=2)]
    with pytest.raises(NotFound) as unknown:
        decide_rules(given(), drop("plan"))
    assert unknown.value.reason == "TRAIT_NOT_INDEXED"


def test_an_index_serves_defined_purposes_only_and_there_are_not_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(NotFound) as unknown:
        decide_rules(given(), index("plan", "unheard_of"))
    assert unknown.value.reason == "UNKNOWN_PURPOSE"
    monkeypatch.setattr(trait_indexes, "TRAIT_INDEXES_MAX", 1)
    with pytest.raises(Refused) as many:
        decide_rules(given(indexed("plan")), index("size"))
    assert many.value.reason == "TOO_MANY_INDEXES"
    assert decide_rules(given(indexed("plan")), index("plan", "marketing"))
    assert decide_rules(given(indexed("plan"), TraitIndexDropped(trait="plan")), index("size"))
