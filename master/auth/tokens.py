"""Join tokens: `[a-z0-9]{6}.[a-z0-9]{16}`, good for 24 hours and any number of workers.

A token is a Secret of type bootstrap.kubernetes.io/token in kube-system, as kubeadm keeps them: so it is as durable
and as replicated as everything else, every master accepts what one has issued, and an operator lists and revokes tokens
with the verbs he knows. Unlike kubeadm's, the Secret holds only a hash: reading it lets nobody join. 16 letters out of
36 are 82 bits, so a plain SHA-256 is enough.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import re
import secrets
import string
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from barque.api.errors import ApiError, bad_request, too_many_requests, unauthorized
from barque.api.types.core_v1 import Secret
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client
from barque.client.clock import Clock, timestamp

NAMESPACE = "kube-system"
SECRET_TYPE = "bootstrap.kubernetes.io/token"
DEFAULT_TTL_S = 24 * 3600
LONGEST_TTL_S = 30 * 24 * 3600
# Wrong tokens one address may try at once, and how fast it earns another try; guessing 82 bits this way is hopeless.
TRIES = 10
SECONDS_PER_TRY = 6.0
_ADDRESSES_KEPT = 4096
_ALPHABET = string.ascii_lowercase + string.digits
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_WRONG = "the join token is wrong or has expired: ask a master for a new one"


class JoinToken(NamedTuple):
    token: str
    expires: datetime.datetime


class JoinTokens:
    """Issues and checks join tokens. `client` acts as the master; `choose` picks a letter at random."""

    def __init__(self, client: Client, clock: Clock, choose: Callable[[Sequence[str]], str] = secrets.choice) -> None:
        self._client = client
        self._clock = clock
        self._choose = choose
        self._tries = Tries(clock)

    async def create(self, ttl_s: int = 0) -> JoinToken:
        """A new token, stored before it is returned; 0 seconds mean a day. Raises 400, and what the store raises."""
        if not 0 <= ttl_s <= LONGEST_TTL_S:
            raise bad_request(f"a join token's life must be between 1 and {LONGEST_TTL_S} seconds, not {ttl_s}")
        await self._delete_expired()
        identifier, secret = self._letters(6), self._letters(16)
        expires = self._clock.wall() + datetime.timedelta(seconds=ttl_s or DEFAULT_TTL_S)
        data = {
            "token-id": identifier,
            "token-secret-sha256": _hash(identifier, secret),
            "expiration": timestamp(expires),
            "usage-bootstrap-authentication": "true",
        }
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        meta = ObjectMeta(name=_secret_name(identifier), namespace=NAMESPACE)
        await self._client.create(Secret(metadata=meta, type=SECRET_TYPE, data=encoded))
        return JoinToken(f"{identifier}.{secret}", expires)

    async def check(self, token: str, address: str) -> None:
        """Raise 401 unless the token is good; 429 where `address` has tried too many wrong ones."""
        if not self._tries.allowed(address):
            raise too_many_requests(f"too many wrong join tokens from {address}: wait a minute")
        form = _TOKEN.fullmatch(token)
        stored = await self._stored(form.group(1)) if form else {}
        given = _hash(form.group(1), form.group(2)) if form else ""
        # Compared also where there is nothing to compare with, so that time does not tell which identifiers exist.
        good = hmac.compare_digest(given.encode(), stored.get("token-secret-sha256", "-" * len(given)).encode())
        if form is None or not good or not self._live(stored):
            self._tries.failed(address)
            raise unauthorized(_WRONG)

    async def _stored(self, identifier: str) -> dict[str, str]:
        try:
            secret = await self._client.get(Secret, _secret_name(identifier), NAMESPACE)
        except ApiError as error:
            if error.code != 404:
                raise
            return {}
        return _decoded(secret) if secret.type == SECRET_TYPE else {}

    def _live(self, stored: dict[str, str]) -> bool:
        """Whether the token has not expired; ours always say when they do, so one that does not is refused."""
        try:
            expires = datetime.datetime.fromisoformat(stored["expiration"])
        except (KeyError, ValueError):
            return False
        return expires.tzinfo is not None and self._clock.wall() < expires

    async def _delete_expired(self) -> None:
        found = await self._client.list(Secret, NAMESPACE, fields=f"type={SECRET_TYPE}")
        for secret in found.items:
            if not self._live(_decoded(secret)):
                try:
                    await self._client.delete(Secret, secret.metadata.name, NAMESPACE, uid=secret.metadata.uid)
                except ApiError as error:
                    if error.code not in (404, 409):
                        raise

    def _letters(self, count: int) -> str:
        return "".join(self._choose(_ALPHABET) for _ in range(count))


class Tries:
    """A token bucket per address for what went wrong; remembers the latest few thousand addresses."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allowed(self, address: str) -> bool:
        return self._left(address) >= 1

    def failed(self, address: str) -> None:
        self._buckets[address] = (self._left(address) - 1, self._clock.monotonic())
        self._buckets.move_to_end(address)
        if len(self._buckets) > _ADDRESSES_KEPT:
            self._buckets.popitem(last=False)

    def _left(self, address: str) -> float:
        left, at = self._buckets.get(address, (float(TRIES), self._clock.monotonic()))
        return min(float(TRIES), left + (self._clock.monotonic() - at) / SECONDS_PER_TRY)


def _secret_name(identifier: str) -> str:
    return f"bootstrap-token-{identifier}"


def _hash(identifier: str, secret: str) -> str:
    return hashlib.sha256(f"{identifier}.{secret}".encode()).hexdigest()


def _decoded(secret: Secret) -> dict[str, str]:
    try:
        return {key: base64.b64decode(value, validate=True).decode() for key, value in secret.data.items()}
    except ValueError:
        return {}
