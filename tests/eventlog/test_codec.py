from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest
from eventsourcing.persistence import Mapper
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from domain.consent import ConsentState, LawfulBasis
from domain.consent_events import CONSENT_EVENTS, ChoiceMade, ChoicesRecorded, VerdictRecorded
from domain.erasure_events import CustomerErased, ErasureRequested
from domain.event import Event
from domain.identity import Edge, Identifier, PastHolder, Separation
from domain.identity_events import (
    CustomersMerged,
    CustomersParted,
    CustomerTouched,
    IdentifierClaimed,
    IdentifierReadmitted,
    IdentifierReleased,
    IdentifiersLinked,
    IdentifiersTakenOver,
    IdentifiersUnlinked,
    IdentifierTombstoned,
)
from domain.identity_rules import IdentityRules, Namespace
from domain.ids import IdentifierKey, MergeId
from domain.preference_events import (
    HouseholdLinked,
    HouseholdUnlinked,
    Preference,
    PreferencesSet,
)
from domain.signal_events import SignalsDeclined, SignalsRecorded, TraitsSet
from domain.signals import Signal
from domain.workspace_events import (
    ClockAdvanced,
    IdentityRulesSet,
    NoticePublished,
    PurposeDefined,
    SegmentActivated,
    SegmentArchived,
    SegmentDefined,
    SourceRegistered,
    TraitIndexDropped,
    TraitIndexed,
)
from eventlog.codec import EventMapper, encode_json
from eventlog.memory import MemoryEventLog
from eventlog.registry import EVENTS, UnknownEvent, Upcast, upcast, wire_name
from tests.support.events import draft, new_record, store, traits
from tests.support.project import event_classes

ID = "01890000-0000-7000-8000-000000000001"
KEY = IdentifierKey("p1.abc")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EDGE = Edge(merge_id=MergeId(ID), older=ID, newer=ID)

CONSENTS = {f"koseki.consent.{state}.v1": event for state, event in CONSENT_EVENTS.items()}
ADDED: dict[str, dict[str, JsonValue]] = {
    "koseki.clock.advanced.v1": {"is_manual": False},
    "koseki.record.traits-set.v1": {"expires_at": None},
    "koseki.record.signals-recorded.v1": {"context_ttl_seconds": None},
    "koseki.consent.verdict-recorded.v1": {"valid_until": None},
    "koseki.workspace.purpose-defined.v1": {"parent": None, "jurisdictions": []},
    "koseki.workspace.source-registered.v1": {
        "consent_categories": {},
        "tcf_purposes": {},
        "context_ttl_seconds": None,
    },
    **{
        name: {
            "valid_until": None,
            "acted_by": None,
            "is_imported": False,
            "is_day_precise": False,
            "source": None,
        }
        for name in CONSENTS
    },
}
"""Fields that events have gained since their bodies, as below, were first released."""

