"""One turn of a customer: decide its commands on pending state, append once, answer each caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from actors.awake import AwakeRecord
from actors.clock import Clock
from actors.messages import failed, failed_by
from actors.rounds import Waiting
from actors.rules import RulesKeeper
from actors.scene import PENDING_REVISION, Scene, Staged
from domain.commands import (
    CheckConsent,
    Identify,
    LinkHousehold,
    LinkIdentifiers,
    PersonCommand,
    RecordConsent,
    RecordSignals,
    RecordTcfChoices,
    SetTraits,
)
from domain.consent import ConsentState
from domain.customer import Customer, forgotten_by, reminded
from domain.decide import decide
from domain.decision import Decision
from domain.errors import DomainError, Kind
from domain.ids import EVENTS_PER_APPEND_MAX
from domain.plain import plain_signals
from domain.replies import Done, Failed, Reply, Verdict
from domain.rules import Rules
from eventlog.commit import GroupCommit
from eventlog.errors import LogDamaged, LogError
from eventlog.guard import LogGuard
from eventlog.outgoing import LOG_DAMAGED, NOBODYS_FAULT
from eventlog.port import Conflict, Outcome, Refused, Stored, Unknown

APPEND_SECONDS_MAX = 20.0
APPEND_SECONDS_MIN = 0.1
_MAY_HAVE_CHANGED = frozenset({Kind.NOT_FOUND, Kind.REFUSED, Kind.CHANGED})


@dataclass(frozen=True, slots=True)
class TurnResult:
    """What a turn left: fresh records, commands to decide again, or doubt about the records.

    `again` met a conflict; `left_over` was not decided at all: it found no room in the append, or
    may have been carried out before and be forgotten.
    """

    records: Sequence[AwakeRecord] = ()
    again: list[Waiting] = field(default_factory=list)
    left_over: list[Waiting] = field(default_factory=list)
    is_unsure: bool = False


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn that is decided and whose events are to be stored."""

    scene: Scene
    decided: list[tuple[Waiting, Staged | Reply]]
    left_over: list[Waiting]


