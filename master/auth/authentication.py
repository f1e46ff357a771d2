"""`Authenticator`: whom a request at the REST door comes from, by its client certificate or its bearer token.

The certificate counts first, for as long as it is good: TLS has checked its chain, and its dates when the connection
was made, which may last. Then the token of the `Authorization` header: a
service account's, or a bootstrap token. Whoever shows neither is `ANONYMOUS`; whoever shows a token that is not good is
refused with 401, and the reason stands in the log alone. Follows Kubernetes' union of authenticators, also in that a
header of another scheme is as good as none.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import logging
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509

from barque.api.errors import unauthorized
from barque.client.clock import Clock
from barque.client.pki import PkiError, subject_of
from barque.master.apiserver.backend import Backend
from barque.master.auth.account_keys import TokenError
from barque.master.auth.account_tokens import AccountTokens, Reviewed
from barque.master.auth.bootstrap_tokens import BootstrapTokens
from barque.master.auth.identity import ANONYMOUS, User, authenticated

log = logging.getLogger(__name__)

# Certificates of at most this many peers are kept parsed.
_PARSED_CERTIFICATES = 4096
# Longer ones are none of ours, and need not be looked at.
_LONGEST_TOKEN = 16 * 1024
_SOCKET_PROTOCOL = "base64url.bearer.authorization.k8s.io."


class Shown(NamedTuple):
    """Whom a certificate names, and until when."""

    user: User | None = None
    ends: datetime.datetime | None = None


NOTHING = Shown()


class Authenticator:
    """Knows callers. `tokens` are the service accounts'; `objects` is where the Secrets of bootstrap tokens are."""

    def __init__(self, tokens: AccountTokens, objects: Backend, clock: Clock) -> None:
        self._accounts = tokens
        self._clock = clock
        self._bootstrap = BootstrapTokens(objects, clock)

    async def authenticate(self, certificate_der: bytes | None, authorization: str) -> User:
        """The caller with this certificate (DER) and this `Authorization` header. Raises 401, and 503 where a token
        cannot be looked up.
        """
        shown = read_certificate(certificate_der) if certificate_der else NOTHING
        is_over = shown.ends is not None and self._clock.wall() > shown.ends
        if shown.user is not None and not is_over:
            return shown.user
        token = bearer_token(authorization)
        if not token:
            if is_over:
                raise unauthorized("Unauthorized")
            return ANONYMOUS
        try:
            return (await self.review(token)).user
        except TokenError as why:
            log.info("a bearer token is refused: %s", why)
            raise unauthorized("Unauthorized") from None

    async def review(self, token: str, audiences: tuple[str, ...] = ()) -> Reviewed:
        """Whom a bearer token stands for, asked by one of these audiences (none: the API itself). Raises `TokenError`,
        and `ApiError` where that cannot be looked up.
        """
        if len(token) > _LONGEST_TOKEN:
            raise TokenError("it is too long to be one")
        own = self._accounts.issuer
        if not audiences or own in audiences:
            user = await self._bootstrap.review(token)
            if user is not None:
                return Reviewed(user, [own])
        return await self._accounts.review(token, audiences)


def bearer_token(authorization: str) -> str:
    """The token of an `Authorization` header, "" where it carries none."""
    scheme, _, rest = authorization.strip().partition(" ")
    return rest.partition(" ")[0] if scheme.lower() == "bearer" else ""


def socket_token(protocols: str) -> tuple[str, str]:
    """The `Authorization` that a browser's WebSocket brings among its `Sec-WebSocket-Protocol`s, as it can set no other
    header, and the protocols without it; ("", all of them) where there is none. Raises 401 where it cannot be read.
    """
    offered = [protocol.strip() for protocol in protocols.split(",")]
    found = [protocol for protocol in offered if protocol.startswith(_SOCKET_PROTOCOL)]
    others = [protocol for protocol in offered if protocol not in found]
    if not found:
        return "", protocols
    # One that stands alone would leave nothing to agree on, and a browser fails then.
    if len(found) > 1 or not others:
        raise unauthorized("Unauthorized")
    text = found[0].removeprefix(_SOCKET_PROTOCOL)
    try:
        token = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise unauthorized("Unauthorized") from None
    return f"Bearer {token}", ",".join(others)


@lru_cache(maxsize=_PARSED_CERTIFICATES)
def read_certificate(certificate: bytes) -> Shown:
    """What a verified certificate (DER) shows; `NOTHING` where it names no user."""
    try:
        read = x509.load_der_x509_certificate(certificate)
        name, groups = subject_of(read)
    except (PkiError, ValueError) as error:
        log.info("a client certificate is passed over: %s", error)
        return NOTHING
    credential = f"X509SHA256={hashlib.sha256(certificate).hexdigest()}"
    extra = (("authentication.kubernetes.io/credential-id", (credential,)),)
    return Shown(User(name, authenticated(groups), extra=extra), read.not_valid_after_utc)
