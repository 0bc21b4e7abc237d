"""How the tests share two cores: what shares an installation or a cluster stays in one process.

How long a drawn case takes says nothing there: no property has a deadline.
"""

from __future__ import annotations

# Its plugin imports it at the very end, if no test did; Python 3.11 cannot always compile anything
# any more while what tests have left is collected (gh-106905).
import hypothesis.internal.observability  # noqa: F401
import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")

SHARING_SERVERS = ("tests/e2e/", "tests/cluster/")


class ByFolder(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Give the tests of a folder that shares servers to one process, all others to either."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in SHARING_SERVERS if nodeid.startswith(folder)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFolder:
    """Schedule by folder; the folders, being the largest scopes, begin first."""
    return ByFolder(config, log)
