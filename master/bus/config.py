"""nats-server's configuration, rendered from the settings, the topology and the masters' pins. Pure.

Who may connect where:

* 4222, clients: a certificate of the cluster's CA. The server's own master is a user by its subject; about everybody
  else the server asks the masters (`accounts`, `callout`).
* 6222, routes: a certificate of the cluster's CA whose public key is that of a present master, known by its pin: a
  worker's, and that of a master that was removed, are refused.
* the system account: the supervisor alone, which shows a certificate of its own making that no other server trusts.

Each mode keeps its streams in a directory of its own: nats-server makes a stream that nobody can mend of what the other
mode has left.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from barque.client.pki import Subject, master_subject
from barque.master.bus.accounts import render_accounts
from barque.master.bus.topology import ServerPlace, Topology

MiB = 1024 * 1024
# An object of 1.5 MiB and what is around it; beyond 8 MiB nats-server itself advises against.
MAX_PAYLOAD_BYTES = 4 * MiB
# Whoever has left so much unread is cut off.
MAX_PENDING_BYTES = 16 * MiB
MAX_CONNECTIONS = 512
MAX_SUBSCRIPTIONS = 1024
MAX_CONTROL_LINE_BYTES = 4096
MAX_MEMORY_STORE_BYTES = 32 * MiB

SUPERVISOR = Subject("barque-bus-supervisor")

# Files in the bus's directory.
CONFIG_FILE = "nats.conf"
IDENTITY_FILE = "tls.pem"
CA_FILE = "ca.pem"
CLIENTS_CA_FILE = "clients-ca.pem"
# The pin of no key: a list of none at all would let everyone in.
_NOBODY = "0" * 64


@dataclass(frozen=True)
class Patience:
    """How long the supervisor waits for what, in seconds."""

    # Between two looks at the topology, the pins and the server's state.
    look_s: float = 0.5
    # The same while it starts.
    look_first_s: float = 0.1
    ask_s: float = 2.0
    answer_s: float = 3.0
    # A server that has not answered for so long is wedged; a starting one may first read its store.
    silence_s: float = 15.0
    start_s: float = 60.0
    # A change of mode loses the streams, so the masters must have agreed on it for a moment.
    settle_s: float = 1.5
    first_pause_s: float = 0.2
    longest_pause_s: float = 10.0
    # A server that has lived this long died of something new: start over with the short pause.
    stable_s: float = 60.0
    pins_s: float = 30.0
    route_s: float = 2.0


@dataclass(frozen=True)
class BusSettings:
    """Where the bus lives. `address` is `host:port` for clients; sizes bound the disk that JetStream may take."""

    directory: Path
    address: str = "127.0.0.1:4222"
    cluster: str = "barque"
    route_address: str = "127.0.0.1:6222"
    max_disk_bytes: int = 512 * MiB
    # JetStream is not started again with less than this to write on.
    room_bytes: int = 64 * MiB
    patience: Patience = field(default_factory=Patience)
    change_feed: bool = True

    @property
    def local_address(self) -> str:
        """Where the master itself connects."""
        host, _, port = self.address.rpartition(":")
        return f"127.0.0.1:{port}" if host in ("", "0.0.0.0", "[::]") else self.address

    def alone(self, master: str) -> Topology:
        """The topology of a master of this name that knows of no others."""
        host, _, port = self.address.rpartition(":")
        own = ServerPlace(master, master, host, int(port), int(self.route_address.rpartition(":")[2]))
        return Topology(own, (own,))


def store_directories(topology: Topology) -> tuple[str, str]:
    """The name of JetStream's directory in this mode, and of the other mode's."""
    names = ("clustered", "standalone")
    return names if topology.clustered else (names[1], names[0])


def user_of(subject: Subject) -> str:
    """What nats-server calls the owner of a certificate with this subject."""
    groups = "".join(f",O={group}" for group in reversed(subject.groups))
    return f"CN={subject.name}{groups}"


def users_of(topology: Topology, own: str, issuer: str) -> list[str]:
    """Who is known without being asked about. Where newcomers are asked about, that is this server's own master alone:
    nats-server cannot change the list while it runs, and the masters come and go.
    """
    return [user_of(master_subject(name)) for name in ([own] if issuer else topology.masters)]


def render_config(settings: BusSettings, topology: Topology, pins: Iterable[str] = (), issuer: str = "") -> str:
    """nats-server's configuration file. `pins` are the SHA-256 (hex) of the public keys of the other masters;
    `issuer` is the key whose word about newcomers counts, "" to admit none but masters. Raises `ValueError` where this
    master has no server.
    """
    if topology.own is None:
        raise ValueError("a master that does not vote has no nats-server")
    quoted, directory = json.dumps, settings.directory
    accounts = render_accounts(
        settings.cluster, users_of(topology, topology.own.master, issuer), user_of(SUPERVISOR), issuer
    )
    return f"""\
# Written by Barque whenever the masters or their certificates change; changes made here do not last.
server_name: {quoted(topology.own.name)}
listen: {quoted(settings.address)}
max_payload: {MAX_PAYLOAD_BYTES}
max_pending: {MAX_PENDING_BYTES}
max_connections: {MAX_CONNECTIONS}
max_subscriptions: {MAX_SUBSCRIPTIONS}
max_control_line: {MAX_CONTROL_LINE_BYTES}
write_deadline: "5s"
ping_interval: "5s"
ping_max: 2
logtime: false
tls {{
{_tls_files(directory, CLIENTS_CA_FILE)}
  verify_and_map: true
  timeout: 5
}}
{accounts}jetstream {{
  store_dir: {quoted(str(directory / store_directories(topology)[0]))}
  max_file_store: {settings.max_disk_bytes}
  max_memory_store: {MAX_MEMORY_STORE_BYTES}
  sync_interval: always
}}
{_cluster(settings, topology, pins) if topology.clustered else ""}"""


def _cluster(settings: BusSettings, topology: Topology, pins: Iterable[str]) -> str:
    quoted = json.dumps
    routes = ", ".join(quoted(f"tls://{place.route_address}") for place in topology.others)
    pinned = ", ".join(quoted(pin) for pin in sorted({_NOBODY, *pins}))
    return f"""\
cluster {{
  name: {quoted(settings.cluster)}
  listen: {quoted(settings.route_address)}
  routes: [ {routes} ]
  no_advertise: true
  compression: off
  tls {{
{_tls_files(settings.directory, CA_FILE)}
    verify: true
    timeout: 5
    pinned_certs: [ {pinned} ]
  }}
}}
"""


def _tls_files(directory: Path, ca: str) -> str:
    named = {"cert_file": IDENTITY_FILE, "key_file": IDENTITY_FILE, "ca_file": ca}
    return "\n".join(f"  {option}: {json.dumps(str(directory / file))}" for option, file in named.items())
