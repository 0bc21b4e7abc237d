"""A workspace's rules as its stream tells them: purposes and their notices, sources, identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from domain.commands import (
    ActivateSegment,
    ArchiveSegment,
    DefinePurpose,
    DefineSegment,
    DropTraitIndex,
    IndexTrait,
    PublishNotice,
    RegisterSource,
    RulesCommand,
    SetIdentityRules,
)
from domain.consent import LawfulBasis
from domain.errors import Invalid, NotFound, Refused
from domain.event import Event, Recorded
from domain.identity_rules import DEFAULT_IDENTITY_RULES, IdentityRules, Namespace
from domain.notices import NOTICES_PER_PURPOSE_MAX, Notice, notice_digest
from domain.segments import Segment, decide_segment, evolve_segments
from domain.trait_indexes import TraitIndex, decide_trait_index, evolve_trait_indexes
from domain.workspace_events import (
    IdentityRulesSet,
    NoticePublished,
    PurposeDefined,
    SourceRegistered,
    TraitIndexDropped,
    TraitIndexed,
)

AUDIT = "audit"
"""The purpose that only the role `auditor` may name; no workspace can define it."""

PURPOSE_DEPTH_MAX = 8
"""Purposes from the top of the tree to a leaf."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What data may be used for; no jurisdictions named: under any law."""

    name: str
    basis: LawfulBasis
    description: str
    parent: str | None = None
    jurisdictions: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()

    def knows_notice(self, version: str | None, language: str | None) -> bool:
        """Whether an act may name this notice; any, where none was published."""
        if not self.notices or version is None:
            return True
        languages = {n.language for n in self.notices if n.version == version}
        return bool(languages) and language in {None, *languages}


@dataclass(frozen=True, slots=True)
class Source:
    """Who may send, for which purposes; a higher priority wins a trait.

    `consent_categories` and `tcf_purposes` say which of our purposes its choices of consent are on.
    """

    name: str
    purposes: frozenset[str]
    priority: int
    consent_categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tcf_purposes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    context_ttl_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules after `version` events of the workspace's stream.

    `past_namespaces` are those that earlier identity rules had and these have not, by name.
    """

    version: int = 0
    purposes: Mapping[str, Purpose] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    segments: Mapping[str, Segment] = field(default_factory=dict)
    identity: IdentityRules = DEFAULT_IDENTITY_RULES
    past_namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    trait_indexes: Mapping[str, TraitIndex] = field(default_factory=dict)

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

    def any_namespace(self, name: str) -> Namespace | None:
        """Find a namespace of these identity rules or of earlier ones."""
        return self.identity.namespace(name) or self.past_namespaces.get(name)

    def ancestors(self, purpose: str) -> tuple[str, ...]:
        """Name the purposes above one, the nearest first."""
        found: list[str] = []
        known = self.purposes.get(purpose)
        while known and known.parent and known.parent not in found:
            found.append(known.parent)
            known = self.purposes.get(known.parent)
        return tuple(found)

    def sources_serving(self, purpose: str) -> frozenset[str]:
        """Name the sources that declare a purpose."""
        return frozenset(s.name for s in self.sources.values() if purpose in s.purposes)


def evolve_rules(rules: Rules, event: Recorded[Event]) -> Rules:
    """Apply one event of the workspace's stream; what it does not know only moves the version."""
    match event.body:
        case PurposeDefined() as body:
            known = rules.purposes.get(body.purpose)
            purpose = _purpose(body, known.notices if known else ())
            purposes = {**rules.purposes, body.purpose: purpose}
            return replace(rules, version=event.version, purposes=purposes)
        case NoticePublished() as body if body.purpose in rules.purposes:
            purpose = rules.purposes[body.purpose]
            notice = Notice(body.version, body.language, body.digest)
            purpose = replace(purpose, notices=(*purpose.notices, notice))
            purposes = {**rules.purposes, body.purpose: purpose}
            return replace(rules, version=event.version, purposes=purposes)
        case SourceRegistered() as body:
            sources = {**rules.sources, body.source: _source(body)}
            return replace(rules, version=event.version, sources=sources)
        case IdentityRulesSet(rules=identity):
            past = _past_namespaces(rules, identity)
            return replace(rules, version=event.version, identity=identity, past_namespaces=past)
        case TraitIndexed() | TraitIndexDropped() as body:
            indexes = evolve_trait_indexes(rules.trait_indexes, body)
            return replace(rules, version=event.version, trait_indexes=indexes)
        case body:
            segments = evolve_segments(rules.segments, body)
            return replace(rules, version=event.version, segments=segments)


def _purpose(body: PurposeDefined, notices: tuple[Notice, ...]) -> Purpose:
    return Purpose(
        name=body.purpose,
        basis=body.basis,
        description=body.description,
        parent=body.parent,
        jurisdictions=body.jurisdictions,
        notices=notices,
    )


