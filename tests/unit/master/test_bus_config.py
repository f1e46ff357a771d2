"""What the nats-server is told, and how it is recognised."""

from pathlib import Path

import pytest

from barque.master.bus.binary import parse_version
from barque.master.bus.server import BusSettings, render_config

SETTINGS = BusSettings(Path("/var/lib/barque/master/bus"), "10.0.0.1:4222", name="m1")


def test_the_whole_configuration() -> None:
    assert (
        render_config(SETTINGS)
        == """\
# Written by Barque at every start of the bus; changes made here do not last.
server_name: "m1"
listen: "10.0.0.1:4222"
max_payload: 4194304
max_connections: 256
write_deadline: "10s"
ping_interval: "5s"
ping_max: 2
logtime: false
tls {
  cert_file: "/var/lib/barque/master/bus/tls.pem"
  key_file: "/var/lib/barque/master/bus/tls.pem"
  ca_file: "/var/lib/barque/master/bus/ca.pem"
  verify_and_map: true
  timeout: 5
}
authorization {
  users: [ { user: "barque-master" }, { user: "CN=barque-admin,O=system:masters" } ]
}
jetstream {
  store_dir: "/var/lib/barque/master/bus/data"
  max_file_store: 536870912
  max_memory_store: 16777216
  sync_interval: always
}
"""
    )


@pytest.mark.parametrize(
    ("address", "local"),
    [("0.0.0.0:4222", "127.0.0.1:4222"), ("[::]:1", "127.0.0.1:1"), ("10.0.0.1:4222", "10.0.0.1:4222")],
)
def test_the_master_connects_where_it_listens(address: str, local: str) -> None:
    assert BusSettings(Path("/x"), address).local_address == local


@pytest.mark.parametrize(("text", "version"), [("nats-server: v2.15.1\n", (2, 15, 1)), ("", ()), ("v3", ())])
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version
