"""Fixtures of the hosts' tests: a real server for those that kill and pause processes."""

from tests.support.nats import own_server

__all__ = ["own_server"]
