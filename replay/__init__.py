"""Folds over the whole log, for auditors: they publish nothing and change nothing.

`chain.py` checks what is read, `fold.py` folds the log or one customer into memory with the folds
of `projections`, `verify.py` compares a read side with that, `signals.py` counts the log's signals.

May import the pure folds of `projections`, but neither its store nor its runner.
"""
