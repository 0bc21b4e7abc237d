"""Sealed rows: read back whole, silent without their key, one digest whoever wrote them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import RecordId
from eventlog.keys.port import DataKey, KeyAnswer, NoKey
from projections.errors import KeyDamaged, KeysNotHeld, RowUnreadable
from projections.memory import MemoryTables
from projections.profile import PROFILES
from projections.row_keys import read_rows, with_keys
from projections.rows import Row, Sealed, SealedRows, TaggedRows, encode_row, owned_by_key
from projections.store import Store
from projections.tallies import TALLIES
from projections.timeline import TIMELINE
from tests.support.events import new_id
from tests.support.sealed import files_with, forms

ME, OTHER = RecordId(new_id()), RecordId(new_id())
KEY, FOREIGN = DataKey(bytes(range(32))), DataKey(bytes(32))
SEALED = {
    "people": Sealed({"traits": {}, "note": None}, owned_by_key),
    "copies": Sealed({"name": ""}, owned_by_key),
}
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
rows = st.fixed_dictionaries(
    {"traits": st.dictionaries(st.text(max_size=8), values), "note": values, "open": values}
)


class Keys:
    """Keys in memory: those at hand, and those that have to be fetched."""

    def __init__(self, held: dict[RecordId, KeyAnswer], **fetched: KeyAnswer) -> None:
        self.held = held
        self.elsewhere = {RecordId(name): key for name, key in fetched.items()}
        self.fetches: list[set[RecordId]] = []

    def key_of(self, record_id: RecordId) -> KeyAnswer | None:
        return self.held.get(record_id)

    async def fetch(self, record_ids: Iterable[RecordId]) -> None:
        wanted = set(record_ids)
        self.fetches.append(wanted)
        self.held |= {r: k for r, k in self.elsewhere.items() if r in wanted}


def codec(*, key: KeyAnswer = KEY) -> SealedRows:
    return SealedRows(SEALED, Keys({ME: key}))


def key_of_row(record_id: RecordId = ME) -> bytes:
    return f"{record_id}/x".encode()


@given(rows)
def test_a_row_is_read_as_it_was_written(row: Row) -> None:
    stored = codec().write("people", key_of_row(), row).stored
    assert codec().read("people", key_of_row(), stored) == row


@given(rows)
def test_rows_in_memory_have_the_digests_of_sealed_ones_and_end_with_the_key(row: Row) -> None:
    kept = TaggedRows(SEALED, Keys({ME: KEY}))
    written = kept.write("people", key_of_row(), row)
    assert written.digest == codec().write("people", key_of_row(), row).digest
    assert written.digest == kept.digest("people", key_of_row(), written.stored)
    assert kept.read("people", key_of_row(), written.stored) == row
    gone = TaggedRows(SEALED, Keys({ME: NoKey.DESTROYED}))
    read = gone.read("people", key_of_row(), written.stored)
    assert read == {"traits": {}, "note": None, "open": row["open"]}


@given(rows)
def test_two_writers_give_different_bytes_and_one_digest(row: Row) -> None:
    one, other = (codec().write("people", key_of_row(), row) for _ in range(2))
    assert one.digest == other.digest
    assert codec().digest("people", key_of_row(), one.stored) == one.digest
    if row["traits"] or row["note"] is not None:
        assert one.stored != other.stored


@given(rows, rows)
def test_rows_that_differ_have_different_digests(row: Row, other: Row) -> None:
    written = [codec().write("people", key_of_row(), each) for each in (row, other)]
    # As JSON: to Python `False` and `0` are equal.
    assert (written[0].digest == written[1].digest) == (encode_row(row) == encode_row(other))


@given(rows)
def test_a_digest_is_taken_off_without_the_key(row: Row) -> None:
    written = codec().write("people", key_of_row(), row)
    without = SealedRows(SEALED, Keys({}))
    assert without.digest("people", key_of_row(), written.stored) == written.digest


@given(rows)
def test_after_the_key_is_destroyed_only_what_is_open_is_left(row: Row) -> None:
    stored = codec().write("people", key_of_row(), row).stored
    erased = codec(key=NoKey.DESTROYED)
    left = erased.read("people", key_of_row(), stored)
    assert left == {"traits": {}, "note": None, "open": row["open"]}
    again = erased.write("people", key_of_row(), row).stored
    assert codec().read("people", key_of_row(), again) == left


def test_a_row_without_anything_personal_needs_no_key() -> None:
    without = SealedRows(SEALED, Keys({}))
    row: Row = {"traits": {}, "note": None, "open": 1}
    stored = without.write("people", key_of_row(), row).stored
    assert without.read("people", key_of_row(), stored) == row


def test_a_key_that_is_not_at_hand_is_asked_for() -> None:
    without = SealedRows(SEALED, Keys({OTHER: KEY}))
    stored = codec().write("people", key_of_row(), {"traits": {"a": 1}, "note": None}).stored
    with pytest.raises(KeysNotHeld) as caught:
        without.read("people", key_of_row(), stored)
    assert caught.value.record_ids == {ME}
    with pytest.raises(KeysNotHeld) as caught:
        without.need([ME, OTHER])
    assert caught.value.record_ids == {ME}


def test_a_damaged_key_is_no_erasure() -> None:
    stored = codec().write("people", key_of_row(), {"traits": {"a": 1}, "note": None}).stored
    with pytest.raises(KeyDamaged):
        codec(key=NoKey.DAMAGED).read("people", key_of_row(), stored)


@given(rows.filter(lambda row: row["note"] is not None), st.data())
def test_a_row_that_was_changed_on_disk_is_not_read(row: Row, data: st.DataObject) -> None:
    stored = bytearray(codec().write("people", key_of_row(), row).stored)
    place = data.draw(st.integers(len(stored) - 60, len(stored) - 1))
    stored[place] ^= data.draw(st.integers(1, 255))
    digest = codec().digest("people", key_of_row(), bytes(stored))
    try:
        codec().read("people", key_of_row(), bytes(stored))
    except RowUnreadable:
        return
    assert digest != codec().write("people", key_of_row(), row).digest


def test_a_row_cannot_be_moved_to_another_place() -> None:
    stored = codec().write("people", key_of_row(), {"traits": {"a": 1}, "note": None}).stored
    with pytest.raises(RowUnreadable):
        codec().read("people", f"{ME}/y".encode(), stored)


def test_rows_are_owned_by_the_record_that_their_key_names() -> None:
    both = SealedRows(SEALED, Keys({ME: KEY, OTHER: FOREIGN}))
    place = key_of_row(OTHER)
    stored = both.write("copies", place, {"source": "shop", "name": "Order"}).stored
    assert both.read("copies", place, stored) == {"source": "shop", "name": "Order"}
    with pytest.raises(RowUnreadable):
        SealedRows(SEALED, Keys({OTHER: KEY})).read("copies", place, stored)


async def test_work_that_lacks_keys_begins_again_with_them_all() -> None:
    keys = Keys({}, **{ME: KEY, OTHER: FOREIGN})
    tables = MemoryTables(SealedRows(SEALED, keys))

    async def work() -> int:
        tables.need([ME])
        return 7

    assert await with_keys(tables.codec, work, likely=lambda: [OTHER]) == 7
    assert keys.fetches == [{ME, OTHER}]


async def test_work_whose_keys_cannot_be_had_fails() -> None:
    tables = MemoryTables(SealedRows(SEALED, Keys({})))

    async def work() -> None:
        tables.need([ME])

    with pytest.raises(KeysNotHeld):
        await with_keys(tables.codec, work)


async def test_nothing_personal_rests_in_the_store(tmp_path: Path) -> None:
    from projections.fold import SEALED as TABLES_SEALED

    secret = "planted-値"
    store = Store.open_writer(tmp_path, SealedRows(TABLES_SEALED, Keys({ME: KEY})))
    transaction = store.begin()
    me = str(ME)
    transaction.put(PROFILES, me.encode(), {"identifiers": {secret: 1}, "traits": {"a": secret}})
    signal = {"name": secret, "kind": "", "message_id": secret, "properties": {secret: secret}}
    transaction.put(TIMELINE, f"{me}/x".encode(), {"source": "shop", "revision": 1, **signal})
    tally = {"source": "shop", "name": secret, "count": 1, "sums": {secret: {}}}
    transaction.put(TALLIES, f"{me}/x".encode(), tally)
    transaction.commit(revision=1, event_digest=bytes(32), log_digest=bytes(32))
    found = [path for form in forms(secret) for path in files_with(tmp_path, form)]
    assert not found
    assert files_with(tmp_path, b"shop")
    read = await read_rows(store, lambda tables: tables.get(TALLIES, f"{me}/x".encode()))
    assert read == tally
    store.close()


def test_a_key_that_is_destroyed_while_its_cipher_is_made_leaves_none() -> None:
    class Destroyed(Keys):
        """The second look finds it destroyed."""

        def key_of(self, record_id: RecordId) -> KeyAnswer | None:
            found = super().key_of(record_id)
            self.held[record_id] = NoKey.DESTROYED
            return found

    rows = SealedRows(SEALED, Destroyed({ME: KEY}))
    rows.write("people", key_of_row(), {"traits": {"a": 1}, "note": None})
    assert not rows._ciphers
