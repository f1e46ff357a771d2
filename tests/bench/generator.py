"""The load generator as a bench calls it: jobs in, measurements out.

It runs on Node, because one in Python would measure itself. A body is a prepared protobuf message, or by HTTPS a whole
request, in which running numbers are written over slots of fixed width; texts such as `########` mark where. What a job
measures and how is said in `load/load.mjs`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from barque.client.pki import Identity
from tests.bench.master import Master

SCRIPT = Path(__file__).parent / "load" / "load.mjs"
# A running number's place in a body, and a node's.
COUNT = "########"
NODE = "@@@@"
# Above this share of a core the generator, not the server, is what is measured.
BOUND_SHARE = 0.9
# Connections over which concurrent calls are spread, as several clients would hold them.
CONNECTIONS = 8
_TIMEOUT_S = 300.0


class Measured(dict[str, float]):
    """What a job measured; `cpu` is the generator's share of one core, `server_cpu` the master's."""

    @property
    def remark(self) -> str:
        bound = ", client-bound: the master alone does better" if self["cpu"] > BOUND_SHARE else ""
        server = f", master {self['server_cpu']:.2f} cores" if "server_cpu" in self else ""
        return f"generator {self['cpu']:.2f} cores{server}{bound}"


class Generator:
    """Runs jobs with `identity` against servers on loopback; use as a context."""

    def __init__(self, identity: Identity, protocol: Literal["grpc", "https"] = "grpc") -> None:
        self._identity = identity
        self._protocol = protocol
        self._folder = Path(tempfile.mkdtemp(prefix="barque-load-"))
        self._bodies = 0

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *failure: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def body(self, message: bytes) -> dict[str, Any]:
        """A body of these bytes, its slots where COUNT and NODE stand in them."""
        self._bodies += 1
        path = self._folder / f"{self._bodies}.bin"
        path.write_bytes(message)
        slots = [
            {"offset": at, "width": len(mark), "of": of}
            for mark, of in ((COUNT, "count"), (NODE, "node"))
            for at in _places(message, mark.encode())
        ]
        return {"file": str(path), "slots": slots}

    def run(self, kind: str, port: int, *, master: Master | None = None, **job: Any) -> Measured:
        """Do one job; with `master` its share of the processors is measured too. Raises where a call failed."""
        job_file = self._write(kind, port, job)
        before_s = master.cpu_s() if master else 0.0
        done = subprocess.run(["node", SCRIPT, job_file], capture_output=True, text=True, timeout=_TIMEOUT_S)
        if done.returncode:
            raise RuntimeError(f"{kind}: {done.stderr.strip()}")
        measured = Measured(json.loads(done.stdout))
        if master:
            measured["server_cpu"] = (master.cpu_s() - before_s) / measured["seconds"]
        return measured

    @contextmanager
    def holding(self, port: int, **job: Any) -> Iterator[Measured]:
        """Watches that stay open as long as the context; yields what opening them took. Raises where one ended."""
        argv = ["node", str(SCRIPT), str(self._write("holds", port, job))]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            try:
                said = holder.stdout.readline()
                if not said:
                    raise RuntimeError("holds: a watch could not be opened")
                yield Measured(json.loads(said))
                if holder.poll() is not None:
                    raise RuntimeError("holds: a watch ended")
            finally:
                holder.stdin.close()
                holder.wait(_TIMEOUT_S)

    def _write(self, kind: str, port: int, job: Mapping[str, Any]) -> Path:
        path = self._folder / "job.json"
        about = {"kind": kind, "port": port, "protocol": self._protocol, "tls": tls(self._identity)}
        path.write_text(json.dumps({**about, **job}))
        os.chmod(path, 0o600)
        return path


def tls(identity: Identity) -> Mapping[str, str]:
    """A certificate as a job carries it."""
    return {"ca": identity.ca_pem.decode(), "cert": identity.cert_pem.decode(), "key": identity.key_pem.decode()}


def ensure_node() -> None:
    """Install Node where it is missing. Raises `SystemExit` where that cannot be done."""
    if shutil.which("node"):
        return
    if os.geteuid() != 0:
        raise SystemExit("bench: the load generator needs Node: apt-get install nodejs")
    print("Installing nodejs, which runs the load generator ...", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    argv = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "nodejs"]
    subprocess.run(argv, check=True, env=environment, stdout=subprocess.DEVNULL)


def _places(message: bytes, mark: bytes) -> list[int]:
    places, at = [], message.find(mark)
    while at >= 0:
        places.append(at)
        at = message.find(mark, at + len(mark))
    return places
