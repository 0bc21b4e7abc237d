from __future__ import annotations

from collections.abc import Callable

import pytest

from eventlog.keys.memory import MemoryKeyStore
from tests.contracts.key_store import KeyStoreContract
from tests.support.sealed import Source


class TestMemoryKeyStore(KeyStoreContract):
    @pytest.fixture
    def store(self, source: Source) -> MemoryKeyStore:
        return MemoryKeyStore(source)

    @pytest.fixture
    def other_store(self, store: MemoryKeyStore) -> Callable[[], MemoryKeyStore]:
        return lambda: store
