"""A master joins: who is let in, what it gets, how often a token is good, and what a joining that was cut off does."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from barque.api.errors import ApiError
from barque.client import pki
from barque.client.pki import Identity
from barque.master.auth.ca import MasterPki
from barque.master.auth.key_wrapping import UnwrappingKey, WrappingError, wrap
from barque.master.auth.member_joining import (
    MemberJoining,
    MemberJoinReply,
    MemberJoinRequest,
    clash,
    wrapping_context,
)
from barque.master.auth.tokens import JoinTokens
from barque.master.raft.messages import MemberInfo
from barque.master.store.group import GroupError
from tests.support.clock import FakeClock
from tests.support.fake_verbs import FakeVerbs
from tests.support.memory_group import NO_QUORUM, MemoryGroup, a_configuration, a_member

HERE = "10.0.0.9"


class Joiner:
    """One machine that wants to be a master."""

    def __init__(self, name: str = "m2", **changes: Any) -> None:
        self.info = msgspec.structs.replace(a_member(name), **changes)
        self.request = pki.create_request(pki.master_subject(self.info.name))
        self.one_time = UnwrappingKey.generate()

    def asks(self, token: str) -> MemberJoinRequest:
        return MemberJoinRequest(token, self.request.csr_pem.decode(), self.one_time.public, self.info)


class Office:
    """The master m1, whose group and cluster are in memory."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.verbs = FakeVerbs(self.clock)
        letters = itertools.cycle("abcdefghijklmnopqrstuvwxyz0123456789")
        self.tokens = JoinTokens(self.verbs.client, self.clock, lambda _: next(letters))
        self.pki = MasterPki.open(directory / "m1", "m1", ["10.0.0.1"], self.clock.wall(), "lab")
        self.group = MemoryGroup()
        self.joining = MemberJoining(
            self.pki, self.tokens, self.group, "c-1", self.clock,
            names=["kubernetes", "10.96.0.1"], settings={"service_cidr": "10.97.0.0/16"}, entropy=os.urandom,
        )  # fmt: skip

    async def token(self) -> str:
        return (await self.tokens.create(joins="master")).token

    async def join(self, joiner: Joiner, token: str, address: str = HERE) -> MemberJoinReply:
        return await self.joining.join(joiner.asks(token), address)

    async def refusal(self, joiner: Joiner, token: str) -> tuple[int, str]:
        with pytest.raises(ApiError) as refused:
            await self.join(joiner, token)
        return refused.value.code, refused.value.message


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


async def test_it_gets_a_place_a_certificate_and_the_keys(office: Office, tmp_path: Path) -> None:
    joiner = Joiner()
    reply = await office.join(joiner, await office.token())
    assert office.group.configuration.learners == (joiner.info.id,)
    assert [member.name for member in reply.members] == ["m1", "m2"]
    assert (reply.cluster, reply.cluster_id, reply.settings) == ("lab", "c-1", {"service_cidr": "10.97.0.0/16"})
    identity = Identity(reply.certificate.encode(), joiner.request.key_pem, office.pki.ca_pem)
    assert identity.subject == pki.master_subject("m2")
    assert pki.hosts_of(identity.certificate) == {
        "barque-master", "localhost", "127.0.0.1", "::1", "m2", "10.0.0.2", "kubernetes", "10.96.0.1",
    }  # fmt: skip
    keys = joiner.one_time.unwrap(reply.keys, wrapping_context("c-1", joiner.info.id))
    MasterPki.lay_joined(tmp_path / "m2", identity, keys)
    theirs = MasterPki.open(tmp_path / "m2", "m2", ["10.0.0.2", "kubernetes", "10.96.0.1"], office.clock.wall())
    assert (theirs.authority, theirs.master) == (office.pki.authority, identity)
    assert theirs.account_key.verify(office.pki.account_key.sign({"sub": "x"}))
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "m2").iterdir())


