"""Everything that Koseki can be told, can have happened, keeps to read, and can be asked.

Read it to find where a behaviour lives; `tests/app/test_catalogue.py` keeps it complete.
"""

from __future__ import annotations

from domain import commands
from eventlog.registry import EVENTS as _EVENTS
from projections import timeline
from projections.fold import MODELS
from services.contract import SERVICES as _SERVICES

COMMANDS: tuple[type[commands.Command], ...] = (
    commands.Identify,
    commands.SetTraits,
    commands.RecordSignals,
    commands.RecordConsent,
    commands.RecordTcfChoices,
    commands.SetPreferences,
    commands.LinkHousehold,
    commands.UnlinkHousehold,
    commands.CheckConsent,
    commands.LinkIdentifiers,
    commands.UnlinkIdentifier,
    commands.ReadmitIdentifier,
    commands.EraseCustomer,
    commands.MergeCustomers,
    commands.UndoMerge,
    commands.UnmergeRecord,
    commands.DefinePurpose,
    commands.PublishNotice,
    commands.RegisterSource,
    commands.DefineSegment,
    commands.ActivateSegment,
    commands.ArchiveSegment,
    commands.IndexTrait,
    commands.DropTraitIndex,
    commands.SetIdentityRules,
)
"""Decided in `domain/decide.py` (of a person) and `domain/rules.py` (of a workspace)."""

EVENTS = _EVENTS
"""By wire name. Folded by `domain/record.py`, `domain/rules.py` and the read models."""

VIEWS = (*MODELS, timeline)  # on which `tallies` puts what it counts
"""The read models, each a fold with tables of its own; combined in `projections/views.py`."""

QUERIES = {
    "GetCustomer": "services/query.py",
    "BatchGetCustomers": "services/query.py",
    "CheckConsent": "services/query.py",
    "ListSegmentsOf": "services/query.py",
    "ListTimeline": "services/query.py",
    "WatchCustomer": "services/query.py",
    "ListSegments": "services/segment.py",
    "ListTraitIndexes": "services/segment.py",
    "ListMembers": "services/segment.py",
    "CountAudience": "services/segment.py",
    "WatchSegment": "services/segment.py",
    "ExplainMembership": "services/segment.py",
    "ListConsentHistory": "services/query.py",
    "GetReceipt": "services/audit.py",
    "GetErasureReceipt": "services/audit.py",
    "GetRules": "services/workspace.py",
    "ReplayEvents": "services/audit.py",
    "Verify": "services/audit.py",
    "DiffCustomer": "services/audit.py",
}
"""Methods that change nothing, unless a check is to be recorded."""

SERVICES = tuple(_SERVICES)
"""The gRPC services, by full name."""
