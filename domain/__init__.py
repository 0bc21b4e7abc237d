"""The rules of Koseki as pure functions: identity, consent, traits and signals.

`commands.py` says what may be asked, `replies.py` what is answered, and the `*_events.py` what may
have happened (`event.py` says what an event is). `record.py` folds one event stream, `customer.py`
combines the records of a customer, `decide.py` turns a command into changes, `rules.py` does the
same for a workspace, `consent.py` says what is open.

Imports the standard library and pydantic only; every other package may import it.
"""
