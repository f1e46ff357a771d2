"""A command in a host whose output is read as it comes, for as long as a test wants."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from typing import IO

from tests.support.host import Host, end_group


class Reader:
    """What the command has printed until now: whole lines of its output in `shown`, of its errors in `said`."""

    def __init__(self, host: Host, *command: str) -> None:
        self.shown = ""
        self.said = ""
        self._process = subprocess.Popen(
            host.argv(command), env=host.environment(), text=True, bufsize=1,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._threads = [
            threading.Thread(target=self._read, args=("shown", self._process.stdout), daemon=True),
            threading.Thread(target=self._read, args=("said", self._process.stderr), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def _read(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            setattr(self, name, getattr(self, name) + line)

    def close(self) -> None:
        end_group(self._process)
        for thread in self._threads:
            thread.join(60)


@contextlib.contextmanager
def reading(host: Host, *command: str) -> Iterator[Reader]:
    """Run the command meanwhile; what it says until it has ended is there afterwards, too."""
    reader = Reader(host, *command)
    try:
        yield reader
    finally:
        reader.close()
