"""The rules of a workspace, and its time."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from domain.consent import LawfulBasis
from domain.event import Event, ShortText
from domain.identity_rules import IdentityRules
from domain.ids import Name
from domain.notices import NOTICE_CHARACTERS_MAX

EXPRESSION_CHARACTERS_MAX = 4_096
SegmentExpression = Annotated[str, StringConstraints(max_length=EXPRESSION_CHARACTERS_MAX)]
TraitName = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class PurposeDefined(Event):
    """What data may be used for, and on which lawful basis."""

    OPEN = {
        "description": "the workspace's own words, about nobody",
        "jurisdictions": "places' laws, about nobody",
    }

    purpose: Name
    basis: LawfulBasis
    description: ShortText = ""
    parent: Name | None = None
    jurisdictions: tuple[ShortText, ...] = ()


class NoticePublished(Event):
    """What people are told about a purpose, in one version and language; it never changes."""

    OPEN = {
        "version": "the workspace's own name for it",
        "language": "the language it is written in",
        "text": "the workspace's own words, the same for everybody they are shown to",
        "digest": "a digest of the workspace's own words",
    }

    purpose: Name
    version: ShortText
    language: ShortText
    text: Annotated[str, StringConstraints(max_length=NOTICE_CHARACTERS_MAX)]
    digest: ShortText


class SourceRegistered(Event):
    """Who may send signals, for which purposes, and how far its word counts."""

    OPEN = {
        "consent_categories": "the source's own categories, about nobody",
        "tcf_purposes": "numbers of the IAB's list of purposes",
    }

    source: Name
    purposes: tuple[Name, ...]
    priority: int = 100
    consent_categories: dict[str, tuple[Name, ...]] = Field(default_factory=dict)
    tcf_purposes: dict[str, tuple[Name, ...]] = Field(default_factory=dict)
    context_ttl_seconds: int | None = None


class SegmentDefined(Event):
    """Who belongs to a segment, by a CEL expression; takes effect when it is activated.

    Its inputs come from sources that declare every purpose it serves, unless `exception` says why
    it must see all, as a suppression list must. `uses` names the segments that it reads.
    """

    OPEN = {
        "expression": "the workspace's own rule, about nobody",
        "description": "the workspace's own words, about nobody",
        "exception": "the workspace's own reason, kept as proof",
    }

    segment: Name
    definition: int
    expression: SegmentExpression
    purposes: tuple[Name, ...]
    uses: tuple[Name, ...] = ()
    exception: ShortText | None = None
    description: ShortText = ""


class SegmentActivated(Event):
    """A definition takes effect: who belongs by it is known."""

    segment: Name
    definition: int


class SegmentArchived(Event):
    """A segment has no members any more."""

    segment: Name


SegmentEvent = SegmentDefined | SegmentActivated | SegmentArchived


class TraitIndexed(Event):
    """Audiences may be counted by a trait for these purposes, by an index.

    The index keeps HMACs of the values, unless `open_reason` says why they are not personal.
    """

    OPEN = {
        "trait": "a name that traits go by, about nobody",
        "open_reason": "the workspace's own reason, kept as proof",
    }

    trait: TraitName
    number: int
    purposes: tuple[Name, ...]
    open_reason: ShortText | None = None


class TraitIndexDropped(Event):
    """There is no index over a trait any more."""

    OPEN = {"trait": "a name that traits go by, about nobody"}

    trait: TraitName


class IdentityRulesSet(Event):
    """What counts as an identifier, from here on; in place of all that was set before."""

    OPEN = {"rules": "the workspace's own settings; a blocked value is one that names nobody"}

    rules: IdentityRules


class ClockAdvanced(Event):
    """Time passed with nothing else happening; a manual clock moves by these events alone."""

    to: datetime
    is_manual: bool = False
