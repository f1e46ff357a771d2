"""`EtcdClient`: the calls of etcd's v3 gRPC API that the engine needs, over all endpoints, each with a timeout.

A call that no endpoint answers raises `EtcdAwayError`, and may have been carried out all the same: the engine makes
every write depend on the newest one (see `layout`), so that a call made twice is carried out once. Calls and watches
ask for a member that has a leader (etcd's `hasleader`): one that is cut off from the others refuses, instead of falling
silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

from barque.proto import etcd_pb2 as pb
from barque.proto import etcd_pb2_grpc

T = TypeVar("T")

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A connection that is cut without a word is noticed; etcd admits a ping every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    # gRPC's own back-off would grow to two minutes after etcd has come back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    # A proxy of the environment is for the way out to the Internet.
    ("grpc.enable_http_proxy", 0),
)
_METADATA = (("hasleader", "true"),)

# What gRPC says where TLS does not come about, and what that means here. The last is an alert after the handshake.
_NO_TLS = (
    ("certificate has expired", "its certificate has expired by this machine's clock"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not one of --etcd-ca"),
    ("Hostname Verification Check failed", "its certificate is not good for this address"),
    ("_ALERT_", "it does not take this master's certificate (--etcd-cert, --etcd-key)"),
    ("TSI_DATA_CORRUPTED", "it does not take this master's certificate (--etcd-cert, --etcd-key)"),
)

# What is wrong, within what gRPC says of a connection that does not come about.
_LAST_ERROR = re.compile(r"last error: [A-Z_]+: (?:\w+:\S+: )?(.+)", re.DOTALL)

# etcd's own words where it refuses a request for good; nothing of such a request was carried out.
_TOO_LARGE = ("request is too large", "message larger than max")
_REFUSALS = (
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
)


class EtcdError(Exception):
    """A call to etcd that has no answer to go on with."""


class EtcdAwayError(EtcdError):
    """No endpoint has answered; what was asked may have been done."""


class EtcdUntrustedError(EtcdAwayError):
    """At no endpoint does TLS come about, which waiting does not change."""


class EtcdRefusedError(EtcdError):
    """etcd refuses the request, and nothing of it was done: no permission, too large, … Out of space it may have been
    done: etcd carries out the transaction that uses up the last of it.
    """


class TooLargeError(EtcdRefusedError):
    """The request is larger than etcd's `--max-request-bytes`."""


class CompactedError(EtcdError):
    """etcd has forgotten the revision; `revision` is the oldest it knows, 0 where it did not say."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"etcd's history begins at its revision {revision}")
        self.revision = revision


@dataclass(frozen=True)
class Endpoints:
    """Where etcd is: `http://host:port` or `https://host:port`, with PEM files for TLS; without `ca` the system's
    authorities count. `call_s` is the time one endpoint has to answer.
    """

    urls: tuple[str, ...]
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    call_s: float = 2.0

    def targets(self) -> list[str]:
        """`host:port` of each. Raises `ValueError` for what is none, or a mixture of http and https."""
        found = []
        for url in self.urls:
            scheme, _, target = url.partition("://")
            if scheme not in ("http", "https") or not target.rpartition(":")[2].isdigit() or "/" in target:
                raise ValueError(f"{url!r} is no endpoint of etcd: it must look like https://10.0.0.1:2379")
            found.append(target)
        if not found:
            raise ValueError("etcd needs at least one endpoint, such as https://10.0.0.1:2379")
        if len({url.partition("://")[0] for url in self.urls}) > 1:
            raise ValueError("etcd's endpoints must be all http or all https")
        if bool(self.cert) != bool(self.key):
            raise ValueError("etcd's client certificate and its key are given together")
        return found

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None without TLS. Raises `OSError`, and `ValueError` for files that are not what they should be."""
        if not self.urls[0].startswith("https://"):
            return None

        def read(file: Path | None) -> bytes | None:
            return file.read_bytes() if file else None

        ca, key, cert = read(self.ca), read(self.key), read(self.cert)
        # gRPC would say no more than that it fails.
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
        except ssl.SSLError as e:
            files = ", ".join(str(file) for file in (self.ca, self.cert, self.key) if file)
            raise ValueError(f"what is in {files} makes no TLS with etcd: {e.reason or e}") from e
        return grpc.ssl_channel_credentials(ca, key, cert)


