"""`PodTokens`: the service account tokens in projected volumes, asked for once and renewed before they end.

As in Kubernetes' token manager: a token is renewed at 80 % of its life, and at 24 h at the latest, a few seconds
earlier at random so that the pods of one rollout do not ask at once. While no master answers, the token there is
serves on until it ends. Tokens are kept in memory alone: a restarted worker asks anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol

from barque.api import codec
from barque.api.errors import ApiError
from barque.api.types import authentication_v1, core_v1
from barque.client.client import Client, target_of
from barque.client.clock import Clock
from barque.worker.pods.env import ConfigError
from barque.worker.volumes.payloads import TokenKey

RENEW_AT = 0.8
LONGEST_S = 24 * 3600.0
JITTER_S = 10.0
# When a renewal fails, the token there is still good for a fifth of its life.
RETRY_S = 30.0
TIMEOUT_S = 10.0
DEFAULT_ACCOUNT = "default"


class IssuedToken(NamedTuple):
    """`life_s` is how long it lasts from now on: a span and no date, as the clocks of masters and host may differ."""

    token: str
    life_s: float


class TokenSource(Protocol):
    """Who issues tokens: the TokenRequest subresource of the pod's service account, bound to the pod."""

    async def request(self, pod: core_v1.Pod, key: TokenKey) -> IssuedToken:
        """Raises `ApiError`."""
        ...


class RequestedTokens:
    """Implements `TokenSource` with the masters' TokenRequest."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def request(self, pod: core_v1.Pod, key: TokenKey) -> IssuedToken:
        meta = pod.metadata
        bound = authentication_v1.BoundObjectReference(apiVersion="v1", kind="Pod", name=meta.name, uid=meta.uid)
        wanted = authentication_v1.TokenRequest(
            spec=authentication_v1.TokenRequestSpec(
                audiences=[key.audience] if key.audience else [],
                expirationSeconds=key.expiration_s,
                boundObjectRef=bound,
            )
        )
        account = pod.spec.serviceAccountName or DEFAULT_ACCOUNT
        target = target_of(core_v1.ServiceAccount, account, meta.namespace, "token")
        async with asyncio.timeout(TIMEOUT_S):
            answer = await self._client.verbs.create(target, codec.encode(wanted))
        issued = codec.decode(authentication_v1.TokenRequest, answer)
        if not issued.status.token:
            raise ApiError(500, "InternalError", f"the masters answered for service account {account} with no token")
        # The masters may grant another span than was asked for.
        return IssuedToken(issued.status.token, float(issued.spec.expirationSeconds or key.expiration_s))


class _Kept(NamedTuple):
    token: str
    renew_s: float
    ends_s: float


class PodTokens:
    """`random` gives numbers in [0, 1)."""

    def __init__(self, source: TokenSource, clock: Clock, random: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._random = random
        self._kept: dict[tuple[str, TokenKey], _Kept] = {}

    async def token(self, pod: core_v1.Pod, key: TokenKey) -> str:
        """A token that has not ended. Raises `ConfigError` in Kubernetes' words where none can be had."""
        place = (pod.metadata.uid, key)
        kept, now = self._kept.get(place), self._clock.monotonic()
        if kept is not None and now < kept.renew_s:
            return kept.token
        try:
            issued = await self._source.request(pod, key)
        except (ApiError, TimeoutError) as error:
            if kept is None or now >= kept.ends_s:
                raise ConfigError(f"failed to fetch token: {error or 'no master answered'}") from error
            self._kept[place] = kept._replace(renew_s=min(now + RETRY_S, kept.ends_s))
            return kept.token
        renew_s = min(issued.life_s * RENEW_AT, LONGEST_S) - self._random() * JITTER_S
        self._kept[place] = _Kept(issued.token, now + max(renew_s, RETRY_S), now + issued.life_s)
        return issued.token

    def due_s(self, uid: str) -> float:
        """When the first token of a pod is to be renewed, in monotonic seconds; infinity for a pod without any."""
        return min((kept.renew_s for (owner, _), kept in self._kept.items() if owner == uid), default=float("inf"))

    def forget(self, uid: str) -> None:
        for place in [place for place in self._kept if place[0] == uid]:
            del self._kept[place]
