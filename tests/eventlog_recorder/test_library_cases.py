"""The `eventsourcing` library's own cases, run against the persistence module."""

from __future__ import annotations

import gc
import os
from unittest import mock
from uuid import UUID

import pytest
from eventsourcing.application import Application
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    ProcessRecorder,
    TrackingRecorder,
)
from eventsourcing.tests.application import ApplicationTestCase, ExampleApplicationTestCase
from eventsourcing.tests.persistence import (
    AggregateRecorderTestCase,
    ApplicationRecorderTestCase,
    InfrastructureFactoryTestCase,
    NonInterleavingNotificationIDsBaseCase,
)
from eventsourcing.utils import Environment

from eventlog.recorder.aggregate_recorder import JetStreamAggregateRecorder
from eventlog.recorder.application_recorder import JetStreamApplicationRecorder
from eventlog.recorder.errors import ProcessRecorderNotOffered, TrackingNotOffered
from eventlog.recorder.factory import JetStreamFactory
from tests.eventlog_recorder.servers import factory, variables


class TestAggregateRecorder(AggregateRecorderTestCase):
    purpose = "events"

    def create_recorder(self) -> AggregateRecorder:
        made = factory()
        self.addCleanup(made.close)
        return made.aggregate_recorder(self.purpose)


class TestSnapshotRecorder(TestAggregateRecorder):
    purpose = "snapshots"


class TestTextIds(TestAggregateRecorder):
    def new_originator_id(self) -> str:
        return f"an order's id, no. {super().new_originator_id()}"

    def create_recorder(self) -> AggregateRecorder:
        made = factory(ORIGINATOR_ID_TYPE="text")
        self.addCleanup(made.close)
        return made.aggregate_recorder()


class TestApplicationRecorder(ApplicationRecorderTestCase[ApplicationRecorder]):
    def create_recorder(self) -> ApplicationRecorder:
        made = factory()
        self.addCleanup(made.close)
        return made.application_recorder()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestApplicationRecorderFromVersion0(TestApplicationRecorder):
    INITIAL_VERSION = 0


class TestNonInterleavingNotificationIds(NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> ApplicationRecorder:
        made = factory()
        self.addCleanup(made.close)
        return made.application_recorder()


class TestFactory(InfrastructureFactoryTestCase[JetStreamFactory]):
    def setUp(self) -> None:
        self.env = Environment("TestCase", variables())
        super().setUp()

    def expected_factory_class(self) -> type[JetStreamFactory]:
        return JetStreamFactory

    def expected_aggregate_recorder_class(self) -> type[AggregateRecorder]:
        return JetStreamAggregateRecorder

    def expected_application_recorder_class(self) -> type[ApplicationRecorder]:
        return JetStreamApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[TrackingRecorder]:
        raise NotImplementedError

    def tracking_recorder_subclass(self) -> type[TrackingRecorder]:
        raise NotImplementedError

    def expected_process_recorder_class(self) -> type[ProcessRecorder]:
        raise NotImplementedError

    def test_create_tracking_recorder(self) -> None:
        with pytest.raises(TrackingNotOffered):
            self.factory.tracking_recorder()

    def test_create_process_recorder(self) -> None:
        with pytest.raises(ProcessRecorderNotOffered):
            self.factory.process_recorder()


class FreshEnvironment:
    """Name the module and a fresh log in the process's environment, as an application finds it."""

    def setUp(self) -> None:
        self._patch = mock.patch.dict(os.environ, variables())
        self._patch.start()

    def tearDown(self) -> None:
        self._patch.stop()
        gc.collect()  # the cases drop their applications without closing them


class TestExampleApplication(FreshEnvironment, ExampleApplicationTestCase):
    expected_factory_topic = "eventlog.recorder.factory:JetStreamFactory"


class TestApplication(FreshEnvironment, ApplicationTestCase):
    def test_the_cases_ran_on_the_module(self) -> None:
        with Application[UUID]() as app:
            assert isinstance(app.recorder, JetStreamApplicationRecorder)


del (
    AggregateRecorderTestCase,
    ApplicationRecorderTestCase,
    ApplicationTestCase,
    ExampleApplicationTestCase,
    InfrastructureFactoryTestCase,
    NonInterleavingNotificationIDsBaseCase,
)
