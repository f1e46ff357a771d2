"""Who calls: the user's name and groups, read from the certificate of the connection.

A certificate's subject is the identity: CN is the name, each O a group. What the identity may do is `authorizer`'s
matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID

from barque.api.errors import unauthorized

# Certificates of at most this many peers are kept parsed: three masters and the workers of a big lab.
_PARSED_CERTIFICATES = 4096

MASTERS_GROUP = "barque:masters"
ADMINS_GROUP = "system:masters"
NODES_GROUP = "system:nodes"
NODE_PREFIX = "system:node:"


class User(NamedTuple):
    """An authenticated caller."""

    name: str
    groups: tuple[str, ...] = ()

    @property
    def is_master(self) -> bool:
        """Whether nothing is refused to this caller: an administrator or a master of the cluster."""
        return ADMINS_GROUP in self.groups or MASTERS_GROUP in self.groups

    @property
    def node(self) -> str:
        """The node this caller is, "" where it is none."""
        if NODES_GROUP in self.groups and self.name.startswith(NODE_PREFIX):
            return self.name.removeprefix(NODE_PREFIX)
        return ""


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
        subject = x509.load_pem_x509_certificate(pem).subject
    except ValueError as unreadable:
        raise unauthorized("the client certificate cannot be read") from unreadable
    names = [str(a.value) for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1 or not names[0]:
        raise unauthorized("the client certificate must name its user in one CN")
    groups = tuple(str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    return User(names[0], groups)
