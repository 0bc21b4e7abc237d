"""The package `koseki` is what the contract gives, and the floors of its runtime follow it."""

import re
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from scripts.generate_protos import main
from tests.support.project import ROOT, requirement

GENERATED = ROOT / "koseki" / "v1"


def floor(found: Requirement) -> Version:
    return next(Version(s.version) for s in found.specifier if s.operator == ">=")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("protos", "koseki"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def test_the_generated_code_is_up_to_date() -> None:
    assert main(["--check"]) == 0


@pytest.mark.parametrize("name", ["common_pb2.py", "query_service_pb2_grpc.py", "common_pb2.pyi"])
def test_a_stale_file_is_noticed_and_made_again(
    copy: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "koseki/v1" / name).write_text("# edited by hand\n")
    assert main(["--check"], root=copy) == 1
    assert f"stale: v1/{name}" in capsys.readouterr().err
    assert main([], root=copy) == 0
    assert (copy / "koseki/v1" / name).read_bytes() == (GENERATED / name).read_bytes()


def test_an_extra_file_is_noticed_and_removed(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = copy / "koseki/v1/gone_service_pb2.py"
    extra.write_text("")
    assert main(["--check"], root=copy) == 1
    assert "extra: v1/gone_service_pb2.py" in capsys.readouterr().err
    assert main([], root=copy) == 0
    assert not extra.exists()


def test_a_missing_file_is_noticed(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "koseki/v1/common_pb2.py").unlink()
    assert main(["--check"], root=copy) == 1
    assert "missing: v1/common_pb2.py" in capsys.readouterr().err


def test_a_contract_that_does_not_compile_is_an_error_with_the_compilers_text(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "protos/koseki/v1/broken.proto").write_text('syntax = "proto3"; message {')
    assert main(["--check"], root=copy) == 1
    assert "broken.proto" in capsys.readouterr().err


def test_the_floor_of_protobuf_is_the_version_that_the_code_was_generated_for() -> None:
    found = re.search(r"^# Protobuf Python Version: (\S+)$", read("common_pb2.py"), re.MULTILINE)
    assert found is not None
    assert floor(requirement("protobuf")) == Version(found[1])


def test_the_floor_of_every_grpcio_package_is_the_version_that_the_code_was_generated_for() -> None:
    found = re.search(
        r"^GRPC_GENERATED_VERSION = '(\S+)'$", read("query_service_pb2_grpc.py"), re.MULTILINE
    )
    assert found is not None
    for name in ("grpcio", "grpcio-health-checking", "grpcio-reflection", "grpcio-status"):
        assert floor(requirement(name)) == Version(found[1])


def test_the_generator_is_pinned_exactly_and_is_the_one_installed() -> None:
    pinned = requirement("grpcio-tools", extra="dev")
    assert str(pinned.specifier) == f"=={version('grpcio-tools')}"


def read(name: str) -> str:
    return (GENERATED / name).read_text()
