"""What `koseki erase` and `koseki receipt` do: ask the gateway of a running installation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from app.attesting import read_public_key
from app.settings import Settings
from app.status import running_settings
from domain.errors import Invalid
from replay.erasure_receipt import ErasureReceipt
from services.client import Client, ErasureTold, Key
from services.requests import read_record_id

LOOK_AGAIN_SECONDS = 0.2


async def erase(
    settings: Settings,
    *,
    customer: str,
    identifiers: Sequence[Key],
    reference: str,
    dry_run: bool,
    wait_seconds: float,
) -> dict[str, Any]:
    """Erase somebody, or list what would go; then wait for the receipt, if there is time.

    Raises `Invalid`, `NotRunning` and `CallFailed`.
    """
    record_id = read_record_id(customer) if customer else ""
    async with _client(settings) as client:
        answer = await client.erase_customer(
            record_id, identifiers, reference=reference, dry_run=dry_run
        )
        found: dict[str, Any] = {
            "customer_id": answer.customer_id,
            "dry_run": dry_run,
            "revision": answer.revision,
            "records": [
                {
                    "record_id": record.record_id,
                    "identifiers": dict(record.identifiers),
                    "traits": record.traits,
                    "acts": record.acts,
                    "households": record.households,
                    "messages": record.messages,
                }
                for record in answer.records
            ],
        }
        if dry_run:
            return found
        told = await _until_complete(
            client, answer.customer_id, answer.revision, seconds=wait_seconds
        )
        return {**found, **_described(told)}


async def receipt(settings: Settings, customer: str, *, public_key: Path | None) -> dict[str, Any]:
    """Read the receipt of an erasure, and check whose it is, if a key is given.

    Raises `NotRunning`, `CallFailed`, `NotAnAttestation` and `OSError`.
    """
    async with _client(settings) as client:
        told = await client.erasure_receipt(customer)
    found = {"customer_id": told.customer_id, **_described(told)}
    if public_key is not None and told.is_complete:
        signed = ErasureReceipt.model_validate_json(told.receipt)
        found["signature_holds"] = signed.is_signed_by(read_public_key(public_key))
    return found


def read_identifier(text: str) -> Key:
    """Read `namespace:value`. Raises `Invalid`."""
    namespace, colon, value = text.partition(":")
    if not (namespace and colon and value):
        raise Invalid("INVALID_IDENTIFIER", "write an identifier as NAMESPACE:VALUE")
    return namespace, value


def _client(settings: Settings) -> Client:
    running = running_settings(settings)
    return Client(f"{running.grpc_host}:{running.grpc_port}")


async def _until_complete(
    client: Client, customer: str, revision: int, *, seconds: float
) -> ErasureTold:
    deadline = asyncio.get_running_loop().time() + seconds
    told = await client.erasure_receipt(customer, at_least_revision=revision)
    while not told.is_complete and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        told = await client.erasure_receipt(customer)
    return told


def _described(told: ErasureTold) -> dict[str, Any]:
    return {
        "erased_since_revision": told.requested_revision,
        "complete": told.is_complete,
        "receipt": orjson.loads(told.receipt) if told.receipt else None,
    }
