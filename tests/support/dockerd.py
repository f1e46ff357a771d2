"""A dockerd of the test run's own: no bridge, no rules, its data in a temporary folder; it ends with the run.

`HOST` is where it will answer; `running()` starts it and takes everything away again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from barque.deploy.dockerd import answers
from tests.support.host import die_with_parent, expect_soon

_SOCKET = Path(tempfile.gettempdir()) / f"barque-test-docker-{os.getpid()}.sock"
HOST = f"unix://{_SOCKET}"


def missing() -> str:
    """Why there can be none here; "" where there can."""
    if os.geteuid() != 0:
        return "needs root"
    return "" if shutil.which("dockerd") else "needs dockerd: apt-get install docker.io"


@contextmanager
def running() -> Iterator[None]:
    folder = Path(tempfile.mkdtemp(prefix="barque-docker-"))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "dockerd", f"--host={HOST}", f"--data-root={folder / 'data'}", f"--exec-root={folder / 'exec'}",
                f"--pidfile={folder / 'pid'}", "--bridge=none", "--iptables=false", "--ip6tables=false",
                "--ip-forward=false", "--ip-masq=false", "--log-level=warn",
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=lambda: die_with_parent(signal.SIGTERM),
        )  # fmt: skip
    try:
        expect_soon(lambda: answers(HOST) or process.poll() is not None, 30, "dockerd answers")
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        yield
    finally:
        process.terminate()
        process.wait(30)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith(f"{folder}/"):
                subprocess.run(["umount", line.split()[4]], check=False, timeout=10)
        shutil.rmtree(folder)
        _SOCKET.unlink(missing_ok=True)
