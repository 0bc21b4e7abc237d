"""Events that go to another process are there what they were here."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from eventlog.port import Entry
from projections.packing import pack, unpack
from tests.projections.histories import random_history
from tests.projections.test_parts import long_world


def in_its_append(entry: Entry, drawn: random.Random) -> Entry:
    """Give an entry as others may be: of an erased person, or with more of its append to come."""
    assert entry.event is not None
    event = entry.event._replace(is_erased=drawn.random() < 0.1)
    return replace(entry, event=event, ends_append=drawn.random() < 0.5)


@given(seed=st.integers(0, 2**32))
def test_what_was_packed_comes_out_as_it_was(seed: int) -> None:
    drawn = random.Random(seed)
    told = [
        *random_history(seed, events=60, records=8).entries,
        *long_world(seed, people=5, steps=20),
    ]
    entries = [in_its_append(entry, drawn) for entry in told if entry.event is not None]
    assert unpack(pack(entries)) == entries