async def test_the_keys_are_for_that_member_and_its_one_time_key_alone(office: Office) -> None:
    joiner = Joiner()
    reply = await office.join(joiner, await office.token())
    context = wrapping_context("c-1", joiner.info.id)
    assert office.pki.authority.key_pem not in reply.keys.sealed
    for key, where in (
        (UnwrappingKey.generate(), context),
        (joiner.one_time, wrapping_context("c-1", "0000000000000003")),
        (joiner.one_time, wrapping_context("c-2", joiner.info.id)),
    ):
        with pytest.raises(WrappingError, match="wrapped for another member, or changed"):
            key.unwrap(reply.keys, where)
    spoilt = msgspec.structs.replace(reply.keys, sealed=reply.keys.sealed[:-1] + b"\0")
    with pytest.raises(WrappingError):
        joiner.one_time.unwrap(spoilt, context)


def test_a_public_key_that_agrees_on_nothing_is_refused() -> None:
    for public in (bytes(32), b"short"):
        with pytest.raises(WrappingError, match="not a usable X25519 public key"):
            wrap(b"secret", public, b"", os.urandom)


async def test_each_wrapping_has_its_own_key(office: Office) -> None:
    receiver = UnwrappingKey.generate()
    first, second = (wrap(b"secret", receiver.public, b"c", os.urandom) for _ in range(2))
    assert first.sender != second.sender
    assert receiver.unwrap(first, b"c") == receiver.unwrap(second, b"c") == b"secret"


async def test_a_token_is_for_one_master(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    token, joiner = await office.token(), Joiner()
    await office.join(joiner, token)
    code, message = await office.refusal(Joiner("m3"), token)
    assert (code, message) == (
        401,
        "the join token was used by the master m2 already and is good for one master only: make a new one with "
        "`barque cluster add-member`",
    )
    assert f"a join from {HERE} is refused: {message}" in caplog.text
    assert len(office.group.configuration.members) == 2


async def test_the_same_joiner_goes_on_where_it_was_cut_off(office: Office) -> None:
    token, joiner = await office.token(), Joiner()
    office.group.refusal = NO_QUORUM
    code, message = await office.refusal(joiner, token)
    assert (code, message) == (503, "no leader: 1 of 3 masters answer; the same command goes on once they do")
    office.group.refusal = None
    for _ in range(2):
        assert (await office.join(joiner, token)).cluster_id == "c-1"
    assert len(office.group.configuration.members) == 2


async def test_whoever_knows_token_and_id_but_not_the_keys_gets_nothing(office: Office) -> None:
    token, joiner = await office.token(), Joiner()
    await office.join(joiner, token)
    thief = Joiner()
    assert (await office.refusal(thief, token))[0] == 401
    # Nor with the request that was seen, and a one-time key of one's own.
    thief.request = joiner.request
    assert (await office.refusal(thief, token))[0] == 401


async def test_a_workers_token_makes_no_master_and_a_masters_no_worker(office: Office) -> None:
    workers = (await office.tokens.create()).token
    assert await office.refusal(Joiner(), workers) == (
        401,
        "the join token is not a master's: one that is comes from `barque cluster add-member`",
    )
    with pytest.raises(ApiError, match="is not a worker's: one that is comes from `barque token create`"):
        await office.tokens.check(await office.token(), HERE)
    assert office.group.asked == []


async def test_a_wrong_or_old_token_is_refused(office: Office) -> None:
    token = await office.token()
    assert await office.refusal(Joiner(), token[:-1] + "0") == (
        401,
        "the join token is wrong or has expired: make a new one with `barque cluster add-member`",
    )
    await office.clock.advance(86401)
    assert await office.refusal(Joiner(), token) == (
        401,
        "the join token expired at 2026-01-02T00:00:00Z: make a new one with `barque cluster add-member`",
    )


async def test_of_two_at_the_same_moment_one_wins(office: Office) -> None:
    token = await office.token()
    read = office.verbs.get
    rival, reads = Joiner("m3"), itertools.count(1)

    async def overtaken(*args: Any, **kwargs: Any) -> bytes:
        answer = await read(*args, **kwargs)
        # The first read judges the token, the second one is to spend it.
        if next(reads) == 2:
            office.verbs.get = read  # type: ignore[method-assign]
            await office.join(rival, token)
        return answer

    office.verbs.get = overtaken  # type: ignore[method-assign]
    code, message = await office.refusal(Joiner("m2"), token)
    assert (code, "was used by the master m3 already" in message) == (401, True)
    assert [member.name for member in office.group.configuration.members] == ["m1", "m3"]


async def test_a_taken_name_is_refused_and_the_token_stays_good(office: Office) -> None:
    token = await office.token()
    await office.group.add_member(a_member("m3"))
    code, message = await office.refusal(Joiner("m3", id="00000000000000aa", host="10.0.0.7"), token)
    assert (code, message) == (
        409,
        "a master named 'm3' is a member already (at 10.0.0.3:7444): join under another --name, or, where that machine "
        "is gone for good, first take it out with `barque cluster remove-member m3`",
    )
    await office.group.remove_member("m3")
    returned = await office.join(Joiner("m3", id="00000000000000aa"), token)
    assert returned.members[-1].id == "00000000000000aa"


async def test_what_the_group_itself_refuses_is_a_conflict(office: Office) -> None:
    office.group.refusal = GroupError("another change is under way")
    assert await office.refusal(Joiner(), await office.token()) == (409, "another change is under way")


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (a_member("m2"), ""),
        (MemberInfo("00000000000000aa", "m4", "10.0.0.2"), "10.0.0.2:7444 is the address of the member m2"),
        (MemberInfo("00000000000000aa", "m4", "10.0.0.2", peer_port=17444), ""),
        (MemberInfo(a_member("m2").id, "m2", "10.0.0.7"), "this joining was begun as m2 at 10.0.0.2:7444"),
        (MemberInfo("00000000000000ff", "m4", "10.0.0.4"), "member 00000000000000ff was removed from the cluster"),
        (MemberInfo("00000000000000aa", "m4", "127.0.0.1"), "m4 is at 127.0.0.1, which only its own machine can reach"),
    ],
)
def test_who_clashes_with_whom(info: MemberInfo, words: str) -> None:
    known = msgspec.structs.replace(a_configuration("m1", "m2"), removed=("00000000000000ff",))
    assert clash(known, info).startswith(words)
    assert bool(clash(known, info)) == bool(words)


