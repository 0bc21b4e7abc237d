"""Koseki's processes as Ray actors: the hosts, and whatever else Ray keeps alive.

The only file that imports Ray. The classes here are thin: what they run is named by an import path
and built inside the actor's own process, so that nothing is pickled by value.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from time import monotonic, sleep
from typing import Any, Protocol, cast, runtime_checkable

import ray
import structlog
import uvloop
from ray.exceptions import GetTimeoutError, RayError

from actors.lanes import ServingHost
from actors.messages import HostUnavailable

NAMESPACE = "koseki"
LOOPBACK = "127.0.0.1"
"""Ray on one machine is reached from that machine alone: it asks nobody who they are."""

OBJECT_STORE_BYTES = 128 * 1024 * 1024
STATUS_SECONDS_MAX = 5.0
SOON_SECONDS = 10.0
PAUSE_SECONDS = 5.0
"""A component that fails so soon after its start waits so long before Ray may start it again: what
fails at each start would take the processors from all that does not."""

COLLECTION_THRESHOLDS = (250_000, 20, 100)
_log = structlog.get_logger()


class Component(Protocol):
    """Something that runs for ever in a process of its own."""

    async def run(self) -> None:
        """Run until the process ends; to return or raise is to ask for a restart."""

    async def status(self) -> dict[str, Any]:
        """Give counters, without personal data."""


@runtime_checkable
class Serving(Component, Protocol):
    """A component that somebody is connected to."""

    async def close(self) -> None:
        """Take nothing more, let what is under way end, and serve nobody from then on."""


def calm_collector() -> None:
    """Keep what was loaded at start out of garbage collections, and make them rarer.

    An event makes hundreds of objects that live for one batch: at Python's own threshold
    collections take a fifth of the time of encoding and decoding.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTION_THRESHOLDS)


def load_factory(path: str) -> Any:  # noqa: ANN401 - the caller knows what the path names
    """Import `package.module:name`."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


class HostProcess:
    """A `ServingHost` in a process of its own. It starts with its first call after a (re)start."""

    def __init__(self, factory: str, config: bytes, host: int) -> None:
        self._factory = factory
        self._config = config
        self._number = host
        self._starting = asyncio.Lock()
        self._host: ServingHost | None = None

    async def execute(self, batch: bytes) -> bytes:
        """Execute a batch in bulk."""
        return await (await self._started()).execute_bulk(batch)

    async def status(self) -> dict[str, Any]:
        """Give the host's counters and its process id."""
        host = await self._started()
        return {"pid": os.getpid(), "is_ready": True, **host.status()}

    async def _started(self) -> ServingHost:
        async with self._starting:
            if self._host is None:
                build = load_factory(self._factory)
                self._host = cast(ServingHost, await build(self._config, self._number))
                calm_collector()
        return self._host


class ComponentProcess:
    """A `Component` in a process of its own, on a loop in a thread; the process ends with it."""

    def __init__(self, factory: str, config: bytes, number: int) -> None:
        self._loop = uvloop.new_event_loop()
        self._component: Component | None = None
        self._thread = threading.Thread(
            target=self._run, args=(factory, config, number), name="component", daemon=True
        )
        self._thread.start()

    async def status(self) -> dict[str, Any]:
        """Give the component's counters and its process id; the id alone before and after."""
        if self._component is None:
            return {"pid": os.getpid()}
        asked = asyncio.run_coroutine_threadsafe(self._component.status(), self._loop)
        counters = await asyncio.wait_for(asyncio.wrap_future(asked), STATUS_SECONDS_MAX)
        return {"pid": os.getpid(), **counters}

    async def close(self) -> None:
        """Let the component close, if it serves anybody; the process goes on."""
        if isinstance(self._component, Serving):
            closing = asyncio.run_coroutine_threadsafe(self._component.close(), self._loop)
            await asyncio.wrap_future(closing)

    def _run(self, factory: str, config: bytes, number: int) -> None:
        asyncio.set_event_loop(self._loop)
        begun = monotonic()
        try:
            self._loop.run_until_complete(self._build_and_run(factory, config, number))
        except Exception as error:  # noqa: BLE001  # whatever it was, the process ends over it
            _log.exception("component_failed", factory=factory, error=type(error).__name__)
            self._component = None
            if monotonic() - begun < SOON_SECONDS:
                sleep(PAUSE_SECONDS)
        finally:
            # Ray restarts an actor whose process died, not one whose thread ended.
            os._exit(1)

    async def _build_and_run(self, factory: str, config: bytes, number: int) -> None:
        component = cast(Component, await load_factory(factory)(config, number))
        self._component = component
        calm_collector()
        await component.run()


