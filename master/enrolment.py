"""The joining master's side: a place in a cluster that exists, and the data directory with which it starts there.

`member.json` in the data directory (0600) tells how far it has got. Before the first word is sent it holds who this
member will be and its one-time keys; once the keys of the cluster lie in `pki/`, which cluster it is a member of. So
the same command goes on where it was cut off, as the same member, and nobody else can: token and answer are good only
with those keys. A directory that holds a master's data is refused as it is.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from barque.client import pki
from barque.client.joining import JoinError, ask
from barque.client.pki import Identity, PkiError, master_subject, write_private
from barque.client.profile import Profile
from barque.master.apiserver.settings import ApiSettings
from barque.master.auth.ca import MasterPki
from barque.master.auth.key_wrapping import UnwrappingKey, WrappingError
from barque.master.auth.member_joining import (
    JOIN_MASTER_PATH,
    MemberJoinReply,
    MemberJoinRequest,
    wrapping_context,
)
from barque.master.foundation import is_laid
from barque.master.raft.messages import MemberInfo

if TYPE_CHECKING:
    from barque.master.bus.access import UserNats
    from barque.master.store.engine_etcd import EtcdSettings

FILE = "member.json"
# Options of `barque master run` in which all masters must agree, and the settings of the API that they are.
SHARED_OPTIONS = {
    "cluster_cidr": "cluster_cidr",
    "node_cidr_prefix": "node_cidr_prefix",
    "service_cidr": "service_cidr",
    "not_ready_toleration": "not_ready_toleration_s",
    "unreachable_toleration": "unreachable_toleration_s",
}
_FILE_OPTIONS = ("etcd_ca", "etcd_cert", "etcd_key", "bus_ca", "bus_cert", "bus_key", "bus_creds")
_ID_BYTES = 8
# Certificates bear clocks that are off by a day; people who compare logs do not.
_CLOCK_WORTH_A_WORD_S = 60.0


class _Pending(msgspec.Struct):
    """What is kept for as long as the cluster's answer has not come: a request and its key (PEM), the one-time key."""

    csr: str
    key: str
    unwrapping_key: bytes


class Membership(msgspec.Struct):
    """Which member of which cluster this directory is, as it joined. `ca_pin` names the cluster's CA; `settings` are
    options of `barque master run` in which all masters must agree, `tls_san` this one's own. With `pending` the joining
    has not been finished.
    """

    ca_pin: str
    info: MemberInfo
    cluster: str = ""
    cluster_id: str = ""
    settings: dict[str, str] = {}
    pending: _Pending | None = None
    tls_san: list[str] = []


class Enrolled(msgspec.Struct):
    """A finished joining. `profile` lists every master; `clock` is a sentence where the two clocks differ, else ""."""

    membership: Membership
    profile: Profile
    clock: str


def shared_settings(api: ApiSettings, etcd: EtcdSettings | None = None, nats: UserNats | None = None) -> dict[str, str]:
    """What a joining master must be told of these settings: the options of its `run` that are not the default. Of what
    is shown to etcd and to a NATS of the user's that is where the files are, not what is in them.
    """
    default = ApiSettings()
    shared = {
        option: str(getattr(api, field))
        for option, field in SHARED_OPTIONS.items()
        if getattr(api, field) != getattr(default, field)
    }
    if etcd is not None:
        at = etcd.endpoints
        files = {"etcd_ca": at.ca, "etcd_cert": at.cert, "etcd_key": at.key}
        shared |= {"kept_in": "etcd", "etcd_endpoints": ",".join(at.urls), "etcd_prefix": etcd.prefix}
        shared |= {option: str(file) for option, file in files.items() if file is not None}
    if nats is not None:
        files = {"bus_ca": nats.ca, "bus_cert": nats.cert, "bus_key": nats.key, "bus_creds": nats.creds}
        shared |= {"bus_url": ",".join(nats.urls), "bus_replicas": str(nats.replicas)}
        shared |= {option: str(file) for option, file in files.items() if file is not None}
    return shared


def on_etcd(settings: Mapping[str, str]) -> bool:
    """Whether these are the settings of masters whose state is in etcd."""
    return settings.get("kept_in") == "etcd"


def missing_files(settings: Mapping[str, str]) -> dict[str, str]:
    """By option, the files that the other masters read, and that are not on this machine."""
    named = {option: settings[option] for option in _FILE_OPTIONS if settings.get(option)}
    return {option: file for option, file in named.items() if not Path(file).exists()}


def membership(data_dir: Path) -> Membership | None:
    """How this directory joined a cluster; None where it founded its own, or is empty. Raises `JoinError` where the
    file cannot be read, or the joining was never finished.
    """
    found = _read(data_dir)
    if found is not None and found.pending is not None:
        raise JoinError(
            f"{data_dir} is of a joining that was not finished: run the same `barque master join` again, or remove the "
            "directory to begin anew"
        )
    return found


