"""The command `koseki import`: lines of a file through the gates that every signal passes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from app.console import (
    DATA_DEFAULT,
    DataOption,
    JsonOption,
    counting,
    fail,
    print_found,
    print_json,
    run,
)
from app.settings import Settings

UNUSABLE_SHOWN_MAX = 20


class Form(StrEnum):
    """How lines are written."""

    JSONL = "jsonl"
    CSV = "csv"


def import_(
    file: Annotated[Path, typer.Argument(help="JSON lines, or CSV whose first row names columns.")],
    data: DataOption = DATA_DEFAULT,
    *,
    source: Annotated[str, typer.Option(help="The source that said it; must be registered.")],
    form: Annotated[
        Form | None, typer.Option("--format", help="By the file's ending, unless given.")
    ] = None,
    columns: Annotated[
        Path | None,
        typer.Option(help="TOML: what columns of a CSV mean, where their names do not."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Import calls of the Segment spec, CloudEvents and acts of consent; status 1 if any is bad.

    Each line counts once, however often it is imported. Acts of consent count as imports. A line
    that cannot be used is named with its reason. Interrupted, go on with the same command.
    """
    from app.importing import import_lines, read_columns

    chosen = form or next((f for f in Form if file.suffix.lower() == f".{f.value}"), None)
    if chosen is None:
        fail("say --format jsonl or --format csv")

    async def work() -> dict[str, Any]:
        with counting("Importing", "lines") as progress:
            return await import_lines(
                Settings(data=data.resolve()),
                file,
                source=source,
                form=chosen.value,
                columns=read_columns(columns),
                progress=progress,
            )

    found = run(work())
    if as_json:
        print_json(found)
    else:
        unusable = found.pop("unusable_lines")
        print_found("Imported", found, as_json=False)
        for bad in unusable[:UNUSABLE_SHOWN_MAX]:
            typer.echo(f"line {bad['line']}: {bad['reason']}")
        if len(unusable) > UNUSABLE_SHOWN_MAX:
            typer.echo(f"and {len(unusable) - UNUSABLE_SHOWN_MAX} more; --json names them")
    raise typer.Exit(1 if found["unusable"] or found["stopped_by"] else 0)