SAMPLES: dict[str, tuple[Event, bytes]] = {
    "koseki.record.identifiers-linked.v1": (
        IdentifiersLinked(
            source="shop",
            keys=(KEY,),
            identifiers=(Identifier(namespace="email", value="a@b.c", key=KEY),),
        ),
        (
            b'{"identifiers":[{"key":"p1.abc","namespace":"email","value":"a@b.c"}],'
            b'"keys":["p1.abc"],"left_out":[],"source":"shop"}'
        ),
    ),
    "koseki.record.traits-set.v1": (
        TraitsSet(source="shop", traits={"b": [1, None, 0.1], "a": {"z": True}}),
        (
            b'{"left_out":[],"message_id":null,"source":"shop",'
            b'"traits":{"a":{"z":true},"b":[1,null,0.1]}}'
        ),
    ),
    "koseki.record.signals-recorded.v1": (
        SignalsRecorded(
            source="shop", signals=(Signal(message_id="m", name="Seen", happened_at=NOON),)
        ),
        (
            b'{"left_out":[],"signals":[{"context":{},"happened_at":"2026-03-01T12:00:00Z","kind":"track",'
            b'"message_id":"m","name":"Seen","properties":{}}],"source":"shop"}'
        ),
    ),
    "koseki.record.signals-declined.v1": (
        SignalsDeclined(source="shop", reason="closed", message_ids=("m",)),
        b'{"message_ids":["m"],"reason":"closed","source":"shop"}',
    ),
    "koseki.customer.merged.v1": (
        CustomersMerged(root=ID, edges=(EDGE,), evidence=(KEY,), component=(ID,)),
        b'{"component":["%b"],"edges":[{"merge_id":"%b","newer":"%b","older":"%b"}],'
        b'"evidence":["p1.abc"],"live_edges":[],"reason":"identifiers_met","root":"%b",'
        b'"rules_version":0,"separations":[]}' % ((ID.encode(),) * 5),
    ),
    "koseki.record.identifiers-unlinked.v1": (
        IdentifiersUnlinked(keys=(KEY,)),
        b'{"keys":["p1.abc"]}',
    ),
    "koseki.record.identifiers-taken-over.v1": (
        IdentifiersTakenOver(holders=(PastHolder(key=KEY, record_id=ID, until=1),)),
        b'{"holders":[{"key":"p1.abc","record_id":"%b","until":1}]}' % ID.encode(),
    ),
    "koseki.customer.parted.v1": (
        CustomersParted(
            customer=ID,
            root=ID,
            removed=(EDGE,),
            separations=(Separation(one=ID, other=ID, lifted_by=(MergeId(ID),)),),
        ),
        b'{"component":[],"customer":"%b","foreign_acts":[],"live_edges":[],'
        b'"removed":[{"merge_id":"%b","newer":"%b","older":"%b"}],"root":"%b","roots":[],'
        b'"separations":[{"lifted_by":["%b"],"one":"%b","other":"%b"}]}' % ((ID.encode(),) * 8),
    ),
    "koseki.customer.touched.v1": (
        CustomerTouched(record_id=ID),
        b'{"record_id":"%b"}' % ID.encode(),
    ),
    "koseki.customer.erasure-requested.v1": (
        ErasureRequested(root=ID, component=(ID,), live_edges=(EDGE,), reference="ticket 4"),
        b'{"component":["%b"],"live_edges":[{"merge_id":"%b","newer":"%b","older":"%b"}],'
        b'"reference":"ticket 4","root":"%b"}' % ((ID.encode(),) * 5),
    ),
    "koseki.customer.erased.v1": (
        CustomerErased(
            records=(ID,),
            events=5,
            identifiers=2,
            read_sides=1,
            requested_revision=7,
            requested_at=NOON,
            erased_at=NOON,
            intake_gone_by=NOON,
            dead_letters_gone_by=NOON,
            public_key="ab",
            signature="cd",
        ),
        b'{"dead_letters_gone_by":"2026-03-01T12:00:00Z","erased_at":"2026-03-01T12:00:00Z",'
        b'"events":5,"identifiers":2,"intake_gone_by":"2026-03-01T12:00:00Z","public_key":"ab",'
        b'"read_sides":1,"records":["%b"],"requested_at":"2026-03-01T12:00:00Z",'
        b'"requested_revision":7,"signature":"cd"}' % ID.encode(),
    ),
    **{
        name: (
            event_class(act_id=ID, purpose="marketing", evidence={"form": "f1"}),
            b'{"act_id":"%b","evidence":{"form":"f1"},"jurisdiction":null,"method":null,'
            b'"notice_language":null,"notice_version":null,"purpose":"marketing"}' % ID.encode(),
        )
        for name, event_class in CONSENTS.items()
    },
    "koseki.record.preferences-set.v1": (
        PreferencesSet(preferences=(Preference(channel="email", topic="news", frequency="never"),)),
        b'{"preferences":[{"channel":"email","frequency":"never","topic":"news"}]}',
    ),
    "koseki.record.household-linked.v1": (
        HouseholdLinked(household_id=ID, source="shop"),
        b'{"household_id":"%b","source":"shop"}' % ID.encode(),
    ),
    "koseki.record.household-unlinked.v1": (
        HouseholdUnlinked(household_id=ID),
        b'{"household_id":"%b"}' % ID.encode(),
    ),
    "koseki.workspace.notice-published.v1": (
        NoticePublished(purpose="service", version="1", language="ja", text="t", digest="d"),
        b'{"digest":"d","language":"ja","purpose":"service","text":"t","version":"1"}',
    ),
    "koseki.consent.choices-recorded.v1": (
        ChoicesRecorded(
            source="shop",
            acts=(
                ChoiceMade(
                    act_id=ID, purpose="ads", state=ConsentState.WITHDRAWN, happened_at=NOON
                ),
            ),
            evidence={"form": "f1"},
        ),
        b'{"acts":[{"act_id":"%b","happened_at":"2026-03-01T12:00:00Z","purpose":"ads",'
        b'"state":"withdrawn"}],"evidence":{"form":"f1"},"is_day_precise":false,'
        b'"jurisdiction":null,"notice_language":null,"source":"shop"}' % ID.encode(),
    ),
    "koseki.consent.verdict-recorded.v1": (
        VerdictRecorded(
            purpose="marketing",
            is_open=False,
            shown_state=ConsentState.REFUSED,
            act_event_id=None,
            notice_version="3",
            rules_version=4,
        ),
        (
            b'{"act_event_id":null,"is_open":false,"notice_version":"3","purpose":"marketing",'
            b'"rules_version":4,"shown_state":"refused"}'
        ),
    ),
    "koseki.identifier.claimed.v1": (
        IdentifierClaimed(record_id=ID),
        b'{"record_id":"%b"}' % ID.encode(),
    ),
    "koseki.identifier.released.v1": (
        IdentifierReleased(record_id=ID),
        b'{"record_id":"%b"}' % ID.encode(),
    ),
    "koseki.identifier.tombstoned.v1": (
        IdentifierTombstoned(record_id=ID),
        b'{"record_id":"%b"}' % ID.encode(),
    ),
    "koseki.identifier.readmitted.v1": (
        IdentifierReadmitted(reference="ticket 7"),
        b'{"reference":"ticket 7"}',
    ),
    "koseki.workspace.identity-rules-set.v1": (
        IdentityRulesSet(rules=IdentityRules(namespaces=(Namespace(name="a", values_max=1),))),
        (
            b'{"rules":{"namespaces":[{"blocked_patterns":[],"blocked_values":[],"blocks_zeros":true,'
            b'"name":"a","normaliser":"text","parts":[],"values_max":1}]}}'
        ),
    ),
    "koseki.workspace.purpose-defined.v1": (
        PurposeDefined(purpose="service", basis=LawfulBasis.CONTRACT),
        b'{"basis":"contract","description":"","purpose":"service"}',
    ),
    "koseki.workspace.source-registered.v1": (
        SourceRegistered(source="shop", purposes=("service",), priority=5),
        b'{"priority":5,"purposes":["service"],"source":"shop"}',
    ),
    "koseki.workspace.segment-defined.v1": (
        SegmentDefined(
            segment="loyal",
            definition=2,
            expression='segment("known")',
            purposes=("service",),
            uses=("known",),
        ),
        (
            b'{"definition":2,"description":"","exception":null,"expression":"segment(\\"known\\")",'
            b'"purposes":["service"],"segment":"loyal","uses":["known"]}'
        ),
    ),
    "koseki.workspace.segment-activated.v1": (
        SegmentActivated(segment="loyal", definition=2),
        b'{"definition":2,"segment":"loyal"}',
    ),
    "koseki.workspace.segment-archived.v1": (
        SegmentArchived(segment="loyal"),
        b'{"segment":"loyal"}',
    ),
    "koseki.workspace.trait-indexed.v1": (
        TraitIndexed(trait="plan", number=2, purposes=("service",), open_reason="three plans"),
        b'{"number":2,"open_reason":"three plans","purposes":["service"],"trait":"plan"}',
    ),
    "koseki.workspace.trait-index-dropped.v1": (
        TraitIndexDropped(trait="plan"),
        b'{"trait":"plan"}',
    ),
    "koseki.clock.advanced.v1": (
        ClockAdvanced(to=NOON),
        b'{"is_manual":false,"to":"2026-03-01T12:00:00Z"}',
    ),
}


