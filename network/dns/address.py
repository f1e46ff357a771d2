"""The cluster's DNS address on this host: a /32 of the loopback device.

Pods reach it through their routed links like any address of the host. Its scope is the host, as that of 127.0.0.1, so
that the kernel never takes it for the source of what the host sends. It stays while the worker is stopped: a question
that is refused at once is better than one that leaves for the outside and is never answered. What was added is on
record before the kernel is told, so that cleanup takes away exactly that.

Blocking, in the network namespace of the calling thread. All functions raise `OSError` with the kernel's code.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Collection
from pathlib import Path

from barque.network.netlink import RT_SCOPE_HOST, RouteSocket
from barque.network.sysctls import save_json

log = logging.getLogger(__name__)

LOOPBACK = "lo"
RECORD_FILE = "dns.json"


def ensure_address(address: str, state_dir: Path) -> bool:
    """Have the host answer to `address`, and to no former one of ours; True where it did not yet."""
    path = state_dir / RECORD_FILE
    ours = set(_recorded(path))
    with RouteSocket() as sock:
        absent = address not in sock.local_addresses()
        if absent:
            save_json(path, sorted({*ours, address}), durable=True)
            sock.replace_address(_loopback(sock), address, RT_SCOPE_HOST)
        former = ours - {address}
        if former:
            _delete(sock, former)
            save_json(path, [address] if absent or address in ours else [], durable=True)
    return absent


def remove_addresses(state_dir: Path) -> list[str]:
    """Take away what `ensure_address` added; those that were still there."""
    path = state_dir / RECORD_FILE
    ours = _recorded(path)
    with RouteSocket() as sock:
        removed = _delete(sock, ours)
    path.unlink(missing_ok=True)
    return removed


def _delete(sock: RouteSocket, addresses: Collection[str]) -> list[str]:
    loopback, removed = _loopback(sock), []
    for address in sorted(addresses):
        try:
            sock.delete_address(loopback, address, 32)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
        else:
            removed.append(address)
    return removed


def _loopback(sock: RouteSocket) -> int:
    found = sock.link(LOOPBACK)
    if found is None:
        raise OSError(errno.ENODEV, f"there is no device {LOOPBACK}")
    return found.number


def _recorded(path: Path) -> list[str]:
    """A record that a loss of power has torn names nothing: such a loss has taken the addresses with it."""
    try:
        return [str(address) for address in json.loads(path.read_text())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        log.warning("%s is unreadable (%s): taken as empty", path, error)
        return []
