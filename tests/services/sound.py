"""A sound request for every method of the contract, and what may not be missing of it.

A method without its row fails `test_wrong_input.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.message import Message

from koseki.v1 import (
    common_pb2,
    customer_service_pb2,
    query_service_pb2,
    segment_service_pb2,
    workspace_service_pb2,
)
from services.contract import SERVICES
from tests.services.edge import Edge, signal, user

METHODS = {method.full_name: method for service in SERVICES.values() for method in service.methods}
"""Every method of the contract, as its descriptors have it."""

HOUSEHOLD = "01890000-0000-7000-8000-000000000001"
ADA, BEN, CAY = user("ada"), user("ben"), user("cay")
TCF = "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA"
AUDIT = {"purpose": "audit"}
SERVICE = {"purpose": "service"}


Rows = dict[str, dict[str, Any]]
"""The fields of a request, by its method."""


@dataclass(frozen=True, slots=True)
class People:
    """Who is there to be asked about: ada merged with ben, cay alone and erased in the end."""

    ada: str
    cay: str
    merge_id: str
    act_event_id: str
    erased: str
    revision: int


async def settle(edge: Edge) -> People:
    """Have people in the workspace, with all that a method can be asked about."""
    ada = await edge.identify(ADA, traits={"tier": "gold"})
    ben = await edge.identify(BEN)
    request = customer_service_pb2.MergeCustomersRequest(
        customer_id=ada.customer_id, other_customer_id=ben.customer_id
    )
    merged = await edge.customer.MergeCustomers(request)
    cay = await edge.identify(CAY)
    await edge.consent("GIVEN", ADA)
    await edge.ingest(signal("m1", ADA, cds=2))
    names = workspace_service_pb2.PurposeNames(purposes=["marketing"])
    await edge.register(source="tcf", purposes=["marketing"], tcf_purposes={1: names})
    await edge.define_segment("golden", 'traits.tier == "gold"')
    await edge.define_segment("spare", 'traits.tier == "tin"')
    index = segment_service_pb2.IndexTraitRequest(trait="spare", purposes=["analytics"])
    await edge.segments.IndexTrait(index)
    gone = await edge.identify(user("gone"))
    erasing = customer_service_pb2.EraseCustomerRequest(customer_id=gone.customer_id)
    done = await edge.customer.EraseCustomer(erasing)
    history = query_service_pb2.ListConsentHistoryRequest(
        identifier=ADA, purpose="marketing", at_least_revision=done.revision
    )
    acts = (await edge.query.ListConsentHistory(history)).acts
    return People(
        ada=ada.customer_id,
        cay=cay.customer_id,
        merge_id=merged.merge_id,
        act_event_id=acts[0].event_id,
        erased=gone.customer_id,
        revision=done.revision,
    )


REQUIRED: dict[str, dict[str, str]] = {
    "CustomerService": {
        "Identify": "identifiers source",
        "SetTraits": "identifiers source traits",
        "RecordConsent": "identifiers purpose state",
        "RecordTcfString": "identifiers source tcf_string",
        "SetPreferences": "identifiers preferences",
        "LinkHousehold": "identifiers source household_id",
        "UnlinkHousehold": "identifiers household_id",
        "LinkIdentifiers": "identifiers source",
        "UnlinkIdentifier": "identifier",
        "ReadmitIdentifier": "identifier reference",
        "EraseCustomer": "customer_id",
        "MergeCustomers": "customer_id other_customer_id",
        "UndoMerge": "customer_id merge_id",
        "UnmergeRecord": "record_id",
        "Execute": "commands",
    },
    "IngestService": {
        "Ingest": "source signals",
        "IngestStream": "sequence batch batch.source batch.signals",
    },
    "QueryService": {
        "GetCustomer": "identifier purpose",
        "BatchGetCustomers": "references purpose",
        "CheckConsent": "purpose",
        "ListSegmentsOf": "reference purpose",
        "ListTimeline": "reference purpose",
        "WatchCustomer": "reference purpose",
        "ListConsentHistory": "identifier purpose",
    },
    "SegmentService": {
        "DefineSegment": "segment expression purposes",
        "ListSegments": "",
        "ArchiveSegment": "segment",
        "IndexTrait": "trait purposes",
        "DropTraitIndex": "trait",
        "ListTraitIndexes": "",
        "ListMembers": "audience purpose",
        "CountAudience": "audience purpose",
        "WatchSegment": "segment purpose",
        "ExplainMembership": "segment purpose reference",
    },
    "WorkspaceService": {
        "DefinePurpose": "purpose lawful_basis",
        "PublishNotice": "purpose version language text",
        "RegisterSource": "source purposes",
        "SetIdentityRules": "namespaces",
        "GetRules": "",
    },
    "AuditService": {
        "ReplayEvents": "purpose",
        "Verify": "purpose",
        "DiffCustomer": "purpose customer_id from",
        "GetReceipt": "identifier purpose act_event_id",
        "GetErasureReceipt": "customer_id",
    },
}
"""What may not be missing of the sound request of each method: it is refused without."""


def past_requests(people: People) -> dict[str, Message]:
    """Give requests for a past state, which is found and folded in another way."""
    past = common_pb2.AsOf(revision=people.revision)
    ada = common_pb2.CustomerReference(customer_id=people.ada)
    return {
        "koseki.v1.QueryService.GetCustomer": query_service_pb2.GetCustomerRequest(
            customer_id=people.ada, purpose="service", as_of=past
        ),
        "koseki.v1.QueryService.BatchGetCustomers": query_service_pb2.BatchGetCustomersRequest(
            references=[ada], purpose="service", as_of=past
        ),
        "koseki.v1.QueryService.CheckConsent": query_service_pb2.CheckConsentRequest(
            customer_id=people.ada, purpose="marketing", as_of=past
        ),
        "koseki.v1.QueryService.ListSegmentsOf": query_service_pb2.ListSegmentsOfRequest(
            reference=ada, purpose="analytics", as_of=past
        ),
        "koseki.v1.QueryService.ListTimeline": query_service_pb2.ListTimelineRequest(
            reference=ada, purpose="service", names=["Order Completed"], as_of=past
        ),
        "koseki.v1.QueryService.ListConsentHistory": query_service_pb2.ListConsentHistoryRequest(
            customer_id=people.ada, purpose="marketing", as_of=past
        ),
    }


def commands(people: People) -> Rows:
    """Give a sound request of each method that changes a person."""
    one = {"identifiers": [ADA]}
    return {
        "Identify": {**one, "source": "shop", "traits": {"tier": "gold"}},
        "SetTraits": {**one, "source": "shop", "traits": {"tier": "gold"}},
        "RecordConsent": {**one, "purpose": "marketing", "state": "CONSENT_STATE_GIVEN"},
        "RecordTcfString": {**one, "source": "tcf", "tcf_string": TCF},
        "SetPreferences": {**one, "preferences": [{"channel": "email", "frequency": "weekly"}]},
        "LinkHousehold": {**one, "source": "shop", "household_id": HOUSEHOLD},
        "UnlinkHousehold": {**one, "household_id": HOUSEHOLD},
        "LinkIdentifiers": {**one, "source": "shop"},
        "UnlinkIdentifier": {"customer_id": people.cay, "identifier": CAY},
        "ReadmitIdentifier": {"identifier": user("gone"), "reference": "case 1"},
        "EraseCustomer": {"customer_id": people.cay, "reference": "case 2", "dry_run": True},
        "MergeCustomers": {
            "customer_id": people.ada,
            "other_customer_id": people.cay,
            "dry_run": True,
        },
        "UndoMerge": {
            "customer_id": people.ada,
            "merge_id": people.merge_id,
            "dry_run": True,
        },
        "UnmergeRecord": {"record_id": people.ada, "dry_run": True},
        "Execute": {"commands": [{"identify": {**one, "source": "shop"}}]},
    }


def queries() -> Rows:
    """Give a sound question of each kind."""
    one = {"identifiers": [ADA]}
    ada = common_pb2.CustomerReference(identifier=ADA)
    return {
        "GetCustomer": {"identifier": ADA, **SERVICE},
        "BatchGetCustomers": {"references": [ada], **SERVICE},
        "CheckConsent": {**one, "purpose": "marketing"},
        "ListSegmentsOf": {"reference": ada, "purpose": "analytics"},
        "ListTimeline": {"reference": ada, **SERVICE, "names": ["Order Completed"]},
        "WatchCustomer": {"reference": ada, **SERVICE},
        "ListConsentHistory": {"identifier": ADA, "purpose": "marketing"},
    }


def segments() -> Rows:
    """Give a sound request about segments, for each method."""
    ada = common_pb2.CustomerReference(identifier=ADA)
    golden = segment_service_pb2.Audience(segment="golden")
    parts = segment_service_pb2.AudienceParts(parts=[golden])
    both = segment_service_pb2.Audience(all_of=parts)
    return {
        "DefineSegment": {
            "segment": "silver",
            "expression": 'traits.tier == "silver"',
            "purposes": ["analytics"],
        },
        "ListSegments": {},
        "ArchiveSegment": {"segment": "spare"},
        "IndexTrait": {"trait": "tier", "purposes": ["analytics"]},
        "DropTraitIndex": {"trait": "spare"},
        "ListTraitIndexes": {},
        "ListMembers": {"audience": both, "purpose": "analytics"},
        "CountAudience": {"audience": both, "purpose": "analytics"},
        "WatchSegment": {"segment": "golden", "purpose": "analytics"},
        "ExplainMembership": {"segment": "golden", "purpose": "analytics", "reference": ada},
    }


def rules() -> Rows:
    """Give a sound request about the workspace's rules, for each method."""
    return {
        "DefinePurpose": {
            "purpose": "research",
            "lawful_basis": "LAWFUL_BASIS_CONSENT",
            "parent": "marketing",
            "jurisdictions": ["DE"],
        },
        "PublishNotice": {
            "purpose": "service",
            "version": "1",
            "language": "en",
            "text": "We deliver.",
        },
        "RegisterSource": {
            "source": "kiosk",
            "purposes": ["service"],
            "consent_categories": {"ads": {"purposes": ["marketing"]}},
            "tcf_purposes": {1: {"purposes": ["marketing"]}},
        },
        "SetIdentityRules": {
            "namespaces": [
                {"name": "user_id", "normaliser": "NORMALISER_TEXT", "values_max": 1},
                {"name": "loyalty_id", "normaliser": "NORMALISER_TEXT", "values_max": 5},
            ]
        },
        "GetRules": {},
    }


