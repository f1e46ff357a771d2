"""What the operating system refuses, as one sentence that says what to do about it. Pure."""

from __future__ import annotations

import errno

_ADVICE = {
    errno.EACCES: "run it as root, or name a place that you may use",
    errno.EPERM: "run it as root",
    errno.ENOSPC: "free some space there and run it again",
    errno.EDQUOT: "free some space there and run it again",
    errno.EROFS: "name a place that can be written to",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
}


def told(error: Exception) -> str:
    """The file, the system's words and advice, as in `/x: permission denied; run it as root, …`. Any other error, and
    one without a number, is in its raiser's words, and stays so.
    """
    if not isinstance(error, OSError) or error.errno is None or error.strerror is None:
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    what = error.strerror[:1].lower() + error.strerror[1:]
    advice = _ADVICE.get(error.errno)
    return f"{where}{what}; {advice}" if advice else f"{where}{what}"


def cannot_listen(address: str) -> OSError:
    """For a server that is refused its `host:port`."""
    port = address.rpartition(":")[2]
    return OSError(
        f"cannot listen on {address}: the port is taken, or the address is none of this machine's; "
        f"`ss -ltnp 'sport = :{port}'` shows who has it"
    )
