"""Who may connect to NATS besides a server's own master: the answers to nats-server's questions about newcomers.

A server admits certificates of the cluster's CA, knows its own master by its subject, and asks about everybody else,
other masters too, on `$SYS.REQ.USER.AUTH`. One of the masters answers (`serving`) with a token that says the user's
account, subjects and end, signed with a key that all masters have alike; a refusal is signed too. Where no master
answers, the server refuses.

The rights end a quarter of an hour after they were given (a master's after a minute), or with the certificate: the
server then closes the connection, and the client's next one is judged anew. Times are the asking server's, which is the
one that counts them.

Follows nats-architecture-and-design, ADR-26. `Admission.decide` is pure.
"""

from __future__ import annotations

import datetime
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Annotated, NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nats.aio.msg import Msg

from barque.client.clock import Clock
from barque.client.pki import MASTERS_GROUP, PkiError, master_subject, subject_of
from barque.master.auth.account_keys import AccountKey
from barque.master.auth.identity import User
from barque.master.bus.link import Link, Session
from barque.master.bus.nkeys import SEED_BYTES, VERSION, Kind, Nkey, NkeyError, decode_public, verify
from barque.master.bus.permissions import (
    MASTERS,
    Permissions,
    TooManyPatternsError,
    Watchable,
    permissions_of,
    watchable_by,
)
from barque.master.bus.serving import serve
from barque.master.bus.subjects import answered_subject

log = logging.getLogger(__name__)

SUBJECT = "$SYS.REQ.USER.AUTH"
AUDIENCE = "nats-authorization-request"
RIGHTS_LAST_S = 900
# A master that was removed keeps no longer what it had at another's server; one that comes to others' servers because
# it has none takes up its work again each time.
MASTERS_RIGHTS_LAST_S = 60
# A refusal of the same user is logged once in so many seconds; so many users are kept in mind.
LOGGED_EVERY_S = 60.0
LOGGED_USERS = 256
_UNLIMITED = -1
_PURPOSE = b"barque bus: issuer of NATS users"


class RefusedError(Exception):
    """The newcomer is not admitted; the message says why, for the masters' log."""


class _Unanswerable(Exception):
    """No question of a server; the message says why."""


class Answer(NamedTuple):
    """The token to answer with, who it is about, and why that user is refused ("" where admitted)."""

    token: str
    user: str
    host: str
    refusal: str = ""


def issuer_of(key: AccountKey) -> Nkey:
    """The masters' common key: derived from one that they have alike, so that it stands nowhere (HKDF, RFC 5869)."""
    return Nkey(Kind.ACCOUNT, HKDF(hashes.SHA256(), SEED_BYTES, None, _PURPOSE).derive(key.secret))