def _source(body: SourceRegistered) -> Source:
    return Source(
        name=body.source,
        purposes=frozenset(body.purposes),
        priority=body.priority,
        consent_categories=body.consent_categories,
        tcf_purposes={int(n): named for n, named in body.tcf_purposes.items() if n.isdecimal()},
        context_ttl_seconds=body.context_ttl_seconds,
    )


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
        case PublishNotice():
            return _publish_notice(rules, command)
        case RegisterSource():
            return _register_source(rules, command)
        case DefineSegment() | ActivateSegment() | ArchiveSegment():
            return decide_segment(rules.segments, command, purposes=rules.purposes.keys())
        case IndexTrait() | DropTraitIndex():
            return decide_trait_index(rules.trait_indexes, command, purposes=rules.purposes.keys())
        case SetIdentityRules(rules=wanted):
            return [] if wanted == rules.identity else [IdentityRulesSet(rules=wanted)]


def _past_namespaces(rules: Rules, identity: IdentityRules) -> dict[str, Namespace]:
    """Give what earlier identity rules had and these have not."""
    known = {**rules.past_namespaces, **{n.name: n for n in rules.identity.namespaces}}
    return {name: n for name, n in known.items() if identity.namespace(name) is None}


def replaces(rules: Rules, bodies: Iterable[Event]) -> bool:
    """Whether events say otherwise of a purpose or a source that was known."""
    return any(
        (isinstance(body, PurposeDefined) and body.purpose in rules.purposes)
        or (isinstance(body, SourceRegistered) and body.source in rules.sources)
        for body in bodies
    )


def rewrites(rules: Rules, wanted: IdentityRules) -> bool:
    """Whether identity rules would write values of a known namespace, or make them, otherwise."""
    known = ((rules.any_namespace(namespace.name), namespace) for namespace in wanted.namespaces)
    return any(earlier is not None and earlier.writes_otherwise(n) for earlier, n in known)


def _define_purpose(rules: Rules, command: DefinePurpose) -> list[Event]:
    if command.purpose == AUDIT:
        raise Invalid("RESERVED_PURPOSE", "the purpose audit is reserved for auditors")
    if command.parent is not None:
        _check_parent(rules, command.purpose, command.parent)
    defined = PurposeDefined(
        purpose=command.purpose,
        basis=command.basis,
        description=command.description,
        parent=command.parent,
        jurisdictions=command.jurisdictions,
    )
    known = rules.purposes.get(command.purpose)
    if known == _purpose(defined, known.notices if known else ()):
        return []
    return [defined]


def _check_parent(rules: Rules, purpose: str, parent: str) -> None:
    rules.purpose(parent)
    above = (parent, *rules.ancestors(parent))
    if purpose in above:
        raise Invalid("CYCLIC_PURPOSE", "a purpose cannot stand above itself")
    below = _height(rules, purpose)
    if len(above) + below > PURPOSE_DEPTH_MAX:
        raise Invalid("PURPOSE_TOO_DEEP", f"purposes stand at most {PURPOSE_DEPTH_MAX} deep")


def _height(rules: Rules, purpose: str) -> int:
    """Count the purposes from one down to its farthest leaf, itself included."""
    lineages = ((p, *rules.ancestors(p)) for p in rules.purposes)
    return max((line.index(purpose) + 1 for line in lineages if purpose in line), default=1)


def _publish_notice(rules: Rules, command: PublishNotice) -> list[Event]:
    notices = rules.purpose(command.purpose).notices
    digest = notice_digest(command.text)
    for known in notices:
        if (known.version, known.language) == (command.version, command.language):
            if known.digest == digest:
                return []
            raise Refused("NOTICE_EXISTS", "this version of the notice was published otherwise")
    if len(notices) >= NOTICES_PER_PURPOSE_MAX:
        raise Refused("TOO_MANY_NOTICES", f"at most {NOTICES_PER_PURPOSE_MAX} for one purpose")
    return [
        NoticePublished(
            purpose=command.purpose,
            version=command.version,
            language=command.language,
            text=command.text,
            digest=digest,
        )
    ]


def _register_source(rules: Rules, command: RegisterSource) -> list[Event]:
    mapped = [*command.consent_categories.values(), *command.tcf_purposes.values()]
    for purpose in (*command.purposes, *(name for names in mapped for name in names)):
        rules.purpose(purpose)
    registered = SourceRegistered(
        source=command.source,
        purposes=command.purposes,
        priority=command.priority,
        consent_categories=command.consent_categories,
        tcf_purposes={str(number): named for number, named in command.tcf_purposes.items()},
        context_ttl_seconds=command.context_ttl_seconds,
    )
    if rules.sources.get(command.source) == _source(registered):
        return []
    return [registered]
