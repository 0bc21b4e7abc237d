"""What became of an append whose outcome no server has told, read from the log itself (R2).

The first message on a touched subject after the attempt's expectation is ours, and all is stored;
or another's, and nothing ever will be; or there is none yet, and it is not known.

A conflict is no outcome before the log shows it. A leader that was paused and replaced answers
with old heads for a moment, and publishers' messages reach both: one says conflict, the other
stores (seen with three servers, `SIGSTOP`, once in fifteen times).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from eventlog.direct_get import last_messages
from eventlog.envelope import event_digest
from eventlog.errors import LogError
from eventlog.jetstream_api import JetStreamApi
from eventlog.leader import LeaderReader
from eventlog.outgoing import Message, stored
from eventlog.port import Conflict, Stored

READ_SECONDS_MAX = 3.0

_logger = structlog.get_logger(__name__)


class Settlement:
    """Settle appends to one log. None, wherever something is returned, is: not known yet."""

    def __init__(self, api: JetStreamApi, log_name: str) -> None:
        self._api = api
        self._log_name = log_name
        self._leader = LeaderReader(api, log_name)

    async def look(
        self, messages: list[Message], deadline: float, *, everywhere: bool
    ) -> Stored | Conflict | None:
        """Look at the first touched subject, or `everywhere` for one that has moved on."""
        touched = [index for index, m in enumerate(messages) if m.expected is not None]
        try:
            async with asyncio.timeout_at(deadline):
                if everywhere and len(touched) > 1:
                    return await self._look_at_all(messages, touched)
                found = await self._look_at(messages, touched[0])
                if found is None and everywhere:
                    return await self._behind(messages, touched)
                return found
        except (LogError, TimeoutError):
            return None

    async def _look_at_all(
        self, messages: list[Message], touched: Sequence[int]
    ) -> Stored | Conflict | None:
        subjects = [messages[index].subject for index in touched]
        last = await last_messages(self._api.connection, self._log_name, subjects)
        revisions = {message.subject: message.revision for message in last}
        for index in touched:
            if revisions.get(messages[index].subject, 0) > _expected(messages[index]):
                return await self._look_at(messages, index)
        return await self._behind(messages, touched)

    async def _look_at(self, messages: list[Message], index: int) -> Stored | Conflict | None:
        message = messages[index]
        query = {"next_by_subj": message.subject, "seq": _expected(message) + 1}
        found = await self._api.message(self._log_name, query, timeout_seconds=READ_SECONDS_MAX)
        if found is None:
            return None
        if event_digest(found.subject, found.headers, found.body) != message.digest:
            return Conflict()
        last = found.revision - index + len(messages) - 1
        return stored(messages, last) if await self._is_whole(messages, last) else None

    async def _behind(self, messages: list[Message], touched: Sequence[int]) -> Conflict | None:
        """Find a subject that ends before its expectation, as a leader says that leads still."""
        subjects = [messages[index].subject for index in touched]
        revisions = await self._leader.revisions(subjects)
        ends = zip(touched, revisions, strict=True)
        is_behind = any(revision < _expected(messages[index]) for index, revision in ends)
        return Conflict() if is_behind else None

    async def _is_whole(self, messages: list[Message], last: int) -> bool:
        """Whether the last message is there too.

        Of a batch that fills the disk the server shows the front alone, until it starts again.
        """
        if len(messages) == 1:
            return True
        found = await self._api.message(
            self._log_name, {"seq": last}, timeout_seconds=READ_SECONDS_MAX
        )
        if found is not None:
            digest = event_digest(found.subject, found.headers, found.body)
            if digest == messages[-1].digest:
                return True
        _logger.error("append_not_whole", log=self._log_name, last_revision=last)
        return False


def _expected(message: Message) -> int:
    return message.expected or 0
