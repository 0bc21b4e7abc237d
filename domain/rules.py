"""A workspace's rules as its stream tells them: purposes with their basis, sources, identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from domain.commands import (
    ActivateSegment,
    ArchiveSegment,
    DefinePurpose,
    DefineSegment,
    RegisterSource,
    RulesCommand,
    SetIdentityRules,
)
from domain.consent import LawfulBasis
from domain.errors import Invalid, NotFound
from domain.event import Event, Recorded
from domain.identity_rules import DEFAULT_IDENTITY_RULES, IdentityRules
from domain.segments import Segment, decide_segment, evolve_segments
from domain.workspace_events import IdentityRulesSet, PurposeDefined, SourceRegistered

AUDIT = "audit"
"""The purpose that only the role `auditor` may name; no workspace can define it."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What data may be used for."""

    name: str
    basis: LawfulBasis
    description: str


@dataclass(frozen=True, slots=True)
class Source:
    """Who may send, for which purposes; a higher priority wins a trait."""

    name: str
    purposes: frozenset[str]
    priority: int


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules after `version` events of the workspace's stream."""

    version: int = 0
    purposes: Mapping[str, Purpose] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    segments: Mapping[str, Segment] = field(default_factory=dict)
    identity: IdentityRules = DEFAULT_IDENTITY_RULES

    def source(self, name: str) -> Source:
        """Find a registered source, or raise `NotFound` / UNKNOWN_SOURCE."""
        if name not in self.sources:
            raise NotFound("UNKNOWN_SOURCE", "the source is not registered in this workspace")
        return self.sources[name]

    def purpose(self, name: str) -> Purpose:
        """Find a defined purpose, or raise `NotFound` / UNKNOWN_PURPOSE."""
        if name not in self.purposes:
            raise NotFound("UNKNOWN_PURPOSE", "the purpose is not defined in this workspace")
        return self.purposes[name]

    def sources_serving(self, purpose: str) -> frozenset[str]:
        """Name the sources that declare a purpose."""
        return frozenset(s.name for s in self.sources.values() if purpose in s.purposes)


def evolve_rules(rules: Rules, event: Recorded[Event]) -> Rules:
    """Apply one event of the workspace's stream; what it does not know only moves the version."""
    match event.body:
        case PurposeDefined(purpose=name, basis=basis, description=description):
            purposes = {**rules.purposes, name: Purpose(name, basis, description)}
            return replace(rules, version=event.version, purposes=purposes)
        case SourceRegistered(source=name, purposes=served, priority=priority):
            source = Source(name, frozenset(served), priority)
            sources = {**rules.sources, name: source}
            return replace(rules, version=event.version, sources=sources)
        case IdentityRulesSet(rules=identity):
            return replace(rules, version=event.version, identity=identity)
        case body:
            segments = evolve_segments(rules.segments, body)
            return replace(rules, version=event.version, segments=segments)


def fold_rules(rules: Rules, events: Iterable[Recorded[Event]]) -> Rules:
    """Apply events in order."""
    for event in events:
        rules = evolve_rules(rules, event)
    return rules


def decide_rules(rules: Rules, command: RulesCommand) -> list[Event]:
    """Decide a change of rules; nothing where it would change nothing."""
    match command:
        case DefinePurpose():
            return _define_purpose(rules, command)
        case RegisterSource():
            return _register_source(rules, command)
        case DefineSegment() | ActivateSegment() | ArchiveSegment():
            return decide_segment(rules.segments, command, purposes=rules.purposes.keys())
        case SetIdentityRules(rules=wanted):
            return [] if wanted == rules.identity else [IdentityRulesSet(rules=wanted)]


def _define_purpose(rules: Rules, command: DefinePurpose) -> list[Event]:
    if command.purpose == AUDIT:
        raise Invalid("RESERVED_PURPOSE", "the purpose audit is reserved for auditors")
    wanted = Purpose(command.purpose, command.basis, command.description)
    if rules.purposes.get(command.purpose) == wanted:
        return []
    return [
        PurposeDefined(
            purpose=command.purpose, basis=command.basis, description=command.description
        )
    ]


def _register_source(rules: Rules, command: RegisterSource) -> list[Event]:
    for purpose in command.purposes:
        rules.purpose(purpose)
    wanted = Source(command.source, frozenset(command.purposes), command.priority)
    if rules.sources.get(command.source) == wanted:
        return []
    return [
        SourceRegistered(
            source=command.source, purposes=command.purposes, priority=command.priority
        )
    ]
