"""`AccountTokens`: the tokens of service accounts: what stands in one, and whom one that comes in stands for.

A token is bound to its account and, where it was asked for a pod, to that pod: it is good until its time ends or
either of them is gone, whichever comes first, so every review looks both up. Claims and identities are Kubernetes'
(KEP-1205); `review` is what TokenReview and the REST door's bearer tokens stand on.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Collection, Sequence
from random import Random
from typing import NamedTuple, TypeVar

import msgspec

from barque.api import codec, timestamps
from barque.api.types.base import Object
from barque.api.types.core_v1 import Pod, ServiceAccount
from barque.client.clock import Clock
from barque.master.apiserver.backend import Backend
from barque.master.auth.account_keys import AccountKey, TokenError
from barque.master.auth.identity import User
from barque.master.store.port import Key

T = TypeVar("T", bound=Object)

USER_PREFIX = "system:serviceaccount:"
GROUP = "system:serviceaccounts"
AUTHENTICATED = "system:authenticated"
# How long after its end a pod's token still serves: what it does while stopping may need it.
DELETED_LEEWAY = datetime.timedelta(seconds=60)
# What a token may be ahead of this master's clock: the one that issued it may be another one.
CLOCK_LEEWAY_S = 60


class Ref(msgspec.Struct):
    """One object as a token names it."""

    name: str
    uid: str


class Bound(msgspec.Struct, omit_defaults=True):
    """The private claim `kubernetes.io`: what the token lives and dies with."""

    namespace: str
    serviceaccount: Ref
    node: Ref | None = None
    pod: Ref | None = None


class Claims(msgspec.Struct):
    """Times are seconds since 1970."""

    aud: list[str]
    exp: int
    iat: int
    iss: str
    jti: str
    nbf: int
    sub: str
    bound: Bound = msgspec.field(name="kubernetes.io")


class Reviewed(NamedTuple):
    """Whom a good token stands for. `audiences` are those of the asked ones that it is meant for."""

    user: User
    uid: str
    extra: dict[str, list[str]]
    audiences: list[str]


class Issued(NamedTuple):
    token: str
    expires: datetime.datetime


class AccountTokens:
    """Issues and reviews. `objects` is where accounts and pods are kept, `issuer` the `iss` of every token."""

    def __init__(self, key: AccountKey, issuer: str, objects: Backend, clock: Clock, entropy: Random) -> None:
        self.issuer = issuer
        self._key = key
        self._objects = objects
        self._clock = clock
        self._entropy = entropy

    def issue(self, bound: Bound, audiences: Sequence[str], life_s: int) -> Issued:
        """A token for these audiences, the API's own where none is named."""
        now = int(self._clock.wall().timestamp())
        claims = Claims(
            aud=list(audiences) or [self.issuer],
            exp=now + life_s,
            iat=now,
            iss=self.issuer,
            jti=str(uuid.UUID(int=self._entropy.getrandbits(128), version=4)),
            nbf=now,
            sub=f"{USER_PREFIX}{bound.namespace}:{bound.serviceaccount.name}",
            bound=bound,
        )
        expires = datetime.datetime.fromtimestamp(claims.exp, datetime.UTC)
        return Issued(self._key.sign(msgspec.to_builtins(claims)), expires)

    async def review(self, token: str, audiences: Collection[str] = ()) -> Reviewed:
        """Whom the token stands for, asked by one of these audiences (none: the API itself).

        Raises `TokenError` for a token that is forged, over, meant for others, or whose account or pod is gone, and
        `ApiError` where that cannot be looked up.
        """
        try:
            claims = msgspec.json.decode(self._key.verify(token), type=Claims)
        except msgspec.DecodeError as error:
            raise TokenError(f"its claims cannot be read: {error}") from error
        self._check_times(claims)
        wanted = audiences or (self.issuer,)
        meant_for = [audience for audience in wanted if audience in claims.aud]
        if claims.iss != self.issuer or not meant_for:
            raise TokenError(f"it is for {', '.join(claims.aud)} and not for {', '.join(wanted)}")
        await self._check_bound(claims.bound)
        return Reviewed(_user_of(claims), claims.bound.serviceaccount.uid, _extra_of(claims), meant_for)

    def _check_times(self, claims: Claims) -> None:
        now = self._clock.wall().timestamp()
        if now >= claims.exp:
            raise TokenError("service account token has expired")
        if now + CLOCK_LEEWAY_S < claims.nbf:
            raise TokenError("service account token is not valid yet")

    async def _check_bound(self, bound: Bound) -> None:
        await self._objects.current()
        account = await self._find(ServiceAccount, Key("serviceaccounts", bound.namespace, bound.serviceaccount.name))
        if account is None or account.metadata.uid != bound.serviceaccount.uid:
            raise TokenError("service account is gone")
        if bound.pod is None:
            return
        pod = await self._find(Pod, Key("pods", bound.namespace, bound.pod.name))
        if pod is None or pod.metadata.uid != bound.pod.uid:
            raise TokenError("the pod it is bound to is gone")
        ended = timestamps.parse(pod.metadata.deletionTimestamp)
        if ended is not None and self._clock.wall() > ended + DELETED_LEEWAY:
            raise TokenError("the pod it is bound to has been deleted")

    async def _find(self, kind: type[T], key: Key) -> T | None:
        stored = await self._objects.get(key)
        return None if stored is None else codec.decode(kind, stored.json)


def _user_of(claims: Claims) -> User:
    return User(claims.sub, (GROUP, f"{GROUP}:{claims.bound.namespace}", AUTHENTICATED))


def _extra_of(claims: Claims) -> dict[str, list[str]]:
    """What Kubernetes tells of a token besides its user."""
    prefix, bound = "authentication.kubernetes.io/", claims.bound
    extra = {f"{prefix}credential-id": [f"JTI={claims.jti}"]}
    for kind, ref in (("pod", bound.pod), ("node", bound.node)):
        if ref is not None:
            extra |= {f"{prefix}{kind}-name": [ref.name], f"{prefix}{kind}-uid": [ref.uid]}
    return extra
