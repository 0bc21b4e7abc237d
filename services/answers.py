"""Make messages of views, of verdicts and of what became of signals."""

from __future__ import annotations

from datetime import datetime

from google.protobuf import json_format, struct_pb2, timestamp_pb2
from pydantic import JsonValue

from domain.consent import ConsentState
from domain.signals import add_exactly
from domain.transitions import ActedBy
from koseki.v1 import common_pb2, query_service_pb2
from projections.consent_history import ConsentTransition
from projections.profile import TraitClaim
from projections.tallies import Tally
from projections.views import CustomerView, PurposeStanding, Trait

STATES = {
    ConsentState.UNKNOWN: common_pb2.CONSENT_STATE_UNKNOWN,
    ConsentState.REQUESTED: common_pb2.CONSENT_STATE_REQUESTED,
    ConsentState.GIVEN: common_pb2.CONSENT_STATE_GIVEN,
    ConsentState.RENEWED: common_pb2.CONSENT_STATE_RENEWED,
    ConsentState.REFUSED: common_pb2.CONSENT_STATE_REFUSED,
    ConsentState.WITHDRAWN: common_pb2.CONSENT_STATE_WITHDRAWN,
    ConsentState.REVOKED: common_pb2.CONSENT_STATE_REVOKED,
    ConsentState.EXPIRED: common_pb2.CONSENT_STATE_EXPIRED,
    ConsentState.TERMINATED: common_pb2.CONSENT_STATE_TERMINATED,
    ConsentState.INVALIDATED: common_pb2.CONSENT_STATE_INVALIDATED,
}
ACTORS = {
    ActedBy.PERSON: common_pb2.CONSENT_ACTOR_PERSON,
    ActedBy.REPRESENTATIVE: common_pb2.CONSENT_ACTOR_REPRESENTATIVE,
    ActedBy.CONTROLLER: common_pb2.CONSENT_ACTOR_CONTROLLER,
    ActedBy.AUTHORITY: common_pb2.CONSENT_ACTOR_AUTHORITY,
}


def customer_message(view: CustomerView) -> query_service_pb2.Customer:
    """Write a customer as its view has it."""
    return query_service_pb2.Customer(
        customer_id=view.customer_id,
        revision=view.revision,
        purpose=view.purpose,
        purpose_open=view.is_open,
        record_ids=view.members,
        identifiers=[
            query_service_pb2.KnownIdentifier(
                namespace=known.namespace,
                value=known.value,
                source=known.sources[0] if known.sources else "",
            )
            for known in view.identifiers
        ],
        traits=[_trait(trait) for trait in view.traits],
        signals=_tallies(view.tallies),
        consents=[_consent(place) for place in view.consents],
        context=[
            query_service_pb2.ContextValue(
                key=claim.key,
                value=_value(claim.value),
                source=claim.source,
                happened_at=stamp(claim.effective_at),
                expires_at=stamp(claim.expires_at),
            )
            for claim in view.context
        ],
        preferences=[
            query_service_pb2.StatedPreference(
                channel=stated.channel,
                topic=stated.topic,
                frequency=stated.frequency,
                happened_at=stamp(stated.effective_at),
            )
            for stated in view.preferences
        ],
        households=[
            query_service_pb2.Household(
                household_id=household.household_id, customer_ids=household.customers
            )
            for household in view.households
        ],
    )


def act_message(act: ConsentTransition) -> query_service_pb2.ConsentAct:
    """Write an act of consent with its details."""
    message = query_service_pb2.ConsentAct(
        event_id=act.event_id,
        revision=act.revision,
        purpose=act.purpose,
        state=STATES[act.state],
        acted_by=ACTORS[act.acted_by],
        happened_at=stamp(act.happened_at),
        recorded_at=stamp(act.recorded_at),
        effective_at=stamp(act.effective_at),
        valid_until=stamp(act.valid_until) if act.valid_until else None,
        notice_version=act.notice_version or "",
        notice_language=act.notice_language or "",
        jurisdiction=act.jurisdiction or "",
        source=act.source or "",
        imported=act.is_imported,
        day_precise=act.is_day_precise,
        method=act.method or "",
    )
    if act.evidence:
        json_format.ParseDict(act.evidence, message.evidence)
    return message


def _trait(trait: Trait) -> query_service_pb2.Trait:
    return query_service_pb2.Trait(
        key=trait.name,
        value=_value(trait.winner.value),
        source=trait.winner.source,
        happened_at=stamp(trait.winner.effective_at),
        losers=[_loser(claim) for claim in trait.losers],
    )


def _loser(claim: TraitClaim) -> query_service_pb2.TraitValue:
    return query_service_pb2.TraitValue(
        value=_value(claim.value), source=claim.source, happened_at=stamp(claim.effective_at)
    )


def _tallies(tallies: tuple[Tally, ...]) -> list[query_service_pb2.SignalTally]:
    """Add up the tallies of all sources that are seen, by the signal's name."""
    by_name: dict[str, query_service_pb2.SignalTally] = {}
    for tally in tallies:
        total = by_name.setdefault(tally.name, query_service_pb2.SignalTally(name=tally.name))
        total.count += tally.count
        for name, summed in tally.sums.items():
            total.sums[name] = add_exactly(total.sums[name] or "0", format(summed.total, "f"))
    return [by_name[name] for name in sorted(by_name)]


def _consent(place: PurposeStanding) -> query_service_pb2.Consent:
    act = place.standing.act
    return query_service_pb2.Consent(
        purpose=place.purpose.name,
        open=place.standing.is_open,
        state=STATES[place.standing.state],
        notice_version=(act.notice_version or "") if act else "",
        happened_at=stamp(act.effective_at) if act else None,
        valid_until=stamp(place.standing.valid_until) if place.standing.valid_until else None,
    )


def _value(value: JsonValue) -> struct_pb2.Value:
    # ParseDict reads any JSON value into this message; its stub knows objects only.
    return json_format.ParseDict(value, struct_pb2.Value())  # type: ignore[arg-type]


def stamp(time: datetime) -> timestamp_pb2.Timestamp:
    """Write a time."""
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(time)
    return message