def test_a_cluster_that_is_only_known_at_loopback_is_named() -> None:
    alone = msgspec.structs.replace(a_configuration("m1"), members=(a_member("m1", "127.0.0.1"),))
    assert clash(alone, a_member("m2")) == (
        "m1 is at 127.0.0.1, which only its own machine can reach, and m2 at 10.0.0.2: give m1 an --address that all "
        "masters reach"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "M 2"}, "is not a lower-case DNS name"),
        ({"name": "m" * 51}, "is longer than 50 characters"),
        ({"id": "../../etc"}, "is not 16 hexadecimal digits"),
        ({"host": "0.0.0.0"}, "is neither an IPv4 address of a machine nor its name"),
        ({"host": "a b"}, "is neither an IPv4 address of a machine nor its name"),
        ({"host": "10.0.0.300"}, "is neither an IPv4 address of a machine nor its name"),
        ({"peer_port": 70000}, "70000 is not a port"),
    ],
)
async def test_what_could_never_be_a_member_is_a_bad_request(
    office: Office, changes: dict[str, Any], words: str
) -> None:
    token, joiner = await office.token(), Joiner()
    joiner.info = msgspec.structs.replace(joiner.info, **changes)
    code, message = await office.refusal(joiner, token)
    assert (code, words in message) == (400, True), message


async def test_the_request_must_be_of_the_member(office: Office) -> None:
    token, joiner = await office.token(), Joiner()
    joiner.request = pki.create_request(pki.master_subject("m1"))
    assert await office.refusal(joiner, token) == (
        400,
        "the certificate is asked for barque:master:m1, the master is m2",
    )
    # Nothing of that spent the token.
    assert (await office.join(Joiner(), token)).cluster_id == "c-1"
