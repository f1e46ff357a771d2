"""What a supervisor makes of its server's answers and log, whom it removes, and how one comes to a user's own NATS."""

import base64
import datetime
import logging
from pathlib import Path

import nats.errors
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.js import api

from barque.master.bus.access import MastersAccess, UserNats, signing_options
from barque.master.bus.link import BusAwayError
from barque.master.bus.peers import strangers
from barque.master.bus.process import ServerLog
from barque.master.bus.server import is_stores_fault
from barque.master.bus.survey import Copies, copies_of, fault_of
from barque.master.bus.topology import Topology, topology_of
from barque.master.bus.vitals import Probe, Vitals, read_vitals, supervisor_identity
from barque.master.raft.messages import MemberInfo
from tests.support.clock import FakeClock

INFOS = [MemberInfo(f"{number}" * 16, f"m{number}", f"10.0.0.{number}") for number in (1, 2, 3)]
THREE = topology_of(INFOS[0].id, INFOS)
ALONE = topology_of(INFOS[0].id, INFOS[:1])
NAMES = [place.name for place in THREE.servers]


def answers(jsz: str = "{}", healthz: str = '{"status":"ok"}', routes: tuple[str, ...] = ()) -> list[bytes]:
    routez = ",".join(f'{{"remote_name":"{name}"}}' for name in routes)
    return [f'{{"data":{data}}}'.encode() for data in (jsz, healthz, f'{{"routes":[{routez}]}}')]


META = f'{{"meta_cluster":{{"leader":"{NAMES[1]}","replicas":[{{"name":"{NAMES[1]}"}},{{"name":"gone-4"}}]}}}}'


@pytest.mark.parametrize(
    ("topology", "told", "fault"),
    [
        (ALONE, answers(), ""),
        (THREE, answers(META, routes=(*NAMES[1:], NAMES[1])), ""),
        (THREE, answers(META, routes=(NAMES[2],)), "m2's nats-server is away"),
        (THREE, answers(META), "m2's and m3's nats-server are away"),
        (THREE, answers(routes=(*NAMES[1:],)), "JetStream has no leader"),
        (ALONE, answers('{"disabled":true}'), "JetStream has stopped: it is disabled"),
        (
            ALONE,
            answers(healthz='{"error":"JetStream stream \'S\' write error: no space left on device"}'),
            "JetStream has stopped: JetStream stream 'S' write error: no space left on device",
        ),
        # Also what mends itself is said there.
        (ALONE, answers(healthz='{"error":"JetStream stream \'S\' is not current"}'), ""),
    ],
)
def test_the_servers_answers(topology: Topology, told: list[bytes], fault: str) -> None:
    assert read_vitals(topology, *told).fault(topology) == fault


def test_an_answer_that_is_none() -> None:
    with pytest.raises(BusAwayError, match="cannot be read"):
        read_vitals(ALONE, b"nonsense", b"{}", b"{}")


def test_who_is_removed() -> None:
    vitals = read_vitals(THREE, *answers(META))
    assert strangers(THREE, vitals) == ["gone-4"]
    assert strangers(THREE, None) == []
    assert strangers(ALONE, Vitals(peers=("gone-4",))) == []


def test_its_own_server_is_tried_first() -> None:
    access = MastersAccess("127.0.0.1:4222", lambda: THREE, lambda: None)  # type: ignore[arg-type, return-value]
    assert access.urls() == ["tls://127.0.0.1:4222", "tls://10.0.0.2:4222", "tls://10.0.0.3:4222"]
    learner = MastersAccess("127.0.0.1:4222", lambda: topology_of("", INFOS[1:]), lambda: None)  # type: ignore[arg-type, return-value]
    assert learner.urls() == ["tls://10.0.0.2:4222", "tls://10.0.0.3:4222"]


