"""Read the choices of consent that a call of the Segment spec carries in its context. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.commands import CATEGORIES_MAX
from domain.errors import Invalid

CATEGORY_CHARACTERS_MAX = 256


def category_preferences(context: Mapping[str, Any]) -> dict[str, bool]:  # Any: a publisher's JSON
    """Read `consent.categoryPreferences`; nothing where it is absent.

    A choice that cannot be read refuses the call: raises `Invalid` / INVALID_CONTEXT.
    """
    consent = context.get("consent")
    if consent is None:
        return {}
    if not isinstance(consent, dict):
        raise Invalid("INVALID_CONTEXT", "context.consent is not an object")
    chosen = consent.get("categoryPreferences")
    if chosen is None:
        return {}
    if not isinstance(chosen, dict) or not all(isinstance(v, bool) for v in chosen.values()):
        raise Invalid("INVALID_CONTEXT", "categoryPreferences does not say true or false of each")
    if len(chosen) > CATEGORIES_MAX or any(len(c) > CATEGORY_CHARACTERS_MAX for c in chosen):
        raise Invalid("INVALID_CONTEXT", "categoryPreferences names too many, or too long ones")
    return chosen