async def enrol(
    data_dir: Path,
    info: MemberInfo,
    address: str,
    token: str,
    ca_pin: str,
    now: datetime.datetime,
    entropy: Callable[[int], bytes],
    tls_san: Sequence[str] = (),
) -> Enrolled:
    """Join through the master at `address` (HTTPS) and lay `data_dir`. `info` has no id yet: it is made here, and kept;
    so is `tls_san`, by which the master makes its certificate when it runs.

    Raises `JoinError`, `OSError`.
    """
    first_attempt = not (data_dir / FILE).exists()
    joining = _begun(data_dir, info, ca_pin, entropy)
    assert joining.pending is not None
    pending, one_time = joining.pending, UnwrappingKey.of(joining.pending.unwrapping_key)
    body = msgspec.json.encode(MemberJoinRequest(token.strip(), pending.csr, one_time.public, joining.info))
    try:
        answer = await ask(address, ca_pin, JOIN_MASTER_PATH, body, MemberJoinReply)
    except JoinError as error:
        if first_attempt and not error.undecided:
            # Nothing was done there, so the same token may be tried with other options.
            (data_dir / FILE).unlink()
        raise
    reply: MemberJoinReply = answer.reply
    identity = Identity(reply.certificate.encode(), pending.key.encode(), answer.ca_pem)
    joined = Membership(ca_pin, joining.info, reply.cluster, reply.cluster_id, reply.settings, tls_san=list(tls_san))
    try:
        keys = one_time.unwrap(reply.keys, wrapping_context(reply.cluster_id, joining.info.id))
        MasterPki.lay_joined(data_dir / "pki", identity, keys)
        admin = MasterPki.open(
            data_dir / "pki", joining.info.name, sorted(pki.hosts_of(identity.certificate)), now
        ).admin
    except (PkiError, WrappingError) as error:
        raise JoinError(str(error), undecided=True) from error
    (data_dir / "store").mkdir(mode=0o700, exist_ok=True)
    _write(data_dir, joined)
    # With etcd, this one is no member before it runs.
    others = [member.grpc_address for member in reply.members if member.id != joined.info.id]
    doors = [*others, joined.info.grpc_address]
    return Enrolled(joined, Profile.of(doors, admin, cluster=reply.cluster), _clocks(reply.time, now))


def _begun(data_dir: Path, info: MemberInfo, ca_pin: str, entropy: Callable[[int], bytes]) -> Membership:
    """The joining that goes on, or a new one, on disk before it is returned. Raises `JoinError`."""
    found = _read(data_dir)
    if found is None or found.pending is None:
        _refuse_data(data_dir, ca_pin, found)
        try:
            pki.check_master_name(info.name)
        except PkiError as error:
            raise JoinError(str(error)) from error
        request = pki.create_request(master_subject(info.name))
        pending = _Pending(request.csr_pem.decode(), request.key_pem.decode(), UnwrappingKey.generate().data)
        made = msgspec.structs.replace(info, id=entropy(_ID_BYTES).hex())
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _write(data_dir, Membership(ca_pin, made, pending=pending))
    if found.ca_pin != ca_pin or msgspec.structs.replace(found.info, id="") != info:
        raise JoinError(
            f"{data_dir} is of a joining that was begun as {found.info.name} at {found.info.peer_address} with the pin "
            f"{found.ca_pin}: go on with those options, or remove the directory to begin anew"
        )
    return found


def _refuse_data(data_dir: Path, ca_pin: str, found: Membership | None) -> None:
    """Raise `JoinError` where a master's data is there already."""
    store = data_dir / "store"
    if found is None and not is_laid(data_dir) and not (store.is_dir() and any(store.iterdir())):
        return
    elsewhere = "join with another --data-dir, or move this one away first"
    if found is not None and found.ca_pin == ca_pin:
        raise JoinError(
            f"{data_dir} is a member of this cluster already, {found.info.name}: start it with `barque master run`; "
            f"where it was removed from the cluster, {elsewhere}"
        )
    own = _pin(data_dir)
    if own == ca_pin:
        raise JoinError(f"{data_dir} holds a master of this cluster already: start it with `barque master run`")
    raise JoinError(f"{data_dir} holds the data of another cluster{f' ({own})' if own else ''}: {elsewhere}")


def _pin(data_dir: Path) -> str:
    try:
        return pki.pin_of((data_dir / "pki" / "ca.pem").read_bytes())
    except (OSError, PkiError):
        return ""


def _clocks(theirs: str, ours: datetime.datetime) -> str:
    ahead_s = (ours - datetime.datetime.fromisoformat(theirs)).total_seconds()
    if abs(ahead_s) < _CLOCK_WORTH_A_WORD_S:
        return ""
    hours, minutes = divmod(round(abs(ahead_s) / 60), 60)
    side = "ahead of" if ahead_s > 0 else "behind"
    return f"this machine's clock is {hours} h {minutes} min {side} the master's: set one of the two"


def _read(data_dir: Path) -> Membership | None:
    path = data_dir / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Membership)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise JoinError(f"cannot read {path}: {error}") from error


def _write(data_dir: Path, state: Membership) -> Membership:
    write_private(data_dir / FILE, msgspec.json.format(msgspec.json.encode(state)))
    return state
