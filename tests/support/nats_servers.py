"""Bare nats-servers for tests: three that are one cluster, with JetStream and synced writes, on free ports of loopback.

Nobody supervises them, and they know no users: whoever has a certificate of the test's authority may connect, as
`master.bus.link` does.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from barque.client.pki import MASTER_HOST, Identity
from barque.master.auth.ca import MasterPki
from barque.master.bus.binary import find_nats_server
from tests.support.expecting import expect_soon_async
from tests.support.host import dying_with_parent
from tests.support.ports import free_ports

_UP_TIMEOUT_S = 90.0


class ServerAccess(NamedTuple):
    """Implements `master.bus.access.Access`."""

    addresses: list[str]
    identity: Identity

    def urls(self) -> Sequence[str]:
        return self.addresses

    def options(self) -> Mapping[str, Any]:
        return {"tls": self.identity.client_context(), "tls_hostname": MASTER_HOST}


class NatsServers:
    """The servers of one cluster; one alone stands outside of any. `start` them, and `stop` them in any case."""

    def __init__(self, directory: Path, servers: int = 3) -> None:
        self._directory = directory
        ports = free_ports(3 * servers)
        self.ports, self._routes, self._monitors = ports[:servers], ports[servers : 2 * servers], ports[2 * servers :]
        directory.mkdir(parents=True, exist_ok=True)
        pki = MasterPki.open(directory / "pki", "m1", [], datetime.datetime.now(datetime.UTC))
        self.identity: Identity = pki.master
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * servers
        self._binary = ""

    def access(self, *numbers: int) -> ServerAccess:
        """The way to these servers, in this order."""
        return ServerAccess([f"tls://127.0.0.1:{self.ports[number]}" for number in numbers], self.identity)

    async def start(self) -> None:
        """All servers, until they take requests for streams."""
        self._binary = str(await find_nats_server())
        for number in range(len(self.ports)):
            self.launch(number)

        async def all_ready() -> bool:
            return all([await self._is_ready(number) for number in range(len(self.ports))])

        await expect_soon_async(all_ready, _UP_TIMEOUT_S, "the servers take requests for streams", pause_s=0.05)

    def launch(self, number: int) -> None:
        """Start a server that does not run."""
        directory = self._directory / f"n{number}"
        directory.mkdir(exist_ok=True)
        self.identity.save(directory, "tls")
        (directory / "nats.conf").write_text(self._config(number, directory))
        server = [self._binary, "-c", str(directory / "nats.conf"), "-l", str(directory / "log")]
        command = [*dying_with_parent("KILL"), *server]
        self.processes[number] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def send(self, number: int, sent: signal.Signals) -> None:
        """A signal to a server; after SIGKILL it is gone for good."""
        process = self.processes[number]
        assert process is not None
        os.kill(process.pid, sent)
        if sent == signal.SIGKILL:
            process.wait()
            self.processes[number] = None

    def stop(self) -> None:
        for process in self.processes:
            if process is not None:
                process.kill()
                process.wait()

    def _config(self, number: int, directory: Path) -> str:
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self._routes)
        cluster = f'cluster {{ name: "c", listen: "127.0.0.1:{self._routes[number]}", routes: [{routes}] }}'
        return f"""\
server_name: "n{number}"
listen: "127.0.0.1:{self.ports[number]}"
http: "127.0.0.1:{self._monitors[number]}"
max_payload: 4194304
tls {{ cert_file: "{directory}/tls.pem", key_file: "{directory}/tls.pem", ca_file: "{directory}/ca.pem", verify: true }}
jetstream {{ store_dir: "{directory}/data", max_file_store: 1073741824, sync_interval: always }}
{cluster if len(self.ports) > 1 else ""}
"""

    async def _is_ready(self, number: int) -> bool:
        """Whether the server has come to terms with the others about streams."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._monitors[number])
        except OSError:
            return False
        try:
            writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            answer = await reader.read()
        except OSError:
            return False
        finally:
            writer.close()
        body = answer.partition(b"\r\n\r\n")[2]
        return bool(body) and msgspec.json.decode(body).get("status") == "ok"
