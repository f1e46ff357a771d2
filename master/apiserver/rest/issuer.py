"""What others need to check our tokens themselves: the issuer's OpenID Connect discovery document and its keys.

GET /.well-known/openid-configuration and /openid/v1/jwks, as Kubernetes serves them (KEP-1393). Whoever is to read
them must be allowed to, as by binding the ClusterRole `system:service-account-issuer-discovery`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from barque.master.apiserver.rest.call import Handler, RestCall
from barque.master.auth.account_tokens import AccountTokens

CONFIGURATION_PATH = "/.well-known/openid-configuration"
KEYS_PATH = "/openid/v1/jwks"
_KEPT = {"Cache-Control": "public, max-age=3600"}


def issuer_paths(tokens: AccountTokens, door: Callable[[], str]) -> dict[str, Handler]:
    """The handlers by path; `door` is `host:port` where this master's REST door is met."""

    async def configuration(_: RestCall) -> web.StreamResponse:
        document = {
            "issuer": tokens.issuer,
            "jwks_uri": f"https://{door()}{KEYS_PATH}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }
        return web.Response(body=msgspec.json.encode(document), content_type="application/json", headers=_KEPT)

    async def keys(_: RestCall) -> web.StreamResponse:
        document = {"keys": [tokens.key.jwk]}
        return web.Response(body=msgspec.json.encode(document), content_type="application/jwk-set+json", headers=_KEPT)

    return {CONFIGURATION_PATH: configuration, KEYS_PATH: keys}
