"""Who calls at the REST door, over real TLS: certificates, tokens, nobody; and under which names pods meet a master."""

from __future__ import annotations

import base64
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from barque.api.errors import ApiError
from barque.client import pki
from barque.client.clock import SystemClock
from barque.master.apiserver.rest.callers import Callers
from barque.master.apiserver.rest.door import RestDoor
from barque.master.apiserver.rest.issuer import CONFIGURATION_PATH, KEYS_PATH, issuer_paths
from barque.master.auth.authentication import Authenticator
from barque.master.auth.ca import MasterPki
from barque.master.controllers.kubernetesservice import certificate_names
from tests.support.memory_store import Bench, a_bench, target
from tests.support.rest import served

NAMES = certificate_names(ipaddress.IPv4Network("10.96.0.0/12"))


class Shore:
    """A door that answers with the name of whoever calls."""

    def __init__(self, bench: Bench, directory: Path) -> None:
        self.bench = bench
        environment = bench.registry.environment
        self.now = SystemClock().wall()
        self.pki = MasterPki.open(directory, "m1", ["127.0.0.1", *NAMES], self.now)
        authenticator = Authenticator(environment.tokens, environment.objects, bench.clock)
        self._callers = Callers(authenticator, environment.authorizer, bench.clock)
        self.door = RestDoor(self._answer)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            sender = await self._callers.sender(request)
            return web.Response(text=(await self._callers.acting(sender, request)).name)
        except ApiError as error:
            return web.Response(status=error.code, text=error.message)

    async def call(
        self, identity: pki.Identity | None = None, name: str = "127.0.0.1", **headers: str
    ) -> tuple[int, str]:
        context = identity.client_context() if identity else pki.trust(self.pki.ca_pem)
        context.load_verify_locations(cadata=self.pki.ca_pem.decode())
        url = f"https://127.0.0.1:{self.door.port}/"
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, ssl=context, server_hostname=name, headers=sent) as answer,
        ):
            return answer.status, await answer.text()


@pytest.fixture
async def shore(tmp_path: Path) -> AsyncIterator[Shore]:
    bench = await a_bench()
    await bench.create("serviceaccounts", {"metadata": {"name": "robot"}})
    made = Shore(bench, tmp_path)
    async with served(made.door, made.pki.master.server_context()):
        yield made


async def a_token(bench: Bench) -> str:
    answer = await bench.admin.create(target("serviceaccounts", "robot", "default", "token"), b"{}")
    return str(msgspec.json.decode(answer)["status"]["token"])


async def test_certificate_token_or_nobody(shore: Shore) -> None:
    admin, token = shore.pki.admin, await a_token(shore.bench)
    assert await shore.call() == (200, "system:anonymous")
    assert await shore.call(admin) == (200, "barque-admin")
    assert await shore.call(admin, Authorization="Bearer bad") == (200, "barque-admin")
    assert await shore.call(Authorization=f"Bearer {token}") == (200, "system:serviceaccount:default:robot")
    assert await shore.call(Authorization="Bearer bad") == (401, "Unauthorized")
    hidden = base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()
    protocols = f"base64url.bearer.authorization.k8s.io.{hidden}, v4.channel.k8s.io"
    assert await shore.call(Sec_WebSocket_Protocol=protocols) == (200, "system:serviceaccount:default:robot")
    assert await shore.call(admin, Impersonate_User="jane") == (200, "jane")
    code, why = await shore.call(Authorization=f"Bearer {token}", Impersonate_User="jane")
    assert (code, why.startswith('users "jane" is forbidden')) == (403, True)


async def test_a_certificate_of_another_ca_is_cut_off(shore: Shore) -> None:
    foreign = pki.create_authority(shore.now).identity(pki.ADMIN, shore.now)
    with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
        await shore.call(foreign)


@pytest.mark.parametrize(
    "name", ["kubernetes.default.svc", "kubernetes", "barque.default", "10.96.0.1", "barque-master"]
)
async def test_a_master_is_met_under_the_names_that_pods_use(shore: Shore, name: str) -> None:
    assert await shore.call(name=name) == (200, "system:anonymous")


async def test_others_check_tokens_by_the_published_key(shore: Shore) -> None:
    handlers: Any = issuer_paths(shore.bench.registry.environment.tokens, lambda: "10.0.0.1:6443")
    (key,) = msgspec.json.decode((await handlers[KEYS_PATH](None)).body)["keys"]
    x, y = (int.from_bytes(base64.urlsafe_b64decode(key[part] + "="), "big") for part in "xy")
    token = await a_token(shore.bench)
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    numbers = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    public.verify(numbers, signed.encode(), ec.ECDSA(hashes.SHA256()))
    header = msgspec.json.decode(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
    assert (header["kid"], header["alg"]) == (key["kid"], key["alg"])
    document = msgspec.json.decode((await handlers[CONFIGURATION_PATH](None)).body)
    assert document["jwks_uri"] == "https://10.0.0.1:6443/openid/v1/jwks"
