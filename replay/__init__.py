"""Folds over the log, for auditors: they publish nothing and change nothing.

`chain.py` checks what is read, `fold.py` folds the whole log into memory with the folds of
`projections`. `as_of.py` finds where a past state ends, `customer.py` folds single customers up to
there, `diff.py` compares two such states, `explain.py` says why. `verify.py` compares a read side
with the log, `sets.py` its sets with its rows, `divergence.py` says since when it differs,
`signals.py` counts the log's signals. `export.py` gives what a purpose may see of everybody,
`parquet.py` writes it. `scanning.py`, `spool.py`, `shares.py` and `sharing.py` fold a
whole log in shares, side by side. `identity.py` tries other identity rules.

May import the pure folds of `projections`, but neither its store nor its runner.
"""
