"""Answer requests that are no message of the contract: gRPC itself would say only UNKNOWN.

Stands before every method of the server. Decoding happens here, so that its faults have a status
and a reason like all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from domain.errors import Invalid
from services.errors import CallContext, translated, translated_stream
from services.exchanges import ExchangeEnded, ExchangeLimits

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # the messages' types are the method's own


class DecodingInterceptor(grpc.aio.ServerInterceptor):
    """Decode the requests of every method."""

    def __init__(self, limits: ExchangeLimits) -> None:
        self._limits = limits
        self._decoding: dict[Any, Handler] = {}
        """By the method, of which there are as many as the server has: each call asks anew."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Give the method, taking bytes."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        method = _method_of(handler)
        if method is None:
            return handler
        if method not in self._decoding:
            self._decoding[method] = self._made(handler)
        return self._decoding[method]

    def _made(self, handler: Handler) -> Handler:
        decoding = _Decoding(handler, self._limits)
        to_bytes = handler.response_serializer
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                decoding.exchange, response_serializer=to_bytes
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                decoding.answers, response_serializer=to_bytes
            )
        return grpc.unary_unary_rpc_method_handler(decoding.answer, response_serializer=to_bytes)


def _method_of(handler: Handler) -> Any:  # noqa: ANN401 - of one of three shapes
    return handler.unary_unary or handler.unary_stream or handler.stream_stream


class _Decoding:
    def __init__(self, handler: Handler, limits: ExchangeLimits) -> None:
        self._from_bytes: Any = handler.request_deserializer
        self._method: Any = _method_of(handler)
        self._limits = limits

    @translated
    async def answer(self, encoded: bytes, context: CallContext) -> Any:  # noqa: ANN401 - a message
        """Decode and go on."""
        return await self._method(self._decode(encoded), context)

    @translated_stream
    async def answers(self, encoded: bytes, context: CallContext) -> AsyncIterator[Any]:
        """Decode and go on with a stream."""
        answers = self._method(self._decode(encoded), context)
        async with aclosing(answers) as responses:
            async for response in responses:
                yield response

    @translated
    async def exchange(self, _: object, context: CallContext) -> None:
        """Decode and go on with a stream of requests; wait only so long for who takes no answer."""
        async with (
            aclosing(self._requests(context)) as requests,
            aclosing(self._method(requests, context)) as responses,
        ):
            async for response in responses:
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
