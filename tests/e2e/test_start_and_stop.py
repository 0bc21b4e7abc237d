"""`koseki up` to Ctrl-C: a clear line where it cannot start, and nothing left behind."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from koseki.v1 import common_pb2, ingest_service_pb2
from services.client import reason_of
from tests.e2e.installation import (
    CALL_SECONDS,
    Caller,
    Installation,
    Leftovers,
    installed,
    koseki,
    processes_of,
    run_koseki,
)

REFUSED_SECONDS_MAX = 20.0


def test_a_second_one_on_the_same_folder_is_refused_and_the_first_goes_on(
    installation: Installation,
) -> None:
    status, printed, errors = run_koseki("up", "--data", str(installation.data), "--json")
    assert (status, printed) == (2, "")
    assert errors == f"koseki runs on {installation.data} already\n"
    assert installation.json("status")["processes"]["supervisor"]["pid"] == installation.process.pid


def test_status_names_every_part_and_is_printed_for_people_too(installation: Installation) -> None:
    status = installation.json("status")
    assert set(status["processes"]) == {
        "supervisor",
        "nats-server",
        "runtime",
        "steward",
        "host-0",
        "host-1",
        "projector",
        "ingest-worker",
        "gateway",
    }
    code, printed, _errors = run_koseki("status", "--data", str(installation.data))
    assert code == 0
    assert status["nats"] in printed


def test_there_is_no_dead_letter_of_a_number_that_was_never_given(
    installation: Installation,
) -> None:
    status, printed, errors = run_koseki(
        "dead-letters", "show", "999999", "--data", str(installation.data), "--json"
    )
    assert (status, printed) == (1, "")
    assert errors == "There is no dead letter 999999.\n"


def break_read_side(data: Path) -> list[str]:
    """Leave a read side that no database wrote."""
    (data / "read-side").mkdir(parents=True)
    (data / "read-side" / "data.mdb").write_bytes(b"no database" * 2_000)
    return []


def spoil_pepper(data: Path) -> list[str]:
    """Leave a folder where the pepper should be."""
    (data / "secrets" / "identifier-pepper").mkdir(parents=True)
    return []


def shorten_pepper(data: Path) -> list[str]:
    """Leave a pepper that was cut."""
    (data / "secrets").mkdir(parents=True)
    (data / "secrets" / "identifier-pepper").write_bytes(b"short")
    return []


def block_folder(data: Path) -> list[str]:
    """Leave a file where the folder should be."""
    data.write_bytes(b"")
    return []


def name_badly(_data: Path) -> list[str]:
    """Name a workspace that cannot be part of a subject."""
    return ["--workspace", "a.*"]


def want_too_many(_data: Path) -> list[str]:
    """Ask for more hosts than there may be."""
    return ["--hosts", "1000"]


FAULTS: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "a broken read side": (break_read_side, "read side"),
    "a pepper that is a folder": (spoil_pepper, "identifier-pepper"),
    "a pepper that is too short": (shorten_pepper, "identifier-pepper"),
    "a file for a folder": (block_folder, "data"),
    "a workspace with a bad name": (name_badly, "workspace"),
    "too many hosts": (want_too_many, "hosts"),
}


def require_refusal(data: Path, *options: str, names: str) -> None:
    """Require exit status 2 with one line that names the cause, and that nothing is left."""
    before = Leftovers.now()
    started = time.monotonic()
    status, printed, errors = run_koseki("up", "--data", str(data), "--json", *options)
    assert (status, printed) == (2, ""), errors
    assert errors.count("\n") == 1, errors
    assert names in errors
    assert time.monotonic() - started < REFUSED_SECONDS_MAX
    assert Leftovers.now().since(before) == set()
    assert processes_of(data) == []
    assert not (data / "running.json").exists()


@pytest.mark.parametrize("what", FAULTS)
def test_what_cannot_start_says_why_in_one_line_and_leaves_nothing(
    tmp_path: Path, what: str
) -> None:
    fault, names = FAULTS[what]
    data = tmp_path / "data"
    require_refusal(data, *fault(data), names=names)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        require_refusal(tmp_path / "data", "--port", str(port), names=f"127.0.0.1:{port}")


def test_ctrl_c_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    before = Leftovers.now()
    data = tmp_path / "data"
    with subprocess.Popen(
        koseki("up", "--data", str(data), "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        while not (data / "logs" / "runtime.log").exists():  # Ray is being started
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=20)
    assert (process.returncode, printed) == (0, b""), errors
    assert Leftovers.now().since(before) == set()
    assert processes_of(data) == []


async def test_ctrl_c_has_a_gateway_answer_what_is_under_way_and_say_that_it_ends(
    tmp_path: Path,
) -> None:
    with installed(tmp_path / "data") as running:
        caller = Caller(running)
        await caller.define_rules()
        stream = caller.signals.IngestStream(timeout=CALL_SECONDS)
        person = common_pb2.Identifier(namespace="user_id", value="1")
        signal_of = ingest_service_pb2.Signal(message_id="m1", name="Seen", identifiers=[person])
        batch = ingest_service_pb2.IngestRequest(source="shop", signals=[signal_of])
        await stream.write(ingest_service_pb2.IngestStreamRequest(sequence=1, batch=batch))
        answer = await stream.read()
        assert isinstance(answer, ingest_service_pb2.IngestStreamResponse)
        recorded = ingest_service_pb2.SIGNAL_RESULT_RECORDED
        assert [outcome.result for outcome in answer.done.outcomes] == [recorded]
        stopping = asyncio.create_task(asyncio.to_thread(running.interrupt))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await stream.read()
        assert reason_of(ended.value) == "SERVER_STOPPING"
        await stopping
        await caller.channel.close()
        assert running.left_behind() == set()
