"""The master's PKI directory: the cluster's CA, certificates of master and administrator, the key that signs tokens.

Made at the first start, reloaded ever after. The CA key is the cluster: it is written first, never made anew where any
trace of an older one is left, and what hangs on it is re-issued when the master's addresses change or half of a
certificate's life is over. Files, each 0600: `authority.pem` (CA certificate and key), `ca.pem`, `master.pem`,
`admin.pem` (certificate and key each), `service-account.pem` (`account_keys`).
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Sequence
from pathlib import Path

from barque.api.errors import ApiError, bad_request
from barque.client import pki
from barque.client.clock import Clock
from barque.client.pki import ADMIN, MASTER_HOST, Authority, Identity, PkiError, Subject
from barque.client.renewal import RenewingIdentity
from barque.master.auth.account_keys import AccountKey
from barque.master.auth.identity import User

RENEW_AT = 0.5
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class MasterPki:
    """The CA and the identities of one master. Open it with `MasterPki.open`."""

    def __init__(
        self,
        directory: Path,
        authority: Authority,
        hosts: Sequence[str],
        master: Identity,
        admin: Identity,
        account_key: AccountKey,
    ) -> None:
        self.directory = directory
        self.authority = authority
        self.hosts = tuple(hosts)
        self.master = master
        self.admin = admin
        self.account_key = account_key

    @classmethod
    def open(
        cls, directory: Path, name: str, addresses: Sequence[str], now: datetime.datetime, cluster: str = "barque"
    ) -> MasterPki:
        """Load the directory, making what is missing.

        `name` is this master's, `addresses` the DNS names and IPs it is met under besides loopback. Raises `PkiError`.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = _authority(directory, now, cluster)
        hosts = tuple(dict.fromkeys((MASTER_HOST, *_LOOPBACK, *addresses)))
        master = _identity(directory, "master", authority, pki.master_subject(name), hosts, now)
        admin = _identity(directory, "admin", authority, ADMIN, (), now)
        return cls(directory, authority, hosts, master, admin, AccountKey.open(directory))

    @property
    def ca_pem(self) -> bytes:
        return self.authority.cert_pem

    @property
    def pin(self) -> str:
        return pki.pin_of(self.ca_pem)

    def sign(self, csr_pem: bytes, user: User, now: datetime.datetime) -> bytes:
        """A certificate for `user`'s own identity, whatever else the request asks for.

        Workers and the administrator may ask; masters hold the CA and sign for themselves. Raises 400 and 403.
        """
        try:
            requested = pki.read_request(csr_pem)
        except PkiError as error:
            raise bad_request(str(error)) from error
        if requested.name != user.name:
            raise _refused(f"{user.name} may not ask for a certificate of {requested.name or 'nobody'}")
        if user.node:
            subject = pki.node_subject(user.node)
            return self.authority.sign(requested.key, subject, now, [pki.node_host(user.node)])
        if user == User(*ADMIN):
            return self.authority.sign(requested.key, ADMIN, now)
        raise _refused(f"{user.name} is neither a worker nor the administrator")

    def renewing(self, clock: Clock, randomness: random.Random) -> RenewingIdentity:
        """The master's own identity, which renews itself from the CA here; run its `run()`."""

        async def renew(csr_pem: bytes) -> bytes:
            key = pki.read_request(csr_pem).key
            return self.authority.sign(key, self.master.subject, clock.wall(), self.hosts)

        def save(identity: Identity) -> None:
            identity.save(self.directory, "master")
            self.master = identity

        return RenewingIdentity(self.master, renew, save, clock, randomness)


def _authority(directory: Path, now: datetime.datetime, cluster: str) -> Authority:
    path = directory / "authority.pem"
    if path.exists():
        authority = Authority(*pki.split_pem(path.read_bytes()))
        Identity(authority.cert_pem, authority.key_pem, authority.cert_pem).check(str(path))
        return authority
    orphan = next((f for f in ("ca.pem", "master.pem", "admin.pem") if (directory / f).exists()), None)
    if orphan is not None:
        # A new CA would lock out every worker and client of this cluster.
        raise PkiError(f"{path} is missing but {directory / orphan} is there: restore the CA's file from a backup")
    authority = pki.create_authority(now, cluster)
    pki.write_private(path, authority.cert_pem + authority.key_pem)
    return authority


def _identity(
    directory: Path, file: str, authority: Authority, subject: Subject, hosts: Sequence[str], now: datetime.datetime
) -> Identity:
    """What is in the directory if it is still good, else a fresh one, saved."""
    if (directory / f"{file}.pem").exists():
        found = Identity.load(directory, file)
        current = found.subject == subject and pki.hosts_of(found.certificate) == set(hosts)
        if current and found.past(0) <= now + pki.CLOCK_SKEW and now < found.past(RENEW_AT):
            return found
    made = authority.identity(subject, now, hosts)
    made.save(directory, file)
    return made


def _refused(why: str) -> ApiError:
    return ApiError(403, "Forbidden", why)
