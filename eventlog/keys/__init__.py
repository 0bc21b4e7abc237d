"""The keys under which personal data rests (R4), and the store that can forget them for good.

`port.py` is the contract; `jetstream.py` and `memory.py` implement it and pass one suite. On
JetStream `key_stream.py` makes the requests, `places.py` says in which stream and how it must be
set, `scanning.py` reads all of it, `renewal.py` wraps all anew, `turn_over.py` moves all to a fresh
stream, `backup.py` keeps files, `census.py` is a count. `workspace_key.py` reads the key that wraps
all others; `key_ring.py` is what a log holds: a bounded memory, whose questions `gathering.py`
joins into few. `eventlog/sealing.py` uses them.
"""
