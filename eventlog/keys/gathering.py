"""Joins what many callers ask for while a request is under way into the next request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from domain.ids import RecordId
from eventlog.keys.port import KeyAnswer

Ask = Callable[[list[RecordId]], Awaitable[Mapping[RecordId, KeyAnswer]]]


@dataclass(slots=True)
class Round:
    """Records that are asked for together, and the answers to come."""

    done: asyncio.Future[Mapping[RecordId, KeyAnswer]]
    record_ids: dict[RecordId, None] = field(default_factory=dict)


class Gathering:
    """Ask for many records at once, one request at a time."""

    def __init__(self, ask: Ask, *, per_request_max: int) -> None:
        self._ask = ask
        self._per_request_max = per_request_max
        self._waiting: deque[Round] = deque()
        self._asking: asyncio.Task[None] | None = None

    def begin(self, record_ids: Iterable[RecordId]) -> Mapping[RecordId, Round]:
        """Have records asked for in the next pass of the loop; give the rounds that they are in."""
        rounds = {record_id: self._join(record_id) for record_id in record_ids}
        if rounds and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._ask_all(), name="gather-keys")
        return rounds

    async def finish(self, rounds: Mapping[RecordId, Round]) -> dict[RecordId, KeyAnswer]:
        """Give the answers of rounds that have begun; raises what the request raised."""
        answers: dict[RecordId, KeyAnswer] = {}
        for record_id, joined in rounds.items():
            # Shielded: a caller that gives up must not take the others' answers along.
            answers[record_id] = (await asyncio.shield(joined.done))[record_id]
        return answers

    def _join(self, record_id: RecordId) -> Round:
        if not self._waiting or len(self._waiting[-1].record_ids) >= self._per_request_max:
            done = asyncio.get_running_loop().create_future()
            done.add_done_callback(_retrieve)
            self._waiting.append(Round(done))
        self._waiting[-1].record_ids[record_id] = None
        return self._waiting[-1]

    async def _ask_all(self) -> None:
        while self._waiting:
            # Whoever was ready when this task was made has joined. To let the loop pass once more
            # would send the keys' request after those that a waking customer makes beside it.
            current = self._waiting.popleft()
            try:
                current.done.set_result(await self._ask(list(current.record_ids)))
            except BaseException as error:
                current.done.set_exception(error)
                if not isinstance(error, Exception):
                    raise


def _retrieve(done: asyncio.Future[Mapping[RecordId, KeyAnswer]]) -> None:
    """Look at what nobody may wait for any more, so that it is not reported as forgotten."""
    if not done.cancelled():
        done.exception()
