"""The rules of a workspace, and its time."""

from __future__ import annotations

from datetime import datetime

from domain.consent import LawfulBasis
from domain.event import Event, ShortText
from domain.identity_rules import IdentityRules
from domain.ids import Name


class PurposeDefined(Event):
    """What data may be used for, and on which lawful basis."""

    OPEN = {"description": "the workspace's own words, about nobody"}

    purpose: Name
    basis: LawfulBasis
    description: ShortText = ""


class SourceRegistered(Event):
    """Who may send signals, for which purposes, and how far its word counts."""

    source: Name
    purposes: tuple[Name, ...]
    priority: int = 100


class IdentityRulesSet(Event):
    """What counts as an identifier, from here on; in place of all that was set before."""

    OPEN = {"rules": "the workspace's own settings; a blocked value is one that names nobody"}

    rules: IdentityRules


class ClockAdvanced(Event):
    """Time passed with nothing else happening; a manual clock moves by these events alone."""

    to: datetime
    is_manual: bool = False