@pytest.mark.parametrize(
    ("cluster", "copies"),
    [
        (None, 1),
        (api.ClusterInfo(leader="a", replicas=[api.PeerInfo("b", True), api.PeerInfo("c", True)]), 3),
        (api.ClusterInfo(leader="a", replicas=[api.PeerInfo("b", True), api.PeerInfo("c", False)]), 2),
        (api.ClusterInfo(leader="a", replicas=[api.PeerInfo("b", True, offline=True)]), 1),
        # Under load a copy is hardly ever called current.
        (api.ClusterInfo(leader="a", replicas=[api.PeerInfo("b", False, active=30_000_000, lag=3)]), 2),
        (api.ClusterInfo(leader="a", replicas=[api.PeerInfo("b", False, active=30_000_000, lag=50_000)]), 1),
        (api.ClusterInfo(leader="a", replicas=[api.PeerInfo("b", False, active=6_000_000_000, lag=3)]), 1),
        (api.ClusterInfo(leader="a", replicas=[api.PeerInfo("b", False, active=0, lag=3)]), 1),
        (api.ClusterInfo(leader=None, replicas=[api.PeerInfo("b", True)]), 1),
    ],
)
def test_the_copies_of_a_stream(cluster: api.ClusterInfo | None, copies: int) -> None:
    info = api.StreamInfo(api.StreamConfig(name="S"), api.StreamState(0, 0, 0, 0, 0), cluster=cluster)
    assert copies_of(info) == copies


def test_missing_copies_are_said() -> None:
    assert fault_of(Copies(2, 3)) == "streams on 2 of 3 servers"
    assert fault_of(Copies(3, 3)) == ""


def test_a_store_that_cannot_be_written_is_noticed() -> None:
    said = ServerLog(FakeClock())
    said.take("[7] [ERR] JetStream failed to store a msg on stream 'A > S': no such file or directory")
    assert said.hurt == ""
    said.take("[7] [ERR] Filestore [S] Critical write error: no such file or directory")
    said.take("[7] [ERR] JetStream stream 'A > S' critical write error: no such file or directory")
    assert said.hurt == "Filestore [S] Critical write error: no such file or directory"


def test_whose_fault_a_failed_start_is() -> None:
    ended = "nats-server ended with 1: "
    assert is_stores_fault(f"{ended}Can't start JetStream: raft: snapshot corrupt")
    assert not is_stores_fault(f"{ended}Can't start JetStream: mkdir /x: permission denied")
    assert not is_stores_fault(f"{ended}Error listening on port: 127.0.0.1:4222, address already in use")


async def test_a_server_that_repeats_itself_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    said = ServerLog(clock)
    with caplog.at_level(logging.INFO):
        for number in range(1000):
            said.take(f"[7] [ERR] certificate not pinned {number}")
            said.take('[7] [WRN] User "x" found in connect proto, but user required from cert')
        assert len(caplog.records) == 20
        await clock.advance(61)
        said.take("[7] [FTL] the last")
    assert [record.getMessage() for record in caplog.records[20:]] == [
        "nats-server: and 980 lines more", "nats-server: [7] [FTL] the last",
    ]  # fmt: skip
    assert said.last_word() == ": the last"


@pytest.mark.parametrize(
    ("nats", "fault"),
    [
        (UserNats(("http://a:4222",)), "is not like tls://host:4222"),
        (UserNats(("tls://",)), "is not like tls://host:4222"),
        (UserNats(("tls://a",), cert=Path("c")), "go together"),
        (UserNats(("tls://a",), replicas=6), "is not 1 to 5"),
    ],
)
def test_what_cannot_be_a_users_nats(nats: UserNats, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        nats.check()


def test_a_users_nats() -> None:
    nats = UserNats(("tls://a:4222", "tls://joe:secret@b:4222"))
    nats.check()
    assert (nats.hosts, nats.in_the_clear) == ("a:4222, b:4222", False)
    assert UserNats(("nats://a:4222",)).in_the_clear


def test_a_file_of_credentials() -> None:
    key = Ed25519PrivateKey.generate()
    raw = bytes([18 << 3 | 20 >> 5, 0]) + key.private_bytes_raw() + b"\0\0"
    seed = base64.b32encode(raw).decode().rstrip("=")
    text = (
        "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    options = signing_options(text)
    assert options["user_jwt_cb"]() == b"a.b.c"
    key.public_key().verify(base64.b64decode(options["signature_cb"]("nonce")), b"nonce")
    for broken in ("", text.replace(seed, ""), text.replace(seed, "x!")):
        with pytest.raises(ValueError, match="the file of credentials"):
            signing_options(broken)


@pytest.mark.parametrize("fault", [nats.errors.NoRespondersError(), nats.errors.ConnectionClosedError(), ValueError()])
async def test_whatever_befalls_a_question_is_the_buss_being_away(fault: Exception) -> None:
    """As when a server dies between two of them: its supervisor must go on."""
    probe = Probe("127.0.0.1:1", supervisor_identity(b"", datetime.datetime.now(datetime.UTC)), 1.0)

    async def ask() -> None:
        raise fault

    with pytest.raises(BusAwayError):
        await probe._in_time(ask())
