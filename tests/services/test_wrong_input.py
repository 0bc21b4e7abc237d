"""Every method of the contract, given every request that is wrong: a documented reason each time.

The requests are spoilt field by field (`wrong.py`), so that what is added to the contract is tried
from then on; a method needs its sound request in `sound.py`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest_asyncio
import structlog
from google.protobuf import message_factory
from google.protobuf.message import Message

from eventlog.memory import MemoryEventLog
from koseki.v1 import customer_service_pb2, ingest_service_pb2, query_service_pb2
from tests.services.edge import Edge, Refusal, edge_over, refused
from tests.services.sound import METHODS, REQUIRED, People, past_requests, settle, sound_requests
from tests.services.wrong import PLANTED, Wrong, wrong_requests

SECONDS = 20.0
WAITING_SECONDS = 1.0
"""A question for a revision that never comes waits for so long; all of them wait together."""

STREAM_SECONDS = 2.0
"""A stream that has not been refused by then is taken to be served."""

AT_ONCE = 32
FAULTS_OF_OURS = {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS", "ABORTED"}
"""Statuses that no fault of a request alone may have."""

CONTRACT = Path(__file__).parents[2] / "protos" / "koseki" / "v1" / "common.proto"


def documented() -> set[tuple[str, str]]:
    """Read the reasons that the contract names, each with its status."""
    code, found = "", set()
    for line in CONTRACT.read_text().partition("syntax =")[0].splitlines():
        status = re.match(r"//   ([A-Z_]+)(:|$)", line)
        if status:
            code = status[1]
        named = re.match(r"//     ([A-Z_, ]+)", line)
        if named:
            found |= {(code, reason) for reason in re.findall(r"[A-Z_]{3,}", named[1])}
    return found


async def say(
    edge: Edge,
    name: str,
    request: bytes,
    *,
    seconds: float = SECONDS,
    stream_seconds: float = STREAM_SECONDS,
) -> Refusal | Message | None:
    """Send a request as it is; give its answer or how it was refused, None for a stream."""
    method = METHODS[name]
    path = f"/{method.containing_service.full_name}/{method.name}"
    if not method.server_streaming:
        answer_class = message_factory.GetMessageClass(method.output_type)
        unary: Any = edge.channel.unary_unary(path, response_deserializer=answer_class.FromString)
        call = unary(request, timeout=seconds)
        return await refused(call) or await call
    if method.client_streaming:
        return await say_on_a_stream(edge, path, request)
    stream: Any = edge.channel.unary_stream(path)
    call = stream(request, timeout=seconds)
    try:
        return await asyncio.wait_for(refused(call.read()), stream_seconds)
    except TimeoutError:
        return None
    finally:
        call.cancel()


async def say_on_a_stream(edge: Edge, path: str, request: bytes) -> Refusal | Message:
    """Send a request as the only one of a stream; give its answer or how the stream was ended."""
    answer_class = ingest_service_pb2.IngestStreamResponse
    both: Any = edge.channel.stream_stream(path, response_deserializer=answer_class.FromString)
    call = both(timeout=SECONDS)
    await call.write(request)
    await call.done_writing()
    answers: list[ingest_service_pb2.IngestStreamResponse] = []

    async def read() -> None:
        answers.append(await call.read())

    ended = await refused(read())
    if ended is not None:
        return ended
    [answer] = answers
    if answer.WhichOneof("outcome") == "done":
        return answer.done
    code = next(code for code in grpc.StatusCode if code.value[0] == answer.failure.code)
    return Refusal(code, answer.failure.reason, (), {}, answer.failure.message)


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Edge, People]]:
    """Serve a workspace with people in it, to an auditor too."""
    log = MemoryEventLog("test")
    async with edge_over(log, tmp_path / "read-side", is_for_auditors=True) as edge:
        await edge.define_rules()
        yield edge, await settle(edge)


def test_every_method_has_a_sound_request() -> None:
    nobody = People(ada="", cay="", merge_id="", act_event_id="", erased="", revision=0)
    assert sound_requests(nobody).keys() == METHODS.keys()
    rows = {f"koseki.v1.{service}.{m}" for service, named in REQUIRED.items() for m in named}
    assert rows == METHODS.keys()


async def test_whatever_is_wrong_is_refused_for_a_documented_reason(
    served: tuple[Edge, People],
) -> None:
    edge, people = served
    limit = asyncio.Semaphore(AT_ONCE)
    faults: list[str] = []
    waiting: list[tuple[str, Wrong]] = []
    reasons = documented()

    async def ask(name: str, wrong: Wrong) -> None:
        async with limit:
            found = await say(edge, name, wrong.request)
        faults.extend(f"{name} {wrong}: {f}" for f in faults_of(name, wrong, found, reasons))

    async def wait(name: str, wrong: Wrong) -> None:
        found = await say(
            edge, name, wrong.request, seconds=WAITING_SECONDS, stream_seconds=SECONDS
        )
        if not isinstance(found, Refusal) or found.reason not in {"REVISION_NOT_REACHED", ""}:
            faults.append(f"{name} {wrong}: {found}")

    with structlog.testing.capture_logs() as logs:
        asked = [*past_requests(people).items(), *sound_requests(people).items()]
        for name, sound in asked:
            answer = await say(edge, name, sound.SerializeToString())
            assert not isinstance(answer, Refusal), (name, answer)
            spoilt = list(wrong_requests(sound))
            waiting += [(name, wrong) for wrong in spoilt if is_for_the_future(wrong)]
            await asyncio.gather(*(ask(name, w) for w in spoilt if not is_for_the_future(w)))
        await asyncio.gather(*(wait(name, wrong) for name, wrong in waiting))
    assert faults == []
    assert [line for line in logs if line["event"] == "request_failed"] == []
    assert PLANTED not in str(logs)


def faults_of(
    name: str, wrong: Wrong, found: Refusal | Message | None, reasons: set[tuple[str, str]]
) -> list[str]:
    """Say what is wrong with how a wrong request was answered."""
    if not isinstance(found, Refusal):
        served = ["was served"] if must_be_refused(name, wrong) else []
        return [*served, *faults_of_outcomes(found, {reason for _, reason in reasons})]
    if found.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return []
    faults: list[str] = []
    if (found.code.name, found.reason) not in reasons:
        faults.append(f"{found.code.name} {found.reason} is not documented")
    if found.code.name in FAULTS_OF_OURS:
        faults.append(f"{found.code.name} {found.reason} says that it is not the request")
    if PLANTED in found.said:
        faults.append(f"what was sent is told again: {found.said[:300]}")
    return faults


def faults_of_outcomes(answer: Message | None, reasons: set[str]) -> list[str]:
    """Say what is wrong with the outcomes of the items of a request, where it had some."""
    match answer:
        case ingest_service_pb2.IngestResponse():
            said = [(outcome.reason, "") for outcome in answer.outcomes]
        case customer_service_pb2.ExecuteResponse():
            failures = [outcome.failure for outcome in answer.outcomes]
            said = [(failure.reason, failure.message) for failure in failures]
        case query_service_pb2.BatchGetCustomersResponse():
            said = [(result.reason, "") for result in answer.results]
        case _:
            said = []
    faults = [f"{reason} is not documented" for reason, _ in said if reason not in {"", *reasons}]
    faults += [f"the item was refused for {r}" for r, _ in said if r in {"INTERNAL", "HOST_FAULT"}]
    return faults + [f"what was sent is told again: {m}" for _, m in said if PLANTED in m]


def must_be_refused(name: str, wrong: Wrong) -> bool:
    """Whether a fault is one that a request may not have."""
    if wrong.fault in {"no message", "no text"}:
        return True
    if wrong.field == "workspace" and wrong.fault != "missing":
        return True
    service, method = name.split(".")[-2:]
    return wrong.fault == "missing" and wrong.field in REQUIRED[service][method].split()


def is_for_the_future(wrong: Wrong) -> bool:
    """Whether a request waits for a revision that never comes."""
    return wrong.field == "at_least_revision" and wrong.fault == "largest"
