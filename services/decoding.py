"""Answer requests that are no message of the contract: gRPC itself would say only UNKNOWN.

Stands before every method of the server. Decoding happens here, so that its faults have a status
and a reason like all others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from domain.errors import Invalid
from services.errors import CallContext, translated, translated_stream

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # the messages' types are the method's own


class DecodingInterceptor(grpc.aio.ServerInterceptor):
    """Decode the requests of methods that take one message."""

    def __init__(self) -> None:
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
        method = handler.unary_unary or handler.unary_stream
        if method is None:
            return handler
        if method not in self._decoding:
            self._decoding[method] = self._made(handler)
        return self._decoding[method]

    @staticmethod
    def _made(handler: Handler) -> Handler:
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                _Decoding(handler).answers, response_serializer=handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            _Decoding(handler).answer, response_serializer=handler.response_serializer
        )


class _Decoding:
    def __init__(self, handler: Handler) -> None:
        self._from_bytes: Any = handler.request_deserializer
        self._method: Any = handler.unary_unary or handler.unary_stream

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

    def _decode(self, encoded: bytes) -> Any:  # noqa: ANN401 - a message
        try:
            return self._from_bytes(encoded)
        except DecodeError:
            raise Invalid("INVALID_FIELD", "the request is not a message of the contract") from None
