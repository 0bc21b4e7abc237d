"""Carries every key to the end of the key stream, then drops all that lies before, in one go.

To overwrite one message takes the server 9 ms, so a million would take hours; to write a new one
takes 0.03. Padding of more than a block lies between, so that no block holds both old and new, and
the blocks of the old leave the disk whole. What was begun is taken up by whoever renews next.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

from domain.ids import RecordId
from eventlog.errors import LogUnavailable
from eventlog.keys.key_stream import PADDING, WORKSPACE, KeyDraft, KeyMessage, KeyStream
from eventlog.keys.port import Progress
from eventlog.keys.scanning import scan

TRIES_MAX = 40
PAUSE_SECONDS_MAX = 0.05

Redraft = Callable[[Sequence[KeyMessage]], KeyDraft]
"""Writes anew what the messages of one owner say, after the newest of them."""


class Renewal:
    """Renew one key stream."""

    def __init__(self, stream: KeyStream, redraft: Redraft, *, progress: Progress) -> None:
        self._stream = stream
        self._redraft = redraft
        self._progress = progress
        self._keys = 0

    async def run(self) -> int:
        """Renew the stream; say how many keys were written. Raises `LogUnavailable`.

        Others may make and destroy keys meanwhile: what they write comes after the padding, and
        what is carried expects that they wrote nothing.
        """
        await self._stream.pad()
        padding = await self._stream.newest(PADDING)
        if padding is None:
            return 0  # another one renewed, and has finished
        start = padding.sequence + 1
        await self._carry([RecordId(WORKSPACE)], start)
        async with aclosing(scan(self._stream, start)) as pages:
            async for page in pages:
                owners = dict.fromkeys(m.owner for m in page if m.owner not in (PADDING, WORKSPACE))
                await self._carry(list(owners), start)
                self._progress(self._keys)
        await self._stream.purge(start)
        return self._keys

    async def _carry(self, owners: Sequence[RecordId], start: int) -> None:
        """See to it that each owner has a message from `start` on.

        A replica that lags may answer, so an owner of whom nothing is found is asked for again.
        """
        waiting = list(owners)
        for _ in range(TRIES_MAX):
            found = await self._stream.read(waiting)
            waiting = [owner for owner in waiting if _newest(found, owner) < start]
            drafts = [self._redraft(found[owner]) for owner in waiting if owner in found]
            if drafts and await self._stream.write(drafts):
                self._keys += sum(draft.body != b"" for draft in drafts if draft.owner != WORKSPACE)
                waiting = [owner for owner in waiting if owner not in found]
            if not waiting:
                return
            # Writers that met must not meet again in step.
            await asyncio.sleep(random.uniform(0, PAUSE_SECONDS_MAX))  # noqa: S311  # not a secret
        raise LogUnavailable("the keys to be carried are written all the time")


def _newest(found: Mapping[RecordId, Sequence[KeyMessage]], owner: RecordId) -> int:
    return max((message.sequence for message in found.get(owner, ())), default=0)
