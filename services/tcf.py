"""Read TCF strings of the IAB (version 2) as what a person chose, and as evidence.

The library reads bits past the end of a string as set, and takes whatever sizes the string claims:
it is given the fields of fixed length alone, and only where all of them are there.
"""

from __future__ import annotations

import re
from datetime import UTC
from typing import Any

from iab_tcf import decode_v2

from domain.errors import Invalid

TCF_CHARACTERS_MAX = 16_384
FIXED_CHARACTERS = 36
"""Characters that hold the 213 bits of the core up to the publisher's country, six bits each."""
CORE_CHARACTERS_MIN = 39
"""With the heads of both lists of vendors, without which no core segment is whole."""
VERSION_2 = "C"

_FORM = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)
_TWO_LETTERS = re.compile(r"[A-Z]{2}", re.ASCII)


def decode_tcf(text: str) -> dict[str, Any]:  # Any: fields of `RecordTcfChoices`
    """Give what a TCF string says, as fields of a command.

    Raises `Invalid` / INVALID_TCF_STRING.
    """
    core = text.partition(".")[0]
    if len(text) > TCF_CHARACTERS_MAX or not _FORM.fullmatch(text):
        raise Invalid("INVALID_TCF_STRING", "the TCF string is too long or malformed")
    if not core.startswith(VERSION_2) or len(core) < CORE_CHARACTERS_MIN:
        raise Invalid("INVALID_TCF_STRING", "the TCF string is cut off, or not of version 2")
    choices = decode_v2(core[:FIXED_CHARACTERS])
    language = choices.consent_language.decode("latin-1")
    country = choices.publisher_cc.decode("latin-1")
    if not (_TWO_LETTERS.fullmatch(language) and _TWO_LETTERS.fullmatch(country)):
        raise Invalid("INVALID_TCF_STRING", "the TCF string names no language and country")
    return {
        "consented": frozenset(n for n, is_set in choices.purposes_consent.items() if is_set),
        "interests": frozenset(
            n for n, is_set in choices.purposes_legitimate_interests.items() if is_set
        ),
        "happened_at": choices.last_updated.replace(tzinfo=UTC),
        "notice_language": language.lower(),
        "jurisdiction": country,
        "evidence": {
            "tcf_string": text,
            "cmp_id": choices.cmp_id,
            "cmp_version": choices.cmp_version,
            "vendor_list_version": choices.vendor_list_version,
            "policy_version": choices.tcf_policy_version,
        },
    }
