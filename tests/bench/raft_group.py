"""Three members of a group, and three of etcd, as processes on loopback for a benchmark; both as contexts.

Members find each other over mutual TLS as masters do; etcd's three speak plainly, as they come from the package.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from barque.client.pki import MASTER_HOST, MASTER_PREFIX, MASTERS_GROUP, Subject, create_authority
from tests.support.ports import free_ports

_TIMEOUT_S = 60.0
_POLL_S = 0.01


class Member:
    """One process of the group; `info` as `messages.MemberInfo`."""

    def __init__(self, root: Path, name: str, number: int) -> None:
        peer_port, self.port = free_ports(2)
        self.name = name
        self.info = {"id": f"{number:016x}", "name": name, "host": "127.0.0.1", "peer_port": peer_port}
        self.process: subprocess.Popen[str] | None = None
        self._root = root
        self._cluster = ""
        self.ready_s = 0.0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def directory(self) -> Path:
        return self._root / self.name

    def start(self, cluster: str = "", *, alone: bool = False) -> str:
        """Start it, as a new member of `cluster` or as the founder; the cluster's id."""
        self._cluster = self._cluster or cluster
        job: dict[str, Any] = {
            "directory": str(self.directory), "pki": str(self._root / "pki"), "name": self.name,
            "info": self.info, "port": self.port, "alone": alone,
        }  # fmt: skip
        if self._cluster:
            job["cluster"] = self._cluster
        self.directory.mkdir(exist_ok=True)
        with (self._root / f"{self.name}.log").open("ab") as log:
            argv = [sys.executable, "-m", "tests.bench.raft_member", json.dumps(job)]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=log, text=True, bufsize=1)
        said = self._hear()
        self.info["id"], self.ready_s = said["id"], said["ready_s"]
        return str(said["cluster"])

    def tell(self, do: str, **order: Any) -> dict[str, Any]:
        """Have it do something. Raises `RuntimeError` with what failed."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        answer = self._hear()
        if "failure" in answer:
            raise RuntimeError(f"{self.name}: {do}: {answer['failure']}")
        return answer

    def end(self, number: signal.Signals | None = None) -> None:
        """Kill it with a signal, or ask it to stop."""
        process, self.process = self.process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        if number is not None:
            process.send_signal(number)
        process.stdin.close()
        try:
            process.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _hear(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"member {self.name} ended:\n{(self._root / f'{self.name}.log').read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Group:
    """`members[0]` founded it."""

    def __init__(self, count: int = 3) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="barque-raft-"))
        pki, now = self.root / "pki", datetime.datetime.now(datetime.UTC)
        pki.mkdir(mode=0o700)
        authority = create_authority(now)
        self.members = [Member(self.root, f"m{number + 1}", number + 1) for number in range(count)]
        for member in self.members:
            subject = Subject(MASTER_PREFIX + member.name, (MASTERS_GROUP,))
            authority.identity(subject, now, [MASTER_HOST, "127.0.0.1"]).save(pki, member.name)

    def __enter__(self) -> Group:
        cluster = self.members[0].start(alone=True)
        for member in self.members[1:]:
            self.members[0].tell("add", info=member.info)
            member.start(cluster)
        self.settle()
        return self

    def __exit__(self, *failure: object) -> None:
        for member in self.members:
            with contextlib.suppress(OSError):
                member.end(signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def alive(self) -> list[Member]:
        return [member for member in self.members if member.process is not None]

    def leader(self) -> Member:
        """Whoever leads, waited for."""
        deadline = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline:
            for member in self.alive:
                if member.tell("status")["leads"]:
                    return member
            time.sleep(_POLL_S)
        raise RuntimeError("nobody leads")

    def settle(self) -> None:
        """Wait until all who run are voters and as far as the leader."""
        deadline = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline:
            said = self.leader().tell("status")
            peers = said["peers"]
            if len(peers) == len(self.members) and all(peers[m.name][0] for m in self.members):
                reached = [member.tell("status")["applied"] for member in self.alive]
                if min(reached) >= said["applied"]:
                    return
            time.sleep(_POLL_S)
        raise RuntimeError(f"the group does not settle: {said}")


@contextlib.contextmanager
def etcd_group(count: int = 3) -> Iterator[list[str]]:
    """The client addresses of `count` members of Debian's etcd, their leader's first."""
    root = Path(tempfile.mkdtemp(prefix="barque-etcd-"))
    ports = [(f"e{number + 1}", *free_ports(2)) for number in range(count)]
    initial = ",".join(f"{name}=http://127.0.0.1:{peer}" for name, peer, _ in ports)
    processes = []
    try:
        for name, peer, client in ports:
            at, door = f"http://127.0.0.1:{peer}", f"http://127.0.0.1:{client}"
            argv = ["etcd", "--name", name, "--data-dir", str(root / name), "--initial-cluster", initial]
            argv += ["--listen-peer-urls", at, "--initial-advertise-peer-urls", at]
            argv += ["--listen-client-urls", door, "--advertise-client-urls", door, "--log-level", "error"]
            with (root / f"{name}.log").open("ab") as log:
                processes.append(subprocess.Popen(argv, stdout=log, stderr=log))
        yield _leader_first([client for _, _, client in ports])
    finally:
        for process in processes:
            process.kill()
            process.wait()
        shutil.rmtree(root, ignore_errors=True)


def _leader_first(ports: list[int]) -> list[str]:
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        for port in ports:
            with contextlib.suppress(OSError):
                asked = urllib.request.Request(f"http://127.0.0.1:{port}/v3/maintenance/status", b"{}")
                said = json.load(urllib.request.urlopen(asked, timeout=1))
                if said.get("leader") == said["header"]["member_id"]:
                    return [f"127.0.0.1:{p}" for p in (port, *(other for other in ports if other != port))]
        time.sleep(_POLL_S)
    raise RuntimeError("etcd does not elect a leader")
