"""What the operating system refuses, told with advice."""

from __future__ import annotations

import errno
import os

import pytest

from barque.client.system_errors import cannot_listen, told


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/x"),
            "/srv/x: no space left on device; free some space there and run it again",
        ),
        (OSError(errno.EPERM, os.strerror(errno.EPERM)), "operation not permitted; run it as root"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "web"), "web: no such file or directory"),
        (OSError("in words of its own"), "in words of its own"),
        (ValueError("none of the system's"), "none of the system's"),
    ],
)
def test_the_file_the_systems_words_and_what_to_do(error: Exception, line: str) -> None:
    assert told(error) == line


def test_who_has_a_port_is_to_be_found_out() -> None:
    assert told(cannot_listen("0.0.0.0:7443")) == (
        "cannot listen on 0.0.0.0:7443: the port is taken, or the address is none of this machine's; "
        "`ss -ltnp 'sport = :7443'` shows who has it"
    )
