"""Customers as virtual actors: who hosts them, how a command finds them, how signals come in.

A command enters `router.py`, which asks `directory.py` whom it means and sends it, in batches, to
the host of that customer's slot (`slots.py`, `lanes.py`). `host.py` runs rounds: it wakes customers
(`awake.py`) by their snapshots (`snapshots.py`) and the log, compares them with the read side
(`known_heads.py`), decides on a `scene.py` and appends. `packing.py` makes few bytes of a record.
`rules.py` keeps the workspace's rules at hand, `remote.py` alone imports Ray. `intake/` is the way
in from NATS.
"""
