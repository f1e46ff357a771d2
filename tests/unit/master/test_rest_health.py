"""The health pages, word for word as Kubernetes answers them."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from barque.api.errors import ApiError
from barque.master.apiserver.rest.call import RestCall
from barque.master.apiserver.rest.health import Check, Health
from barque.master.apiserver.rest.request_info import request_info
from barque.master.auth.identity import User


class Parts:
    """A store whose health is set by hand, and the pages about it."""

    def __init__(self) -> None:
        self.fault = ""
        store = Check("store", lambda: self.fault)
        self.health = Health(live=[Check("event-loop", str)], ready=[store, Check("informer-sync", str)])

    async def get(self, path: str) -> tuple[int, str]:
        request = make_mocked_request("GET", path)
        plain = path.partition("?")[0]
        call = RestCall(request, request_info("GET", plain), User("system:anonymous", ("system:unauthenticated",)))
        answer = await self.health.handle(call)
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        return answer.status, answer.text or ""


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/livez", "ok"),
        ("/readyz", "ok"),
        ("/healthz", "ok"),
        ("/livez?verbose", "[+]ping ok\n[+]event-loop ok\nlivez check passed\n"),
        ("/readyz?verbose=1", "[+]ping ok\n[+]store ok\n[+]informer-sync ok\nreadyz check passed\n"),
        (
            "/healthz?verbose",
            "[+]ping ok\n[+]event-loop ok\n[+]store ok\n[+]informer-sync ok\nhealthz check passed\n",
        ),
        ("/livez?verbose&exclude=event-loop", "[+]ping ok\n[+]event-loop excluded: ok\nlivez check passed\n"),
        (
            '/livez?verbose&exclude=b&exclude=a"x',
            "[+]ping ok\n[+]event-loop ok\n"
            'warn: some health checks cannot be excluded: no matches for "a\\"x", "b"\nlivez check passed\n',
        ),
        ("/livez/ping", "ok"),
        ("/readyz/store", "ok"),
    ],
)
async def test_what_is_well_says_so(path: str, text: str) -> None:
    assert await Parts().get(path) == (200, text)


async def test_a_fault_is_shown_without_its_reason_but_on_its_own_page() -> None:
    parts = Parts()
    parts.fault = "the disk is full"
    whole = "[+]ping ok\n[-]store failed: reason withheld\n[+]informer-sync ok\nreadyz check failed\n"
    assert await parts.get("/readyz") == (500, whole)
    assert await parts.get("/readyz/store") == (500, "internal server error: the disk is full\n")
    assert await parts.get("/readyz?exclude=store") == (200, "ok")
    assert await parts.get("/livez") == (200, "ok")
    assert (await parts.get("/healthz"))[0] == 500
    parts.fault = ""
    assert await parts.get("/readyz") == (200, "ok")


@pytest.mark.parametrize("path", ["/livez/store", "/readyz/nothing", "/readyz/store/more"])
async def test_a_check_that_there_is_not_is_not_found(path: str) -> None:
    with pytest.raises(ApiError) as refused:
        await Parts().get(path)
    assert refused.value.code == 404
    assert refused.value.message == "the server could not find the requested resource"


def test_the_door_knows_every_path() -> None:
    paths = Parts().health.paths()
    assert set(paths) == {"/healthz", "/livez", "/readyz", "/healthz/", "/livez/", "/readyz/"}
