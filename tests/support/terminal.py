"""A person at a terminal on a host: types each line once what comes before it is shown."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import time
from collections.abc import Mapping, Sequence

from tests.support.host import Host

_PATIENCE_S = 60.0


def typed(
    host: Host, command: Sequence[str], *lines: tuple[str, str], environment: Mapping[str, str] | None = None
) -> tuple[str, int]:
    """Run `command` at a terminal; of `lines`, each second is typed once the first is shown. Returns all that was
    shown, and the exit code.
    """
    # Of a process with threads, what is forked may do nothing but this.
    argv, env = host.argv(command), {**host.environment(environment), "TERM": "xterm"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("nsenter", argv, env)
    shown = ""

    def read_until(words: str) -> None:
        nonlocal shown
        end = time.monotonic() + _PATIENCE_S
        while words not in shown:
            assert time.monotonic() < end, f"{words!r} was not shown: {shown!r}"
            if select.select([terminal], [], [], 0.2)[0]:
                # Fails once nobody has the other end any more.
                shown += os.read(terminal, 65536).decode(errors="replace")

    try:
        for words, line in lines:
            read_until(words)
            os.write(terminal, line.encode())
        with contextlib.suppress(OSError):
            while select.select([terminal], [], [], _PATIENCE_S)[0] and (data := os.read(terminal, 65536)):
                shown += data.decode(errors="replace")
        return shown, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        print(shown)
        raise
    finally:
        os.close(terminal)
