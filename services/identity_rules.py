"""Identity rules from messages and as messages."""

from __future__ import annotations

from collections.abc import Iterable

from domain.errors import Invalid
from domain.identity_rules import IdentityRules, Namespace, Normaliser, Part
from koseki.v1 import workspace_service_pb2

NORMALISERS: dict[workspace_service_pb2.Normaliser.ValueType, Normaliser] = {
    workspace_service_pb2.NORMALISER_TEXT: "text",
    workspace_service_pb2.NORMALISER_LOWER_CASE: "lower_case",
    workspace_service_pb2.NORMALISER_EMAIL: "email",
    workspace_service_pb2.NORMALISER_PHONE: "phone",
    workspace_service_pb2.NORMALISER_WORDS: "words",
    workspace_service_pb2.NORMALISER_UNSPACED: "unspaced",
}
_NUMBERS = {normaliser: number for number, normaliser in NORMALISERS.items()}


def read_identity_rules(
    namespaces: Iterable[workspace_service_pb2.IdentityNamespace],
) -> IdentityRules:
    """Read identity rules. Raises `Invalid` and pydantic's `ValidationError`."""
    return IdentityRules(namespaces=tuple(_read_namespace(given) for given in namespaces))


def namespace_messages(
    rules: IdentityRules,
) -> list[workspace_service_pb2.IdentityNamespace]:
    """Write identity rules, the strongest namespace first."""
    return [
        workspace_service_pb2.IdentityNamespace(
            name=namespace.name,
            normaliser=_NUMBERS[namespace.normaliser],
            values_max=namespace.values_max,
            blocked_values=namespace.blocked_values,
            blocked_patterns=namespace.blocked_patterns,
            blocks_zeros=namespace.blocks_zeros,
            parts=[
                workspace_service_pb2.IdentityPart(
                    name=part.name, normaliser=_NUMBERS[part.normaliser]
                )
                for part in namespace.parts
            ],
        )
        for namespace in rules.namespaces
    ]


def _read_namespace(given: workspace_service_pb2.IdentityNamespace) -> Namespace:
    return Namespace(
        name=given.name,
        normaliser=_normaliser(given.normaliser, unset="text"),
        values_max=given.values_max,
        blocked_values=tuple(given.blocked_values),
        blocked_patterns=tuple(given.blocked_patterns),
        blocks_zeros=given.blocks_zeros if given.HasField("blocks_zeros") else True,
        parts=tuple(
            Part(name=part.name, normaliser=_normaliser(part.normaliser, unset="lower_case"))
            for part in given.parts
        ),
    )


def _normaliser(
    number: workspace_service_pb2.Normaliser.ValueType, *, unset: Normaliser
) -> Normaliser:
    if number == workspace_service_pb2.NORMALISER_UNSPECIFIED:
        return unset
    if number not in NORMALISERS:
        raise Invalid("INVALID_FIELD", "the normaliser is not known")
    return NORMALISERS[number]
