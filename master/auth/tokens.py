"""Join tokens: `[a-z0-9]{6}.[a-z0-9]{16}`, good for 24 hours, for any number of workers or for one master.

A worker's token makes no master: a master holds the CA's key. So a master's token is spent on the first joiner that
shows it, and from then on good for that one alone, to go on where its joining was cut off.

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
import logging
import re
import secrets
import string
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from barque.api.errors import ApiError, bad_request, too_many_requests, unauthorized
from barque.api.types.core_v1 import Secret
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.client import Client
from barque.client.clock import Clock, timestamp

log = logging.getLogger(__name__)

NAMESPACE = "kube-system"
SECRET_TYPE = "bootstrap.kubernetes.io/token"
DEFAULT_TTL_S = 24 * 3600
LONGEST_TTL_S = 30 * 24 * 3600
# Wrong tokens one address may try at once, and how fast it earns another try; guessing 82 bits this way is hopeless.
TRIES = 10
SECONDS_PER_TRY = 6.0
_ADDRESSES_KEPT = 4096
_ALPHABET = string.ascii_lowercase + string.digits
TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_MADE_BY = {"worker": "barque token create", "master": "barque cluster add-member"}
# What marks the Secret of each kind; the workers' is kubeadm's.
_USAGE = {"worker": "usage-bootstrap-authentication", "master": "usage-barque-master"}
_SPENT_ON, _SPENT_ON_NAME = "spent-on", "spent-on-name"
# Two joiners with one token at the same moment: the store decides, the other one reads again.
_CLAIM_ATTEMPTS = 4

Joiner = Literal["worker", "master"]


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

    async def create(self, ttl_s: int = 0, joins: Joiner = "worker") -> JoinToken:
        """A new token, stored before it is returned; 0 seconds mean a day. Raises 400, and what the store raises."""
        if not 0 <= ttl_s <= LONGEST_TTL_S:
            raise bad_request(f"a join token's life must be between 1 and {LONGEST_TTL_S} seconds, not {ttl_s}")
        await self._delete_expired()
        identifier, secret = self._letters(6), self._letters(16)
        expires = self._clock.wall() + datetime.timedelta(seconds=ttl_s or DEFAULT_TTL_S)
        data = {
            "token-id": identifier,
            "token-secret-sha256": hashed(identifier, secret),
            "expiration": timestamp(expires),
            _USAGE[joins]: "true",
        }
        meta = ObjectMeta(name=secret_name(identifier), namespace=NAMESPACE)
        await self._client.create(Secret(metadata=meta, type=SECRET_TYPE, data=_encoded(data)))
        return JoinToken(f"{identifier}.{secret}", expires)

    async def check(self, token: str, address: str, joins: Joiner = "worker") -> None:
        """Raise 401 unless the token is one for such a joiner; 429 where `address` has tried too many wrong ones."""
        await self._good(token, address, joins)

    async def claim(self, token: str, address: str, joiner: str, name: str) -> None:
        """Spend a master's token on `joiner`, which says all that must not change when it asks again; `name` is how a
        person knows it. Raises 401 and 429 as `check` does, and 401 where it was spent on another.
        """
        for _ in range(_CLAIM_ATTEMPTS):
            secret = await self._good(token, address, "master")
            stored = decoded_data(secret)
            spent_on = stored.get(_SPENT_ON)
            if spent_on is None:
                secret.data |= _encoded({_SPENT_ON: joiner, _SPENT_ON_NAME: name})
                try:
                    await self._client.update(secret)
                except ApiError as error:
                    if error.code != 409:
                        raise
                    continue
                return
            if hmac.compare_digest(spent_on.encode(), joiner.encode()):
                return
            raise self._refused(
                address,
                f"the join token was used by {stored.get(_SPENT_ON_NAME, 'another')} already and is good for one "
                f"master only: make a new one with `{_MADE_BY['master']}`",
            )
        raise too_many_requests("the join token is being used by several masters at this moment")

    async def _good(self, token: str, address: str, joins: Joiner) -> Secret:
        """The Secret of a token that is good for such a joiner. Raises 401 and 429."""
        if not self._tries.allowed(address):
            raise too_many_requests(f"too many wrong join tokens from {address}: wait a minute")
        form = TOKEN.fullmatch(token)
        secret = await self._secret(form.group(1)) if form else Secret()
        stored = decoded_data(secret)
        given = hashed(form.group(1), form.group(2)) if form else ""
        # Compared also where there is nothing to compare with, so that time does not tell which identifiers exist.
        good = hmac.compare_digest(given.encode(), stored.get("token-secret-sha256", "-" * len(given)).encode())
        if form is None or not good:
            self._tries.failed(address)
            raise self._refused(
                address, f"the join token is wrong or has expired: make a new one with `{_MADE_BY[joins]}`"
            )
        if not is_live(stored, self._clock.wall()):
            at = stored.get("expiration", "an unknown time")
            raise self._refused(address, f"the join token expired at {at}: make a new one with `{_MADE_BY[joins]}`")
        if stored.get(_USAGE[joins]) != "true":
            raise self._refused(
                address, f"the join token is not a {joins}'s: one that is comes from `{_MADE_BY[joins]}`"
            )
        return secret

    async def _secret(self, identifier: str) -> Secret:
        """The stored token, or an empty Secret."""
        try:
            secret = await self._client.get(Secret, secret_name(identifier), NAMESPACE)
        except ApiError as error:
            if error.code != 404:
                raise
            return Secret()
        return secret if secret.type == SECRET_TYPE else Secret()

    def _refused(self, address: str, why: str) -> ApiError:
        log.warning("a join from %s is refused: %s", address, why)
        return unauthorized(why)

    async def _delete_expired(self) -> None:
        found = await self._client.list(Secret, NAMESPACE, fields=f"type={SECRET_TYPE}")
        for secret in found.items:
            if not is_live(decoded_data(secret), self._clock.wall()):
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


def is_live(stored: Mapping[str, str], now: datetime.datetime) -> bool:
    """Whether the token has not expired. One in kubeadm's own form need not say when it does; ours always do, so one of
    them that does not is refused.
    """
    if "expiration" not in stored:
        return "token-secret" in stored
    try:
        expires = datetime.datetime.fromisoformat(stored["expiration"])
    except ValueError:
        return False
    return expires.tzinfo is not None and now < expires


def secret_name(identifier: str) -> str:
    return f"bootstrap-token-{identifier}"


def hashed(identifier: str, secret: str) -> str:
    return hashlib.sha256(f"{identifier}.{secret}".encode()).hexdigest()


def _encoded(data: dict[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}


def decoded_data(secret: Secret) -> dict[str, str]:
    try:
        return {key: base64.b64decode(value, validate=True).decode() for key, value in secret.data.items()}
    except ValueError:
        return {}
