"""The data keys that a process holds: a bounded memory over a key store.

A log asks it before it encodes and before it decodes. It follows what is destroyed from before it
holds its first key, so a destroyed key leaves every process, not only the one that destroyed it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import aclosing, suppress
from typing import NamedTuple
from weakref import WeakMethod

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.ids import RecordId
from eventlog.keys.ciphers import Ciphers
from eventlog.keys.gathering import Gathering, Round
from eventlog.keys.port import DataKey, KeyAnswer, KeyStore, NoKey

KEYS_HELD_MAX = 50_000
"""About 300 bytes each."""

KEYS_PER_REQUEST_MAX = 1_000


Forgetting = Callable[[Collection[RecordId] | None], None]
"""A method that is told whose keys are destroyed; None: any may be."""


class Begun(NamedTuple):
    """Keys that are held, and the rounds in which the others are asked for."""

    held: dict[RecordId, KeyAnswer]
    rounds: Mapping[RecordId, Round]


class KeyRing:
    """Hold keys of one workspace, least recently used first."""

    def __init__(self, store: KeyStore, *, keys_max: int = KEYS_HELD_MAX) -> None:
        self.store = store
        self._keys_max = keys_max
        self._held: OrderedDict[RecordId, KeyAnswer] = OrderedDict()
        self._ciphers = Ciphers()
        self._loads = Gathering(store.load, per_request_max=KEYS_PER_REQUEST_MAX)
        self._makes = Gathering(store.ensure, per_request_max=KEYS_PER_REQUEST_MAX)
        self._follower: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._listeners: list[WeakMethod[Forgetting]] = []

    def listen(self, forget: Forgetting) -> None:
        """Have somebody who keeps keys of this ring too told to let go of them, while they live."""
        self._listeners.append(WeakMethod(forget, self._listeners.remove))

    def __len__(self) -> int:
        return len(self._held)

    def held(self, record_id: RecordId) -> KeyAnswer | None:
        """Give what is held of a record's key without asking anybody; safe from any thread."""
        return self._held.get(record_id)

    def held_all(self, record_ids: Collection[RecordId]) -> dict[RecordId, KeyAnswer] | None:
        """Give what is held of all these keys, if it is, without asking anybody."""
        if not self._is_following:
            return None
        held = self._held
        answers: dict[RecordId, KeyAnswer] = {}
        for record_id in record_ids:
            answer = held.get(record_id)
            if answer is None:
                return None
            held.move_to_end(record_id)
            answers[record_id] = answer
        return answers

    def cipher(self, record_id: RecordId, key: DataKey) -> AESGCM:
        """Give the cipher of a key that was found here; safe from one thread only."""
        cipher = self._ciphers.find(record_id)
        if cipher is None:
            cipher = AESGCM(key)
            # A key that was destroyed since it was found must not be kept in another form.
            if self._held.get(record_id) is key:
                self._ciphers.hold(record_id, cipher)
        return cipher

    async def load(self, record_ids: Iterable[RecordId]) -> dict[RecordId, KeyAnswer]:
        """Give the keys of these records, or say why there is none. Raises `LogUnavailable`."""
        return await self._find(set(record_ids), self._loads)

    async def begin_load(self, record_ids: Iterable[RecordId]) -> Begun:
        """Have the keys of these records asked for, beside what the caller asks for next."""
        if not self._is_following:
            await self._start()
        return self._begin(set(record_ids), self._loads)

    async def finish_load(self, begun: Begun) -> dict[RecordId, KeyAnswer]:
        """Give the keys that `begin_load` had asked for. Raises `LogUnavailable`."""
        return await self._finish(begun, self._loads)

    async def ensure(
        self, *, known: Collection[RecordId], new: Collection[RecordId]
    ) -> dict[RecordId, KeyAnswer]:
        """Give keys to write under, made where there are none. Raises `LogUnavailable`.

        `known` are records that have events, so that most have a key; `new` have none.
        """
        found = await self.load(known) if known else {}
        missing = {r for r, answer in found.items() if answer is NoKey.NEVER_MADE}
        if missing or new:
            found |= await self._find(missing.union(new), self._makes)
        return found

    async def destroy(self, record_ids: Collection[RecordId]) -> None:
        """Destroy keys in the store, and let go of them here at once."""
        await self.store.destroy(record_ids)
        self._mark_destroyed(record_ids)

    async def close(self) -> None:
        """Hold no key any more, and follow nothing."""
        self._let_go()
        if self._follower is not None:
            self._follower.cancel()
            with suppress(asyncio.CancelledError):
                await self._follower
            self._follower = None

    async def _find(self, wanted: set[RecordId], asked: Gathering) -> dict[RecordId, KeyAnswer]:
        if not self._is_following:
            await self._start()
        return await self._finish(self._begin(wanted, asked), asked)

    def _begin(self, wanted: Iterable[RecordId], asked: Gathering) -> Begun:
        answers: dict[RecordId, KeyAnswer] = {}
        missing = []
        for record_id in wanted:
            held = self._held.get(record_id)
            if held is None:
                missing.append(record_id)
            else:
                self._held.move_to_end(record_id)
                answers[record_id] = held
        return Begun(answers, asked.begin(missing))

    async def _finish(self, begun: Begun, asked: Gathering) -> dict[RecordId, KeyAnswer]:
        answers, rounds = begun
        if rounds:
            found = await asked.finish(rounds)
            answers |= {r: self._keep(r, answer) for r, answer in found.items()}
        return answers

    @property
    def _is_following(self) -> bool:
        return self._follower is not None and not self._follower.done()

    def _keep(self, record_id: RecordId, answer: KeyAnswer) -> KeyAnswer:
        """Hold an answer, unless the key was destroyed while it was on its way."""
        if self._held.get(record_id) is NoKey.DESTROYED:
            return NoKey.DESTROYED
        if answer is not NoKey.NEVER_MADE:
            self._held[record_id] = answer
            self._shrink()
        return answer

    def _mark_destroyed(self, record_ids: Collection[RecordId]) -> None:
        for record_id in record_ids:
            self._held[record_id] = NoKey.DESTROYED
            self._held.move_to_end(record_id)
            self._ciphers.forget(record_id)
        self._tell(record_ids)
        self._shrink()

    def _let_go(self) -> None:
        self._held.clear()
        self._ciphers.clear()

    def _tell(self, record_ids: Collection[RecordId] | None) -> None:
        for listener in tuple(self._listeners):
            if forget := listener():
                forget(record_ids)

    def _shrink(self) -> None:
        while len(self._held) > self._keys_max:
            self._held.popitem(last=False)

    async def _start(self) -> None:
        """Follow what is destroyed, from before the first key is held."""
        async with self._starting:
            if self._is_following:
                return
            self._let_go()  # whoever does not follow may hold what was destroyed
            self._tell(None)
            position = await self.store.position()
            self._follower = asyncio.create_task(self._follow(position), name="follow-keys")

    async def _follow(self, position: int) -> None:
        following = self.store.follow(position)
        async with aclosing(following) as destroyed:  # type: ignore[type-var]  # generators, by contract
            async for record_ids in destroyed:
                self._mark_destroyed(record_ids)
