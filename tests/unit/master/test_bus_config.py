"""nats-server's configuration as it is rendered, and its versions as they are recognised."""

from pathlib import Path

import pytest

from barque.client.pki import ADMIN, master_subject
from barque.master.bus.accounts import render_accounts
from barque.master.bus.binary import parse_version
from barque.master.bus.config import BusSettings, render_config, store_directories, user_of
from barque.master.bus.topology import Topology, topology_in
from barque.master.raft.messages import Configuration, MemberInfo

SETTINGS = BusSettings(Path("/bus"), "10.0.0.1:4222", "lab", "10.0.0.1:6222")
INFOS = [MemberInfo(f"{number}" * 16, f"m{number}", f"10.0.0.{number}") for number in (1, 2, 3)]
PINS = ("b" * 64, "a" * 64)

ALONE = (
    """\
# Written by Barque whenever the masters or their certificates change; changes made here do not last.
server_name: "m1-11111111"
listen: "10.0.0.1:4222"
max_payload: 4194304
max_pending: 16777216
max_connections: 512
max_subscriptions: 1024
max_control_line: 4096
write_deadline: "5s"
ping_interval: "5s"
ping_max: 2
logtime: false
tls {
  cert_file: "/bus/tls.pem"
  key_file: "/bus/tls.pem"
  ca_file: "/bus/clients-ca.pem"
  verify_and_map: true
  timeout: 5
}
""",
    """\
jetstream {
  store_dir: "/bus/standalone"
  max_file_store: 536870912
  max_memory_store: 33554432
  sync_interval: always
}
""",
)

CLUSTER = f"""\
cluster {{
  name: "lab"
  listen: "10.0.0.1:6222"
  routes: [ "tls://10.0.0.2:6222", "tls://10.0.0.3:6222" ]
  no_advertise: true
  compression: off
  tls {{
  cert_file: "/bus/tls.pem"
  key_file: "/bus/tls.pem"
  ca_file: "/bus/ca.pem"
    verify: true
    timeout: 5
    pinned_certs: [ "{"0" * 64}", "{"a" * 64}", "{"b" * 64}" ]
  }}
}}
"""


def topology(*infos: MemberInfo, learners: tuple[MemberInfo, ...] = ()) -> Topology:
    voters = tuple(info.id for info in infos)
    return topology_in(INFOS[0], Configuration(voters=voters, members=(*infos, *learners)))


def accounts(*masters: str, issuer: str = "") -> str:
    users = [f"CN=barque:master:{name},O=barque:masters" for name in masters]
    return render_accounts("lab", users, "CN=barque-bus-supervisor", issuer)


def test_a_server_alone() -> None:
    before, after = ALONE
    assert render_config(SETTINGS, topology(INFOS[0])) == before + accounts("m1") + after


def test_one_of_three() -> None:
    before, after = ALONE
    expected = before + accounts("m1", "m2", "m3") + after.replace("standalone", "clustered") + CLUSTER
    assert render_config(SETTINGS, topology(*INFOS), PINS) == expected


def test_where_newcomers_are_asked_about_only_its_own_master_is_named() -> None:
    """nats-server reloads no other list while it runs."""
    before, after = ALONE
    expected = before + accounts("m1", issuer="ISSUER") + after.replace("standalone", "clustered") + CLUSTER
    assert render_config(SETTINGS, topology(*INFOS), PINS, "ISSUER") == expected


def test_without_any_pin_nobody_gets_in() -> None:
    assert f'pinned_certs: [ "{"0" * 64}" ]' in render_config(SETTINGS, topology(*INFOS))


def test_a_learner_is_known_and_has_no_server() -> None:
    as_learner = topology(*INFOS[1:], learners=(INFOS[0],))
    assert (as_learner.own, as_learner.masters, as_learner.clustered) == (None, ("m1", "m2", "m3"), True)
    with pytest.raises(ValueError, match="has no nats-server"):
        render_config(SETTINGS, as_learner)
    assert accounts("m1", "m2") in render_config(SETTINGS, topology(INFOS[0], learners=(INFOS[1],)))


def test_a_group_that_is_not_known_yet_has_no_servers() -> None:
    assert topology_in(INFOS[0], Configuration()) == Topology(None, ())


def test_its_own_doors_are_known_before_the_group_knows_of_them() -> None:
    moved = MemberInfo(INFOS[0].id, "m1", "10.0.0.9", bus_port=4333, route_port=6333)
    own = topology_in(moved, Configuration(voters=(moved.id,), members=(INFOS[0],))).own
    assert own is not None
    assert (own.client_address, own.route_address) == ("10.0.0.9:4333", "10.0.0.9:6333")


def test_each_mode_has_its_own_store() -> None:
    assert store_directories(topology(INFOS[0])) == ("standalone", "clustered")
    assert store_directories(topology(*INFOS)) == ("clustered", "standalone")


def test_users_are_named_as_nats_server_does() -> None:
    assert user_of(master_subject("m1")) == "CN=barque:master:m1,O=barque:masters"
    assert user_of(ADMIN) == "CN=barque-admin,O=system:masters"


@pytest.mark.parametrize(
    ("address", "local"),
    [("0.0.0.0:4222", "127.0.0.1:4222"), ("[::]:1", "127.0.0.1:1"), ("10.0.0.1:4222", "10.0.0.1:4222")],
)
def test_the_master_connects_where_it_listens(address: str, local: str) -> None:
    assert BusSettings(Path("/x"), address).local_address == local


@pytest.mark.parametrize(("text", "version"), [("nats-server: v2.15.1\n", (2, 15, 1)), ("", ()), ("v3", ())])
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version
