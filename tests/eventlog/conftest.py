from __future__ import annotations

from tests.eventlog.committing import commit, log
from tests.support.nats import connection, jetstream_log, nats_server, own_server

__all__ = ["commit", "connection", "jetstream_log", "log", "nats_server", "own_server"]
