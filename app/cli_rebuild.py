"""`koseki rebuild`: the read side made anew from the log, beside the one that serves."""

from __future__ import annotations

from app.console import DATA_DEFAULT, DataOption, JsonOption, console, print_json, print_table, run
from app.settings import Settings


def rebuild(data: DataOption = DATA_DEFAULT, *, as_json: JsonOption = False) -> None:
    """Make the read side anew from revision 1, while the old one goes on serving.

    Goes on by itself if this command, or the projector, is interrupted.
    """
    from app.rebuilding import rebuild as follow

    with console.status("Rebuilding") as spinner:

        def progress(revision: int) -> None:
            spinner.update(f"Rebuilding: {revision:,} events")

        found = run(follow(Settings(data=data.resolve()), progress=progress))
    if as_json:
        print_json(found)
    else:
        print_table("Rebuilt", found)
