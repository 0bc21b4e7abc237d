"""R12 and the golden record, by example."""

from __future__ import annotations

import pytest

from domain.consent import ConsentState
from domain.errors import NotFound
from projections import counts
from projections.fold import fold_batch
from projections.memory import MemoryTables
from projections.views import CustomerView, customer_view, customer_view_by_identifier
from tests.projections.histories import History, identifier, record_id, signal


@pytest.fixture
def history() -> History:
    history = History()
    history.rules()
    return history


def folded(history: History) -> MemoryTables:
    tables = MemoryTables()
    fold_batch(tables, history.entries)
    return tables


def view(history: History, number: int, purpose: str) -> CustomerView:
    found = customer_view(folded(history), record_id(number), purpose)
    assert found is not None
    return found


def winners(seen: CustomerView) -> dict[str, object]:
    return {trait.name: trait.winner.value for trait in seen.traits}


def test_only_sources_that_declare_the_purpose_are_seen(history: History) -> None:
    history.link(1, identifier("a@example.com"), source="shop")
    history.link(1, identifier("k-1", "loyalty_id"), source="crm")
    history.traits(1, {"country": "JP"}, source="crm")
    history.traits(1, {"country": "FR"}, source="web")
    history.signals(1, signal("m", "Page"), source="web")
    analytics, service = view(history, 1, "analytics"), view(history, 1, "service")
    assert [known.value for known in analytics.identifiers] == ["a@example.com"]
    assert [known.value for known in service.identifiers] == ["a@example.com", "k-1"]
    assert winners(analytics) == {"country": "FR"}
    assert winners(service) == {"country": "JP"}
    assert [tally.name for tally in analytics.tallies] == ["Page"]
    assert service.tallies == ()


def test_an_identifier_that_came_with_consent_is_for_auditors_only(history: History) -> None:
    history.link(1, identifier("a@example.com"), source=None)
    assert view(history, 1, "service").identifiers == ()
    (known,) = view(history, 1, "audit").identifiers
    assert known.sources == ()


def test_a_closed_purpose_gives_nothing_personal(history: History) -> None:
    history.link(1, identifier("a@example.com"))
    history.traits(1, {"country": "JP"})
    history.signals(1, signal("m"))
    history.consent(1, "analytics", ConsentState.WITHDRAWN)
    seen = view(history, 1, "marketing")
    assert (seen.is_open, seen.identifiers, seen.traits, seen.tallies) == (False, (), (), ())
    assert [place.purpose.name for place in seen.consents] == ["marketing"]
    assert seen.consents[0].standing.state is ConsentState.UNKNOWN


def test_a_grant_opens_and_a_withdrawal_closes(history: History) -> None:
    history.link(1, identifier("a@example.com"))
    history.consent(1, "marketing", ConsentState.GIVEN)
    assert view(history, 1, "marketing").is_open
    history.consent(1, "marketing", ConsentState.WITHDRAWN)
    assert not view(history, 1, "marketing").is_open


def test_a_merge_does_not_bring_a_grant_back(history: History) -> None:
    history.consent(1, "marketing", ConsentState.WITHDRAWN)
    history.consent(2, "marketing", ConsentState.GIVEN)
    assert view(history, 2, "marketing").is_open
    history.merge(1, 2)
    assert not view(history, 2, "marketing").is_open


def test_an_open_view_shows_where_every_purpose_stands(history: History) -> None:
    history.consent(1, "marketing", ConsentState.GIVEN)
    seen = view(history, 1, "service")
    assert {place.purpose.name: place.standing.is_open for place in seen.consents} == {
        "analytics": True,
        "marketing": True,
        "service": True,
    }


def test_old_ids_lead_to_the_root_for_ever(history: History) -> None:
    for number in (1, 2, 3):
        history.link(number, identifier(f"{number}@example.com"))
    history.merge(2, 3)
    assert view(history, 3, "service").customer_id == record_id(2)
    history.merge(1, 3)
    for number in (1, 2, 3):
        seen = view(history, number, "service")
        assert seen.customer_id == record_id(1)
        assert seen.members == (record_id(1), record_id(2), record_id(3))
        assert len(seen.identifiers) == 3


def test_the_higher_priority_wins_and_losers_stay_visible(history: History) -> None:
    history.traits(1, {"plan": "old"}, source="crm", happened=1)
    history.traits(1, {"plan": "new"}, source="shop", happened=5)
    (trait,) = view(history, 1, "audit").traits
    assert (trait.winner.source, trait.winner.value) == ("crm", "old")
    assert [(claim.source, claim.value) for claim in trait.losers] == [("shop", "new")]


def test_a_late_event_never_beats_a_newer_fact(history: History) -> None:
    history.traits(1, {"plan": "new"}, happened=5)
    history.traits(1, {"plan": "late"}, happened=1)
    assert winners(view(history, 1, "service")) == {"plan": "new"}


def test_the_newest_word_of_one_source_wins_over_all_records(history: History) -> None:
    history.traits(1, {"plan": "older"}, happened=1)
    history.traits(2, {"plan": "newer"}, happened=5)
    history.merge(1, 2)
    assert winners(view(history, 1, "service")) == {"plan": "newer"}


def test_a_date_in_the_future_counts_as_of_its_recorded_time(history: History) -> None:
    history.traits(1, {"plan": "future"}, happened=1_000_000)
    history.traits(1, {"plan": "now"})
    assert winners(view(history, 1, "service")) == {"plan": "now"}


def test_an_unknown_purpose_is_an_error_even_for_nobody(history: History) -> None:
    with pytest.raises(NotFound) as raised:
        customer_view(folded(history), record_id(1), "resale")
    assert raised.value.reason == "UNKNOWN_PURPOSE"
    with pytest.raises(NotFound):
        customer_view_by_identifier(folded(history), identifier("nobody").key, "resale")


def test_nobody_is_none(history: History) -> None:
    tables = folded(history)
    assert customer_view(tables, record_id(1), "service") is None
    assert customer_view_by_identifier(tables, identifier("nobody").key, "service") is None


def test_a_customer_is_found_by_an_identifier(history: History) -> None:
    known = identifier("a@example.com")
    history.link(2, known)
    history.link(1, identifier("b@example.com"))
    history.merge(1, 2)
    seen = customer_view_by_identifier(folded(history), known.key, "service")
    assert seen is not None
    assert seen.customer_id == record_id(1)
    assert seen.revision == len(history.entries)


def test_a_record_that_starts_with_a_signal_is_known(history: History) -> None:
    history.signals(1, signal("m"))
    assert view(history, 1, "service").tallies[0].count == 1


def test_the_workspace_is_counted(history: History) -> None:
    history.link(1, identifier("a@example.com"))
    history.link(2, identifier("b@example.com"))
    history.signals(3, signal("m"), signal("m"))
    history.merge(1, 2)
    found = counts.read_counts(folded(history))
    assert (found.records, found.merges, found.customers) == (3, 1, 2)
    assert (found.signals, found.events) == (2, len(history.entries))
