"""The gRPC edge: one file per service, one table of errors, requests checked and normalised here.

`server.py` puts the services on a port with health and reflection. `requests.py` makes commands of
messages, `answers.py` messages of views, `errors.py` statuses of errors, `freshness.py` waits until
the read side has seen a revision. `client.py` is the way in for Koseki's own tools.
"""
