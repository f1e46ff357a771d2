"""How the messages of the gRPC door are read and written, below the services: what generated code would do otherwise.

* A request that is no message of its kind (cut short, or of another protocol) is refused with 400 by whichever handler
  looks into it; generated code would leave it to gRPC, which tells the caller nothing and logs a traceback.
* Services whose streams are bytes already say so, and nothing encodes them a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from barque.api.errors import bad_request

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class UnreadableMessage:
    """Stands for a request that cannot be read: to look into it raises 400, inside the handler that answers the call.

    A handler that looks at nothing, as that of a request without fields, is right to go on.
    """

    def __init__(self, why: str) -> None:
        self._why = why

    def __getattr__(self, name: str) -> Any:
        raise bad_request(f"the request cannot be read: {self._why}")


class Registrar:
    """A server as the `add_…_to_server` of generated code sees it.

    `encoded_streams` says that the service answers its streams with messages that are bytes already.
    """

    def __init__(self, server: grpc.aio.Server, *, encoded_streams: bool = False) -> None:
        self._server = server
        self._encoded_streams = encoded_streams

    def add_generic_rpc_handlers(self, generic: object) -> None:
        """Generated code registers the same handlers twice; the ones by name are the ones that count."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        lenient = {name: self._lenient(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, lenient),))

    def _lenient(self, handler: Handler) -> Handler:
        sort, behaviour, make = _behaviour(handler)
        encoded = self._encoded_streams and sort == "unary_stream"
        serializer = None if encoded else handler.response_serializer
        return make(behaviour, _reader(handler.request_deserializer), serializer)


def _reader(read: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    assert read is not None

    def read_leniently(data: bytes) -> Any:
        try:
            return read(data)
        except DecodeError as unreadable:
            return UnreadableMessage(str(unreadable))

    return read_leniently


def _behaviour(handler: Handler) -> tuple[str, Any, Callable[..., Handler]]:
    """Which of gRPC's four sorts the handler is, what it does, and how one of its sort is made."""
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return "unary_unary", handler.unary_unary, grpc.unary_unary_rpc_method_handler
        case False, True:
            return "unary_stream", handler.unary_stream, grpc.unary_stream_rpc_method_handler
        case True, False:
            return "stream_unary", handler.stream_unary, grpc.stream_unary_rpc_method_handler
        case _:
            return "stream_stream", handler.stream_stream, grpc.stream_stream_rpc_method_handler
