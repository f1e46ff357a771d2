"""Where the bus is, and as whom one comes: the masters' own nats-servers, or a NATS that the user runs.

`Access` is what a `Link` needs of either. Of a NATS of the user's, all masters are told the same addresses
(`barque master run --bus-url …`); it needs JetStream, and an account for one cluster alone. Files for it are read at
every connection, so that new ones need no restart.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from barque.client.pki import MASTER_HOST, Identity
from barque.master.bus.topology import Topology

_SCHEMES = ("tls", "nats")
# JetStream's own bound.
MOST_REPLICAS = 5
# Of a seed in base32: two letters' bytes for the kinds of key, the key, a checksum.
_SEED = slice(2, 34)


class Access(Protocol):
    """What a connection is made of, as it is now."""

    def urls(self) -> Sequence[str]:
        """The servers, in the order to try them."""
        ...

    def options(self) -> Mapping[str, Any]:
        """More arguments for nats-py's `connect`. Raises OSError, ValueError."""
        ...


class MastersAccess:
    """The masters' servers: this master's own first, at `own_address`, then the others'."""

    def __init__(self, own_address: str, topology: Callable[[], Topology], identity: Callable[[], Identity]) -> None:
        self._own_address = own_address
        self._topology = topology
        self._identity = identity

    def urls(self) -> Sequence[str]:
        topology = self._topology()
        own = [self._own_address] if topology.own is not None else []
        return [f"tls://{address}" for address in (*own, *(place.client_address for place in topology.others))]

    def options(self) -> Mapping[str, Any]:
        return {"tls": self._identity().client_context(), "tls_hostname": MASTER_HOST}


class UserNats(NamedTuple):
    """A NATS that the user runs: its URLs, whom its certificates are issued by (None: whom the machine trusts), and
    what the masters show it: a certificate with its key, a file of credentials, or nothing. `replicas` is how many of
    its servers keep each stream.
    """

    urls: tuple[str, ...]
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    creds: Path | None = None
    replicas: int = 1

    @property
    def hosts(self) -> str:
        return ", ".join(urlsplit(url).netloc.rpartition("@")[2] for url in self.urls)

    @property
    def in_the_clear(self) -> bool:
        return any(urlsplit(url).scheme == "nats" for url in self.urls)

    def check(self) -> None:
        """Raise ValueError where this cannot be a NATS's addresses, or the files do not go together."""
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in _SCHEMES or not parts.hostname or parts.path.strip("/"):
                raise ValueError(f"--bus-url: {url!r} is not like tls://host:4222")
        if (self.cert is None) != (self.key is None):
            raise ValueError("--bus-cert and --bus-key go together")
        if not 1 <= self.replicas <= MOST_REPLICAS:
            raise ValueError(f"--bus-replicas: {self.replicas} is not 1 to {MOST_REPLICAS}")


class UserAccess:
    """The way to a NATS of the user's."""

    def __init__(self, nats: UserNats) -> None:
        self._nats = nats

    def urls(self) -> Sequence[str]:
        return self._nats.urls

    def options(self) -> Mapping[str, Any]:
        nats, options = self._nats, {}
        if not nats.in_the_clear:
            context = ssl.create_default_context(cafile=nats.ca)
            if nats.cert is not None:
                context.load_cert_chain(nats.cert, nats.key)
            options["tls"] = context
        if nats.creds is not None:
            options |= signing_options(nats.creds.read_text())
        return options


def signing_options(creds: str) -> dict[str, Any]:
    """How to come in with a file of credentials: its JWT, and the server's nonce signed with its key. Raises ValueError
    where the text is no such file.
    """
    token, seed = (_block(creds, name) for name in ("NATS USER JWT", "USER NKEY SEED"))
    try:
        key = Ed25519PrivateKey.from_private_bytes(base64.b32decode(seed + "=" * (-len(seed) % 8))[_SEED])
    except ValueError as error:
        raise ValueError("the seed in the file of credentials cannot be read") from error
    return {
        "user_jwt_cb": lambda: token.encode(),
        "signature_cb": lambda nonce: base64.b64encode(key.sign(nonce.encode())),
    }


def _block(text: str, name: str) -> str:
    _, begin, rest = text.partition(f"BEGIN {name}")
    lines = [line.strip() for line in rest.splitlines()[1:]]
    if not begin or not lines or not lines[0]:
        raise ValueError(f"the file of credentials has no {name}")
    return lines[0]
