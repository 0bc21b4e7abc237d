from __future__ import annotations

from tests.support.nats import connection, jetstream_log, nats_server, own_server

__all__ = ["connection", "jetstream_log", "nats_server", "own_server"]