class AskedProcess:
    """Something in a process of its own, asked by the names of its methods; nobody restarts it."""

    def __init__(self, factory: str, config: bytes) -> None:
        self._factory = factory
        self._config = config
        self._starting = asyncio.Lock()
        self._asked: Any = None  # what the factory builds

    async def ask(self, method: str, *given: Any) -> Any:  # noqa: ANN401 - as the method takes and gives
        """Call a method."""
        async with self._starting:
            if self._asked is None:
                self._asked = await load_factory(self._factory)(self._config)
                calm_collector()
        return await getattr(self._asked, method)(*given)


class AskFailed(Exception):
    """A process that was asked has died, or failed at it; the message names the class."""


class Asked:
    """The other end of an `AskedProcess`."""

    def __init__(self, factory: str, config: bytes) -> None:
        remote = ray.remote(AskedProcess)
        self._handle: Any = remote.options(num_cpus=0, max_concurrency=100).remote(factory, config)

    async def ask(self, method: str, *given: Any) -> Any:  # noqa: ANN401 - as the method takes and gives
        """Call a method over there. Raises `AskFailed`."""
        try:
            return await self._handle.ask.remote(method, *given)
        except RayError as error:
            raise AskFailed(type(error).__name__) from error

    def end(self) -> None:
        """End the process."""
        ray.kill(self._handle)


def start_ray(folder: str) -> None:
    """Start Ray on this machine, with its files in a folder; the driver is this process."""
    ray.init(
        address="local",
        _node_ip_address=LOOPBACK,
        namespace=NAMESPACE,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _temp_dir=folder,
    )


def stop_ray() -> None:
    """Stop Ray and every actor on it."""
    ray.shutdown()


@dataclass(frozen=True, slots=True)
class Part:
    """A process that Ray keeps alive, by its name in `koseki status`."""

    name: str
    handle: Any  # Ray's handles have no usable type
    may_serve: bool

    async def status(self, *, timeout_seconds: float) -> dict[str, Any]:
        """Ask how it is; `fault` names what went wrong with the asking."""
        try:
            asked = self.handle.status.remote()
            return cast(dict[str, Any], await asyncio.wait_for(asked, timeout_seconds))
        except (RayError, TimeoutError) as error:
            return {"fault": type(error).__name__}

    async def close(self, *, timeout_seconds: float) -> None:
        """Have it serve nobody any more, if it answers in time."""
        if self.may_serve:
            with suppress(RayError, TimeoutError):
                await asyncio.wait_for(self.handle.close.remote(), timeout_seconds)


def start_part(
    kind: type[HostProcess | ComponentProcess],
    name: str,
    *,
    actor_name: str,
    factory: str,
    config: bytes,
    number: int,
) -> Part:
    """Start an actor that Ray restarts for ever."""
    remote = ray.remote(kind)
    options = remote.options(
        name=actor_name, namespace=NAMESPACE, max_restarts=-1, num_cpus=0, max_concurrency=1_000
    )
    handle = options.remote(factory, config, number)
    return Part(name, handle, may_serve=kind is ComponentProcess)


def host_name(workspace: str, host: int) -> str:
    """Name the actor of a host."""
    return f"{workspace}/host/{host}"


class RayHostLink:
    """Carry batches to hosts by Ray calls."""

    def __init__(self, workspace: str) -> None:
        self._workspace = workspace
        self._handles: dict[int, Any] = {}

    async def execute(self, host: int, batch: bytes, *, slot: int, deadline: datetime) -> bytes:  # noqa: ARG002  # a host takes every slot
        """Call a host. Raises `HostUnavailable`."""
        left = (deadline - datetime.now(UTC)).total_seconds()
        try:
            call = self._handle(host).execute.remote(batch)
            return cast(bytes, await asyncio.wait_for(call, left))
        except (RayError, GetTimeoutError, TimeoutError, ValueError) as error:
            self._handles.pop(host, None)
            _log.warning("host_unavailable", host=host, error=type(error).__name__)
            raise HostUnavailable from error

    def _handle(self, host: int) -> Any:  # noqa: ANN401 - Ray's handles have no usable type
        if host not in self._handles:
            name = host_name(self._workspace, host)
            self._handles[host] = ray.get_actor(name, namespace=NAMESPACE)
        return self._handles[host]
