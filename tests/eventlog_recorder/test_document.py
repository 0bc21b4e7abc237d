"""What docs/eventsourcing.md tells a stranger to do works as it stands, from another folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.eventlog_recorder.servers import Servers, new_application

DOCUMENT = Path(__file__).parents[2] / "docs" / "eventsourcing.md"
KENNEL, CASES = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
QUICK_CASES = "TestFactory or TestSnapshotRecorder"
RUN_SECONDS_MAX = 120


def run(folder: Path, *arguments: str) -> str:
    env = {
        **os.environ,
        "KOSEKI_NATS_URL": Servers.url,
        "KOSEKI_REPLICAS": Servers.replicas,
        "KENNEL_KOSEKI_APPLICATION": new_application(),
    }
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_documented_application_keeps_its_events(tmp_path: Path) -> None:
    (tmp_path / "kennel.py").write_text(KENNEL)
    assert run(tmp_path, "kennel.py") == "Fido can roll over\n2 notifications\n"


def test_the_documented_cases_pass(tmp_path: Path) -> None:
    """All of them run in `test_library_cases.py`; some here, as a stranger has them."""
    (tmp_path / "test_cases.py").write_text(CASES)
    told = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", QUICK_CASES)
    assert re.search(r"^\d+ passed", told.splitlines()[-1]), told
