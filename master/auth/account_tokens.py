"""`AccountTokens`: the tokens of service accounts: what stands in one, and whom one that comes in stands for.

A token is bound to its account and, where that was asked for, to a pod, a secret or a node: it is good until its time
ends or one of them is gone, whichever comes first, so every review looks at them all. Claims and identities are
Kubernetes' (KEP-1205, KEP-4193); `review` is what TokenReview and the REST door's bearer tokens stand on.

A signature is checked once: the latest few thousand good tokens are remembered with what stands in them. What this
master has at hand may say that a token is good; that it is not, for something is gone, is said on the current state.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from functools import lru_cache
from random import Random
from typing import NamedTuple

import msgspec

from barque.api import timestamps
from barque.client.clock import Clock, random_uuid
from barque.master.apiserver.backend import Backend
from barque.master.auth.account_keys import AccountKey, TokenError
from barque.master.auth.identity import User, authenticated
from barque.master.store.port import Key

USER_PREFIX = "system:serviceaccount:"
GROUP = "system:serviceaccounts"
# How long after its end a pod's token still serves: what it does while stopping may need it.
DELETED_LEEWAY = datetime.timedelta(seconds=60)
# Good tokens remembered: some 2 KiB each. Every pod has one, and shows it on a connection of its own to one master.
_VERIFIED_KEPT = 4096
_EXTRA = "authentication.kubernetes.io/"
# What a token may be ahead of this master's clock: the one that issued it may be another one.
CLOCK_LEEWAY_S = 60


class Ref(msgspec.Struct):
    """One object as a token names it."""

    name: str
    uid: str


class Bound(msgspec.Struct, omit_defaults=True):
    """The private claim `kubernetes.io`: what the token lives and dies with. Beside a pod, the node only says where
    that one runs.
    """

    namespace: str
    serviceaccount: Ref
    node: Ref | None = None
    pod: Ref | None = None
    secret: Ref | None = None

    @property
    def lives_with(self) -> tuple[tuple[str, Key, Ref], ...]:
        """What must be there: how it is called, where it is kept, and which one it must be."""
        account, pod, secret, node = self.serviceaccount, self.pod, self.secret, self.node
        found = [("service account", Key("serviceaccounts", self.namespace, account.name), account)]
        if pod is not None:
            found.append(("the pod it is bound to", Key("pods", self.namespace, pod.name), pod))
        if secret is not None:
            found.append(("the secret it is bound to", Key("secrets", self.namespace, secret.name), secret))
        if node is not None and pod is None:
            found.append(("the node it is bound to", Key("nodes", "", node.name), node))
        return tuple(found)


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
    audiences: list[str]


class _Verified(NamedTuple):
    """What a token of our signature says, ready for use."""

    claims: Claims
    user: User
    lives_with: tuple[tuple[str, Key, Ref], ...]


class _Meta(msgspec.Struct):
    uid: str = ""
    deletionTimestamp: str = ""


class _Life(msgspec.Struct):
    """What of an object tells whether tokens that are bound to it are good: the rest of its bytes is passed over."""

    metadata: _Meta


_LIFE = msgspec.json.Decoder(_Life)


class Issued(NamedTuple):
    token: str
    expires: datetime.datetime


class AccountTokens:
    """Issues and reviews. `objects` is where accounts and pods are kept, `issuer` the `iss` of every token."""

    def __init__(self, key: AccountKey, issuer: str, objects: Backend, clock: Clock, entropy: Random) -> None:
        self.issuer = issuer
        self.key = key
        self._objects = objects
        self._clock = clock
        self._entropy = entropy
        self._verified = lru_cache(maxsize=_VERIFIED_KEPT)(self._verify)

    def issue(self, bound: Bound, audiences: Sequence[str], life_s: int) -> Issued:
        """A token for these audiences, the API's own where none is named."""
        now = int(self._clock.wall().timestamp())
        claims = Claims(
            aud=list(audiences) or [self.issuer],
            exp=now + life_s,
            iat=now,
            iss=self.issuer,
            jti=random_uuid(self._entropy),
            nbf=now,
            sub=f"{USER_PREFIX}{bound.namespace}:{bound.serviceaccount.name}",
            bound=bound,
        )
        expires = datetime.datetime.fromtimestamp(claims.exp, datetime.UTC)
        return Issued(self.key.sign(msgspec.to_builtins(claims)), expires)

    async def review(self, token: str, audiences: Collection[str] = ()) -> Reviewed:
        """Whom the token stands for, asked by one of these audiences (none: the API itself).

        Raises `TokenError` for a token that is forged, over, meant for others, or whose account or pod is gone, and
        `ApiError` where that cannot be looked up.
        """
        claims, user, lives_with = self._verified(token)
        self._check_times(claims)
        wanted = audiences or (self.issuer,)
        meant_for = [audience for audience in wanted if audience in claims.aud]
        if claims.iss != self.issuer or not meant_for:
            raise TokenError(f"it is for {', '.join(claims.aud)} and not for {', '.join(wanted)}")
        await self._check_bound(lives_with)
        return Reviewed(user, meant_for)

    def _verify(self, token: str) -> _Verified:
        try:
            claims = msgspec.json.decode(self.key.verify(token), type=Claims)
        except msgspec.DecodeError as error:
            raise TokenError(f"its claims cannot be read: {error}") from error
        return _Verified(claims, _user_of(claims), claims.bound.lives_with)

    def _check_times(self, claims: Claims) -> None:
        now = self._clock.wall().timestamp()
        if now >= claims.exp:
            raise TokenError("service account token has expired")
        if now + CLOCK_LEEWAY_S < claims.nbf:
            raise TokenError("service account token is not valid yet")

    async def _check_bound(self, lives_with: Sequence[tuple[str, Key, Ref]]) -> None:
        for what, key, ref in lives_with:
            if not await self._lives(key, ref):
                await self._objects.current()
                if not await self._lives(key, ref):
                    raise TokenError(f"{what} is gone")

    async def _lives(self, key: Key, ref: Ref) -> bool:
        """Whether this very object is there, and its deletion, if it has begun, not long ago."""
        stored = await self._objects.get(key)
        if stored is None:
            return False
        meta = _LIFE.decode(stored.json).metadata
        ended = timestamps.parse(meta.deletionTimestamp)
        return meta.uid == ref.uid and (ended is None or self._clock.wall() <= ended + DELETED_LEEWAY)


def account_groups(namespace: str) -> tuple[str, ...]:
    """The groups of every service account of the namespace."""
    return (GROUP, f"{GROUP}:{namespace}")


def _user_of(claims: Claims) -> User:
    """Name and groups, and what Kubernetes tells of a token besides."""
    bound = claims.bound
    extra = [(f"{_EXTRA}credential-id", (f"JTI={claims.jti}",))]
    for kind, ref in (("node", bound.node), ("pod", bound.pod)):
        if ref is not None:
            extra += [(f"{_EXTRA}{kind}-name", (ref.name,)), (f"{_EXTRA}{kind}-uid", (ref.uid,))]
    groups = authenticated(account_groups(bound.namespace))
    return User(claims.sub, groups, bound.serviceaccount.uid, tuple(extra))
