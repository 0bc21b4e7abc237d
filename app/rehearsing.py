"""What `koseki identity` does: show the rules of who is who, and try others on the whole log."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from actors.intake.identifiers import IdentifierNormaliser
from app.bootstrap import open_log
from app.reaching import reached
from app.settings import Settings, read_pepper
from domain.identity_rules import IdentityRules
from domain.ids import WORKSPACE_STREAM
from domain.rules import Rules, fold_rules, rewrites
from eventlog.port import LogReader
from replay.fold import Progress, silent
from replay.identity import rehearse


class RulesFault(Exception):
    """A file of rules cannot be used; the message says where it is wrong."""


def read_rules_file(path: Path) -> IdentityRules:
    """Read rules as `koseki identity rules` writes them. Raises `RulesFault` and `OSError`."""
    try:
        return IdentityRules.model_validate_json(path.read_bytes())
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, f['loc'])) or path}: {f['msg']}" for f in error.errors())
        raise RulesFault("; ".join(faults)) from None


async def present_rules(settings: Settings) -> dict[str, Any]:
    """Give the rules that hold now."""
    async with reached(settings, role="reader") as (found, connection):
        log = await open_log(connection, found)
        try:
            return (await rules_of(log)).identity.model_dump(mode="json")
        finally:
            await log.close()


async def rules_of(log: LogReader) -> Rules:
    """Fold the rules as they are now. Raises `LogUnavailable` and `LogDamaged`."""
    entries = await log.load(WORKSPACE_STREAM)
    return fold_rules(Rules(), [entry.event for entry in entries if entry.event is not None])


async def rehearse_rules(
    settings: Settings, rules: IdentityRules, *, progress: Progress = silent
) -> dict[str, Any]:
    """Try rules on the log; give who would join and who would part, and if they may be set now."""
    async with reached(settings, role="reader") as (found, connection):
        log = await open_log(connection, found)
        try:
            tried = Rules(identity=rules)
            normaliser = IdentifierNormaliser(read_pepper(found), rules=lambda: tried)
            rehearsal = await rehearse(log, normaliser, progress=progress)
            may_be_set = not rehearsal.records or not rewrites(await rules_of(log), rules)
            return {"may_be_set": may_be_set, **asdict(rehearsal)}
        finally:
            await log.close()