class TurnTaker:
    """Take turns for a host: `begin`, `store`, `conclude`."""

    def __init__(
        self, commit: GroupCommit, *, rules: RulesKeeper, guard: LogGuard, clock: Clock
    ) -> None:
        self._commit = commit
        self._rules = rules
        self._guard = guard
        self._clock = clock

    def begin(self, commands: list[Waiting], awake: Sequence[AwakeRecord]) -> Begun | TurnResult:
        """Decide; where there is nothing to store, answer and give what the turn left.

        What the rules and the guard have to say was asked just before (`learn_new_rules`,
        `is_admitted`).
        """
        now = self._clock.recorded_now()
        told = [waiting.streams for waiting in commands if waiting.streams]
        scene = Scene(awake, told=told, clock=self._clock, now=now)
        decided, left_over = self._decide_all(commands, scene, now)
        if scene.events:
            return Begun(scene, decided, left_over)
        unsure = [waiting for waiting, result in decided if _is_unsure(waiting, result)]
        _answer([d for d in decided if d[0] not in unsure], scene, stored=None)
        return TurnResult(again=unsure, left_over=left_over)

    def store(self, begun: Begun, hear: Callable[[Outcome], None]) -> None:
        """Append what was decided, and `hear` the outcome."""
        self._commit.submit(
            begun.scene.attempt(),
            hear,
            timeout_seconds=self._seconds_left(begun),
            may_wait=all(waiting.is_bulk for waiting, _ in begun.decided),
        )

    def answer(self, begun: Begun, stored: Stored) -> None:
        """Answer each command of a turn that is stored."""
        _answer(begun.decided, begun.scene, stored=stored)

    def conclude(self, begun: Begun, outcome: Outcome) -> TurnResult | None:
        """Give what a turn left, once its commands are answered; None: it is to be taken in halves.

        Answers those for whom nothing was stored.
        """
        decided, left_over = begun.decided, begun.left_over
        match outcome:
            case Stored():
                return TurnResult(begun.scene.stored(outcome), left_over=left_over)
            case Conflict():
                return TurnResult(again=[w for w, _ in decided], left_over=left_over)
            case Refused(reason=reason) if reason in NOBODYS_FAULT:
                self._answer_refused(decided, reason)
                return TurnResult(left_over=left_over)
            case Refused() if len(decided) > 1:
                return None
            case Refused(reason=reason):
                _fail(decided, Kind.REFUSED, reason, "the log refuses the events of the command")
                return TurnResult(left_over=left_over)
            case Unknown():
                text = "the deadline passed before the log could say whether this was stored"
                _fail(decided, Kind.UNKNOWN_OUTCOME, "UNKNOWN_OUTCOME", text)
                return TurnResult(left_over=left_over, is_unsure=True)

    async def take_halves(self, refused: Begun, awake: Sequence[AwakeRecord]) -> TurnResult:
        """Take a refused turn in halves, so that what the log refuses costs no other command."""
        commands = [waiting for waiting, _ in refused.decided]
        middle = len(commands) // 2
        records = {item.record.id: item for item in awake}
        first = await self.take(commands[:middle], awake)
        records |= {item.record.id: item for item in first.records}
        rest = [*first.left_over, *commands[middle:]]
        if first.again or first.is_unsure:
            left_over = [*rest, *refused.left_over]
            return replace(first, records=[*records.values()], left_over=left_over)
        second = await self.take(rest, [*records.values()])
        records |= {item.record.id: item for item in second.records}
        left_over = [*second.left_over, *refused.left_over]
        return replace(second, records=[*records.values()], left_over=left_over)

    async def take(self, commands: list[Waiting], awake: Sequence[AwakeRecord]) -> TurnResult:
        """Take a whole turn at once."""
        if not await self.is_admitted(commands):
            return TurnResult()
        begun = self.begin(commands, awake)
        if isinstance(begun, TurnResult):
            return begun
        seconds = self._seconds_left(begun)
        outcome = await self._commit.append(begun.scene.attempt(), timeout_seconds=seconds)
        if isinstance(outcome, Stored):
            self.answer(begun, outcome)
        return self.conclude(begun, outcome) or await self.take_halves(begun, awake)

    def _seconds_left(self, begun: Begun) -> float:
        deadline = max(waiting.routed.command.deadline for waiting, _ in begun.decided)
        left = (deadline - self._clock.now()).total_seconds()
        return max(APPEND_SECONDS_MIN, min(APPEND_SECONDS_MAX, left))

    async def is_admitted(self, commands: Sequence[Waiting]) -> bool:
        """Whether the log holds, on the connection as it is now, and the rules are its own.

        Else the commands are answered.
        """
        try:
            await self._guard.admit()
            await self._rules.keep_up()
        except LogDamaged:
            self.answer_unsound(commands)
        except LogError as error:
            for waiting in commands:
                waiting.reply(failed(Kind.UNAVAILABLE, error.reason, error.message))
        else:
            return True
        return False

    def _answer_refused(self, decided: list[tuple[Waiting, Staged | Reply]], reason: str) -> None:
        if reason == LOG_DAMAGED:
            self.answer_unsound([waiting for waiting, _ in decided])
        else:
            _fail(decided, Kind.UNAVAILABLE, reason, "the log takes nothing now")

    def answer_unreadable(self, waiting: Waiting) -> None:
        """Answer a command on a customer with an unreadable event: a check with no (R10)."""
        reason, text = "CUSTOMER_UNREADABLE", "an event of this customer cannot be read"
        waiting.reply(self._closed(waiting.routed.command, reason, text))

    def answer_unsound(self, commands: Sequence[Waiting]) -> None:
        """Answer commands while the log does not hold: a check with no (R3)."""
        text = f"the log is not the one that was written: {', '.join(self._guard.faults)}"
        for waiting in commands:
            waiting.reply(self._closed(waiting.routed.command, LOG_DAMAGED, text))

    def _closed(self, command: PersonCommand, reason: str, text: str) -> Reply:
        if not isinstance(command, CheckConsent) or command.record:
            return failed(Kind.DAMAGED, reason, text)
        verdict = Verdict(
            purpose=command.purpose,
            is_open=False,
            state=ConsentState.UNKNOWN,
            reason=reason,
            rules_version=self._rules.rules.version,
            decided_at=self._clock.recorded_now(),
        )
        return Done(customer_id=None, revision=0, verdict=verdict)

    async def learn_new_rules(self, commands: Sequence[Waiting]) -> None:
        """Read the rules again where a command names something of them that is not known yet."""
        rules = self._rules.rules
        if not any(_names_unknown(waiting.routed.command, rules) for waiting in commands):
            return
        # What is still unknown then is answered as unknown; nothing is decided on it.
        with suppress(LogError):
            await self._rules.refresh()

    def _decide_all(
        self, commands: list[Waiting], scene: Scene, now: datetime
    ) -> tuple[list[tuple[Waiting, Staged | Reply]], list[Waiting]]:
        decided: list[tuple[Waiting, Staged | Reply]] = []
        unsure: list[Waiting] = []
        for place, waiting in enumerate(commands):
            command = waiting.routed.command
            plain = self._plain(scene, waiting, now)
            if plain is not None:
                decided.append((waiting, scene.stage(plain, command)))
                continue
            try:
                customers = scene.customers(waiting.routed)
                if self._may_be_forgotten(waiting, customers):
                    unsure.append(waiting)
                    continue
                if waiting.recalled:
                    customers = reminded(customers, command.command_id, waiting.recalled)
                rules, histories = self._rules.rules, scene.histories
                decision = decide(rules, customers, command, now=now, histories=histories)
            except DomainError as error:
                decided.append((waiting, failed_by(error)))
                continue
            if len(decision.changes) > EVENTS_PER_APPEND_MAX:
                text = "the command comes to more events than one append may hold"
                decided.append((waiting, failed(Kind.REFUSED, "TOO_MANY_EVENTS", text)))
                continue
            if scene.events + len(decision.changes) > EVENTS_PER_APPEND_MAX:
                return decided, [*unsure, *commands[place:]]
            decided.append((waiting, scene.stage(decision, command)))
        return decided, unsure

    def _plain(self, scene: Scene, waiting: Waiting, now: datetime) -> Decision | None:
        record = None if waiting.streams else scene.untouched(waiting.routed.owners.values())
        if record is None:
            return None
        return plain_signals(self._rules.rules, record, waiting.routed.command, now=now)

    def _may_be_forgotten(self, waiting: Waiting, customers: tuple[Customer, ...]) -> bool:
        """Whether the log has to be asked first if the command was carried out before."""
        command = waiting.routed.command
        if waiting.recalled is not None or isinstance(command, CheckConsent):
            return False
        waiting.forgotten_by = forgotten_by(customers, command.command_id)
        return bool(waiting.forgotten_by)


