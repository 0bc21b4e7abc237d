"""A server that stands still: whoever asks is told so in a named time, and nobody is told yes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
import pytest
import pytest_asyncio

from eventlog.jetstream import JetStreamEventLog
from eventlog.server import EmbeddedServer
from koseki.v1 import common_pb2, query_service_pb2
from replay.as_of import SILENCE_SECONDS_MAX
from services.query import CHECK_SECONDS_MAX
from tests.services.edge import Edge, Fields, Refusal, edge_over, refusal, user
from tests.support.nats import connect, new_workspace

ANN, NOBODY = user("ann"), user("nobody")
PATIENT_SECONDS = 60.0
MARGIN_SECONDS = 2.0


@pytest_asyncio.fixture
async def stopped(own_server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[Edge]:
    """Serve a customer of some history, of whose log's server nothing is heard any more."""
    connection = await connect(own_server)
    log = JetStreamEventLog(connection, new_workspace())
    await log.ensure_stream()
    async with edge_over(log, tmp_path / "read-side") as edge:
        await edge.define_rules()
        for tier in ("silver", "gold", "black"):
            done = await edge.identify(ANN, traits={"tier": tier})
        await edge.consent("GIVEN", ANN)
        await edge.get(ANN, at_least_revision=done.revision)
        assert (await edge.check(ANN)).open
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            yield edge
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
    await connection.close()


async def timed(call: Awaitable[Any]) -> tuple[Refusal, float]:
    begun = monotonic()
    refused = await refusal(call)
    return refused, monotonic() - begun


def checks(edge: Edge, **said: Any) -> list[Awaitable[Any]]:
    """Ask with a long deadline, and with none; of somebody known, and of somebody who is not."""
    return [
        edge.query.CheckConsent(
            query_service_pb2.CheckConsentRequest(identifiers=[who], purpose="marketing", **said),
            timeout=seconds,
        )
        for who in (ANN, NOBODY)
        for seconds in (PATIENT_SECONDS, None)
    ]


async def test_a_check_ends_with_unavailable_whatever_its_deadline(stopped: Edge) -> None:
    for refused, seconds in await asyncio.gather(*map(timed, checks(stopped))):
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "LOG_UNAVAILABLE")
        assert seconds < CHECK_SECONDS_MAX + MARGIN_SECONDS


@pytest.mark.parametrize("happened", [False, True])
async def test_past_states_end_with_unavailable_whatever_the_deadline(
    stopped: Edge, *, happened: bool
) -> None:
    at = common_pb2.AsOf(revision=8)
    if happened:
        at.happened.GetCurrentTime()
    reference = common_pb2.CustomerReference(identifier=ANN)
    about: Fields = {"purpose": "service", "as_of": at}
    asked: list[Awaitable[Any]] = [
        *checks(stopped, as_of=at),
        stopped.query.GetCustomer(
            query_service_pb2.GetCustomerRequest(identifier=ANN, **about), timeout=PATIENT_SECONDS
        ),
        stopped.query.BatchGetCustomers(
            query_service_pb2.BatchGetCustomersRequest(references=[reference], **about),
            timeout=PATIENT_SECONDS,
        ),
        stopped.query.ListSegmentsOf(
            query_service_pb2.ListSegmentsOfRequest(reference=reference, **about),
            timeout=PATIENT_SECONDS,
        ),
        stopped.query.ListTimeline(
            query_service_pb2.ListTimelineRequest(reference=reference, **about),
            timeout=PATIENT_SECONDS,
        ),
    ]
    for refused, seconds in await asyncio.gather(*map(timed, asked)):
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "LOG_UNAVAILABLE")
        assert seconds < SILENCE_SECONDS_MAX + MARGIN_SECONDS
