"""Snapshots of records, so that a cold one is woken by its snapshot and the tail after it.

`port.py` is the contract; `jetstream.py` and `memory.py` implement it and pass one suite. `seal.py`
says what a snapshot is as a message. Never needed for correctness: whatever is missing, of another
schema or unreadable is folded from the log instead, and what a snapshot says is checked against the
log before anything is decided on it.
"""
