"""All methods of a server, made ready once and found by name, and what stands before each of them.

gRPC asks for the method of every call, and an interceptor would be a chain of coroutines for each.
Here generated code registers what it would register with the server (`add_..._to_server`), and each
call is one look into a table. Requests are decoded here, so that what is no message of the contract
has a status and a reason like all other faults: gRPC itself would say only UNKNOWN. Whatever a
method raises ends its call with the status of `errors.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, NewType, NoReturn

import grpc
from google.protobuf.message import DecodeError

from domain.errors import Invalid
from services.errors import CallContext, end_with
from services.exchanges import ExchangeEnded, ExchangeLimits

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # the messages' types are the method's own

Encoded = NewType("Encoded", bytes)
"""An answer that is encoded already: a method may give it in place of its message."""


class Methods(grpc.GenericRpcHandler):
    """The methods by name. Stands in for the server where services are added to it."""

    def __init__(self, limits: ExchangeLimits) -> None:
        self._limits = limits
        self._by_name: dict[str, Handler] = {}

    def add_registered_method_handlers(
        self, service: str, method_handlers: Mapping[str, Handler]
    ) -> None:
        """Take the methods of a service."""
        for name, handler in method_handlers.items():
            self._by_name[f"/{service}/{name}"] = self._made_ready(handler)

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Take nothing: the same methods come by name."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Find the method of a call."""
        return self._by_name.get(handler_call_details.method)

    def _made_ready(self, handler: Handler) -> Handler:
        decoding, encode = _Decoding(handler, self._limits), _encoding(handler)
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                decoding.exchange, response_serializer=encode
            )
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(decoding.answer, response_serializer=encode)
        if iscoroutinefunction(handler.unary_stream):
            return handler  # the health service's own `Watch`: it writes its answers itself
        return grpc.unary_stream_rpc_method_handler(decoding.answers, response_serializer=encode)


def _encoding(handler: Handler) -> Callable[[Any], bytes]:
    to_bytes: Any = handler.response_serializer

    def encode(answer: Any) -> bytes:  # noqa: ANN401 - a message
        return answer if type(answer) is bytes else to_bytes(answer)

    return encode


class _Decoding:
    def __init__(self, handler: Handler, limits: ExchangeLimits) -> None:
        self._from_bytes: Any = handler.request_deserializer
        self._method: Any = handler.unary_unary or handler.unary_stream or handler.stream_stream
        self._limits = limits

    async def answer(self, encoded: bytes, context: CallContext) -> Any:  # noqa: ANN401 - a message
        """Decode and go on."""
        try:
            return await self._method(self._decode(encoded), context)
        except Exception as error:  # noqa: BLE001  # each has a status
            await self._end(error, context)

    async def answers(self, encoded: bytes, context: CallContext) -> AsyncIterator[Any]:
        """Decode and go on with a stream."""
        try:
            async with aclosing(self._method(self._decode(encoded), context)) as responses:
                async for response in responses:
                    yield response
        except Exception as error:  # noqa: BLE001  # each has a status
            await self._end(error, context)

    async def exchange(self, _: object, context: CallContext) -> None:
        """Decode and go on with a stream of requests; wait only so long for who takes no answer."""
        try:
            async with (
                aclosing(self._requests(context)) as requests,
                aclosing(self._method(requests, context)) as responses,
            ):
                async for response in responses:
                    await self._write(response, context)
        except Exception as error:  # noqa: BLE001  # each has a status
            await self._end(error, context)

    async def _write(self, response: Any, context: CallContext) -> None:  # noqa: ANN401 - a message
        try:
            async with asyncio.timeout(self._limits.stalled_seconds):
                await context.write(response)
        except TimeoutError:
            text = "an answer was not taken for too long"
            raise ExchangeEnded("STREAM_STALLED", text) from None

    async def _requests(self, context: CallContext) -> AsyncGenerator[Any, None]:
        while (encoded := await context.read()) is not grpc.aio.EOF:
            yield self._decode(encoded)

    def _decode(self, encoded: bytes) -> Any:  # noqa: ANN401 - a message
        try:
            return self._from_bytes(encoded)
        except DecodeError:
            raise Invalid("INVALID_FIELD", "the request is not a message of the contract") from None

    async def _end(self, error: Exception, context: CallContext) -> NoReturn:
        """End the call with the error's status, if nobody has ended it."""
        if isinstance(error, (grpc.aio.AbortError, grpc.RpcError)):
            raise error
        await end_with(error, context, self._method.__name__)
