"""Receipts of erasures (R14): signed with Ed25519, kept in the log, checked with a public key.

The steward signs; whoever has the log, a backup of it or the receipt's text can check.
"""

from __future__ import annotations

from typing import Literal

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from domain.erasure_events import CustomerErased
from domain.ids import Name, RecordId, UuidText


class ErasureReceipt(BaseModel):
    """What `CustomerErased` says, with whose log and customer it is of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["koseki.erasure.v1"] = "koseki.erasure.v1"
    workspace: Name
    customer: UuidText
    records: tuple[UuidText, ...]
    events: int = Field(ge=0)
    identifiers: int = Field(ge=0)
    read_sides: int = Field(ge=0)
    requested_revision: int = Field(ge=1)
    requested_at: AwareDatetime
    erased_at: AwareDatetime
    intake_gone_by: AwareDatetime
    dead_letters_gone_by: AwareDatetime
    public_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")

    def signed_bytes(self) -> bytes:
        """Give what the signature covers: everything else, as canonical JSON."""
        fields = self.model_dump(mode="json", exclude={"signature"})
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)

    def is_signed_by(self, public_key: Ed25519PublicKey) -> bool:
        """Say whether the owner of a key has signed this."""
        try:
            public_key.verify(bytes.fromhex(self.signature), self.signed_bytes())
        except InvalidSignature:
            return False
        return True

    def event(self) -> CustomerErased:
        """Give the event that keeps it in the log."""
        said = self.model_dump(exclude={"kind", "workspace", "customer"})
        return CustomerErased.model_validate(said)


def sign_receipt(unsigned: ErasureReceipt, key: Ed25519PrivateKey) -> ErasureReceipt:
    """Sign a receipt; whatever stands in the place of key and signature is replaced."""
    public_key = key.public_key().public_bytes_raw().hex()
    named = unsigned.model_copy(update={"public_key": public_key})
    return named.model_copy(update={"signature": key.sign(named.signed_bytes()).hex()})


def receipt_of(workspace: str, customer: RecordId, erased: CustomerErased) -> ErasureReceipt:
    """Read a receipt from the event that keeps it."""
    said = erased.model_dump()
    return ErasureReceipt.model_validate({"workspace": workspace, "customer": customer, **said})
