"""Choices of consent that a source passes on with what it sends: which of them become acts.

A source repeats its banner with every call, so only a change counts. Its first word of a person
opens what nobody closed, never what was closed elsewhere: a banner that was not told of a
withdrawal would undo it with the next page view. A choice with its own date (TCF) is left to R9.
Where a call means several customers, a no is old only if each of them said it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from domain.consent import GRANTS, ConsentAct, ConsentState, LawfulBasis
from domain.consent_events import (
    CONSENT_EVENTS,
    ChoiceMade,
    ChoicesRecorded,
    ConsentChanged,
    counted_from,
)
from domain.gate import Gate
from domain.ids import EventId, OpenMap, derived_id
from domain.rules import Purpose

NOT_STORED_YET = 2**63
"""A revision after every other, those of a turn's pending events included."""

_SAYING_NOTHING = frozenset({ConsentState.UNKNOWN, ConsentState.REQUESTED})
_AGREED = GRANTS | {ConsentState.EXPIRED}
_JUDGED_BY_ACTS = frozenset({LawfulBasis.CONSENT, LawfulBasis.LEGITIMATE_INTEREST})


@dataclass(frozen=True, slots=True)
class Choices:
    """What a source says that the person chose: by purpose, yes or no.

    `opened_at` is when a yes, `closed_at` when a no is known to have held.
    """

    source: str
    by_purpose: Mapping[str, bool]
    opened_at: datetime
    closed_at: datetime
    is_dated: bool = False
    notice_language: str | None = None
    jurisdiction: str | None = None
    evidence: OpenMap = field(default_factory=dict)


def by_purpose(
    chosen: Mapping[str, bool], purposes_of: Mapping[str, tuple[str, ...]]
) -> dict[str, bool]:
    """Say of each purpose what was chosen; a no to one of several categories is a no."""
    found: dict[str, bool] = {}
    for category, is_yes in chosen.items():
        for purpose in purposes_of.get(category, ()):
            found[purpose] = is_yes and found.get(purpose, True)
    return found


def acts_of_choices(
    gate: Gate, choices: Choices, *, command_id: str
) -> Iterator[tuple[ConsentChanged, datetime]]:
    """Give the acts that these choices come to, each with its time; nothing where none changes."""
    for name in sorted(choices.by_purpose):
        purpose = gate.rules.purposes.get(name)
        if purpose is None or purpose.basis not in _JUDGED_BY_ACTS:
            continue
        is_yes = choices.by_purpose[name]
        laws = purpose.jurisdictions
        if is_yes and laws and choices.jurisdiction not in (None, *laws):
            continue  # an agreement under another law opens nothing here
        state = _state(gate, choices, purpose, is_yes=is_yes)
        if state is not None:
            yield (
                CONSENT_EVENTS[state](
                    act_id=derived_id(command_id, f"choice:{name}"),
                    purpose=name,
                    source=choices.source,
                    is_day_precise=choices.is_dated,
                    notice_language=choices.notice_language,
                    jurisdiction=choices.jurisdiction,
                    evidence=choices.evidence,
                ),
                choices.opened_at if is_yes else choices.closed_at,
            )


def recorded_choices(
    choices: Choices, acts: Iterable[tuple[ConsentChanged, datetime]]
) -> ChoicesRecorded:
    """Give the one event that tells of all these acts."""
    return ChoicesRecorded(
        source=choices.source,
        acts=tuple(
            ChoiceMade.model_validate(
                {
                    "act_id": body.act_id,
                    "purpose": body.purpose,
                    "state": body.state,
                    "happened_at": happened_at,
                }
            )
            for body, happened_at in acts
        ),
        is_day_precise=choices.is_dated,
        notice_language=choices.notice_language,
        jurisdiction=choices.jurisdiction,
        evidence=choices.evidence,
    )


def pending_act(body: ConsentChanged, happened_at: datetime, *, now: datetime) -> ConsentAct:
    """Give an act as it will be judged once it is stored."""
    return ConsentAct(
        act_id=body.act_id,
        purpose=body.purpose,
        state=body.state,
        effective_at=counted_from(happened_at, now, body=body),
        revision=NOT_STORED_YET,
        event_id=EventId(body.act_id),
        notice_version=body.notice_version,
        source=body.source,
    )


def closes_something(gate: Gate, acts: Iterable[ConsentAct]) -> bool:
    """Say whether these acts close a purpose that is open without them, be it one below theirs."""
    after = gate.after(acts)
    purposes = gate.rules.purposes.values()
    return any(gate.standing(p).is_open and not after.standing(p).is_open for p in purposes)


def _state(gate: Gate, choices: Choices, purpose: Purpose, *, is_yes: bool) -> ConsentState | None:
    """Give the state that a choice brings about; None where it only says the same again."""
    if is_yes:
        return None if _is_old_yes(gate, choices, purpose) else ConsentState.GIVEN
    if all(_is_old_no(part, choices, purpose) for part in gate.each):
        return None
    said = _said(gate, choices, purpose, until=choices.closed_at)
    agreed = gate.standing(purpose).state in _AGREED or any(act.is_grant for act in said)
    return ConsentState.WITHDRAWN if agreed else ConsentState.REFUSED


def _is_old_yes(gate: Gate, choices: Choices, purpose: Purpose) -> bool:
    """Say whether a yes changes nothing, or would undo what was said elsewhere."""
    until = choices.opened_at
    said = _said(gate, choices, purpose, until=until)
    if choices.is_dated:
        return _has_said_that_day(said, until, is_yes=True)
    last = _last(said)
    if last is None:
        shown = gate.standing(purpose)
        has_lapsed = shown.state is ConsentState.EXPIRED and shown.act and shown.act.is_grant
        return not (has_lapsed or shown.state in _SAYING_NOTHING)
    # A no of the same instant, or one that came late, still stands over the yes before.
    return last.is_grant and not any(
        act.is_closing
        and act.effective_at < until
        and (act.effective_at >= last.effective_at or act.revision > last.revision)
        for act in said
    )


def _is_old_no(gate: Gate, choices: Choices, purpose: Purpose) -> bool:
    until = choices.closed_at
    said = _said(gate, choices, purpose, until=until)
    if choices.is_dated:
        return _has_said_that_day(said, until, is_yes=False)
    last = _last(said)
    return last is not None and last.is_closing


def _has_said_that_day(said: Iterable[ConsentAct], day: datetime, *, is_yes: bool) -> bool:
    return any(act.is_grant is is_yes and act.effective_at.date() == day.date() for act in said)


def _last(said: Iterable[ConsentAct]) -> ConsentAct | None:
    return max(said, key=lambda act: (act.effective_at, act.revision), default=None)


def _said(gate: Gate, choices: Choices, purpose: Purpose, *, until: datetime) -> list[ConsentAct]:
    """Give what the source said before, up to a time unless it dates what it says."""
    return [
        act
        for acts in gate.acts.values()
        for act in acts
        if act.purpose == purpose.name
        and act.source == choices.source
        and (act.is_grant or act.is_closing)
        and (choices.is_dated or act.effective_at <= until)
    ]
