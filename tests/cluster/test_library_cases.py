"""The `eventsourcing` library's own cases, on three servers: streams of three replicas."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.eventlog_recorder import test_library_cases as library
from tests.eventlog_recorder.servers import Servers
from tests.support.cluster import Cluster


@pytest.fixture(scope="module", autouse=True)
def three_servers(cluster: Cluster) -> Iterator[None]:
    """Put the cluster in the place of the one server that the cases otherwise run on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Servers, "url", ",".join(cluster.urls))
        patch.setattr(Servers, "replicas", "3")
        yield


class TestAggregateRecorderOnThree(library.TestAggregateRecorder):
    pass


class TestSnapshotRecorderOnThree(library.TestSnapshotRecorder):
    pass


class TestTextIdsOnThree(library.TestTextIds):
    pass


class TestApplicationRecorderOnThree(library.TestApplicationRecorder):
    pass


class TestApplicationRecorderFromVersion0OnThree(library.TestApplicationRecorderFromVersion0):
    pass


class TestNonInterleavingNotificationIdsOnThree(library.TestNonInterleavingNotificationIds):
    pass


class TestFactoryOnThree(library.TestFactory):
    pass


class TestExampleApplicationOnThree(library.TestExampleApplication):
    pass


class TestApplicationOnThree(library.TestApplication):
    pass
