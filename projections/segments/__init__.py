"""Segments: who belongs to which, exactly and at once, as a function of the log (R15, R16).

`tokens.py`, `vocabulary.py` and `language.py` check an expression, `trying.py` by running it on
made-up people (`running.py`), `facts.py` and `evaluation.py` answer it for one customer at one
instant. `definitions.py` folds the definitions, `active.py` is what of them stands, `membership.py`
keeps who is in, `regrouping.py` does so when customers join or part, `timers.py` holds the clock
and the instants at which answers change, `journal.py` the changes, `bitmaps.py` the sets,
`trait_indexes.py` those of values of traits; `session.py` drives them as the log is folded.
`audiences.py` (of `audience_parts.py`), `trait_reading.py`, `pages.py` and `explaining.py` answer
readers. Nothing outside `projections` but readers imports it.
"""