def audits(people: People) -> Rows:
    """Give a sound request of an auditor, for each method."""
    return {
        "ReplayEvents": {**AUDIT, "record_ids": [people.ada]},
        "Verify": AUDIT,
        "DiffCustomer": {
            **AUDIT,
            "customer_id": people.ada,
            "from": {"revision": 1},
            "to": {"revision": 9},
        },
        "GetReceipt": {
            "purpose": "marketing",
            "identifier": ADA,
            "act_event_id": people.act_event_id,
        },
        "GetErasureReceipt": {"customer_id": people.erased},
    }


def sound_requests(people: People) -> dict[str, Message]:
    """Give a request that is answered, by the full name of its method."""
    batch = {"source": "shop", "signals": [signal("m2", ADA, cds=1)]}
    rows: dict[str, Rows] = {
        "CustomerService": commands(people),
        "IngestService": {"Ingest": batch, "IngestStream": {"sequence": 1, "batch": batch}},
        "QueryService": queries(),
        "SegmentService": segments(),
        "WorkspaceService": rules(),
        "AuditService": audits(people),
    }
    made: dict[str, Message] = {}
    for service, methods in rows.items():
        for method, fields in methods.items():
            name = f"koseki.v1.{service}.{method}"
            made[name] = message_factory.GetMessageClass(METHODS[name].input_type)(**fields)
    return made
