"""Segments as the workspace's stream tells them: defined, active by a definition, archived.

What an expression means is the read side's business; here are the rules of its life. A definition
takes effect by an event of its own, so that everybody changes over at the same revision.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from domain.commands import ActivateSegment, ArchiveSegment, DefineSegment
from domain.errors import Invalid, NotFound, Refused
from domain.event import Event
from domain.workspace_events import SegmentActivated, SegmentArchived, SegmentDefined

SEGMENTS_MAX = 1_000
SEGMENT_NESTING_MAX = 8


@dataclass(frozen=True, slots=True)
class Definition:
    """One definition of a segment; numbered from 1 within it."""

    segment: str
    number: int
    expression: str
    purposes: tuple[str, ...]
    uses: tuple[str, ...]
    exception: str | None
    description: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment: its latest definition and the one in effect; none in effect once archived."""

    latest: Definition
    active: Definition | None = None
    is_archived: bool = False


def evolve_segments(segments: Mapping[str, Segment], body: Event) -> Mapping[str, Segment]:
    """Apply an event; what is not about a known segment changes nothing."""
    match body:
        case SegmentDefined():
            before = segments.get(body.segment)
            active = before.active if before else None
            return {**segments, body.segment: Segment(_definition(body), active)}
        case SegmentActivated(segment=name, definition=number):
            known = segments.get(name)
            if known is None or known.is_archived or known.latest.number != number:
                return segments
            return {**segments, name: replace(known, active=known.latest)}
        case SegmentArchived(segment=name) if name in segments:
            return {**segments, name: replace(segments[name], active=None, is_archived=True)}
        case _:
            return segments


def decide_segment(
    segments: Mapping[str, Segment],
    command: DefineSegment | ActivateSegment | ArchiveSegment,
    *,
    purposes: Collection[str],
) -> list[Event]:
    """Decide a change of segments; nothing where it would change nothing."""
    match command:
        case DefineSegment():
            return _define(segments, command, purposes)
        case ActivateSegment():
            return _activate(segments, command)
        case ArchiveSegment():
            return _archive(segments, command)


def _define(
    segments: Mapping[str, Segment], command: DefineSegment, purposes: Collection[str]
) -> list[Event]:
    if not set(command.purposes) <= set(purposes):
        raise NotFound("UNKNOWN_PURPOSE", "a purpose of the segment is not defined")
    known = segments.get(command.segment)
    living = sum(1 for segment in segments.values() if not segment.is_archived)
    if (known is None or known.is_archived) and living >= SEGMENTS_MAX:
        raise Refused("TOO_MANY_SEGMENTS", f"a workspace has at most {SEGMENTS_MAX} segments")
    _check_uses(segments, command)
    _check_purposes(segments, command)
    defined = SegmentDefined(
        segment=command.segment,
        definition=known.latest.number + 1 if known else 1,
        expression=command.expression,
        purposes=tuple(sorted(set(command.purposes))),
        uses=tuple(sorted(set(command.uses))),
        exception=command.exception,
        description=command.description,
    )
    if known is None or known.is_archived:
        return [defined]
    is_same = replace(_definition(defined), number=known.latest.number) == known.latest
    return [] if is_same else [defined]


def _check_uses(segments: Mapping[str, Segment], command: DefineSegment) -> None:
    """Require that what is used is active, and that nothing uses itself, however indirectly.

    Nor may those that use this one, however indirectly, come to nest too deep.
    """
    level = set(command.uses)
    for depth in range(SEGMENT_NESTING_MAX + 1):
        if not level:
            if depth and depth + _height_above(segments, command.segment) > SEGMENT_NESTING_MAX:
                break
            return
        if command.segment in level:
            raise Invalid("CIRCULAR_SEGMENT", "the segment would depend on itself")
        for name in level:
            used = segments.get(name)
            if used is None or used.active is None:
                raise NotFound("UNKNOWN_SEGMENT", f"the segment {name} is not active")
        level = {further for name in level for further in _uses(segments[name])}
    raise Invalid("SEGMENT_TOO_DEEP", f"segments nest at most {SEGMENT_NESTING_MAX} deep")


def _height_above(segments: Mapping[str, Segment], name: str) -> int:
    """Count how deep a segment is nested in others; no more than may be."""
    height, level = 0, {name}
    while height <= SEGMENT_NESTING_MAX:
        living = ((user, s) for user, s in segments.items() if not s.is_archived)
        level = {user for user, segment in living if level.intersection(_uses(segment))}
        if not level:
            break
        height += 1
    return height


def _check_purposes(segments: Mapping[str, Segment], command: DefineSegment) -> None:
    """Require that no purpose is served by what may not serve it, however it gets there (R12)."""
    served = set(command.purposes)
    for name in command.uses:
        for used in _definitions(segments[name]):
            _require_served(served, used, by=command.exception)
    if command.exception is not None:
        return
    for using in (definition for user in segments.values() for definition in _definitions(user)):
        is_bound = command.segment in using.uses and using.exception is None
        if is_bound and not set(using.purposes) <= served:
            raise _not_served("a segment that uses this one serves more purposes")


def _require_served(purposes: set[str], used: Definition, *, by: str | None) -> None:
    if by is None and used.exception is None and not purposes <= set(used.purposes):
        raise _not_served(f"the segment {used.segment} does not serve every purpose of this one")


def _not_served(message: str) -> Refused:
    return Refused("PURPOSE_NOT_SERVED", message)


def _definitions(segment: Segment) -> tuple[Definition, ...]:
    """Give the definitions of a living segment that are, or may become, active."""
    if segment.is_archived:
        return ()
    return (segment.latest, segment.active) if segment.active else (segment.latest,)


def _uses(segment: Segment) -> set[str]:
    """Name what either definition of a segment uses: the latest may become active."""
    active = segment.active.uses if segment.active else ()
    return {*segment.latest.uses, *active}


def _activate(segments: Mapping[str, Segment], command: ActivateSegment) -> list[Event]:
    known = segments.get(command.segment)
    if known is None or known.is_archived:
        raise NotFound("UNKNOWN_SEGMENT", "the segment is not defined")
    if known.latest.number != command.definition:
        raise Refused("DEFINITION_CHANGED", "another definition has come since")
    if known.active == known.latest:
        return []
    return [SegmentActivated(segment=command.segment, definition=command.definition)]


def _archive(segments: Mapping[str, Segment], command: ArchiveSegment) -> list[Event]:
    known = segments.get(command.segment)
    if known is None:
        raise NotFound("UNKNOWN_SEGMENT", "the segment is not defined")
    if known.is_archived:
        return []
    for other in segments.values():
        if not other.is_archived and command.segment in _uses(other):
            raise Refused("SEGMENT_IN_USE", "another segment uses it")
    return [SegmentArchived(segment=command.segment)]


def _definition(body: SegmentDefined) -> Definition:
    return Definition(
        segment=body.segment,
        number=body.definition,
        expression=body.expression,
        purposes=body.purposes,
        uses=body.uses,
        exception=body.exception,
        description=body.description,
    )