class _Endpoint:
    """One of them: its channel and its stubs."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.target = target
        self.channel: grpc.aio.Channel = (
            grpc.aio.insecure_channel(target, options=_OPTIONS)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
        )
        self.kv: Any = etcd_pb2_grpc.KVStub(self.channel)
        self.watch: Any = etcd_pb2_grpc.WatchStub(self.channel)
        self.lease: Any = etcd_pb2_grpc.LeaseStub(self.channel)
        self.maintenance: Any = etcd_pb2_grpc.MaintenanceStub(self.channel)


class EtcdClient:
    """Stays with one endpoint while it answers, then goes on to the next. Made on a running event loop."""

    def __init__(self, endpoints: Endpoints) -> None:
        """Raises `ValueError` and `OSError` as `Endpoints` does."""
        targets, credentials = endpoints.targets(), endpoints.credentials()
        self._endpoints = [_Endpoint(target, credentials) for target in targets]
        self._call_s = endpoints.call_s
        self._current = 0

    async def range(self, request: pb.RangeRequest) -> pb.RangeResponse:
        return await self._ask(lambda at: at.kv.Range(request, timeout=self._call_s, metadata=_METADATA))

    async def txn(self, request: pb.TxnRequest) -> pb.TxnResponse:
        return await self._ask(lambda at: at.kv.Txn(request, timeout=self._call_s, metadata=_METADATA))

    async def compact(self, revision: int) -> None:
        """Let etcd forget what was superseded before its `revision`. Raises `CompactedError` where it has already."""
        request = pb.CompactionRequest(revision=revision)
        await self._ask(lambda at: at.kv.Compact(request, timeout=self._call_s, metadata=_METADATA))

    async def status(self) -> pb.StatusResponse:
        return await self._ask(lambda at: at.maintenance.Status(pb.StatusRequest(), timeout=self._call_s))

    async def grant(self, ttl_s: int) -> tuple[int, int]:
        """A new lease: its id, and the seconds that etcd has given it."""
        request = pb.LeaseGrantRequest(TTL=ttl_s)
        reply = await self._ask(lambda at: at.lease.LeaseGrant(request, timeout=self._call_s, metadata=_METADATA))
        return reply.ID, reply.TTL

    async def revoke(self, lease: int) -> None:
        """End it, and remove its keys; one that has ended already is fine."""
        request = pb.LeaseRevokeRequest(ID=lease)
        with contextlib.suppress(EtcdRefusedError):
            await self._ask(lambda at: at.lease.LeaseRevoke(request, timeout=self._call_s, metadata=_METADATA))

    async def keep_alive(self, lease: int) -> int:
        """Renew it; the seconds it lasts from now on, 0 where it has ended."""

        async def renew(at: _Endpoint) -> int:
            call = at.lease.LeaseKeepAlive(timeout=self._call_s, metadata=_METADATA)
            try:
                await call.write(pb.LeaseKeepAliveRequest(ID=lease))
                reply = await call.read()
                return 0 if reply is grpc.aio.EOF else max(0, reply.TTL)
            finally:
                call.cancel()

        return await self._ask(renew)

    async def watch(self, key: bytes, range_end: bytes, start: int) -> AsyncIterator[pb.WatchResponse]:
        """What happens to the keys from etcd's revision `start` on; the first response says that the watch stands.

        Raises `CompactedError` where the start is forgotten, and `EtcdAwayError` when it ends for any other reason.
        """
        number, at = self._current, self._endpoints[self._current]
        call = at.watch.Watch(metadata=_METADATA)
        create = pb.WatchCreateRequest(key=key, range_end=range_end, start_revision=start, fragment=True)
        try:
            async with asyncio.timeout(self._call_s):
                await call.write(pb.WatchRequest(create_request=create))
                response = await call.read()
            while response is not grpc.aio.EOF:
                if response.canceled:
                    if response.compact_revision:
                        raise CompactedError(response.compact_revision)
                    raise EOFError(response.cancel_reason)
                yield response
                response = await call.read()
            raise EOFError("its end")
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError, EOFError) as e:
            if self._current == number:
                self.turn()
            raise EtcdAwayError(f"the watch at {at.target} ended: {_said(e)}") from e
        finally:
            call.cancel()

    def turn(self) -> None:
        """Go on to the next endpoint: this one answers, but is behind."""
        self._current = (self._current + 1) % len(self._endpoints)

    async def close(self) -> None:
        for at in self._endpoints:
            await at.channel.close()

    async def _ask(self, call: Callable[[_Endpoint], Awaitable[T]]) -> T:
        """Ask the endpoints in turn, each once."""
        failures: list[str] = []
        untrusted = 0
        for _ in self._endpoints:
            number, at = self._current, self._endpoints[self._current]
            try:
                return await call(at)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as e:
                refusal = _refusal(e) if isinstance(e, grpc.aio.AioRpcError) else None
                # After an answer that did not come, a refusal says nothing of what the first endpoint has done.
                if refusal is not None and not failures:
                    raise refusal from e
                no_tls = _no_tls(e)
                untrusted += bool(no_tls)
                failures.append(f"{at.target}: {no_tls or _said(e)}")
            if self._current == number:
                self.turn()
        if untrusted == len(failures):
            raise EtcdUntrustedError(f"no TLS with etcd at {'; '.join(failures)}")
        raise EtcdAwayError(f"etcd does not answer at {'; '.join(failures)}")


def _refusal(error: grpc.aio.AioRpcError) -> EtcdError | None:
    """What etcd itself has said no with, so that no other endpoint would say otherwise; None where it has not."""
    code, details = error.code(), error.details() or ""
    if code == grpc.StatusCode.OUT_OF_RANGE and "compacted" in details:
        return CompactedError(0)
    if any(words in details for words in _TOO_LARGE):
        return TooLargeError(details)
    return EtcdRefusedError(details) if code in _REFUSALS else None


def _no_tls(error: BaseException) -> str:
    """Why TLS does not come about; "" where that is not what is wrong."""
    details = (error.details() or "") if isinstance(error, grpc.aio.AioRpcError) else ""
    return next((meaning for words, meaning in _NO_TLS if words in details), "")


def _said(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        details = str(error.details() or error.code().name).strip()
        told = _LAST_ERROR.search(details)
        return _no_tls(error) or (told[1] if told else details)
    return "no answer in time" if isinstance(error, TimeoutError) else str(error)
