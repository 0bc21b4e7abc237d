"""The commands `koseki erase` and `koseki receipt`: a person forgotten, and the proof of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.console import (
    DATA_DEFAULT,
    CustomerOption,
    DataOption,
    JsonOption,
    print_found,
    run,
)
from app.settings import Settings


def erase(
    data: DataOption = DATA_DEFAULT,
    *,
    customer: Annotated[
        str, typer.Option("--customer", help="The customer's id, or any that it ever had.")
    ] = "",
    identifier: Annotated[
        list[str] | None, typer.Option(help="What the person holds: NAMESPACE:VALUE; may repeat.")
    ] = None,
    reference: Annotated[
        str, typer.Option(help="Where the request is kept, such as a ticket; not personal.")
    ] = "",
    dry_run: Annotated[bool, typer.Option(help="Only list the records that would go.")] = False,
    wait: Annotated[
        float, typer.Option(help="Wait so long for the receipt, in seconds.", min=0.0)
    ] = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Erase a person: every record of the customer, and every identifier it holds, for ever."""
    from app.asking_to_erase import erase as ask
    from app.asking_to_erase import read_identifier

    async def asking() -> dict[str, object]:
        return await ask(
            Settings(data=data.resolve()),
            customer=customer,
            identifiers=[read_identifier(text) for text in identifier or ()],
            reference=reference,
            dry_run=dry_run,
            wait_seconds=wait,
        )

    print_found("Would go" if dry_run else "Erased", run(asking()), as_json=as_json)


def receipt(
    customer: CustomerOption,
    data: DataOption = DATA_DEFAULT,
    *,
    public_key: Annotated[
        Path | None, typer.Option(help="The key that must have signed it, as of `koseki attest`.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the receipt of an erasure; status 1 while there is none, or if somebody else signed."""
    from app.asking_to_erase import receipt as read

    found = run(read(Settings(data=data.resolve()), customer, public_key=public_key))
    print_found("Receipt", found, as_json=as_json)
    if not found["complete"] or not found.get("signature_holds", True):
        raise typer.Exit(1)