def test_the_mapper_is_the_librarys() -> None:
    assert isinstance(EventMapper(), Mapper)


def test_every_event_of_the_domain_has_one_wire_name() -> None:
    assert set(EVENTS.values()) == event_classes()
    assert len(set(EVENTS.values())) == len(EVENTS)


def test_wire_names_are_those_that_were_released() -> None:
    assert {wire_name(type(event)) for event, _ in SAMPLES.values()} == set(EVENTS)
    assert {name: wire_name(type(event)) for name, (event, _) in SAMPLES.items()} == {
        name: name for name in EVENTS
    }


@pytest.mark.parametrize("name", SAMPLES)
async def test_bodies_are_written_as_they_were_released_and_read_back(name: str) -> None:
    event, body = SAMPLES[name]
    log = MemoryEventLog("memory")
    stream = new_record()
    await store(log, draft(stream, event))
    assert log._rows[0].body == encode_json({**orjson.loads(body), **ADDED.get(name, {})})
    assert log._rows[0].headers["ce-type"] == name
    [entry] = await log.load(stream)
    assert entry.event is not None
    assert entry.event.body == event
    assert type(entry.event.body) is type(event)


@pytest.mark.parametrize("name", ADDED)
def test_bodies_from_before_a_field_was_added_are_still_read(name: str) -> None:
    event, body = SAMPLES[name]
    event_class, fields = upcast(name, orjson.loads(body))
    assert event_class.model_validate(fields) == event


