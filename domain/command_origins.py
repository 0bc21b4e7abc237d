"""Which commands an event can come of: by it an id is found out that was used for two of them.

Of a command the log keeps the id and the events, not the command itself. What its events have in
common tells it from most commands of another kind, and never from itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from domain.consent_events import ChoicesRecorded, ConsentChanged, VerdictRecorded
from domain.erasure_events import ErasureRequested
from domain.errors import Invalid
from domain.event import Event
from domain.identity_events import (
    CustomersMerged,
    CustomersParted,
    IdentifierReadmitted,
    IdentifiersLinked,
    IdentifiersTakenOver,
    IdentifiersUnlinked,
)
from domain.preference_events import HouseholdLinked, HouseholdUnlinked, PreferencesSet
from domain.signal_events import SignalsDeclined, SignalsRecorded, TraitsSet
from domain.workspace_events import (
    IdentityRulesSet,
    NoticePublished,
    PurposeDefined,
    SegmentActivated,
    SegmentArchived,
    SegmentDefined,
    SourceRegistered,
    TraitIndexDropped,
    TraitIndexed,
)

CommandKind = Literal[
    "identify",
    "set_traits",
    "record_signals",
    "record_consent",
    "record_tcf_choices",
    "set_preferences",
    "link_household",
    "unlink_household",
    "check_consent",
    "link_identifiers",
    "unlink_identifier",
    "readmit_identifier",
    "erase_customer",
    "merge_customers",
    "undo_merge",
    "unmerge_record",
    "define_purpose",
    "publish_notice",
    "register_source",
    "set_identity_rules",
    "define_segment",
    "activate_segment",
    "archive_segment",
    "index_trait",
    "drop_trait_index",
]
"""What kinds of commands there are; a bit each, which snapshots keep: new ones go last."""

ANY_COMMAND = -1
"""Every bit: nothing is known of the command."""

_BITS = {kind: 1 << place for place, kind in enumerate(get_args(CommandKind))}


def _origins(*kinds: CommandKind) -> int:
    return sum(_BITS[kind] for kind in kinds)


_CHOOSING = _origins("identify", "record_signals", "record_tcf_choices")
_JOINING = _CHOOSING | _origins("record_consent", "link_identifiers")

_ORIGINS: Mapping[type[Event], int] = {
    IdentifiersLinked: _JOINING,
    IdentifiersTakenOver: _JOINING,
    CustomersMerged: _JOINING,
    CustomersParted: _origins("undo_merge", "unmerge_record"),
    IdentifiersUnlinked: _origins("unlink_identifier"),
    TraitsSet: _origins("identify", "set_traits"),
    SignalsRecorded: _origins("record_signals"),
    SignalsDeclined: _origins("identify", "record_signals"),
    ChoicesRecorded: _CHOOSING,
    VerdictRecorded: _origins("check_consent"),
    PreferencesSet: _origins("set_preferences"),
    HouseholdLinked: _origins("link_household"),
    HouseholdUnlinked: _origins("unlink_household"),
    IdentifierReadmitted: _origins("readmit_identifier"),
    ErasureRequested: _origins("erase_customer"),
    PurposeDefined: _origins("define_purpose"),
    NoticePublished: _origins("publish_notice"),
    SourceRegistered: _origins("register_source"),
    IdentityRulesSet: _origins("set_identity_rules"),
    SegmentDefined: _origins("define_segment"),
    SegmentActivated: _origins("activate_segment"),
    SegmentArchived: _origins("archive_segment"),
    TraitIndexed: _origins("index_trait"),
    TraitIndexDropped: _origins("drop_trait_index"),
}


def origins_of(body: Event) -> int:
    """Give the kinds of commands that an event can come of."""
    match body:
        case CustomersMerged(reason="explicit"):
            return _origins("merge_customers")
        case ConsentChanged(source=None):
            return _origins("record_consent")
        case ConsentChanged():
            return _CHOOSING  # as choices were stored once: an event each
        case _:
            return _ORIGINS.get(type(body), ANY_COMMAND)


def require_origin(origins: int, kind: CommandKind) -> None:
    """Refuse a command under the id of one that it cannot be. Raises `Invalid`."""
    if not origins & _BITS[kind]:
        text = "another command was carried out under this command id"
        raise Invalid("COMMAND_ID_REUSED", text)
