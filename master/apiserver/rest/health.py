"""`/healthz`, `/livez`, `/readyz` and each of their checks alone, as Kubernetes words them.

In: checks, each a name and a function that tells what is wrong ("" where nothing is). Out: `ok`, or a line for every
check with `?verbose` or where one fails; `?exclude=` leaves one out. These pages are public, so why a check fails is
told by the check's own page alone (`/readyz/store`), which takes permission.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aiohttp import web

from barque.api.errors import not_found_path
from barque.master.apiserver.rest.call import Handler, RestCall

log = logging.getLogger(__name__)

_HEADERS = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


class Check(NamedTuple):
    """One part; `fault()` is asked on every request: "" where it is well. `name` has no slash at its ends."""

    name: str
    fault: Callable[[], str]


# That it answers says it all.
PING = Check("ping", str)


class Health:
    """The three pages. `live` decides whether the process should be started anew, `ready` whether it should be sent
    requests; `/healthz` is both, for older clients.
    """

    def __init__(self, live: Sequence[Check] = (), ready: Sequence[Check] = ()) -> None:
        both = {check.name: check for check in (PING, *live, *ready)}
        self._pages: dict[str, tuple[Check, ...]] = {
            "healthz": tuple(both.values()),
            "livez": (PING, *live),
            "readyz": (PING, *ready),
        }

    def paths(self) -> dict[str, Handler]:
        """Who answers for the pages, and for the checks below them."""
        return {path: self.handle for page in self._pages for path in (f"/{page}", f"/{page}/")}

    async def handle(self, call: RestCall) -> web.Response:
        """Answer one of the pages, or one check's own. Raises 404 for a check that there is not."""
        page, _, name = call.info.path.strip("/").partition("/")
        checks = self._pages[page]
        if not name:
            query = call.request.query
            return _whole(page, checks, query.getall("exclude", []), verbose="verbose" in query)
        check = next((check for check in checks if check.name == name), None)
        if check is None:
            raise not_found_path()
        if fault := check.fault():
            return web.Response(text=f"internal server error: {fault}\n", status=500, headers=_HEADERS)
        return web.Response(text="ok", headers=_HEADERS)


def _whole(page: str, checks: Sequence[Check], excluded: Sequence[str], *, verbose: bool) -> web.Response:
    lines, failed = [], []
    for check in checks:
        if check.name in excluded:
            lines.append(f"[+]{check.name} excluded: ok")
        elif fault := check.fault():
            failed.append(f"{check.name} ({fault})")
            lines.append(f"[-]{check.name} failed: reason withheld")
        else:
            lines.append(f"[+]{check.name} ok")
    if unknown := sorted(set(excluded) - {check.name for check in checks}):
        matches = ", ".join(_quoted(name) for name in unknown)
        lines.append(f"warn: some health checks cannot be excluded: no matches for {matches}")
    if failed:
        log.debug("%s check failed: %s", page, ", ".join(failed))
        text = "\n".join([*lines, f"{page} check failed", ""])
        return web.Response(text=text, status=500, headers=_HEADERS)
    text = "\n".join([*lines, f"{page} check passed", ""]) if verbose else "ok"
    return web.Response(text=text, headers=_HEADERS)


def _quoted(name: str) -> str:
    """As Go quotes a word; whoever sent it may have put anything in it."""
    safe = name.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in safe) + '"'
