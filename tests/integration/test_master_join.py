"""`barque master join` over a real HTTPS door: the directory it lays, and every way it can be refused or cut off."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import random
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from barque.client import pki, profile
from barque.client.clock import SystemClock
from barque.client.joining import JoinError, join
from barque.client.pki import Identity
from barque.master import enrolment
from barque.master.auth.ca import MasterPki
from barque.master.auth.joining import Joining
from barque.master.auth.member_joining import MemberJoining
from barque.master.auth.tokens import JoinTokens
from barque.master.command import master
from barque.master.enrolment import enrol
from barque.master.raft.messages import Configuration, MemberInfo
from tests.support.fake_verbs import FakeVerbs
from tests.support.memory_group import NO_QUORUM, MemoryGroup
from tests.support.rest import joining_door, served

FIRST = MemberInfo("00000000000000f1", "m1", "127.0.0.1")


class Master:
    """The master m1: a CA, a group and tokens behind a real HTTPS door."""

    def __init__(self, directory: Path) -> None:
        clock = SystemClock()
        self.pki = MasterPki.open(directory, "m1", ["127.0.0.1"], clock.wall(), "lab")
        self.tokens = JoinTokens(FakeVerbs(clock).client, clock)
        self.group = MemoryGroup(Configuration((FIRST.id,), members=(FIRST,)), FIRST.id, FIRST.id)
        joining = MemberJoining(
            self.pki, self.tokens, self.group, "c-1", clock,
            names=["kubernetes"], settings={"service_cidr": "10.97.0.0/16"}, entropy=os.urandom,
        )  # fmt: skip
        workers = Joining(self.pki, self.tokens, lambda _: False, clock)
        self.answers = joining.join
        self.door = joining_door(self.pki.ca_pem, workers.join, self._join)

    async def _join(self, *request: Any) -> Any:
        return await self.answers(*request)

    async def token(self) -> str:
        return (await self.tokens.create(joins="master")).token

    async def enrol(self, directory: Path, token: str, **changes: Any) -> enrolment.Enrolled:
        now = changes.pop("now", None) or SystemClock().wall()
        pin, tls_san = changes.pop("pin", self.pki.pin), changes.pop("tls_san", ())
        info = msgspec.structs.replace(MemberInfo("", "m2", "127.0.0.1", peer_port=17444), **changes)
        return await enrol(directory, info, f"127.0.0.1:{self.port}", token, pin, now, os.urandom, tls_san)

    async def refusal(self, directory: Path, token: str, **changes: Any) -> str:
        with pytest.raises(JoinError) as refused:
            await self.enrol(directory, token, **changes)
        message = str(refused.value)
        assert "\n" not in message
        return message


@pytest.fixture
async def first(tmp_path: Path) -> AsyncIterator[Master]:
    made = Master(tmp_path / "m1")
    async with served(made.door, made.pki.master.server_context()) as made.port:
        yield made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "m2"


async def test_the_directory_of_a_new_master(first: Master, data: Path) -> None:
    enrolled = await first.enrol(data, await first.token(), tls_san=["api.lab"])
    joined = enrolment.membership(data)
    assert joined == enrolled.membership
    assert joined is not None
    assert (joined.cluster, joined.cluster_id, joined.settings) == ("lab", "c-1", {"service_cidr": "10.97.0.0/16"})
    assert joined.tls_san == ["api.lab"]
    assert first.group.configuration.info(joined.info.id) == joined.info
    files = {str(path.relative_to(data)): path for path in data.rglob("*") if path.is_file()}
    assert set(files) == {
        "member.json", "pki/authority.pem", "pki/ca.pem", "pki/master.pem", "pki/admin.pem", "pki/service-account.pem",
    }  # fmt: skip
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    assert (data / "store").is_dir()
    # It signs with the same CA, and needs no new certificate at its first start.
    theirs = MasterPki.open(data / "pki", "m2", ["127.0.0.1", "kubernetes"], SystemClock().wall())
    assert theirs.authority == first.pki.authority
    assert theirs.master == Identity.load(data / "pki", "master")
    assert theirs.account_key.pem == first.pki.account_key.pem
    assert "unwrapping_key" not in files["member.json"].read_text()
    # Whoever uses its profile asks the older masters first.
    assert enrolled.profile.masters == ["127.0.0.1:7443", "127.0.0.1:7443"]
    assert (enrolled.profile.identity.subject, enrolled.clock) == (pki.ADMIN, "")


async def test_it_renews_its_certificate_by_itself(first: Master, data: Path) -> None:
    clock = SystemClock()
    await first.enrol(data, await first.token())
    theirs = MasterPki.open(data / "pki", "m2", ["127.0.0.1", "kubernetes"], clock.wall())
    renewing = theirs.renewing(clock, random.Random(1))
    old = renewing.current
    # Certificates count whole seconds.
    began = int(clock.wall().timestamp())
    while int(clock.wall().timestamp()) <= began:
        await asyncio.sleep(0.05)
    await renewing.renew_now()
    renewing.current.check("renewed")
    assert renewing.current.expires > old.expires
    assert (renewing.current.ca_pem, renewing.current.subject) == (first.pki.ca_pem, pki.master_subject("m2"))
    assert pki.hosts_of(renewing.current.certificate) == pki.hosts_of(old.certificate)
    assert Identity.load(data / "pki", "master") == renewing.current


async def test_a_joining_cut_off_anywhere_goes_on_as_the_same_member(first: Master, data: Path) -> None:
    token, answers = await first.token(), first.answers

    async def lost(*request: Any) -> Any:
        await answers(*request)
        raise KeyError("the answer is lost")

    first.answers = lost  # type: ignore[assignment]
    await first.refusal(data, token)
    with pytest.raises(
        JoinError, match="is of a joining that was not finished: run the same `barque master join` again"
    ):
        enrolment.membership(data)
    first.answers = answers
    first.group.refusal = NO_QUORUM
    assert "no leader: 1 of 3 masters answer" in await first.refusal(data, token)
    first.group.refusal = None
    # What an attempt that was killed while it wrote leaves behind.
    (data / "pki").mkdir()
    (data / "pki" / "service-account.pem").write_bytes(b"torn")
    (data / "pki" / "authority.pem").write_bytes(first.pki.authority.cert_pem)
    enrolled = await first.enrol(data, token)
    added = {info.id for name, info in (asked for asked in first.group.asked if asked[0] == "add")}
    assert added == {enrolled.membership.info.id}
    assert len(first.group.configuration.members) == 2


async def test_other_options_do_not_go_on_with_it(first: Master, data: Path) -> None:
    token = await first.token()
    first.group.refusal = NO_QUORUM
    await first.refusal(data, token)
    first.group.refusal = None
    message = await first.refusal(data, token, name="m3")
    assert message.startswith(f"{data} is of a joining that was begun as m2 at 127.0.0.1:17444")
    assert message.endswith("go on with those options, or remove the directory to begin anew")


async def test_after_a_clear_refusal_the_same_token_is_good_with_other_options(first: Master, data: Path) -> None:
    token = await first.token()
    message = await first.refusal(data, token, name="m1")
    assert message.startswith("the master refuses: a master named 'm1' is a member already")
    assert not any(data.iterdir())
    assert (await first.enrol(data, token)).membership.info.name == "m2"


async def test_wrong_tokens_pins_and_names(first: Master, data: Path) -> None:
    wrong = await first.refusal(data, "abcdef.0123456789abcdef")
    assert wrong == (
        "the master refuses: the join token is wrong or has expired: make a new one with `barque cluster add-member`"
    )
    workers = (await first.tokens.create()).token
    assert "the join token is not a master's" in await first.refusal(data, workers)
    assert "wrong --ca-pin" in await first.refusal(data, await first.token(), pin="sha256:" + "0" * 64)
    assert "is not a lower-case DNS name" in await first.refusal(data, await first.token(), name="M_2")
    used = await first.token()
    await first.enrol(data.parent / "m3", used, name="m3", peer_port=27444)
    assert "was used by the master m3 already" in await first.refusal(data, used)
    assert [info.name for info in first.group.configuration.members] == ["m1", "m3"]


async def test_a_workers_join_needs_a_workers_token(first: Master) -> None:
    with pytest.raises(JoinError, match="the join token is not a worker's"):
        await join(f"127.0.0.1:{first.port}", await first.token(), first.pki.pin, "n1")


async def test_a_directory_with_data_is_left_as_it_is(first: Master, data: Path) -> None:
    other = MasterPki.open(data / "pki", "m9", ["10.9.9.9"], SystemClock().wall())
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    token = await first.token()
    assert await first.refusal(data, token) == (
        f"{data} holds the data of another cluster ({other.pin}): join with another --data-dir, or move this one away "
        "first"
    )
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
    again = data.parent / "again"
    await first.enrol(again, token)
    assert await first.refusal(again, await first.token()) == (
        f"{again} is a member of this cluster already, m2: start it with `barque master run`; where it was removed "
        "from the cluster, join with another --data-dir, or move this one away first"
    )
    founder = data.parent / "founder"
    founder.mkdir()
    (data.parent / "m1").rename(founder / "pki")
    assert await first.refusal(founder, await first.token()) == (
        f"{founder} holds a master of this cluster already: start it with `barque master run`"
    )
    (data.parent / "log" / "store").mkdir(parents=True)
    (data.parent / "log" / "store" / "identity").write_bytes(b"{}")
    assert "holds the data of another cluster: join with another" in await first.refusal(data.parent / "log", token)


async def test_a_clock_that_is_off_is_said(first: Master, data: Path) -> None:
    hours = datetime.timedelta(hours=3)
    now = SystemClock().wall()
    ahead = await first.enrol(data, await first.token(), now=now + hours)
    assert ahead.clock == "this machine's clock is 3 h 0 min ahead of the master's: set one of the two"
    behind = data.parent / "m3"
    token = await first.token()
    refused = await first.refusal(behind, token, name="m3", peer_port=27444, now=now - datetime.timedelta(days=400))
    assert refused.startswith("this machine's clock says ")
    assert refused.endswith("set the clock (nobody could connect otherwise)")
    late = await first.enrol(behind, token, name="m3", peer_port=27444, now=now - hours)
    assert late.clock == "this machine's clock is 3 h 0 min behind the master's: set one of the two"


async def test_a_master_of_next_year_is_named_by_its_clock(tmp_path: Path) -> None:
    future = SystemClock().wall() + datetime.timedelta(days=400)
    ca = pki.create_authority(future)
    identity = ca.identity(pki.master_subject("m1"), future, ["barque-master"])
    door = joining_door(ca.cert_pem, None)
    async with served(door, identity.server_context()) as port:
        with pytest.raises(JoinError, match="its certificate is not yet valid by this machine's clock: set the clock"):
            await join(f"127.0.0.1:{port}", "a.b", pki.pin_of(ca.cert_pem), "n1")


async def run_join(first: Master, data: Path, *arguments: str, name: str = "m2") -> Result:
    given = [
        "join", f"127.0.0.1:{first.port}", "--ca-pin", first.pki.pin, "--data-dir", str(data), "--name", name,
        "--address", "127.0.0.1", "--peer-port", "17444", "--profile", str(data.parent / "config"), *arguments,
    ]  # fmt: skip
    return await asyncio.to_thread(CliRunner().invoke, master, given)


async def test_the_command_says_what_it_did_and_what_comes_next(first: Master, data: Path) -> None:
    done = await run_join(first, data, "--token", await first.token())
    member = json.loads((data / "member.json").read_text())["info"][0]
    assert done.stderr == f"joining as m2 (127.0.0.1) through the master at 127.0.0.1:{first.port}\n"
    assert done.stdout == (
        f"Joined cluster lab as master m2 (member {member}).\n"
        f"  certificates  {data / 'pki'}\n"
        "  masters       127.0.0.1:7443, 127.0.0.1:7443\n"
        f"  profile       {data.parent / 'config'}, context lab\n"
        "Next:\n"
        f"  barque master run --data-dir {data}\n"
        "  barque cluster members   shows it: a learner until it has caught up, then a voter\n"
    )
    assert profile.load(data.parent / "config").identity.subject == pki.ADMIN
    again = await run_join(first, data, "--token", await first.token())
    assert (again.exit_code, "is a member of this cluster already" in again.output) == (1, True)


async def test_an_unfinished_joining_founds_no_cluster(first: Master, data: Path) -> None:
    first.group.refusal = NO_QUORUM
    assert (await run_join(first, data, "--token", await first.token())).exit_code == 1
    for verb in ("init", "run"):
        refused = await asyncio.to_thread(CliRunner().invoke, master, [verb, "--data-dir", str(data)])
        assert (refused.exit_code, "is of a joining that was not finished" in refused.output) == (1, True)
    assert not (data / "pki").exists()
