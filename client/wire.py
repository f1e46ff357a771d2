"""How both ends of gRPC are set up, and how a refused call's Kubernetes `Status` travels.

A dead or paused peer must be noticed within seconds, so clients ping and servers must permit it: a server without
`SERVER_OPTIONS` would cut off such clients for pinging too often.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio
import msgspec

from barque.api.errors import ApiError, outcome_unknown, too_large_entity, unavailable
from barque.api.types.meta_v1 import Status
from barque.client.system_errors import cannot_listen

STATUS_KEY = "barque-status-bin"
# The largest message: a batch of writes; a single object is bounded far below by the registry.
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
# A silent peer is dropped after KEEPALIVE + TIMEOUT. Clients leave a silent master within 3 s, the time within which
# another one leads; a master is in no hurry to drop a client.
KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS = 1_500, 1_500
SERVER_KEEPALIVE_MS, SERVER_KEEPALIVE_TIMEOUT_MS = 4_000, 3_000
CONNECT_TIMEOUT_MS = 3_000
MAX_BACKOFF_MS = 1_000


# What grpc.aio says of a call one of whose messages it could not send, whatever the peer has said (`client.endings`).
WRITE_FAILED = "Internal error from Core"


def _shared_options(keepalive_ms: int, timeout_ms: int) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", keepalive_ms),
        ("grpc.keepalive_timeout_ms", timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # Otherwise a ping that measures bandwidth may be under way when the peer stops, and be waited for a minute.
        ("grpc.http2.ping_timeout_ms", timeout_ms),
    ]


SERVER_OPTIONS: list[tuple[str, Any]] = [
    *_shared_options(SERVER_KEEPALIVE_MS, SERVER_KEEPALIVE_TIMEOUT_MS),
    # A client that was paused catches up on its pings; those of authenticated peers are no attack.
    ("grpc.http2.max_ping_strikes", 0),
    # Two servers on one port would share its connections silently; a taken port must be an error.
    ("grpc.so_reuseport", 0),
]


def channel_options(host: str) -> list[tuple[str, Any]]:
    """Options of a client channel whose server must show a certificate for `host`."""
    return [
        *_shared_options(KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS),
        ("grpc.ssl_target_name_override", host),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
        ("grpc.max_reconnect_backoff_ms", MAX_BACKOFF_MS),
        # Otherwise a channel made after a renewal would silently share the old connection and its old certificate.
        ("grpc.use_local_subchannel_pool", 1),
        # A proxy named in the environment is meant for the outside world, never for the cluster's own hosts.
        ("grpc.enable_http_proxy", 0),
    ]


def status_metadata(error: ApiError) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata of a refused call."""
    return ((STATUS_KEY, msgspec.json.encode(error.status())),)


def api_error(error: grpc.aio.AioRpcError, *, unsent: bool = True) -> ApiError:
    """The `ApiError` behind a failed call.

    `unsent` is False for a write that may have reached the master: then a broken connection or a missed deadline is
    504 "outcome unknown".
    """
    carried = carried_status(error.trailing_metadata() or ())
    if carried is not None:
        return ApiError.from_status(carried)
    code, why = error.code(), plain_reason(error.details() or "")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in (error.details() or ""):
        return too_large_entity(MAX_MESSAGE_BYTES)
    broke = is_broken(error) or code is grpc.StatusCode.CANCELLED
    if not unsent and (broke or code is grpc.StatusCode.DEADLINE_EXCEEDED):
        return outcome_unknown(why)
    if code is grpc.StatusCode.UNIMPLEMENTED and error.details() == _NO_METHOD:
        return ApiError(405, "MethodNotAllowed", _NO_DOOR)
    if broke:
        return unavailable(f"the connection to the master broke: {why}")
    http, reason = _CODES.get(code, (500, "InternalError"))
    return ApiError(http, reason, why or code.name)


def is_broken(error: grpc.aio.AioRpcError) -> bool:
    """Whether the connection or the stream is gone, and this is no refusal of the peer's."""
    if carried_status(error.trailing_metadata() or ()) is not None:
        return False
    details = error.details() or ""
    return error.code() is grpc.StatusCode.UNAVAILABLE or any(sign in details for sign in _CUT_STREAM)


