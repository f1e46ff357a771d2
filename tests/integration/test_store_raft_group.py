"""A group of three stores in one process, whose links the test cuts: writes through any member, changes of leader and
of members, states that come in one piece, a quorum given up for lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from barque.master.raft.errors import NewerFormatError, StoreStartError
from barque.master.raft.wal import LogWriteError
from barque.master.store.engine_raft import EngineRaft, Joining, Settings, open_raft_store
from barque.master.store.group import GroupError, MemberRemovedError
from barque.master.store.inspection import DeviantStateError
from barque.master.store.port import Absent, Committed, HistoryGoneError, StoreUnavailableError, Unknown
from barque.master.store.proposals import ProposalSettings
from barque.master.store.state_hash import hash_state
from tests.support.faulty_disk import FaultyDisk
from tests.support.raft_group import Links, RaftGroup, a_ground, an_info
from tests.support.store import Reading, a_pod, a_secret, a_service, unpacked

TIMEOUT_S = 60.0
SETTINGS = Settings(segment_bytes=20_000, snapshot_log_bytes=50_000, proposals=ProposalSettings(deadline_s=30.0))
# For writes that cannot succeed.
HASTY = SETTINGS._replace(proposals=ProposalSettings(deadline_s=2.0))

web = a_pod("web")


@pytest.fixture
async def group(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RaftGroup]:
    group = RaftGroup(tmp_path, getattr(request, "param", SETTINGS))
    async with asyncio.timeout(TIMEOUT_S):
        await group.found()
        yield group
    await group.close()


async def same_state(group: RaftGroup) -> None:
    await group.settled()
    hashes = [list(hash_state(engine.machine.view()))[-1] for engine in group.members.values()]
    assert len(set(hashes)) == 1


async def commit_one(store: EngineRaft, pod: str, text: str = "") -> Committed:
    (result,) = await store.commit([a_pod(pod).saying(text).put()])
    assert isinstance(result, Committed)
    return result


@pytest.mark.flaky(reruns=0)  # What is lost is lost: no second try.
async def test_what_one_member_has_acknowledged_all_read(group: RaftGroup) -> None:
    members = list(group.members.values())
    for number in range(30):
        writer, reader = members[number % 3], members[(number + 1) % 3]
        written = await commit_one(writer, f"p{number}")
        assert writer.get(a_pod(f"p{number}").key) is not None
        assert await reader.barrier() >= written.revision
        assert reader.get(a_pod(f"p{number}").key) is not None
    await same_state(group)


async def test_writes_through_followers_survive_a_change_of_leader(group: RaftGroup) -> None:
    leader = await group.leader()
    follower = await group.follower()
    acknowledged: list[str] = []

    async def write(worker: int) -> None:
        for number in range(60):
            pod = a_pod(f"w{worker}-{number}")
            (result,) = await follower.commit([pod.put(Absent(pod.key))])
            assert isinstance(result, Committed)
            acknowledged.append(pod.key.name)

    writing = asyncio.gather(*(write(worker) for worker in range(8)))
    while len(acknowledged) < 100:
        await asyncio.sleep(0)
    group.links.isolate(leader.member_id)
    while (await group.leader()) is leader or leader.leads:
        await asyncio.sleep(0.01)
    await writing
    group.links.mend()
    await same_state(group)
    assert {stored.key.name for stored in leader.list("pods").items} == set(acknowledged)
    assert len(acknowledged) == 8 * 60


async def test_a_leader_that_is_cut_off_hands_its_own_writes_on(group: RaftGroup) -> None:
    leader = await group.leader()
    group.links.isolate(leader.member_id)
    stranded = [asyncio.create_task(leader.commit([a_pod(f"s{n}").put()])) for n in range(5)]
    while leader.leads:
        await asyncio.sleep(0.01)
    group.links.mend()
    assert all(isinstance(result, Committed) for (result,) in await asyncio.gather(*stranded))
    await same_state(group)
    assert leader.revision == 5


@pytest.mark.parametrize("group", [HASTY], indirect=True, ids=["hasty"])
async def test_without_a_quorum_nothing_is_said_to_be_written(group: RaftGroup) -> None:
    await commit_one(await group.leader(), "kept")
    survivor = await group.follower()
    for engine in group.members.values():
        if engine is not survivor:
            group.links.isolate(engine.member_id)
    while survivor.group_figures().leader:
        await asyncio.sleep(0.01)
    with pytest.raises(StoreUnavailableError, match=r"no leader: 1 of 3 masters answer.*; nothing was written"):
        await survivor.commit([web.put()])
    assert survivor.get(a_pod("kept").key) is not None
    group.links.mend()
    await same_state(group)
    assert survivor.get(web.key) is None


@pytest.mark.parametrize("group", [HASTY], indirect=True, ids=["hasty"])
async def test_what_was_handed_on_and_not_heard_of_is_unknown(group: RaftGroup) -> None:
    leader, follower = await group.leader(), await group.follower()
    group.links.cut(follower.member_id, leader.member_id, both=False)
    (result,) = await follower.commit([web.put()])
    assert isinstance(result, Unknown)
    assert "whether the write holds is not known" in result.why


async def test_a_lost_letter_is_sent_again(group: RaftGroup) -> None:
    leader, follower = await group.leader(), await group.follower()
    group.links.cut(follower.member_id, leader.member_id, both=False)
    writing = asyncio.create_task(follower.commit([web.put()]))
    await asyncio.sleep(0.1)
    group.links.mend()
    assert await writing == [Committed(1)]
    assert await leader.barrier() == 1


async def test_leadership_is_handed_over_and_told(group: RaftGroup) -> None:
    leader, follower = await group.leader(), await group.follower()

    async def lead() -> bool:
        await follower.led(leads=True)
        return follower._replica.term == follower.group_figures().term

    lost, won = asyncio.create_task(leader.led(leads=False)), asyncio.create_task(lead())
    name = next(name for name, engine in group.members.items() if engine is follower)
    assert await follower.transfer(name) == name
    await lost
    assert await won, "it has applied an entry of its own term"
    assert follower.leads
    assert not leader.leads
    with pytest.raises(GroupError, match="there is no master m9; the masters are m1, m2, m3"):
        await leader.transfer("m9")
    await commit_one(leader, "after")


async def test_members_come_and_go_at_the_word_of_any(group: RaftGroup) -> None:
    follower = await group.follower()
    with pytest.raises(GroupError, match="a master named m2 is a member already"):
        await follower.add_member(an_info("m2", "f" * 16))
    joined = await group.join("m4", follower)
    await follower.add_member(an_info("m4", group.id("m4")))
    await commit_one(joined, "through-m4")
    leader = await group.leader()
    leading = next(name for name, engine in group.members.items() if engine is leader)
    await joined.remove_member(leading)
    assert leading not in [info.name for info in joined.configuration.members]
    group.links.mend()
    removed = group.members.pop(leading)
    with pytest.raises(MemberRemovedError, match=r"was removed from cluster .* and stops; to bring it back, move"):
        await asyncio.wait_for(removed.run(), 30)
    await removed.close()
    await same_state(group)
    with pytest.raises(GroupError, match="was removed from this cluster and cannot come back with its old data"):
        await joined.add_member(an_info(leading, group.id(leading)))
    with pytest.raises(GroupError, match="there is no master"):
        await joined.remove_member(leading)


async def test_a_member_far_behind_gets_the_state_in_one_piece(group: RaftGroup) -> None:
    leader, follower = await group.leader(), await group.follower()
    await leader.commit([a_secret("db").saying("old").put()])
    await group.settled()
    reading = Reading(follower.watch("pods", follower.revision))
    await asyncio.sleep(0)
    group.links.isolate(follower.member_id)
    await leader.commit([a_secret("db").saying("c2VjcmV0LXRleHQ=").put(), a_service("s").put(reserve=["ip/1"])])
    for number in range(40):
        await leader.commit([a_pod(f"p{number}-{n}").sized(1000).put() for n in range(20)])
    leader._member._core.compact(leader.group_figures().applied)
    pending = asyncio.create_task(follower.commit([a_pod("late").put()]))
    await asyncio.sleep(0.1)
    group.links.mend()
    assert isinstance((await pending)[0], Committed | Unknown)
    while follower.get(a_pod("p39-19").key) is None:
        await asyncio.sleep(0.01)
    assert isinstance(await reading.ended(), HistoryGoneError)
    await same_state(group)
    assert follower.reserved("") == {"ip/1": a_service("s").key}
    name = next(name for name, engine in group.members.items() if engine is follower)
    directory = follower._directory.path
    await group.stop(name)
    assert not any(b"c2VjcmV0LXRleHQ=" in unpacked(file) for file in directory.rglob("*") if file.is_file())
    again = await group.start(name)
    await same_state(group)
    assert (found := again.get(a_secret("db").key)) is not None
    assert b"c2VjcmV0LXRleHQ=" in found.json


async def test_a_restore_holds_on_every_member_at_the_same_entry(group: RaftGroup) -> None:
    follower = await group.follower()
    await follower.commit([web.put(), a_secret("db").put()])
    saved = [chunk async for chunk in follower.save_snapshot()]
    await follower.commit([web.delete(), a_pod("later").put()])
    readings = [Reading(engine.watch("pods", engine.revision)) for engine in group.members.values()]
    await group.settled()

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in saved:
            yield chunk

    restored = await follower.restore_snapshot(chunks())
    await same_state(group)
    assert restored == (4 + 10**9, 2)
    for engine in group.members.values():
        assert engine.revision == restored.revision
        assert engine.get(a_pod("later").key) is None
    for reading in readings:
        assert isinstance(await reading.ended(), HistoryGoneError)
    for name in list(group.members):
        await group.stop(name)
    await group.open()
    await same_state(group)
    assert (await group.leader()).get(web.key) is not None


async def test_one_of_three_goes_on_alone_when_told_to(group: RaftGroup) -> None:
    leader, follower = await group.leader(), await group.follower()
    await commit_one(leader, "kept")
    await group.settled()
    with pytest.raises(GroupError, match="leads: the quorum is not lost"):
        await follower.recover_quorum()
    name = next(name for name, engine in group.members.items() if engine is follower)
    for other in [other for other in group.members if other != name]:
        group.links.isolate(group.members[other].member_id)
        await group.members.pop(other).close()
    while follower.group_figures().leader or any(
        peer.silent_s is not None and peer.silent_s < 5
        for peer in follower.group_figures().peers
        if peer.match == 0 and peer.info.id != follower.member_id
    ):
        await asyncio.sleep(0.05)
    reading = Reading(follower.watch("pods", follower.revision))
    await asyncio.sleep(0)
    restored = await follower.recover_quorum()
    assert restored == (1 + 10**9, 1)
    assert isinstance(await reading.ended(), HistoryGoneError)
    assert await commit_one(follower, "alone") == Committed(2 + 10**9)
    await group.stop(name)
    again = await group.start(name)
    assert [stored.key.name for stored in again.list("pods").items] == ["alone", "kept"]
    assert len(again.configuration.removed) == 2
    assert again.leads


async def test_a_deviant_member_stops_and_says_how_to_come_back(tmp_path: Path) -> None:
    group = RaftGroup(tmp_path, SETTINGS._replace(inspect_s=0.3))
    await group.found()
    await commit_one(await group.leader(), "web")
    await group.settled()
    deviant = await group.follower()
    name = next(name for name, engine in group.members.items() if engine is deviant)
    deviant.machine.apply([a_pod("phantom").put()])
    with pytest.raises(DeviantStateError, match=f"`barque cluster remove-member {name}`.*`barque master join`"):
        await asyncio.wait_for(deviant.run(), 30)
    with pytest.raises(StoreUnavailableError, match="the store has stopped"):
        await deviant.commit([web.put()])
    await asyncio.sleep(0.5)
    await commit_one(await group.leader(), "goes-on")
    await group.close()


async def test_members_that_are_alike_do_not_stop(tmp_path: Path) -> None:
    group = RaftGroup(tmp_path, SETTINGS._replace(inspect_s=0.05))
    await group.found()
    for number in range(20):
        await commit_one(await group.follower(), f"p{number}")
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert all(not engine._stopping for engine in group.members.values())
    await group.close()


async def test_an_entry_of_a_newer_release_stops_a_member(group: RaftGroup) -> None:
    leader, follower = await group.leader(), await group.follower()
    leader._member.propose([msgspec.msgpack.encode([9, []])])
    with pytest.raises(NewerFormatError, match="a log entry has format 9, this release reads up to 4"):
        await asyncio.wait_for(follower.run(), 30)


async def test_the_doors_of_a_member_that_moved_are_told(group: RaftGroup, tmp_path: Path) -> None:
    follower = await group.follower()
    name = next(name for name, engine in group.members.items() if engine is follower)
    await group.stop(name)
    info = msgspec.structs.replace(an_info(name, group.id(name)), host="127.0.0.9")
    moved = await open_raft_store(
        tmp_path / name / "store", a_ground(), group.links.connector(info.id), SETTINGS, founding=info
    )
    group.members[name] = moved
    leader = await group.leader()
    async with asyncio.timeout(30):
        while leader.configuration.info(info.id) != info:
            await asyncio.sleep(0.05)
    assert moved.configuration.info(info.id) == info


async def test_a_directory_of_another_cluster_is_refused(group: RaftGroup, tmp_path: Path) -> None:
    path = tmp_path / "m2" / "store"
    cluster_id = group.members["m2"].cluster_id
    await group.stop("m2")
    joining = Joining("another", an_info("m2"))
    with pytest.raises(
        StoreStartError, match=f"holds the data of cluster {cluster_id}, and this master is to join ano"
    ):
        await open_raft_store(path, a_ground(), Links().connector("m2"), SETTINGS, joining=joining)


async def test_damage_in_a_group_is_not_mended_with_a_backup(group: RaftGroup, tmp_path: Path) -> None:
    await commit_one(await group.leader(), "kept")
    await group.settled()
    await group.stop("m2")
    segment = max((tmp_path / "m2" / "store").glob("*.wal"))
    content = bytearray(segment.read_bytes())
    content[-20] ^= 4
    segment.write_bytes(content)
    with pytest.raises(
        StoreStartError, match=r"run `barque cluster remove-member m2` on one of them.*`barque master join`"
    ):
        await group.start("m2")


async def last_of(group: RaftGroup) -> tuple[str, EngineRaft]:
    """A follower whose group is gone, and that has noticed."""
    follower = await group.follower()
    name = next(name for name, engine in group.members.items() if engine is follower)
    for other in [other for other in group.members if other != name]:
        group.links.isolate(group.members[other].member_id)
        await group.members.pop(other).close()
    while follower.group_figures().leader or any(
        peer.info.id != follower.member_id and peer.silent_s is not None and peer.silent_s < 5
        for peer in follower.group_figures().peers
    ):
        await asyncio.sleep(0.05)
    return name, follower


async def test_who_asks_twice_to_go_on_alone_or_goes_away_leaves_one_that_goes_on(tmp_path: Path) -> None:
    group = RaftGroup(tmp_path, SETTINGS)
    await group.found()
    await commit_one(await group.leader(), "kept")
    await group.settled()
    _, follower = await last_of(group)
    first = asyncio.ensure_future(follower.recover_quorum())
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailableError, match="this master is about to go on alone"):
        await follower.recover_quorum()
    first.cancel()
    async with asyncio.timeout(30):
        await follower.led(leads=True)
        assert await commit_one(follower, "alone") == Committed(2 + 10**9)
    with pytest.raises(GroupError, match="the only one"):
        await follower.recover_quorum()
    await group.close()


async def test_one_that_cannot_go_on_alone_stops_and_says_so(tmp_path: Path) -> None:
    group, disk = RaftGroup(tmp_path, SETTINGS), FaultyDisk()
    for name in ("m1", "m2", "m3"):
        group.use(name, disk)
    await group.found()
    await commit_one(await group.leader(), "kept")
    await group.settled()
    name, follower = await last_of(group)
    disk.failing = {"write"}
    with pytest.raises(LogWriteError, match="cannot write"):
        await follower.recover_quorum()
    with pytest.raises(LogWriteError):
        await asyncio.wait_for(follower.run(), 30)
    disk.failing = set()
    await group.stop(name)
    again = await group.start(name)
    assert len(again.configuration.voters) == 3
    await group.close()
