"""What the choices in an IAB TCF string mean here, by the source's map of purposes."""

from __future__ import annotations

from domain.choices import Choices, by_purpose
from domain.commands import RecordTcfChoices
from domain.consent import LawfulBasis
from domain.rules import Rules


def choices_of_tcf(rules: Rules, command: RecordTcfChoices) -> Choices:
    """Give the choices, of a whole day: a TCF string says the day of its last change only.

    A purpose of ours that rests on legitimate interest is objected to where the string does not
    uphold that interest; every other needs the string's consent.
    """
    mapped = {str(n): named for n, named in rules.source(command.source).tcf_purposes.items()}
    consented = by_purpose({n: int(n) in command.consented for n in mapped}, mapped)
    upheld = by_purpose({n: int(n) in command.interests for n in mapped}, mapped)
    chosen = {
        name: (upheld if _rests_on_interest(rules, name) else consented)[name] for name in consented
    }
    return Choices(
        source=command.source,
        by_purpose=chosen,
        opened_at=command.happened_at,
        closed_at=command.happened_at,
        is_dated=True,
        notice_language=command.notice_language,
        jurisdiction=command.jurisdiction,
        evidence=command.evidence,
    )


def _rests_on_interest(rules: Rules, purpose: str) -> bool:
    known = rules.purposes.get(purpose)
    return known is not None and known.basis is LawfulBasis.LEGITIMATE_INTEREST
