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
from contextlib import contextmanager, suppress
from pathlib import Path

from barque.deploy.dockerd import answers, command
from tests.support.expecting import expect_soon
from tests.support.host import dying_with_parent

_SOCKET = Path(tempfile.gettempdir()) / f"barque-test-docker-{os.getpid()}.sock"
HOST = f"unix://{_SOCKET}"


def missing() -> str:
    """Why there can be none here; "" where there can."""
    if os.geteuid() != 0:
        return "needs root"
    return "" if shutil.which("dockerd") else "needs dockerd: apt-get install docker.io"


class Dockerd:
    """One that can be stopped and started again, with other options or the same."""

    def __init__(self, folder: Path, options: tuple[str, ...]) -> None:
        self.folder = folder
        self.options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        folder, log = self.folder, self.folder / "log"
        with log.open("ab") as output:
            self._process = process = subprocess.Popen(
                [*dying_with_parent("TERM"), *command(HOST, folder, folder / "data"), *self.options, *more],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        expect_soon(lambda: answers(HOST) or process.poll() is not None, 60, "dockerd answers")
        assert process.poll() is None, log.read_text()[-2000:]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is None:
            return
        pid_file = self.folder / "docker" / "containerd" / "containerd.pid"
        process, self._process = self._process, None
        containerd = 0
        with suppress(OSError, ValueError):
            containerd = int(pid_file.read_text())
        process.send_signal(number)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)
            raise
        # One that is killed leaves its containerd, which ends a moment later, and is in the way of the next until then:
        # dockerd takes any process of this number for it, even a zombie.
        expect_soon(lambda: not containerd or not Path(f"/proc/{containerd}").exists(), 60, "containerd is reaped")


@contextmanager
def running(*options: str) -> Iterator[Dockerd]:
    """With these options on top of its own."""
    dockerd = Dockerd(Path(tempfile.mkdtemp(prefix="barque-docker-")), options)
    try:
        dockerd.start()
        yield dockerd
    finally:
        try:
            dockerd.stop()
        finally:
            # What its containers had open and mounted goes a moment after them.
            expect_soon(lambda: _removed(dockerd.folder), 60, f"{dockerd.folder} is removed", pause_s=0.1)
            _SOCKET.unlink(missing_ok=True)


def _removed(folder: Path) -> bool:
    """Unmount and remove all of it; whether nothing is left."""
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if line.split()[4].startswith(f"{folder}/"):
            subprocess.run(["umount", line.split()[4]], check=False, timeout=60, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()
