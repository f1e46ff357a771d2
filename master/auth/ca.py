"""The master's PKI directory: the cluster's CA, certificates of master and administrator, the key that signs tokens.

Made at the first start, or fetched by joining, reloaded ever after. Every master has the CA's key, so each renews its
own certificate and signs for workers while it runs. The CA key is the cluster: it is written first, never made anew
where any trace of an older one is left, and what hangs on it is re-issued when the master's addresses change or half of
a certificate's life is over. Files, each 0600: `authority.pem` (CA certificate and key), `ca.pem`, `master.pem`,
`admin.pem` (certificate and key each), `service-account.pem` (`account_keys`).
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from barque.api.errors import ApiError, bad_request
from barque.client import pki
from barque.client.clock import Clock
from barque.client.pki import ADMIN, MASTER_HOST, Authority, Identity, PkiError, Subject
from barque.client.renewal import RenewingIdentity
from barque.master.auth import account_keys
from barque.master.auth.account_keys import AccountKey
from barque.master.auth.identity import User
from barque.master.auth.key_wrapping import Wrapped, wrap

RENEW_AT = 0.5
_AUTHORITY = "authority.pem"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Keys(msgspec.Struct):
    """What every master has alike, as PEM: the CA's certificate and key, and the key of service accounts' tokens."""

    authority: bytes
    account_key: bytes


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

        `name` is this master's, `addresses` the DNS names and IPs it is met under besides that and loopback. Raises
        `PkiError`.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = _authority(directory, now, cluster)
        _check_clock(authority, now)
        hosts = master_hosts(name, addresses)
        master = _identity(directory, "master", authority, pki.master_subject(name), hosts, now)
        admin = _identity(directory, "admin", authority, ADMIN, (), now)
        return cls(directory, authority, hosts, master, admin, AccountKey.open(directory))

    def wrapped_for(self, receiver: bytes, member: bytes, entropy: Callable[[int], bytes]) -> Wrapped:
        """The keys that make a master of this cluster, for the owner of this public key and for this `member` alone.
        Raises `WrappingError`.
        """
        keys = _Keys(self.authority.cert_pem + self.authority.key_pem, self.account_key.pem)
        return wrap(msgspec.msgpack.encode(keys), receiver, member, entropy)

    @staticmethod
    def lay_joined(directory: Path, identity: Identity, keys: bytes) -> None:
        """Write what a joining master has got: its identity, and `keys` as unwrapped. May be done again.

        Raises `PkiError` where they are no keys, or of another CA than the identity's.
        """
        try:
            got = msgspec.msgpack.decode(keys, type=_Keys)
        except msgspec.DecodeError as error:
            raise PkiError(f"the keys from the master cannot be read ({error})") from error
        authority = Authority(*pki.split_pem(got.authority))
        Identity(authority.cert_pem, authority.key_pem, authority.cert_pem).check("the CA from the master")
        identity.check("the certificate from the master")
        if authority.cert_pem != identity.ca_pem:
            raise PkiError("the CA's key from the master is not that of the pinned CA")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        pki.write_private(directory / account_keys.FILE, got.account_key)
        # The CA's file first, as at a founding: without it, the others are taken for what is left of a lost CA.
        pki.write_private(directory / _AUTHORITY, got.authority)
        identity.save(directory, "master")

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
        if user.name == ADMIN.name and set(ADMIN.groups) <= set(user.groups):
            return self.authority.sign(requested.key, ADMIN, now)
        raise _refused(f"{user.name} is neither a worker nor the administrator")

    def sign_master(self, csr_pem: bytes, name: str, hosts: Sequence[str], now: datetime.datetime) -> bytes:
        """A certificate for the joining master `name`, met under `hosts`. Raises 400 where it is asked for another."""
        subject = pki.master_subject(name)
        try:
            requested = pki.read_request(csr_pem)
        except PkiError as error:
            raise bad_request(str(error)) from error
        if requested.name != subject.name:
            raise bad_request(f"the certificate is asked for {requested.name or 'nobody'}, the master is {name}")
        return self.authority.sign(requested.key, subject, now, master_hosts(name, hosts))

    def renewing(self, clock: Clock, randomness: random.Random) -> RenewingIdentity:
        """The master's own identity, which renews itself from the CA here; run its `run()`."""

        async def renew(csr_pem: bytes) -> bytes:
            key = pki.read_request(csr_pem).key
            return self.authority.sign(key, self.master.subject, clock.wall(), self.hosts)

        def save(identity: Identity) -> None:
            identity.save(self.directory, "master")
            self.master = identity

        return RenewingIdentity(self.master, renew, save, clock, randomness)


def master_hosts(name: str, addresses: Sequence[str]) -> tuple[str, ...]:
    """All that the certificate of the master `name` must be good for, where it is met under `addresses`: its name, too,
    which is most often the machine's, unless it can be no host's.
    """
    own = (name,) if pki.is_dns_name(name) else ()
    return tuple(dict.fromkeys((MASTER_HOST, *_LOOPBACK, *own, *addresses)))


def _check_clock(authority: Authority, now: datetime.datetime) -> None:
    """A clock that is off by less than a day does no harm: certificates are made valid from the day before on."""
    first, last = authority.valid
    if not first <= now <= last:
        raise PkiError(
            f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, but the cluster's CA is good from "
            f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}: set the clock (nobody could connect otherwise)"
        )


def _authority(directory: Path, now: datetime.datetime, cluster: str) -> Authority:
    path = directory / _AUTHORITY
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
