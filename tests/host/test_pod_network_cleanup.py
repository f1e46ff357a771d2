"""A worker killed in the middle of its writing: what it leaves is removed to the last byte, and nothing comes after."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from barque.network.cleanup import cleanup
from barque.network.iptables.driver import IptablesError, open_iptables
from barque.network.iptables.writers import WRITERS_FILE, open_writers
from tests.support.expecting import expect_soon
from tests.support.host import dying_with_parent
from tests.support.namespaces import Namespace, a_host_with_an_outside, links, missing

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]

# Attaches pods with host ports and writes services, over and over, as fast as it can.
WRITER = """
    import asyncio, sys
    from pathlib import Path
    from barque.network.iptables.chains import PROXY_JUMPS
    from barque.network.iptables.driver import open_iptables
    from barque.network.iptables.restore import plan_restores
    from barque.network.pods.host_ports import PortMapping
    from barque.network.pods.network import PodNetwork
    from barque.network.proxy.program import Program
    from barque.network.proxy.state import Backend, ServicePort

    async def write() -> None:
        state, pods = Path(sys.argv[1]), sys.argv[2:]
        iptables = await open_iptables(state)
        network, program, turn = PodNetwork(state, iptables), Program("10.244.0.0/16"), 0
        await network.start("10.244.3.0/24", 1450)
        print("begun", flush=True)
        while True:
            turn += 1
            for number, pod in enumerate(pods):
                ports = [PortMapping(8000 + number + turn % 2, 80)] if turn % 3 else []
                await network.attach(f"{number:08x}-1111-4222-8333-444455556666", pod, ports)
            for i in range(60):
                ends = tuple(Backend(f"10.244.3.{(i + turn + k) % 250 + 2}", 80) for k in range(3))
                port = ServicePort(f"d/s{i}", "tcp", f"10.96.0.{i + 2}", 80, 30000 + i, ends, affinity_s=60 * (i % 2))
                program.set_service(port.name, (port,))
            changes = program.take_changes()
            for text in plan_restores(changes.put, changes.remove, max_lines=100, tables=changes.tables):
                await iptables.restore(text)
            await iptables.ensure_jumps(PROXY_JUMPS)
            print("turn", flush=True)

    asyncio.run(write())
"""


def start_writer(host: Namespace, state_dir: Path, pods: list[Namespace]) -> subprocess.Popen[bytes]:
    """Start it inside the host and wait until it has begun."""
    paths = [f"/proc/{os.getpid()}/fd/{pod.descriptor}" for pod in pods]
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(state_dir), *paths]
    # The death signal comes when the thread ends that started it, so it cannot be set here; the test kills it anyway.
    process = host.call(lambda: subprocess.Popen(command, stdout=subprocess.PIPE))
    assert process.stdout is not None
    for line in process.stdout:
        if line == b"turn\n":
            return process
    raise AssertionError("the writer ended before its first turn")


def state(host: Namespace, mode: str) -> tuple[str, str, str]:
    """All rules but their comments and counters, all links, and whether packets are forwarded."""
    rules = [x.split(" [")[0] for x in host.run(f"iptables-{mode}-save").splitlines() if not x.startswith("#")]
    return "\n".join(rules), links(host), host.run("sysctl", "-n", "net.ipv4.ip_forward")


# Rules of somebody else's, which must come out of it as they were.
OTHERS = """*filter
:FORWARD DROP [0:0]
:THEIRS - [0:0]
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A FORWARD -j THEIRS
COMMIT
*nat
-A POSTROUTING -s 172.30.0.0/16 -j MASQUERADE
COMMIT
"""


@pytest.mark.parametrize(("mode", "delays_ms"), [("nft", (0, 23, 120)), ("legacy", (7, 61))])
def test_whenever_it_is_killed_nothing_of_it_stays(mode: str, delays_ms: tuple[int, ...], tmp_path: Path) -> None:
    with a_host_with_an_outside() as (host, _):
        host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        host.iptables_restore(mode, OTHERS)
        before = state(host, mode)
        for delay_ms in delays_ms:
            pods = [Namespace(name) for name in "ab"]
            writer = start_writer(host, tmp_path / "network", pods)
            try:
                time.sleep(delay_ms / 1000)
                writer.send_signal(signal.SIGKILL)
            finally:
                writer.kill()
            host.call(lambda: asyncio.run(cleanup(tmp_path / "network")))
            after = state(host, mode)
            assert after == before, f"killed {delay_ms} ms after its first turn"
            writer.wait(30)
            for pod in pods:
                pod.close()


def test_a_successor_waits_for_what_a_killed_worker_still_writes(tmp_path: Path) -> None:
    """A program that has inherited the lock stands for an `iptables-restore` that outlives its worker."""

    writers = asyncio.run(open_writers(tmp_path))
    script = 'sleep 1.2; touch "$0"'
    command = [*dying_with_parent("KILL"), "sh", "-c", script, str(tmp_path / "written")]
    left = subprocess.Popen(command, pass_fds=(writers.descriptor,))
    writers.close()
    asyncio.run(open_writers(tmp_path)).close()
    assert (tmp_path / "written").exists()
    left.wait(30)


# Another program holds the xtables lock for a while, and a restore waits for it.
WAITER = """
    import asyncio, fcntl, os, pathlib, subprocess, sys
    from barque.network.iptables.driver import Iptables
    from barque.network.iptables.writers import open_writers

    async def write() -> None:
        state = pathlib.Path(sys.argv[1])
        lock = os.open("/run/xtables.lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.Popen(["sleep", "1.5"], pass_fds=[lock], stdout=subprocess.DEVNULL)
        os.close(lock)
        iptables = Iptables("legacy", await open_writers(state))
        task = asyncio.create_task(iptables.restore("*filter\\n:BARQUE-LATE - [0:0]\\nCOMMIT\\n"))
        await asyncio.sleep(0.3)
        (state / "waits").touch()
        await task

    asyncio.run(write())
"""


def test_a_restore_that_outlives_its_worker_is_waited_for(tmp_path: Path) -> None:
    host = Namespace("host")
    # A lock file of its own: that of the machine belongs to everybody.
    own_run = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh"]
    program = [*own_run, sys.executable, "-c", textwrap.dedent(WAITER), str(tmp_path)]
    writer = host.call(lambda: subprocess.Popen(program))
    try:
        expect_soon((tmp_path / "waits").exists, 30, "the restore waits for the lock")
        began = time.monotonic()
        writer.kill()
        writer.wait(30)
        host.call(lambda: asyncio.run(cleanup(tmp_path)))
        # By now the lock is free and the restore has had its turn, before the cleanup.
        time.sleep(max(0.0, began + 2.0 - time.monotonic()))
        assert "BARQUE" not in host.run("iptables-legacy-save")
        assert not (tmp_path / WRITERS_FILE).exists()
    finally:
        writer.kill()
        host.close()


def test_who_comes_while_a_worker_runs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("barque.network.iptables.writers.WAIT_S", 0.1)

    async def story() -> None:
        writers = await open_writers(tmp_path)
        with pytest.raises(IptablesError, match="another process writes the rules"):
            await cleanup(tmp_path)
        with pytest.raises(IptablesError, match="another process writes the rules"):
            await open_iptables(tmp_path)
        writers.close()

    asyncio.run(story())