class Admission:
    """Answers for this master; `run()` goes on for ever. `watchable` says what a user may watch, `masters` the names of
    the present masters.
    """

    def __init__(
        self,
        link: Link,
        issuer: Nkey,
        ca_pem: bytes,
        cluster: str,
        clock: Clock,
        masters: Callable[[], Collection[str]],
        watchable: Callable[[User], Watchable] = watchable_by,
    ) -> None:
        self._link = link
        self._issuer = issuer
        self._ca = x509.load_pem_x509_certificate(ca_pem)
        self._cluster = cluster
        self._masters = masters
        self._clock = clock
        self._watchable = watchable
        self._logged: OrderedDict[str, float] = OrderedDict()

    async def run(self) -> None:
        """Until cancelled, whatever happens to the bus."""
        told = answered_subject(self._cluster, "admission")
        await serve(self._link, SUBJECT, told, self._answer, self._clock)

    async def _answer(self, session: Session, request: Msg) -> None:
        try:
            answer = self.decide(request.data)
        except _Unanswerable as error:
            self._tell("somebody", f"a question on {SUBJECT} is no server's: {error}")
            return
        if answer.refusal:
            self._tell(answer.user, f"{answer.user} at {answer.host} may not connect to the bus: {answer.refusal}")
        await session.tell(request.reply, answer.token.encode())

    def decide(self, question: bytes) -> Answer:
        """The answer to a server's question."""
        asked = self._read(question)
        user = ""
        try:
            certificate = self._certificate(asked)
            subject = subject_of(certificate)
            user = subject.name
            permissions = self._permissions(User(*subject))
        except (RefusedError, PkiError, TooManyPatternsError) as error:
            return self._answer_of(asked, user, refusal=str(error))
        lasting_s = MASTERS_RIGHTS_LAST_S if permissions is MASTERS else RIGHTS_LAST_S
        ends_s = min(asked.iat + lasting_s, int(certificate.not_valid_after_utc.timestamp()))
        claims = user_claims(asked.nats.user_nkey, user, permissions, ends_s)
        return self._answer_of(asked, user, admitted=self._issuer.sign(claims, asked.iat))

    def _read(self, question: bytes) -> _Question:
        """The question, as a server has signed it, to these masters."""
        try:
            token = verify(question, Kind.SERVER)
            asked = msgspec.json.decode(token.claims, type=_Question)
            decode_public(asked.nats.user_nkey, Kind.USER)
        except (NkeyError, msgspec.DecodeError) as error:
            raise _Unanswerable(str(error)) from error
        if (asked.aud, asked.sub) != (AUDIENCE, self._issuer.name):
            raise _Unanswerable("it is asked of others")
        if asked.nats.server_id.id != token.issuer:
            raise _Unanswerable("it is signed by another server")
        return asked

    def _certificate(self, asked: _Question) -> x509.Certificate:
        """The newcomer's certificate: of the cluster's CA, and good at this time. Raises `RefusedError`.

        TLS has proved that the newcomer has its key; the rest was checked there too, but against all that the server
        trusts.
        """
        chains = asked.nats.client_tls.verified_chains if asked.nats.client_tls is not None else []
        if not chains or not chains[0]:
            raise RefusedError("it showed no certificate")
        try:
            certificate = x509.load_pem_x509_certificate(chains[0][0].encode())
            certificate.verify_directly_issued_by(self._ca)
        except (InvalidSignature, ValueError, TypeError):
            raise RefusedError("its certificate is not of this cluster's CA") from None
        now = datetime.datetime.fromtimestamp(asked.iat, datetime.UTC)
        if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
            raise RefusedError("its certificate is expired or not valid yet")
        return certificate

    def _permissions(self, user: User) -> Permissions:
        if user in {User(*master_subject(name)) for name in self._masters()}:
            return MASTERS
        permissions = permissions_of(user, self._watchable(user), self._cluster)
        if permissions is None:
            removed = MASTERS_GROUP in user.groups
            raise RefusedError("it is no master of this cluster any more" if removed else "it may not watch anything")
        return permissions

    def _answer_of(self, asked: _Question, user: str, *, admitted: str = "", refusal: str = "") -> Answer:
        said = {"jwt": admitted} if admitted else {"error": refusal}
        claims = {
            "sub": asked.nats.user_nkey,
            "aud": asked.nats.server_id.id,
            "nats": {**said, "type": "authorization_response", "version": VERSION},
        }
        return Answer(self._issuer.sign(claims, asked.iat), user, asked.nats.client_info.host, refusal)

    def _tell(self, user: str, why: str) -> None:
        """Log a refusal, but not each of a user who tries again and again."""
        now = self._clock.monotonic()
        if now - self._logged.get(user, -LOGGED_EVERY_S) < LOGGED_EVERY_S:
            return
        self._logged[user] = now
        self._logged.move_to_end(user)
        if len(self._logged) > LOGGED_USERS:
            self._logged.popitem(last=False)
        log.warning("%s", why)


def user_claims(nkey: str, name: str, permissions: Permissions, ends_s: int) -> dict[str, object]:
    """What a server is told of a user: `nkey` is its own name for the newcomer.

    The limits that a token has room for are not looked at by the server here; those of the account hold (`accounts`).
    """
    limits = dict.fromkeys(("subs", "data", "payload"), _UNLIMITED)
    allowed = {"pub": {"allow": permissions.publish}, "sub": {"allow": permissions.subscribe}}
    kind = {"type": "user", "version": VERSION, "allowed_connection_types": ["STANDARD"]}
    return {"sub": nkey, "aud": permissions.account, "name": name, "exp": ends_s, "nats": {**allowed, **limits, **kind}}


class _ServerId(msgspec.Struct):
    id: str


class _ClientInfo(msgspec.Struct):
    host: str = ""


class _ClientTls(msgspec.Struct):
    verified_chains: list[list[str]] = []


class _Newcomer(msgspec.Struct):
    server_id: _ServerId
    user_nkey: str
    client_info: _ClientInfo = msgspec.field(default_factory=_ClientInfo)
    client_tls: _ClientTls | None = None


class _Question(msgspec.Struct):
    """The claims of a server's question; `iat` is its time, in seconds since the epoch."""

    aud: str
    sub: str
    iat: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    nats: _Newcomer
