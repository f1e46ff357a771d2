"""Connections made from within a pod's network namespace: the socket is made there, in a thread that ends with it, and
everything else happens in the event loop as with any other socket. Nothing is run in the pod.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from functools import partial

from barque.network.namespaces import enter_namespace, run_in_own_thread

_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


async def connect(netns: str, port: int, address: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection within a namespace: to `address`, "" for its loopback, IPv4 first. Raises OSError."""
    failed: OSError | None = None
    for family, host in ((_family(address), address),) if address else _LOOPBACK:
        try:
            made = await run_in_own_thread(partial(_socket_in, netns, family))
        except OSError as error:
            failed = failed or error
            continue
        try:
            await asyncio.get_running_loop().sock_connect(made, (host, port))
            return await asyncio.open_connection(sock=made)
        except BaseException as error:
            made.close()
            if not isinstance(error, OSError):
                raise
            failed = failed or error
    raise failed or OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _socket_in(netns: str, family: int) -> socket.socket:
    """A TCP socket of that namespace, not blocking; the calling thread must end afterwards. Raises OSError."""
    handle = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_namespace(handle)
    finally:
        os.close(handle)
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
