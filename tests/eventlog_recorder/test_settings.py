"""The environment: what it may say, and the error that names the variable where it may not."""

from __future__ import annotations

import gc
import threading
from uuid import UUID

import pytest
from eventsourcing.application import Application
from eventsourcing.persistence import InfrastructureFactory, InfrastructureFactoryError
from eventsourcing.utils import Environment

from eventlog.recorder.factory import JetStreamFactory
from eventlog.recorder.settings import read_settings
from tests.eventlog_recorder.reading import until
from tests.eventlog_recorder.servers import MODULE, variables


def test_what_is_not_said_has_a_default() -> None:
    found = read_settings(Environment("Shop", {"KOSEKI_NATS_URL": "nats://a, nats://b"}))
    assert found.servers == ("nats://a", "nats://b")
    assert (found.application, found.workspace) == ("Shop", "")
    assert (found.replicas, found.timeout_seconds, found.has_text_ids) == (1, 10.0, False)


def test_the_environment_of_a_cluster_serves_as_well() -> None:
    env = {"KOSEKI_NATS_SERVERS": "nats://a", "KOSEKI_REPLICAS": "3", "KOSEKI_WORKSPACE": "shop"}
    found = read_settings(Environment("", env))
    assert (found.servers, found.replicas) == (("nats://a",), 3)
    assert (found.application, found.workspace) == ("", "shop")


def test_a_variable_with_the_applications_name_comes_first() -> None:
    env = {"KOSEKI_NATS_URL": "nats://a", "SHOP_KOSEKI_NATS_URL": "nats://b"}
    assert read_settings(Environment("Shop", env)).servers == ("nats://b",)


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"KOSEKI_NATS_URL": " , "}, "KOSEKI_NATS_URL"),
        ({"KOSEKI_APPLICATION": "a.b"}, "KOSEKI_APPLICATION"),
        ({"KOSEKI_APPLICATION": "a-b"}, "KOSEKI_APPLICATION"),
        ({"KOSEKI_WORKSPACE": "Shop"}, "KOSEKI_WORKSPACE"),
        ({"KOSEKI_WORKSPACE": "shop", "KOSEKI_APPLICATION": "shop"}, "KOSEKI_WORKSPACE"),
        ({"KOSEKI_REPLICAS": "2"}, "KOSEKI_REPLICAS"),
        ({"KOSEKI_TIMEOUT_SECONDS": "soon"}, "KOSEKI_TIMEOUT_SECONDS"),
        ({"KOSEKI_TIMEOUT_SECONDS": "0"}, "KOSEKI_TIMEOUT_SECONDS"),
        ({"KOSEKI_TIMEOUT_SECONDS": "nan"}, "KOSEKI_TIMEOUT_SECONDS"),
        ({"ORIGINATOR_ID_TYPE": "int"}, "ORIGINATOR_ID_TYPE"),
    ],
)
def test_what_cannot_be_used_is_named(changes: dict[str, str], variable: str) -> None:
    env = {"PERSISTENCE_MODULE": MODULE, "KOSEKI_NATS_URL": "nats://a"} | changes
    with pytest.raises(InfrastructureFactoryError, match=variable):
        InfrastructureFactory.construct(Environment("Shop", env))


def test_the_module_and_the_class_both_name_the_factory() -> None:
    for topic in (MODULE, f"{MODULE}:JetStreamFactory"):
        made = InfrastructureFactory.construct(variables(PERSISTENCE_MODULE=topic))
        assert type(made) is JetStreamFactory


def test_no_connection_is_made_before_a_recorder_is() -> None:
    before = threading.active_count()
    InfrastructureFactory.construct(variables(KOSEKI_NATS_URL="nats://127.0.0.1:1"))
    assert threading.active_count() == before


def test_an_application_that_is_dropped_leaves_no_thread() -> None:
    before = threading.active_count()
    app = Application[UUID](variables())
    assert threading.active_count() > before
    del app
    gc.collect()
    assert threading.active_count() == before


def test_a_factory_that_is_dropped_leaves_no_thread() -> None:
    before = threading.active_count()
    made = JetStreamFactory(Environment("Test", variables()))
    recorder = made.application_recorder()
    subscription = recorder.subscribe()
    del made, recorder, subscription
    # The loop's own thread is the last to let go.
    until(lambda: gc.collect() >= 0 and threading.active_count() == before)
