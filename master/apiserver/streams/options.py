"""What a stream's query asks for: Kubernetes' PodExecOptions, PodAttachOptions, PodLogOptions and
PodPortForwardOptions. Pure.

Bad values are refused in Kubernetes' words.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from barque.api.errors import ApiError, FieldError, bad_request, forbidden, invalid, invalid_object, not_supported
from barque.master.apiserver.rest.options import boolean, integer
from barque.proto import pods_pb2 as pb

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:\d\d)")
_STREAMS = {"All": "", "Stdout": "stdout", "Stderr": "stderr"}
_LAYOUT = "2006-01-02T15:04:05Z07:00"
# A port-forward by WebSocket names its ports at once; two channels each, numbered in a byte.
MAX_PORTS = 127


class Query(Protocol):
    """A query's values by name; a name may come again."""

    def getall(self, key: str, default: list[str]) -> list[str]: ...


class ProcessOptions(NamedTuple):
    """Which streams of a process are wanted."""

    container: str
    command: tuple[str, ...]
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


def process_options(query: Query) -> ProcessOptions:
    """PodExecOptions and PodAttachOptions. Raises 400."""
    given = _first_values(query, ("container", "stdin", "stdout", "stderr", "tty"))
    stdin, stdout, stderr, tty = (boolean(given, name) for name in ("stdin", "stdout", "stderr", "tty"))
    command = tuple(query.getall("command", []))
    # A terminal has one output.
    options = ProcessOptions(given.get("container", ""), command, stdin, stdout, stderr and not tty, tty)
    if not (options.stdin or options.stdout or options.stderr):
        raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
    return options


def ports(query: Query) -> list[int]:
    """The ports of a port-forward that names them in its query. Raises 400."""
    found: list[int] = []
    for text in query.getall("ports", []) or query.getall("port", []):
        for word in text.split(","):
            if not (word.isascii() and word.isdigit()) or int(word[:6]) > 65535:
                raise bad_request(f'unable to parse "{text[:80]}" as a port')
            if not int(word):
                raise bad_request(f'port "{word}" must be > 0')
            found.append(int(word))
    if not found:
        raise bad_request('query parameter "port" is required')
    if len(found) > MAX_PORTS:
        raise bad_request(f"{len(found)} ports are more than {MAX_PORTS}")
    return found


def log_request(query: Query, namespace: str, pod: str) -> pb.LogsRequest:
    """PodLogOptions as the worker is asked. Raises 400 and 422."""
    given = _first_values(
        query, ("container", "follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines",
                "limitBytes", "stream", "insecureSkipTLSVerifyBackend")
    )  # fmt: skip
    numbers = {name: integer(given, name) for name in ("sinceSeconds", "tailLines", "limitBytes") if given.get(name)}
    since_time = given.get("sinceTime", "")
    if since_time == "null":
        since_time = ""
    if since_time and not _is_time(since_time):
        raise bad_request(f'parsing time "{since_time[:80]}" as "{_LAYOUT}": cannot parse "{since_time[:80]}"')
    faults = _log_faults(numbers, since_time, given)
    if faults:
        raise invalid_object("PodLogOptions", "", pod, faults)
    return pb.LogsRequest(
        namespace=namespace,
        pod=pod,
        container=given.get("container", ""),
        follow=boolean(given, "follow"),
        previous=boolean(given, "previous"),
        timestamps=boolean(given, "timestamps"),
        tail_lines=numbers.get("tailLines", -1),
        since_s=numbers.get("sinceSeconds", 0),
        since_time=since_time,
        limit_bytes=numbers.get("limitBytes", 0),
        stream=_STREAMS[given.get("stream") or "All"],
    )


def _log_faults(numbers: Mapping[str, int], since_time: str, given: Mapping[str, str]) -> list[FieldError]:
    faults: list[FieldError] = []
    if numbers.get("tailLines", 0) < 0:
        faults.append(invalid("tailLines", numbers["tailLines"], "must be greater than or equal to 0"))
    if numbers.get("limitBytes", 1) < 1:
        faults.append(invalid("limitBytes", numbers["limitBytes"], "must be greater than 0"))
    if "sinceSeconds" in numbers and since_time:
        faults.append(forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif numbers.get("sinceSeconds", 1) < 1:
        faults.append(invalid("sinceSeconds", numbers["sinceSeconds"], "must be greater than 0"))
    stream = given.get("stream") or "All"
    if stream not in _STREAMS:
        faults.append(not_supported("stream", stream, sorted(_STREAMS)))
    elif stream != "All" and "tailLines" in numbers:
        faults.append(forbidden("", "`tailLines` and specific `stream` are mutually exclusive for now"))
    return faults


def _first_values(query: Query, names: Sequence[str]) -> dict[str, str]:
    values = {name: query.getall(name, []) for name in names}
    return {name: found[0] for name, found in values.items() if found}


def _is_time(text: str) -> bool:
    if _RFC3339.fullmatch(text) is None:
        return False
    try:
        datetime.datetime.fromisoformat(re.sub(r"[.,]\d+", "", text))
    except ValueError:
        return False
    return True


def wanted_protocol(client: Sequence[str], served: Sequence[str]) -> str:
    """The first of the client's protocols that is served, "" where none is."""
    return next((protocol for protocol in client if protocol in served), "")


def spdy_protocol(asked: Sequence[str], served: Sequence[str]) -> str:
    """The protocol of a SPDY connection by its X-Stream-Protocol-Version headers. Raises 400 and 403."""
    client = [word.strip() for header in asked for word in header.split(",") if word.strip()]
    if not client:
        raise bad_request("unable to upgrade: X-Stream-Protocol-Version is required")
    found = wanted_protocol(client, served)
    if not found:
        why = f"client supports [{' '.join(client)}], server accepts [{' '.join(served)}]"
        raise ApiError(403, "Forbidden", f"unable to upgrade: unable to negotiate protocol: {why}")
    return found