def carried_status(metadata: Iterable[Any]) -> Status | None:
    """The Kubernetes Status in a call's trailing metadata, if there is one."""
    for key, value in metadata:
        if key == STATUS_KEY:
            return msgspec.json.decode(value, type=Status)
    return None


def is_undone(error: ApiError) -> bool:
    """Whether a master says that nothing was done and it may be tried elsewhere or again."""
    return error.code == 503 and error.details is not None and error.details.retryAfterSeconds is not None


def is_unknown(error: ApiError) -> bool:
    """Whether it may have been done, or may be yet."""
    return error.code == 504 and error.message.startswith(_UNKNOWN)


def listen(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials) -> int:
    """Have a server listen on `host:port` (port 0 picks a free one) and return the port. Raises `OSError`, which says
    what to do, where the address is not to be had.
    """
    try:
        port: int = server.add_secure_port(address, credentials)
    except RuntimeError:
        port = 0
    if not port:
        raise cannot_listen(address)
    return port


def plain_reason(details: str) -> str:
    """gRPC's account of a broken connection in a few words."""
    for sign, words in _SIGNS:
        if sign in details:
            return words
    return details.strip().splitlines()[0][:200] if details.strip() else "the connection broke"


# How `api.errors.outcome_unknown` begins.
_UNKNOWN = "outcome unknown"
# How gRPC's core words a message beyond the limit, at whichever end it was noticed.
_TOO_LARGE = "message larger than max"

# What a server of grpc.aio says that has no such method, and what that means to whoever has called.
_NO_METHOD = "Method not found!"
_NO_DOOR = (
    "what answers there is no master's door for clients, whose port is 7443 where nothing else was said (the masters' "
    "own is 7444), or its release knows no such call"
)
# How gRPC's core and grpc.aio, with codes of their own, word the end of a stream of which no status came.
_CUT_STREAM = (WRITE_FAILED, "RST_STREAM", "Stream removed")

_SIGNS = (
    ("Connection refused", "connection refused"),
    ("certificate is not yet valid", "its certificate is not valid yet by this machine's clock: set the clock"),
    ("certificate has expired", "its certificate has expired by this machine's clock: is the clock right?"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not of this cluster's CA"),
    ("Hostname Verification Check failed", "its certificate is not a master's"),
    ("Peer name", "its certificate is not a master's"),
    ("missing selected ALPN", "it is no gRPC port; a master's is 7443 where nothing else was said"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS"),
    ("handshake failed", "the TLS handshake failed"),
    ("No route to host", "no route to host"),
    ("Network is unreachable", "network is unreachable"),
    ("DNS resolution failed", "its name cannot be resolved"),
    ("Domain name not found", "its name cannot be resolved"),
    ("Name or service not known", "its name cannot be resolved"),
    ("Connection reset", "connection reset"),
    ("Socket closed", "connection closed"),
    ("GOAWAY", "connection closed"),
    ("keepalive", "it stopped answering"),
    ("ping timeout", "it stopped answering"),
    ("imeout", "no answer in time"),
    ("Deadline Exceeded", "no answer in time"),
    # Last, as what made an end of the stream is said beside it.
    (WRITE_FAILED, "the stream was ended before all had been sent"),
    ("RST_STREAM", "the stream was cut off"),
    ("Stream removed", "the stream was cut off"),
)

_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: (400, "BadRequest"),
    grpc.StatusCode.UNAUTHENTICATED: (401, "Unauthorized"),
    grpc.StatusCode.PERMISSION_DENIED: (403, "Forbidden"),
    grpc.StatusCode.NOT_FOUND: (404, "NotFound"),
    grpc.StatusCode.UNIMPLEMENTED: (405, "MethodNotAllowed"),
    grpc.StatusCode.ALREADY_EXISTS: (409, "AlreadyExists"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (429, "TooManyRequests"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (504, "Timeout"),
}
