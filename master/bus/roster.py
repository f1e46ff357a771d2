"""The public keys of the other masters, by which their nats-servers know one another: `pins`.

In: the topology. Each other master is asked for its certificate where it shows it to everyone, at its HTTPS door, by a
TLS handshake alone: it must be of the cluster's CA and be that very master's. Asked anew every half a minute, at once
when a master is new or when a route to one is missing; so a renewed certificate is followed. What was seen last is kept
while a master is away, and across restarts (`roster.json`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography import x509

from barque.client.clock import Clock
from barque.client.pki import MASTER_HOST, Identity, PkiError, master_subject, spki, subject_of, write_private
from barque.master.bus.config import Patience
from barque.master.bus.topology import ServerPlace, Topology

log = logging.getLogger(__name__)

FILE = "roster.json"
HANDSHAKE_TIMEOUT_S = 3.0


class Roster:
    """`pins` has one for each other server of the topology that was ever seen; `run()` keeps it."""

    def __init__(
        self,
        directory: Path,
        topology: Callable[[], Topology],
        identity: Callable[[], Identity],
        clock: Clock,
        patience: Patience,
    ) -> None:
        self._path = directory / FILE
        self._topology = topology
        self._identity = identity
        self._clock = clock
        self._patience = patience
        self._known = _load(self._path)
        self._asked: dict[str, float] = {}
        # Names of servers to which there is no route.
        self.missing: frozenset[str] = frozenset()

    def pins(self, topology: Topology) -> tuple[str, ...]:
        """Those of the other servers of this topology, as far as they are known."""
        return tuple(self._known[place.name] for place in topology.others if place.name in self._known)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            others = self._topology().others
            due = [place for place in others if self._is_due(place)]
            seen = await asyncio.gather(*map(self._ask, due))
            found = {place.name: pin for place, pin in zip(due, seen, strict=True) if pin}
            names = {place.name for place in others}
            known = {name: pin for name, pin in (self._known | found).items() if name in names}
            # While nothing is known of the others, what was known of them is not forgotten.
            if names and known != self._known:
                self._known = known
                self._keep()
            await self._clock.sleep(self._patience.look_s)

    def _is_due(self, place: ServerPlace) -> bool:
        urgent = place.name not in self._known or place.name in self.missing
        pause_s = self._patience.route_s if urgent else self._patience.pins_s
        return self._clock.monotonic() - self._asked.get(place.name, -pause_s) >= pause_s

    async def _ask(self, place: ServerPlace) -> str:
        """The pin of the certificate that this master shows; "" where it shows none that is its own."""
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                return await pin_shown(place, self._identity())
        except (OSError, TimeoutError, PkiError, ValueError) as error:
            log.debug("bus: %s's certificate is not to be had: %s", place.master, str(error) or "no answer")
            return ""
        finally:
            names = {other.name for other in self._topology().others}
            self._asked = {name: at for name, at in self._asked.items() if name in names}
            self._asked[place.name] = self._clock.monotonic()

    def _keep(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._path, msgspec.json.encode(self._known))
        except OSError as error:
            log.warning("the masters' pins cannot be kept: %s", error)


async def pin_shown(place: ServerPlace, identity: Identity) -> str:
    """The pin of the certificate at a master's HTTPS door. Raises `PkiError` where it is another's, `OSError`."""
    _, writer = await asyncio.open_connection(
        place.host, place.door_port, ssl=identity.client_context(), server_hostname=MASTER_HOST
    )
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    certificate = x509.load_der_x509_certificate(shown)
    if subject_of(certificate) != master_subject(place.master):
        raise PkiError(f"the master at {place.host}:{place.door_port} is not {place.master}")
    return pin_of_key(certificate)


def pin_of_key(certificate: x509.Certificate) -> str:
    """How nats-server names a public key: the SHA-256 of its SubjectPublicKeyInfo, in hex."""
    return hashlib.sha256(spki(certificate.public_key())).hexdigest()


def _load(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}
