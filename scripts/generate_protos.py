"""Generate the package `koseki` from `protos/`, or with `--check` say whether it is up to date.

Run by hand after a change of the contract and by `make check`. The path of a `.proto` below
`protos/` equals its Python package, so the output is used as it comes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WRITTEN_BY_HAND = {"__init__.py", "py.typed"}


class GenerationFailed(Exception):
    """The compiler refused the contract; the text is its own."""


def generate(protos: Path, target: Path) -> None:
    """Compile every `.proto` below `protos` into `target`. Raises `GenerationFailed`."""
    sources = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={protos}",
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_out={target}",
        f"--mypy_grpc_out={target}",
        *sources,
    ]
    # The mypy plugins are found by PATH; those of this environment must win.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise GenerationFailed(done.stderr)


def generated_files(package: Path) -> dict[str, bytes]:
    """Read the generated files below a package, by path; without caches and hand-written files."""
    return {
        str(path.relative_to(package)): path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path.name not in WRITTEN_BY_HAND
    }


def differences(wanted: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    """Say in words how what was found differs from what the contract gives."""
    missing = [f"missing: {name}" for name in wanted.keys() - found.keys()]
    extra = [f"extra: {name}" for name in found.keys() - wanted.keys()]
    shared = wanted.keys() & found.keys()
    stale = [f"stale: {name}" for name in shared if wanted[name] != found[name]]
    return sorted(missing + extra + stale)


def write(wanted: dict[str, bytes], package: Path) -> None:
    """Make the generated files of a package equal to the wanted ones."""
    for name in generated_files(package).keys() - wanted.keys():
        (package / name).unlink()
    for name, content in wanted.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def main(arguments: list[str] | None = None, *, root: Path = ROOT) -> int:
    """Generate or check; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if out of date")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            generate(root / "protos", Path(folder))
        except GenerationFailed as failure:
            print(failure, file=sys.stderr)
            return 1
        wanted = generated_files(Path(folder) / "koseki")
    if not options.check:
        write(wanted, root / "koseki")
        return 0
    found = differences(wanted, generated_files(root / "koseki"))
    for line in found:
        print(f"koseki/ is out of date, {line}", file=sys.stderr)
    if found:
        print("run: .venv/bin/python scripts/generate_protos.py", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
