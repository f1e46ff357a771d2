"""Three real masters: who may join and come back, files that are lost, swapped or damaged, a quorum that is gone, a
restored state. Each as an operator meets it, in the words that he reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from barque.api.errors import ApiError
from barque.client.remote import Connection
from barque.master.raft.segment import read_records
from tests.support.expecting import expect_soon
from tests.support.masters import SOON_S, AMaster, Fleet, Masters
from tests.support.store_process import of

STEP = 10**9
# Each founds three masters where the one before has failed, and some start them several times.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(lambda: tmp_path_factory.mktemp("masters"))
    yield made
    made.close()


@pytest.fixture
def masters(fleet: Fleet) -> Masters:
    """Three of them, whole: those that the test before has left so, or new ones."""
    return fleet.whole()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of another cluster's only master, which has ended."""
    other = Masters(tmp_path_factory.mktemp("elsewhere"))
    try:
        data = other.found().data
        other["m1"].stop()
        return data
    finally:
        other.close()


# Joining


def test_a_token_is_good_for_one_master_and_a_name_for_one_member(masters: Masters, elsewhere: Path) -> None:
    line = masters.join_line()
    token = _option(line, "--token")
    fourth = AMaster(masters.directory, "m4")

    def refused(line: str, master: AMaster = fourth) -> str:
        said = master.join(line)
        assert said.status == 1, said
        return said.line

    wrong = (
        "error: the master refuses: the join token is wrong or has expired: make a new one with "
        "`barque cluster add-member`"
    )
    assert refused(line.replace(token, "abcdef.0123456789abcdef")) == wrong
    workers = _option(masters.barque("token", "create").out, "--token")
    assert refused(line.replace(token, workers)) == (
        "error: the master refuses: the join token is not a master's: one that is comes from `barque cluster "
        "add-member`"
    )
    assert "wrong cluster, wrong --ca-pin, or somebody in between" in refused(re.sub("sha256:.*", "sha256:0", line))
    taken = AMaster(masters.directory / "taken", "m2")
    assert refused(line, taken) == (
        f"error: the master refuses: a master named 'm2' is a member already (at 127.0.0.1:{masters['m2'].peer_port}): "
        "join under another --name, or, where that machine is gone for good, first take it out with `barque cluster "
        "remove-member m2`"
    )
    foreign = AMaster(masters.directory / "foreign", "m4")
    shutil.copytree(elsewhere, foreign.data)
    assert re.fullmatch(
        rf"error: {foreign.data} holds the data of another cluster \(sha256:[0-9a-f]+\): join with another --data-dir, "
        "or move this one away first",
        refused(line, foreign),
    )
    # None of this has spent the token.
    cut_off(fourth, line)
    said = fourth.join(line)
    assert said.status == 0, said
    assert said.out.startswith("Joined cluster barque as master m4 (member ")
    another = AMaster(masters.directory, "m5")
    assert refused(line, another) == (
        "error: the master refuses: the join token was used by the master m4 already and is good for one master only: "
        "make a new one with `barque cluster add-member`"
    )
    brief = masters.join_line("--ttl", "1s")
    masters.remove("m4")
    time.sleep(1.1)
    assert re.fullmatch(
        r"error: the master refuses: the join token expired at [0-9TZ:-]+: make a new one with `barque cluster "
        "add-member`",
        refused(brief, another),
    )