json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
async def test_open_maps_come_back_as_they_were(values: dict[str, JsonValue]) -> None:
    log = MemoryEventLog("memory")
    stream = new_record()
    await store(log, draft(stream, traits(**values)))
    [entry] = await log.load(stream)
    assert entry.event is not None
    assert entry.event.body == traits(**values)


async def test_a_name_that_the_registry_does_not_hold_is_a_fault_of_the_entry() -> None:
    log = MemoryEventLog("memory")
    stream = new_record()
    await store(log, draft(stream))
    for name, shown in (
        ("koseki.record.forgotten.v9", "koseki.record.forgotten.v9"),
        ("koseki.record.taro@example.com.v9", "this wire name"),
    ):
        headers = dict(log._rows[0].headers) | {"ce-type": name}
        entry = log._incoming.entry(log._rows[0].subject, 1, headers=headers, body=b"{}")
        assert (entry.event, entry.version) == (None, 1)
        assert entry.fault == f"body: the registry does not hold {shown}"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"source":"shop","traits":7}', b"\xff"])
async def test_a_body_that_does_not_fit_is_a_fault_that_quotes_nothing(body: bytes) -> None:
    log = MemoryEventLog("memory")
    stream = new_record()
    await store(log, draft(stream))
    log.damage_body(1, body)
    [entry] = await log.load(stream)
    assert entry.event is None
    assert entry.fault is not None
    assert "shop" not in entry.fault


async def test_a_body_under_a_key_that_is_not_held_is_a_fault() -> None:
    log = MemoryEventLog("memory")
    await store(log, draft(new_record()))
    row = log._rows[0]
    headers = dict(row.headers) | {"koseki-keyid": "k1"}
    entry = log._incoming.entry(row.subject, 1, headers=headers, body=row.body)
    assert entry.fault == "body: the body is sealed under a key that is not held"


def test_an_old_body_is_brought_up_to_date_step_by_step() -> None:
    steps = {
        "a.v1": Upcast("a.v2", lambda fields: {**fields, "two": 2}),
        "a.v2": Upcast("koseki.customer.touched.v1", lambda fields: {"record_id": fields["id"]}),
    }
    event_class, fields = upcast("a.v1", {"id": ID}, steps=steps)
    assert event_class is CustomerTouched
    assert fields == {"record_id": ID}


def test_a_class_outside_the_registry_has_no_name() -> None:
    class Invented(Event):
        pass

    with pytest.raises(UnknownEvent):
        wire_name(Invented)
