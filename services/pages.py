"""Cut what is listed into pages; a token names the place where a page ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from domain.errors import Invalid

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000
TOKEN_DIGITS_MAX = 32
"""No key of ours has more; Python reads no number of very many digits."""

Item = TypeVar("Item")


def page_of(
    items: Sequence[Item], *, key: Callable[[Item], int], size: int, token: str
) -> tuple[Sequence[Item], str]:
    """Give a page of items that are in order of their keys, and the token of the next one.

    Raises `Invalid` / INVALID_FIELD.
    """
    if size > PAGE_SIZE_MAX:
        raise Invalid("INVALID_FIELD", f"a page holds at most {PAGE_SIZE_MAX}")
    is_number = token.isascii() and token.isdecimal() and len(token) <= TOKEN_DIGITS_MAX
    if token and not is_number:
        raise Invalid("INVALID_FIELD", "the page token is none of ours")
    after = int(token) if token else -1
    rest = [item for item in items if key(item) > after]
    page = rest[: size or PAGE_SIZE_DEFAULT]
    return page, str(key(page[-1])) if len(page) < len(rest) else ""