def cut_off(master: AMaster, line: str) -> None:
    """Begin to join, and be killed once it was answered, before anything of that is on disk."""
    master.odd = ["lingers=300"]
    joining = subprocess.Popen(
        master.joining(line), env=master.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert joining.stdout is not None
        assert joining.stdout.readline() == "answered\n"
    finally:
        master.odd = []
        joining.kill()
        joining.communicate()


# Files


def test_another_clusters_data_is_refused(masters: Masters, elsewhere: Path) -> None:
    """Also in the founder's directory, which has no note of having joined; and so is another member's."""
    for name in ("m1", "m2"):
        master = masters[name]
        master.stop()
        for wrong in (elsewhere, masters["m3"].data):
            with swapped(master.data / "store", wrong / "store"):
                master.launch()
                line = stopped(master)
                assert str(master.data / "store") in line
                assert "put back what belongs into" in line
        master.start()
        masters.wait_whole()


def test_a_store_that_was_emptied_is_not_begun_anew(masters: Masters) -> None:
    """What this member has acknowledged is gone: as the same member it must not come back, nor found a cluster."""
    for name in ("m1", "m2"):
        master = masters[name]
        master.stop()
        with swapped(master.data / "store", None):
            master.launch()
            line = stopped(master)
            assert f"{master.data / 'store'} is empty, and {master.data / 'keys' / 'ring.json'} is not" in line
            assert f"run `barque cluster remove-member {name}` on one of them" in line
        master.start()
        masters.wait_whole()


def test_a_removed_member_that_returns_disturbs_nobody(masters: Masters) -> None:
    third = masters["m3"]
    third.kill()
    masters.remove("m3")

    def come_back() -> None:
        third.launch()
        assert stopped(third).endswith(f"stops; to bring it back, move {third.data} away and run `barque master join`")

    masters.undisturbed(come_back)
    remove_tree(third.data)
    assert third.join(masters.join_line()).status == 0
    third.start()
    masters.by_name["m3"] = third


def test_a_damaged_log_is_mended_by_the_words_of_the_refusal(masters: Masters) -> None:
    write(masters, "kept")
    second = masters["m2"]
    masters.lead("m1")
    second.stop()
    segment = max((second.data / "store").glob("log-*.wal"))
    content = bytearray(segment.read_bytes())
    middle = len(content) // 2
    damaged = max(record.offset for record, _ in read_records(segment.read_bytes()) if record.offset <= middle)
    content[middle] ^= 1
    segment.write_bytes(content)
    second.launch()
    line = stopped(second)
    found = re.search(
        rf"{segment} is damaged at offset (\d+): .*; the other masters have the data, and a copy must never be put "
        r"back here: run `(barque cluster remove-member m2)` on one of them, move this master's data directory away, "
        r"and run `barque master join` here",
        line,
    )
    assert found is not None, line
    assert int(found[1]) == damaged
    assert found[2].split()[1:] == ["cluster", "remove-member", "m2"]
    masters.remove("m2")
    second.data.rename(second.directory / "away")
    assert second.join(masters.join_line()).status == 0
    second.start()
    masters.by_name["m2"] = second
    masters.wait_whole()
    assert "kept" in names(masters, "m2")


def test_a_member_whose_state_deviates_stops_and_says_so(masters: Masters) -> None:
    masters.lead("m1")
    third, sign = masters["m3"], masters.directory / "deviate"
    third.stop()
    third.odd = [f"deviates={sign}"]
    third.start()
    masters.wait_whole()
    sign.touch()
    write(masters, "told-apart")
    line = stopped(third)
    assert re.search(
        r"the state of master m3 after entry \d+ is not that of the others, so it stops: on another master run `barque "
        r"cluster remove-member m3`, move this one's data directory away, then run `barque master join` here; keep the "
        r"directory for a report of the fault",
        line,
    ), line
    third.odd = []
    masters.remove("m3")
    third.data.rename(third.directory / "deviant")
    assert third.join(masters.join_line()).status == 0
    third.start()
    masters.by_name["m3"] = third


# A state in the place of another


def test_a_restored_state_reaches_every_master(masters: Masters) -> None:
    write(masters, "saved")
    file = masters.directory / "saved.snapshot"
    masters.barque("cluster", "snapshot", "save", str(file))
    write(masters, "later")
    before = masters.status("m1").revision
    watch = Watch(masters, "m3")
    masters.lead("m2")
    said = masters.barque("cluster", "snapshot", "restore", str(file), "--yes")
    restored = int(re.findall(r"restored \d+ objects; the cluster is at revision (\d+) now", said.out)[0])
    assert restored >= before + STEP
    masters.wait_whole()
    for name in masters.by_name:
        found = names(masters, name)
        assert "saved" in found
        assert "later" not in found
        assert masters.status(name).revision >= restored
    assert watch.ended() == 410


def test_a_restore_that_is_cut_off_is_whole_or_nothing(masters: Masters) -> None:
    write(masters, "in-it")
    file = masters.directory / "again.snapshot"
    masters.barque("cluster", "snapshot", "save", str(file))
    write(masters, "not-in-it")
    leader = masters.lead("m1")
    leader.stop()
    leader.odd = ["restore=300"]
    leader.start()
    masters.wait_whole()
    masters.lead("m1")
    revision = masters.status("m1").revision
    restoring = masters.begin("cluster", "snapshot", "restore", str(file), "--yes", to="m1")
    expect_soon(lambda: "restoring: RestoreSection" in leader.log, SOON_S, "the restore has begun")
    leader.kill()
    leader.odd = []
    _, said = restoring.communicate(timeout=120)
    assert restoring.returncode == 1
    assert said.splitlines()[-1].startswith("Error from server (Timeout): outcome unknown: ")
    assert said.rstrip().endswith(
        "; the state was restored where `barque cluster status` shows a revision a thousand million higher"
    )
    leader.start()
    masters.wait_whole()
    states = {name: frozenset(names(masters, name)) for name in masters.by_name}
    assert len(set(states.values())) == 1, states
    assert "not-in-it" in states["m1"]
    assert masters.status("m2").revision < revision + STEP
    masters.barque("cluster", "snapshot", "restore", str(file), "--yes")
    assert "not-in-it" not in names(masters, "m3")


# A quorum that is gone; the last, since it changes who there is


def test_two_of_three_lost(masters: Masters) -> None:
    masters.lead("m2")
    write(masters, "acknowledged")
    masters.wait_whole()
    revision = masters.status("m1").revision
    watch = Watch(masters, "m1")
    lost = [masters["m2"], masters["m3"]]
    expect_soon(
        lambda: [health(master, "readyz") for master in masters] == [(200, "ok")] * 3, SOON_S, "all three are ready"
    )
    for master in lost:
        master.kill()
    expect_soon(lambda: masters.status("m1").group.quorum_lost, SOON_S, "m1 sees that the quorum is lost")
    unready = "[+]ping ok\n[-]store failed: reason withheld\nreadyz check failed\n"
    expect_soon(lambda: health(masters["m1"], "readyz") == (500, unready), SOON_S, "m1 is not ready")
    assert health(masters["m1"], "livez") == (200, "ok")

    verbs = (["create", "configmap", "refused"], ["get", "configmaps"])
    asked = [masters.begin(*verb, to="m1") for verb in verbs]
    assert "acknowledged" in masters.barque("get", "configmaps", "--stale").out
    for asking, nothing in zip(asked, (" (waited 5 s); nothing was written", ""), strict=True):
        _, said = asking.communicate(timeout=120)
        assert asking.returncode == 1
        assert said.splitlines()[-1] == (
            f"Error from server (ServiceUnavailable): no leader: 1 of 3 masters answer{nothing}; `barque cluster "
            "status` shows why, `barque get --stale` what one master still knows"
        )
    advice = (
        "no leader: 1 of 3 masters answer. Nothing can be changed, and only reads that allow old data succeed "
        "(resourceVersion=0), until 2 of them do: start m2 and m3 again. Only where that is impossible for good: "
        "`barque cluster recover-quorum m1`"
    )
    assert advice in masters.barque("cluster", "status", status=1).out
    seen = masters.barque("cluster", "members", status=1)
    assert advice in seen.err
    assert "there is no leader" in seen.err

    said = masters.barque("cluster", "recover-quorum", stdin="no\n", status=1)
    assert "not confirmed; nothing was changed" in said.err
    said = masters.barque("cluster", "recover-quorum", stdin=masters.status("m1").cluster_id + "\n")
    assert "be sure that m2 and m3 do not run any more" in said.err
    found = re.search(r"m1 goes on alone with \d+ objects, at revision (\d+)", said.out)
    assert found is not None, said
    assert int(found[1]) >= revision + STEP
    assert watch.ended() == 410
    for master in lost:
        del masters.by_name[master.name]
    expect_soon(lambda: "acknowledged" in names(masters, "m1"), SOON_S, "m1 tells what it has")
    write(masters, "alone")
    expect_soon(lambda: health(masters["m1"], "readyz") == (200, "ok"), SOON_S, "m1 is ready alone")
    term = masters.status("m1").group.term
    for master in lost:
        master.launch()
    for master in lost:
        assert "the master stops: this master was removed from cluster" in stopped(master)
    assert masters.status("m1").group.term == term

    for name in ("m2", "m3"):
        remove_tree(masters.directory / name)
        masters.join(name)
    masters.wait_whole()
    assert names(masters, "m3") >= {"acknowledged", "alone"}


# What the tests say and ask


def stopped(master: AMaster) -> str:
    """The one line with which it stops by itself."""
    said = master.ended()
    assert said.status == 1, said.err
    assert "Traceback" not in said.err, said.err
    (line,) = [line for line in said.err.splitlines() if "the master stops" in line]
    assert line == said.line
    return line


class swapped:
    """Within: a copy of the directory `other`, or an empty one, stands in the place of `path`."""

    def __init__(self, path: Path, other: Path | None) -> None:
        self._path, self._other, self._kept = path, other, path.with_name("kept")

    def __enter__(self) -> None:
        self._path.rename(self._kept)
        if self._other is None:
            self._path.mkdir(mode=0o700)
        else:
            expect_soon(self._copy, SOON_S, f"a copy of {self._other}")

    def __exit__(self, *failure: object) -> None:
        shutil.rmtree(self._path)
        self._kept.rename(self._path)

    def _copy(self) -> bool:
        """Whose directory it is may be running, and puts files away meanwhile."""
        assert self._other is not None
        shutil.rmtree(self._path, ignore_errors=True)
        shutil.copytree(self._other, self._path)
        return True


class Watch:
    """A watch of ConfigMaps on one master, in a thread's own loop; `ended` tells the code that ended it for good: of a
    master that is apart from the leader for a while it goes on where it was.
    """

    def __init__(self, masters: Masters, name: str) -> None:
        self._code = 0
        self._begun = threading.Event()
        self._thread = threading.Thread(target=lambda: masters.run(self._follow, name, timeout_s=360), daemon=True)
        self._thread.start()
        assert self._begun.wait(SOON_S)

    def ended(self) -> int:
        self._thread.join(2 * SOON_S)
        assert not self._thread.is_alive()
        return self._code

    async def _follow(self, connection: Connection) -> None:
        since = (await connection.verbs.list(of("configmaps"))).resource_version
        with contextlib.suppress(asyncio.CancelledError):
            while self._code != 410:
                try:
                    self._begun.set()
                    async for batch in connection.verbs.watch(of("configmaps"), resource_version=since):
                        since = str(batch[-1].revision)
                except ApiError as error:
                    self._code = error.code
                    if error.code not in (503, 504):
                        return
                    await asyncio.sleep(0.1)


def remove_tree(path: Path) -> None:
    """As soon as nobody writes there any more: the server of a killed master's bus ends a moment later."""

    def removed() -> bool:
        shutil.rmtree(path)
        return not path.exists()

    expect_soon(lambda: not path.exists() or removed(), SOON_S, f"{path} is removed")


def write(masters: Masters, name: str) -> None:
    masters.barque("create", "configmap", name)


def health(master: AMaster, page: str) -> tuple[int, str]:
    """What a probe without credentials hears of it."""
    context = ssl.create_default_context(cafile=str(master.pki / "ca.pem"))
    try:
        with urllib.request.urlopen(
            f"https://127.0.0.1:{master.https_port}/{page}", context=context, timeout=30
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def names(masters: Masters, at: str) -> set[str]:
    """The ConfigMaps that this master tells of."""

    async def ask(connection: Connection) -> set[str]:
        listed = await connection.verbs.list(of("configmaps"))
        return {msgspec.json.decode(item)["metadata"]["name"] for item in listed.items}

    return masters.run(ask, at, patience_s=30.0)


def _option(line: str, name: str) -> str:
    words = line.split()
    return words[words.index(name) + 1]
