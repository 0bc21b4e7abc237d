"""The catalogue names everything there is."""

from __future__ import annotations

from pathlib import Path

from app import catalogue
from domain import commands
from koseki.v1 import query_service_pb2
from projections.fold import TABLES
from tests.support.project import event_classes

ROOT = Path(__file__).parents[2]


def defined(module: object, kind: type) -> set[type]:
    """Give the classes of a kind that no other one builds on."""
    found = {value for value in vars(module).values() if isinstance(value, type)}
    return {cls for cls in found if issubclass(cls, kind) and not cls.__subclasses__()}


def test_every_command_is_named() -> None:
    assert set(catalogue.COMMANDS) == defined(commands, commands.Command)


def test_every_event_is_named() -> None:
    assert set(catalogue.EVENTS.values()) == event_classes()


def test_every_read_model_is_named() -> None:
    named = {table for view in catalogue.VIEWS for table in view.TABLES}
    assert named <= set(TABLES)
    files = (ROOT / "projections").rglob("*.py")
    # Those that are driven by other parts, not event by event.
    driven = {"heads", "parking", "clock", "timers", "membership", "journal", "copies"}
    models = {path.stem for path in files if "\nTABLES = (" in path.read_text()}
    views = {view.__name__.rpartition(".")[2] for view in catalogue.VIEWS}
    assert views == models - driven


def test_every_query_is_named_where_it_is_served() -> None:
    service = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"]
    assert {method.name for method in service.methods} <= catalogue.QUERIES.keys()
    for method, path in catalogue.QUERIES.items():
        assert f"async def {method}(" in (ROOT / path).read_text()
