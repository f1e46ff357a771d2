"""Network namespaces of the test's own, held by nothing but a file descriptor.

`Namespace.call` runs a function in a thread inside; sockets opened and processes started there stay there. When the
descriptors close (at the latest with the test process, however it ends) the kernel removes everything in them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

HOST_ADDRESS, OUTSIDE_ADDRESS = "192.168.77.10", "192.168.77.1"
# A datagram is asked for again this often, as any resolver does: the kernel may drop it, or the refusal of it.
_AGAIN_S = 1.0


def missing() -> str:
    """Why these tests cannot run here; "" where they can."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("ip", "iptables-nft-restore", "iptables-legacy-restore"):
        if shutil.which(program) is None:
            return f"needs {program}"
    return ""


class Namespace:
    """A fresh network namespace with its loopback up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.descriptor = -1
        _in_thread(self._make)
        self.path = f"/proc/{os.getpid()}/fd/{self.descriptor}"
        self._servers: list[socket.socket] = []

    def _make(self) -> None:
        if _libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        self.descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

    def call(self, work: Callable[[], T]) -> T:
        """Run `work` inside; its result or its exception."""

        def inside() -> T:
            if _libc.setns(self.descriptor, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            return work()

        return _in_thread(inside)

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Run a program inside; its output. A failure raises with its words."""

        def inside() -> str:
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode == 0, f"{command}: {done.stderr}"
            return done.stdout

        return self.call(inside)

    def iptables(self, mode: str, *arguments: str) -> str:
        """Run iptables inside. It waits for the lock, which in the legacy variant is one for the whole machine."""
        return self.run(f"iptables-{mode}", "-w", *arguments)

    def iptables_restore(self, mode: str, text: str) -> None:
        """Restore rules on top of those that are there; else as `iptables`."""
        self.run(f"iptables-{mode}-restore", "-w", "--noflush", stdin=text)

    def close(self) -> None:
        for server in self._servers:
            # Wakes the thread that waits on it.
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        os.close(self.descriptor)

    def serve(self, port: int) -> None:
        """Answer every TCP connection and UDP packet on a port with "<name> <the caller's address>"; what a packet
        says is repeated after that.
        """
        tcp = self.call(lambda: socket.create_server(("0.0.0.0", port)))
        udp = self.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("0.0.0.0", port))
        self._servers += [tcp, udp]
        threading.Thread(target=self._serve_tcp, args=(tcp,), daemon=True).start()
        threading.Thread(target=self._serve_udp, args=(udp,), daemon=True).start()

    def _serve_tcp(self, server: socket.socket) -> None:
        while True:
            try:
                connection, caller = server.accept()
            except ConnectionError:
                continue
            except OSError:
                return
            # Whoever has given up by now takes nothing from those who come after.
            with connection, contextlib.suppress(OSError):
                connection.sendall(f"{self.name} {caller[0]}".encode())

    def _serve_udp(self, server: socket.socket) -> None:
        while True:
            try:
                data, caller = server.recvfrom(100)
            except OSError:
                return
            if not data:
                return
            with contextlib.suppress(OSError):
                server.sendto(f"{self.name} {caller[0]} ".encode() + data, caller)

    def ask(self, address: str, port: int, timeout_s: float = 30.0) -> tuple[str, str]:
        """Connect by TCP: who answered, and from which address it saw the call come."""

        def inside() -> str:
            with socket.create_connection((address, port), timeout=timeout_s) as connection:
                return connection.recv(100).decode()

        name, caller = self.call(inside).split()
        return name, caller

    def ask_udp(self, address: str, port: int, timeout_s: float = 30.0, source_port: int = 0) -> tuple[str, str]:
        """The same by UDP, over a connected socket, so that a refusal is heard. Raises TimeoutError."""
        # A late answer to an earlier call from the same port must not pass for this one's.
        number = secrets.token_hex(4)

        def inside() -> str:
            deadline = time.monotonic() + timeout_s
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("", source_port))
                sock.connect((address, port))
                while (left := deadline - time.monotonic()) > 0:
                    sock.settimeout(min(left, _AGAIN_S))
                    sock.send(number.encode())
                    with contextlib.suppress(TimeoutError):
                        while not (answer := sock.recv(100).decode()).endswith(f" {number}"):
                            continue
                        return answer
            raise TimeoutError(f"no answer from {address}:{port} within {timeout_s:g} s")

        name, caller, _ = self.call(inside).split()
        return name, caller


@contextlib.contextmanager
def a_host_with_an_outside() -> Iterator[tuple[Namespace, Namespace]]:
    """A host (192.168.77.10, default route) and the world outside it (192.168.77.1), joined by a cable."""
    with contextlib.ExitStack() as stack:
        host, outside = Namespace("host"), Namespace("outside")
        stack.callback(host.close)
        stack.callback(outside.close)
        host.run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "cable", "netns", outside.path)
        for namespace, device, address in ((host, "uplink", HOST_ADDRESS), (outside, "cable", OUTSIDE_ADDRESS)):
            namespace.run("ip", "address", "add", f"{address}/24", "dev", device)
            namespace.run("ip", "link", "set", device, "up")
        host.run("ip", "route", "add", "default", "via", OUTSIDE_ADDRESS)
        yield host, outside


def like_docker(host: Namespace, mode: str) -> None:
    """Rules such as Docker leaves in a host, with its FORWARD DROP."""
    host.iptables_restore(mode, _DOCKER)


def saved(host: Namespace, mode: str) -> str:
    """What `iptables-save` prints, without comments and counters."""
    lines = host.run(f"iptables-{mode}-save").splitlines()
    return "\n".join(line.split(" [")[0] for line in lines if not line.startswith("#"))


def links(host: Namespace) -> str:
    """A line for each link, but for what the kernel finds out in its own time."""
    return lasting(host.run("ip", "-o", "link"))


def lasting(links: str) -> str:
    """What `ip -o link` prints, but for carriers, states and queues: they follow when the kernel gets to it."""
    return re.sub(r"\bNO-CARRIER,|,(LOWER_UP|M-DOWN)\b| (qdisc|state) \S+", "", links)


def _in_thread(work: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


_DOCKER = """*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A DOCKER-USER -j RETURN
COMMIT
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
COMMIT
"""
