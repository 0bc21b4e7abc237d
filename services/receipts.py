"""Write the receipt of an act of consent: ISO/IEC TS 27560 in JSON-LD, with the terms of W3C DPV.

Structure: a `dpv:ConsentReceipt` around one `dpv:ConsentRecord`, as in the guide of the
vocabulary's authors (w3id.org/dpv/guides/consent-27560).
"""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from pydantic import JsonValue

from domain.consent import GRANTS, ConsentState, LawfulBasis
from domain.rules import Purpose
from domain.transitions import ActedBy
from projections.consent_history import ConsentTransition

CONTEXT: dict[str, JsonValue] = {
    "dct": "http://purl.org/dc/terms/",
    "dpv": "https://w3id.org/dpv#",
    "koseki": "https://koseki.dev/ns#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
SCHEMA = "https://w3id.org/dpv/schema/dpv-27560"

STATUSES = {
    ConsentState.REQUESTED: "dpv:ConsentRequested",
    ConsentState.GIVEN: "dpv:ConsentGiven",
    ConsentState.RENEWED: "dpv:RenewedConsentGiven",
    ConsentState.REFUSED: "dpv:ConsentRefused",
    ConsentState.WITHDRAWN: "dpv:ConsentWithdrawn",
    ConsentState.REVOKED: "dpv:ConsentRevoked",
    ConsentState.EXPIRED: "dpv:ConsentExpired",
    ConsentState.TERMINATED: "koseki:ConsentTerminated",
    ConsentState.INVALIDATED: "dpv:ConsentInvalidated",
}
"""DPV has every state of TS 27560 but `terminated`."""

BASES = {
    LawfulBasis.CONSENT: "dpv:Consent",
    LawfulBasis.CONTRACT: "dpv:Contract",
    LawfulBasis.LEGAL_OBLIGATION: "dpv:LegalObligation",
    LawfulBasis.LEGITIMATE_INTEREST: "dpv:LegitimateInterest",
}
ENTITIES = {
    ActedBy.PERSON: "dpv:DataSubject",
    ActedBy.REPRESENTATIVE: "dpv:Representative",
    ActedBy.CONTROLLER: "dpv:DataController",
    ActedBy.AUTHORITY: "dpv:Authority",
}


def receipt_text(
    act: ConsentTransition,
    purpose: Purpose,
    *,
    customer_id: str,
    workspace: str,
    issued_at: datetime,
) -> str:
    """Write the receipt of an act; its keys are in order, so equal receipts are equal texts."""
    receipt: dict[str, JsonValue] = {
        "@context": CONTEXT,
        "@id": f"{_id(act)}/receipt",
        "@type": "dpv:ConsentReceipt",
        "dct:conformsTo": f"{SCHEMA}#receipt-record",
        "dct:created": _time(issued_at),
        "dct:publisher": f"koseki:workspace/{workspace}",
        "dpv:hasRecordOfActivity": _record(act, purpose, customer_id, workspace=workspace),
    }
    return orjson.dumps(receipt, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2).decode()


def _record(
    act: ConsentTransition, purpose: Purpose, customer_id: str, *, workspace: str
) -> dict[str, JsonValue]:
    record: dict[str, JsonValue] = {
        "@id": _id(act),
        "@type": "dpv:ConsentRecord",
        "dct:conformsTo": f"{SCHEMA}#record",
        "dct:identifier": act.event_id,
        "dpv:hasDataSubject": {"@id": f"urn:uuid:{customer_id}", "@type": "dpv:DataSubject"},
        "dpv:hasDataController": f"koseki:workspace/{workspace}",
        "dpv:hasProcess": {
            "@type": "dpv:Process",
            "dpv:hasPurpose": _purpose(purpose),
            "dpv:hasLegalBasis": BASES[purpose.basis],
        },
        "dpv:hasConsentStatus": _status(act),
        "koseki:revision": act.revision,
    }
    if act.notice_version:
        record["dpv:hasNotice"] = _notice(act, purpose)
    if act.jurisdiction:
        record["dpv:hasJurisdiction"] = act.jurisdiction
    return record


def _id(act: ConsentTransition) -> str:
    """Name an act as nothing else is named: its event may tell of one on another purpose too."""
    return f"urn:uuid:{act.event_id}#{act.purpose}"


def _purpose(purpose: Purpose) -> dict[str, JsonValue]:
    said: dict[str, JsonValue] = {
        "@id": f"koseki:purpose/{purpose.name}",
        "@type": "dpv:Purpose",
        "dct:title": purpose.name,
    }
    if purpose.description:
        said["dct:description"] = purpose.description
    return said


def _status(act: ConsentTransition) -> dict[str, JsonValue]:
    """Give the event of TS 27560: what state, when, by whom, and for how long."""
    status: dict[str, JsonValue] = {
        "@type": STATUSES[act.state],
        "dpv:hasTimestamp": _time(act.happened_at),
        "dpv:isIndicatedBy": ENTITIES[act.acted_by],
        "dpv:isIndicatedAtTime": _time(act.effective_at),
        "dct:dateSubmitted": _time(act.recorded_at),
        "koseki:imported": act.is_imported,
    }
    if act.valid_until:
        status["dpv:hasDuration"] = {
            "@type": "dpv:UntilTimeDuration",
            "dct:valid": _time(act.valid_until),
        }
    elif act.state in GRANTS:
        status["dpv:hasDuration"] = {"@type": "dpv:IndeterminateDuration"}
    if act.source:
        status["dct:source"] = f"koseki:source/{act.source}"
    return status


def _notice(act: ConsentTransition, purpose: Purpose) -> dict[str, JsonValue]:
    notice: dict[str, JsonValue] = {"@type": "dpv:ConsentNotice"}
    notice["dct:hasVersion"] = act.notice_version
    if act.notice_language:
        notice["dct:language"] = act.notice_language
    digests: list[JsonValue] = [
        published.digest
        for published in purpose.notices
        if published.version == act.notice_version
        and act.notice_language in {None, published.language}
    ]
    if digests:
        notice["koseki:sha256"] = digests
    return notice


def _time(time: datetime) -> JsonValue:
    return {"@type": "xsd:dateTime", "@value": time.astimezone(UTC).isoformat()}
