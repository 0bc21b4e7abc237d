"""Fixtures: real servers."""

from __future__ import annotations

from tests.support.nats import connection, nats_server, own_server

__all__ = ["connection", "nats_server", "own_server"]
