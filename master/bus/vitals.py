"""How a nats-server is: what its supervisor asks it every few seconds, over a connection in the system account.

A server may be alive and yet of no use: paused, wedged, without a leader, its JetStream stopped by a disk that refused
a write. `read_vitals` makes one value of its answers; `Probe` gets them. The probe's certificate is made anew at each
start and trusted by this master's own server alone, so that nobody else is in the system account.
"""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Awaitable
from typing import NamedTuple, TypeVar

import msgspec
import nats.errors
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from nats.aio.client import Client as NatsClient

from barque.client.pki import CA_LIFE, CLOCK_SKEW, MASTER_HOST, Identity
from barque.master.bus.config import SUPERVISOR
from barque.master.bus.link import BusAwayError, close_connection, obeying, open_connection
from barque.master.bus.topology import Topology

T = TypeVar("T")

# What HEALTHZ says where JetStream will not write again before a restart.
_FATAL = ("write error", "not enabled", "disabled")


class Vitals(NamedTuple):
    """`hurt` says why JetStream has stopped working here, "" where it works. `leader` is the name of the server that
    leads JetStream, "" where none does or none is needed; `peers` are all that JetStream counts as its own; `away` are
    the servers to which there is no route.
    """

    hurt: str = ""
    leader: str = ""
    peers: tuple[str, ...] = ()
    away: tuple[str, ...] = ()

    def fault(self, topology: Topology) -> str:
        """What is wrong, in one sentence, or ""."""
        if self.hurt:
            return f"JetStream has stopped: {self.hurt}"
        masters = {place.name: place.master for place in topology.servers}
        away = [masters[name] for name in self.away if name in masters]
        if away:
            whose = " and ".join(f"{name}'s" for name in away)
            return f"{whose} nats-server {'is' if len(away) == 1 else 'are'} away"
        if topology.clustered and not self.leader:
            return "JetStream has no leader"
        return ""


class _Peer(msgspec.Struct):
    name: str = ""


class _Meta(msgspec.Struct):
    leader: str = ""
    replicas: list[_Peer] = []


class _JetStream(msgspec.Struct):
    disabled: bool = False
    meta_cluster: _Meta | None = None


class _Health(msgspec.Struct):
    error: str = ""


class _Route(msgspec.Struct):
    remote_name: str = ""


class _Routes(msgspec.Struct):
    routes: list[_Route] = []


class _Answer(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"{}")


def read_vitals(topology: Topology, jsz: bytes, healthz: bytes, routez: bytes) -> Vitals:
    """Of the server's answers to `JSZ`, `HEALTHZ` and `ROUTEZ` what its supervisor needs. Raises `BusAwayError`."""
    try:
        jetstream = _data(jsz, _JetStream)
        error = _data(healthz, _Health).error
        routes = {route.remote_name for route in _data(routez, _Routes).routes}
    except msgspec.DecodeError as wrong:
        raise BusAwayError(f"the server's answer cannot be read: {wrong}") from wrong
    hurt = error if any(sign in error for sign in _FATAL) else ""
    if jetstream.disabled and not hurt:
        hurt = "it is disabled"
    meta = jetstream.meta_cluster or _Meta()
    peers = tuple(sorted({peer.name for peer in meta.replicas}))
    away = tuple(place.name for place in topology.others if place.name not in routes)
    return Vitals(hurt, meta.leader, peers, away)


def _data(answer: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(msgspec.json.decode(answer, type=_Answer).data, type=kind)


class Probe:
    """Asks this master's own server at `address`, as `identity`, over one connection that is made when needed."""

    def __init__(self, address: str, identity: Identity, timeout_s: float) -> None:
        self._url = f"tls://{address}"
        self._identity = identity
        self._timeout_s = timeout_s
        self._connection: NatsClient | None = None

    @property
    def certificate_pem(self) -> bytes:
        """What the server must trust for the probe to come in."""
        return self._identity.cert_pem

    async def vitals(self, topology: Topology) -> Vitals:
        """Raises `BusAwayError` where the server does not answer in time."""
        return await self._in_time(self._vitals(topology))

    async def remove_peer(self, name: str) -> None:
        """Have JetStream forget a server that is gone for good. Raises `BusAwayError` where it does not."""
        reply = await self._in_time(self._request("$JS.API.SERVER.REMOVE", json.dumps({"peer": name}).encode()))
        said = json.loads(reply)
        if not said.get("success"):
            raise BusAwayError(str(said.get("error", {}).get("description", "JetStream does not say why")))

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await close_connection(connection)

    async def _vitals(self, topology: Topology) -> Vitals:
        connection = await self._connected()
        server = connection._server_info["server_id"]
        jsz, healthz, routez = [
            await self._request(f"$SYS.REQ.SERVER.{server}.{what}") for what in ("JSZ", "HEALTHZ", "ROUTEZ")
        ]
        return read_vitals(topology, jsz, healthz, routez)

    async def _request(self, subject: str, payload: bytes = b"") -> bytes:
        connection = await self._connected()
        return (await connection.request(subject, payload, timeout=self._timeout_s)).data

    async def _connected(self) -> NatsClient:
        if self._connection is None or not self._connection.is_connected:
            await self.close()
            options = {"tls": self._identity.client_context(), "tls_hostname": MASTER_HOST}
            self._connection = await open_connection(self._url, options, asyncio.Event())
        return self._connection

    async def _in_time(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await obeying(work)
        except TimeoutError:
            await self.close()
            raise BusAwayError(f"it did not answer within {self._timeout_s:g} s") from None
        except BusAwayError:
            await self.close()
            raise
        except (nats.errors.Error, OSError, ValueError) as error:
            await self.close()
            raise BusAwayError(str(error) or type(error).__name__) from error


def supervisor_identity(ca_pem: bytes, now: datetime.datetime) -> Identity:
    """A fresh certificate of the supervisor's own making; servers are still checked against the cluster's CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SUPERVISOR.name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + CA_LIFE)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Identity(certificate.public_bytes(serialization.Encoding.PEM), key_pem, ca_pem)
