"""What a machine does to join: fetch the CA, check it against the pin, then ask for a certificate over verified TLS.

Nothing secret is sent before the pin is checked: the token goes only to a master of the pinned CA. A worker's joining
is here whole (`join`); a master's adds its own request and reply to the same way in (`ask`).
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, NamedTuple, TypeVar

import aiohttp
import msgspec

from barque.api.types.meta_v1 import Status
from barque.client import pki
from barque.client.pki import MASTER_HOST, Identity, PkiError
from barque.client.profile import DEFAULT_GRPC_PORT, normal_address

DEFAULT_HTTPS_PORT = 6443
TIMEOUT_S = 20.0
_CONNECT_TIMEOUT_S = 5.0
_MAX_ANSWER_BYTES = 64 * 1024


T = TypeVar("T")

JOIN_PATH = "/barque/v1/join"
# What OpenSSL says where one of the two clocks is off.
_CLOCK_SIGNS = ("certificate is not yet valid", "certificate has expired")


class JoinError(Exception):
    """Why the join failed, in one sentence. `undecided`: the master may have let this machine in nevertheless."""

    def __init__(self, why: str, *, undecided: bool = False) -> None:
        super().__init__(why)
        self.undecided = undecided


class Answer(NamedTuple):
    """What a master said: the decoded reply, the CA that was checked, and the master's address `host:port`."""

    reply: Any
    ca_pem: bytes
    master: str


class Joined(NamedTuple):
    """A worker's identity, and the masters' gRPC doors as `host:port`."""

    identity: Identity
    masters: list[str]
    cluster: str


class _Reply(msgspec.Struct):
    certificate: str
    masters: list[str] = []
    cluster: str = "barque"


async def join(address: str, token: str, ca_pin: str, node: str) -> Joined:
    """Join as `node` at the HTTPS door `host[:port]` of any master. Raises `JoinError`."""
    try:
        request = pki.create_request(pki.node_subject(node))
    except PkiError as error:
        raise JoinError(str(error)) from error
    body = {"token": token.strip(), "csr": request.csr_pem.decode(), "node": node}
    answer = await ask(address, ca_pin, JOIN_PATH, msgspec.json.encode(body), _Reply)
    reply: _Reply = answer.reply
    identity = Identity(reply.certificate.encode(), request.key_pem, answer.ca_pem)
    try:
        identity.check("the certificate from the master")
    except PkiError as error:
        raise JoinError(str(error)) from error
    host = answer.master.rpartition(":")[0]
    return Joined(identity, reply.masters or [f"{host}:{DEFAULT_GRPC_PORT}"], reply.cluster)


async def ask(address: str, ca_pin: str, path: str, body: bytes, reply: type[Any]) -> Answer:
    """Post `body` (JSON) to the HTTPS door `host[:port]` of a master of the pinned CA; the answer is a `reply`. Raises
    `JoinError`.
    """
    try:
        master = normal_address(address, DEFAULT_HTTPS_PORT)
    except ValueError as error:
        raise JoinError(str(error)) from error
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S)
    sent = False
    try:
        async with aiohttp.ClientSession(f"https://{master}", timeout=timeout) as session:
            ca_pem = await _fetch_ca(session, master, ca_pin)
            sent = True
            return Answer(await _post(session, ca_pem, path, body, reply), ca_pem, master)
    except aiohttp.ClientSSLError as error:
        raise JoinError(_tls_failure(master, str(error))) from error
    except aiohttp.ClientConnectorError as error:
        raise JoinError(_unreachable(master, error.os_error)) from error
    except (TimeoutError, asyncio.IncompleteReadError) as error:
        raise JoinError(f"the master at {master} did not answer within {TIMEOUT_S:.0f} s", undecided=sent) from error
    except aiohttp.ClientError as error:
        raise JoinError(f"the connection to the master at {master} broke: {error}", undecided=sent) from error


def _unreachable(master: str, error: OSError) -> str:
    """asyncio words a refused connection by the address alone, a name that is not known by the resolver's number."""
    known = error.errno is not None and error.errno > 0
    why = os.strerror(error.errno or 0).lower() if known else (error.strerror or str(error)).lower()
    return f"cannot reach the master at {master}: {why}; is the address right, and does a master run there?"


def _tls_failure(master: str, error: str) -> str:
    sign = next((sign for sign in _CLOCK_SIGNS if sign in error), "")
    if sign:
        return f"the master at {master}: its {sign} by this machine's clock: set the clock of the one that is wrong"
    return f"the master at {master} does not speak TLS as a master of this cluster: {error}"


async def _fetch_ca(session: aiohttp.ClientSession, master: str, ca_pin: str) -> bytes:
    """The master's CA, fetched without trust and trusted only once it matches the pin."""
    async with session.get("/cacerts", ssl=False) as answer:
        ca_pem = await _bounded(answer)
    if answer.status != 200:
        raise JoinError(f"{master} answers, but not as a Barque master (HTTP {answer.status} for its CA)")
    try:
        matches = pki.pin_matches(ca_pem, ca_pin)
    except PkiError as error:
        raise JoinError(f"{master} answers, but not as a Barque master: its CA is {error}") from error
    if not matches:
        raise JoinError(
            f"the CA of the master at {master} is {pki.pin_of(ca_pem)}, not the pinned {ca_pin.strip() or '(none)'}: "
            "wrong cluster, wrong --ca-pin, or somebody in between"
        )
    return ca_pem


async def _post(session: aiohttp.ClientSession, ca_pem: bytes, path: str, body: bytes, reply: type[T]) -> T:
    trusted = pki.trust(ca_pem)
    headers = {"content-type": "application/json"}
    async with session.post(path, data=body, headers=headers, ssl=trusted, server_hostname=MASTER_HOST) as answer:
        text = await _bounded(answer)
    try:
        if answer.status == 200:
            return msgspec.json.decode(text, type=reply)
        why = msgspec.json.decode(text, type=Status).message
    except msgspec.DecodeError as error:
        why = f"the master's answer cannot be understood (HTTP {answer.status})"
        raise JoinError(why, undecided=True) from error
    raise JoinError(f"the master refuses: {why}", undecided=answer.status >= 500)


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in answer.content.iter_chunked(8192):
        data += chunk
        if len(data) > _MAX_ANSWER_BYTES:
            raise JoinError("the answer is far larger than a master's would be")
    return bytes(data)
