"""Who calls: the user's name and groups, read from the certificate of the connection.

Names and groups of certificates are those of `client.pki`; whoever is known is in `system:authenticated` besides, as in
Kubernetes. What the identity may do is `authorizer`'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from barque.api.errors import unauthorized
from barque.client.pki import ADMINS_GROUP, MASTERS_GROUP, PkiError, Subject, subject_of

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS_NAME = "system:anonymous"
# Certificates of at most this many peers are kept parsed: three masters and the workers of a big lab.
_PARSED_CERTIFICATES = 4096


class User(NamedTuple):
    """An authenticated caller. `extra` are further facts that the authenticator knows of them, by name."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def is_master(self) -> bool:
        """Whether nothing is refused to this caller: an administrator or a master of the cluster."""
        return ADMINS_GROUP in self.groups or MASTERS_GROUP in self.groups

    @property
    def node(self) -> str:
        """The node this caller is, "" where it is none."""
        return Subject(self.name, self.groups).node


# Who has shown nothing at all.
ANONYMOUS = User(ANONYMOUS_NAME, (UNAUTHENTICATED,))


def authenticated(groups: Sequence[str]) -> tuple[str, ...]:
    """The groups of somebody who is known."""
    return tuple(groups) if AUTHENTICATED in groups else (*groups, AUTHENTICATED)


class Call(Protocol):
    """The part of a gRPC call's context that carries the peer's certificate."""

    def auth_context(self) -> Mapping[str, Sequence[bytes]]: ...


def user_of_call(call: Call) -> User:
    """The user of a gRPC call. Raises 401 where the connection carries no certificate with a name."""
    certificates = call.auth_context().get("x509_pem_cert")
    if not certificates:
        raise unauthorized("the connection carries no client certificate")
    return user_of_certificate(bytes(certificates[0]))


@lru_cache(maxsize=_PARSED_CERTIFICATES)
def user_of_certificate(pem: bytes) -> User:
    """The user a certificate names; its chain and its dates were verified by TLS. Raises 401 where it names none."""
    try:
        name, groups = subject_of(pem)
    except PkiError as error:
        raise unauthorized(f"the client certificate is refused: {error}") from error
    return User(name, authenticated(groups))
