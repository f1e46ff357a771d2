"""The health pages, word for word as Kubernetes answers them."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.test_utils import make_mocked_request

from barque.api.errors import ApiError
from barque.master.apiserver.rest import health
from barque.master.apiserver.rest.call import RestCall
from barque.master.apiserver.rest.health import READ_PACE_S, Check, Health, StoreCheck
from barque.master.apiserver.rest.request_info import request_info
from barque.master.auth.identity import User
from barque.master.store.port import StoreUnavailableError
from tests.support.clock import FakeClock


class Parts:
    """A store whose health is set by hand, and the pages about it."""

    def __init__(self) -> None:
        self.fault = ""
        self.health = Health(
            live=[Check("event-loop", self._well)],
            ready=[Check("store", self._stored), Check("informer-sync", self._well)],
        )

    async def get(self, path: str) -> tuple[int, str]:
        request = make_mocked_request("GET", path)
        plain = path.partition("?")[0]
        call = RestCall(request, request_info("GET", plain), User("system:anonymous", ("system:unauthenticated",)))
        answer = await self.health.handle(call)
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        return answer.status, answer.text or ""

    async def _stored(self) -> str:
        return self.fault

    async def _well(self) -> str:
        return ""


class Engine:
    """A store that answers a read once `answers` is set, with `away` as its refusal; `asked` counts the questions."""

    def __init__(self) -> None:
        self.fault = ""
        self.away = ""
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def barrier(self) -> int:
        self.asked += 1
        await self.answers.wait()
        if self.away:
            raise StoreUnavailableError(self.away)
        return 7


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


async def test_a_store_is_well_while_current_reads_can_be_served() -> None:
    engine, clock = Engine(), FakeClock()
    check = StoreCheck(engine, clock)
    assert await check() == ""
    engine.away = "no leader: 1 of 3 masters answer"
    assert await check() == "", "what was found holds for a second"
    await clock.advance(READ_PACE_S)
    assert await check() == "no leader: 1 of 3 masters answer"
    engine.away = ""
    await clock.advance(READ_PACE_S)
    assert (await check(), engine.asked) == ("", 3)
    engine.fault = "the disk is full"
    assert (await check(), engine.asked) == ("the disk is full", 3)


async def test_all_who_ask_at_once_share_one_read_and_an_election_only_delays_it() -> None:
    engine = Engine()
    check = StoreCheck(engine, FakeClock())
    engine.answers.clear()
    asking = [asyncio.create_task(check()) for _ in range(20)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in asking)
    asking.pop(0).cancel()  # who asked first goes away
    engine.answers.set()
    assert set(await asyncio.gather(*asking)) == {""}
    assert engine.asked == 2


async def test_a_read_that_does_not_come_is_no_health(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "READ_TIMEOUT_S", 0.0)
    engine = Engine()
    engine.answers.clear()
    said = await StoreCheck(engine, FakeClock())()
    assert said == "no current read can be served: no answer of a majority within 0 s"
