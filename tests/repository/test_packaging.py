"""The project installs what it imports, imports only what it may, and ships its types."""

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest
from packaging.utils import canonicalize_name

from tests.support.project import PYPROJECT, ROOT, requirements

PACKAGES = tuple(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
# Every module of these is another distribution's too; which one is meant shows below it.
SHARED_NAMESPACES = {"google.protobuf": "protobuf", "google.rpc": "googleapis-common-protos"}


def imported_modules(package: str) -> Iterator[str]:
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                if node.module == "google":
                    yield from (f"google.{alias.name}" for alias in node.names)
                else:
                    yield node.module


def outside(package: str) -> set[str]:
    ours = {*sys.stdlib_module_names, *PACKAGES}
    return {name for name in imported_modules(package) if name.split(".")[0] not in ours}


def distributions(module: str) -> set[str]:
    for namespace, distribution in SHARED_NAMESPACES.items():
        if module.startswith(namespace):
            return {distribution}
    found = packages_distributions().get(module.split(".", maxsplit=1)[0], [])
    return {canonicalize_name(name) for name in found}


@pytest.mark.parametrize(
    "name", ["ray", "nats-py", "eventsourcing", "pydantic", "orjson", "grpcio"]
)
def test_what_koseki_is_built_on_is_a_dependency(name: str) -> None:
    assert name in requirements()


@pytest.mark.parametrize("name", ["pytest-asyncio", "hypothesis", "mypy", "ruff", "import-linter"])
def test_what_checks_koseki_is_a_dependency_of_development(name: str) -> None:
    assert name in requirements(extra="dev")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_ships_its_types(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is(package: str) -> None:
    assert ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text()))


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_imported_is_a_declared_dependency(package: str) -> None:
    undeclared = {m for m in outside(package) if not distributions(m) & requirements().keys()}
    assert undeclared == set()


def test_the_domain_imports_the_standard_library_and_pydantic_only() -> None:
    assert {name.split(".")[0] for name in outside("domain")} <= {"pydantic"}


def test_the_command_line_is_installed_as_koseki() -> None:
    assert PYPROJECT["project"]["scripts"] == {"koseki": "app.cli:main"}


def test_import_direction_is_checked_for_every_package() -> None:
    assert set(PYPROJECT["tool"]["importlinter"]["root_packages"]) == set(PACKAGES)