def _names_unknown(command: PersonCommand, rules: Rules) -> bool:
    """Whether a command names a source, a purpose or a notice that the rules do not have."""
    match command:
        case (
            RecordSignals()  # first: nearly all are
            | Identify()
            | SetTraits()
            | RecordTcfChoices()
            | LinkHousehold()
            | LinkIdentifiers()
        ):
            return command.source not in rules.sources
        case RecordConsent(notice_version=version, notice_language=language):
            purpose = rules.purposes.get(command.purpose)
            return purpose is None or not purpose.knows_notice(version, language)
        case CheckConsent():
            return command.purpose not in rules.purposes
        case _:
            return False


def _is_unsure(waiting: Waiting, result: Staged | Reply) -> bool:
    """Whether an answer that stores nothing may stand on who somebody was before an undo.

    A write finds out by its conflict, a check by its fence; these are decided once more on what is
    read after they came. What was carried out before stays so.
    """
    if waiting.tries or isinstance(waiting.routed.command, CheckConsent):
        return False
    if isinstance(result, Staged):
        return result.decision.repeated_revision is None
    return isinstance(result, Failed) and result.kind in _MAY_HAVE_CHANGED


def _answer(
    decided: list[tuple[Waiting, Staged | Reply]], scene: Scene, stored: Stored | None
) -> None:
    for waiting, result in decided:
        if isinstance(result, Staged):
            waiting.reply(_done(result, scene, stored))
        else:
            waiting.reply(_settled(result, stored))


def _settled(reply: Reply, stored: Stored | None) -> Reply:
    """Give a reply with the revision that what it was decided on has, now that it is stored."""
    if isinstance(reply, Failed) and reply.current_revision is not None:
        return replace(reply, current_revision=_in_log(reply.current_revision, stored))
    return reply


def _in_log(revision: int, stored: Stored | None) -> int:
    """Give an event's revision, of one that was pending that at which it is stored now."""
    if stored is None or revision < PENDING_REVISION:
        return revision
    return stored.events[revision - PENDING_REVISION].revision


def _is_of_turn(result: Reply) -> bool:
    """Whether a command failed for an event of its own turn, which was not stored before."""
    return isinstance(result, Failed) and (result.current_revision or 0) >= PENDING_REVISION


def _done(staged: Staged, scene: Scene, stored: Stored | None) -> Done:
    decision = staged.decision
    return Done(
        customer_id=decision.customer_id,
        revision=_revision(staged, scene, stored),
        created=decision.created,
        merge_ids=decision.merge_ids,
        signals=decision.signals,
        verdict=decision.verdict,
        ignored=decision.ignored,
        left_out=decision.left_out,
        consequences=decision.consequences,
    )


def _revision(staged: Staged, scene: Scene, stored: Stored | None) -> int:
    """Say where a reader sees what the command stored or, having stored nothing, was judged on."""
    repeated = staged.decision.repeated_revision
    if repeated is not None:
        return _in_log(repeated, stored)
    if stored is not None and staged.last:
        return stored.events[staged.last - 1].revision
    return scene.revision(staged.decision.customer_id)


def _fail(
    decided: list[tuple[Waiting, Staged | Reply]], kind: Kind, reason: str, text: str
) -> None:
    for waiting, result in decided:
        if isinstance(result, Staged) or _is_of_turn(result):
            waiting.reply(failed(kind, reason, text))
        else:
            waiting.reply(result)
