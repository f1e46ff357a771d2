"""Debian's docker-registry on a free port of loopback, with one user and its data in a temporary folder.

A dockerd takes any registry on loopback without TLS.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.expecting import expect_soon
from tests.support.host import dying_with_parent
from tests.support.ports import free_port

USER, PASSWORD = "alice", "wonder"
# The password's bcrypt hash, the one form the registry takes.
_HTPASSWD = f"{USER}:$2b$05$cMsJipKEiXDn2xNwCDhpAOOGigkQlvavkiEahA.0ZKE3P.xK9a.q2\n"
_CONFIG = """\
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: "{address}"}}
auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}
"""


def missing() -> str:
    """Why there can be none here; "" where there can."""
    return "" if shutil.which("docker-registry") else "needs docker-registry: apt-get install docker-registry"


class ImageRegistry:
    """`address` is where it answers, once it was started; it may be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        (folder / "htpasswd").write_text(_HTPASSWD)
        (folder / "config.yml").write_text(_CONFIG.format(folder=folder, address=self.address))

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = process = subprocess.Popen(
                [*dying_with_parent("TERM"), "docker-registry", "serve", str(self._folder / "config.yml")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        expect_soon(lambda: self._answers() or process.poll() is not None, 60, "the registry answers")
        assert process.poll() is None, (self._folder / "log").read_text()[-2000:]

    def stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.terminate()
            process.wait(60)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1):
                return True
        except OSError:
            return False


@contextmanager
def a_registry() -> Iterator[ImageRegistry]:
    folder = Path(tempfile.mkdtemp(prefix="barque-registry-"))
    registry = ImageRegistry(folder)
    try:
        registry.start()
        yield registry
    finally:
        registry.stop()
        shutil.rmtree(folder)
