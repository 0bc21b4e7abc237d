"""The read side: read models in LMDB, folded from the log in order, and the views over them.

`tables.py` is what a fold writes to and a view reads from; `store.py` keeps it in LMDB, `memory.py`
in memory, and `stored_rows.py` reads rows from either. There is
one file per read model (`profile.py`, `identifiers.py`, `customers.py`, `consents.py`,
`timeline.py`, `tallies.py`, `rules.py`, `counts.py`), none importing another but for the tallies,
which count what `timeline.py` has put. `clock.py` is the log's time, `segments/` who belongs
to what by it. `parking.py` says who waits after a fault, `heads.py` keeps where records end,
`facts_session.py` goes along with a fold that judges nobody.
`fold.py` applies them all, `runner.py` follows the log by what `backlog.py` has read of it,
`views.py` combines rows as they are read. A large batch is divided by customers while the one
before is folded, then dealt out (`dealing.py`), folded in parts (`parts.py`), by further processes
too (`part_process.py`), and stored at once.

Imports `domain` and `eventlog`; `replay` may import everything here but `store.py`, `runner.py` and
`part_process.py`.
"""
