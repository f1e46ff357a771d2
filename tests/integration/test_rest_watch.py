"""Watches at the REST door: a server and a client on the loopback, a registry on a store in memory."""

import asyncio
import gzip
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from barque.api.errors import ApiError, unauthorized
from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.rest import compression, watch_frames, watching, websockets
from barque.master.apiserver.rest.answers import refusal
from barque.master.apiserver.rest.call import Ending, RestCall
from barque.master.apiserver.rest.limits import BoundedServer
from barque.master.apiserver.rest.request_info import request_info
from barque.master.apiserver.rest.watch_frames import WatchForm
from barque.master.apiserver.rest.watching import Watching
from barque.master.auth.identity import User
from tests.support.expecting import expect_soon_async
from tests.support.memory_store import ADMIN, Bench, a_bench, target
from tests.support.raw_websocket import BINARY, CLOSE, PING, TEXT, connect, frame

PODS = "/api/v1/namespaces/default/pods"
SPEC = {"containers": [{"name": "main", "image": "web:1"}]}
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"


class Noted(Ending):
    """Notes in `ended` with which status each request ended."""

    def __init__(self, ended: list[int]) -> None:
        super().__init__(None)
        self._ended = ended

    def __call__(self, code: int, *_args: Any, **_named: Any) -> None:
        self._ended.append(code)


class World:
    """A bench behind a server of watches alone; `user` calls, `known` says why he no longer may."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.user: User = ADMIN
        self.unknown: ApiError | None = None
        self.generation = 1
        self.bounds = Bounds(max_streams=2)
        self.watching = Watching(bench.registry, self._recheck, lambda: self.generation, self.bounds)
        self.ended: list[int] = []
        self.url = ""
        self.session: Any = None

    def _recheck(self, call: RestCall) -> Callable[[], Awaitable[None]]:
        async def check() -> None:
            if self.unknown is not None:
                raise self.unknown

        return check

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        call = None
        try:
            path = request.raw_path.partition("?")[0]
            call = RestCall(request, request_info(request.method, path, "watch=true" in request.raw_path), self.user)
            call.ending = Noted(self.ended)
            answer = await self.watching(call)
            assert call.outlived != isinstance(answer, web.WebSocketResponse)
            return answer
        except ApiError as error:
            return refusal(call, error)

    def get(self, path: str = PODS, accept: str = "application/json", **query: str) -> Any:
        return self.session.get(self.url + path, params={"watch": "true", **query}, headers={"Accept": accept})

    async def refused(self, **query: str) -> dict[str, Any]:
        async with self.get(**query) as answer:
            status: dict[str, Any] = await answer.json()
            assert answer.status == status["code"]
            return status

    async def pod(self, name: str, **labels: str) -> dict[str, Any]:
        return await self.bench.create("pods", {"metadata": {"name": name, "labels": labels}, "spec": SPEC})

    async def label(self, name: str, **labels: str | None) -> None:
        patch = msgspec.json.encode({"metadata": {"labels": labels}})
        await self.bench.admin.patch(target("pods", name), "application/merge-patch+json", patch)

    def revoke_watch(self) -> None:
        """From now on nobody may watch, and who does is to be asked again."""
        authorizer = self.bench.registry.environment.authorizer
        authorize = authorizer.authorize

        async def refuse_watch(user: User, verb: str, *about: Any) -> None:
            if verb == "watch":
                raise ApiError(403, "Forbidden", "no longer")
            await authorize(user, verb, *about)

        authorizer.authorize = refuse_watch  # type: ignore[method-assign]
        self.generation += 1

    async def tick(self) -> None:
        """So much time that every watch has had a bookmark."""
        for _ in range(31):
            await self.bench.clock.advance(1)

    @property
    def streams(self) -> int:
        """How many the user has under way."""
        return self.bounds._running[self.user.name, "streams"]

    @property
    def revision(self) -> str:
        return str(self.bench.store.revision)


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    world = World(await a_bench())
    server = BoundedServer(world.answer)
    site = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    hub = asyncio.ensure_future(world.bench.store._hub.run())
    world.url = f"http://127.0.0.1:{site.sockets[0].getsockname()[1]}"
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as world.session:
            yield world
    finally:
        hub.cancel()
        site.close()
        await world.watching.stop()
        await server.shutdown(0.1)


async def event(answer: Any) -> dict[str, Any]:
    read: dict[str, Any] = msgspec.json.decode(await asyncio.wait_for(answer.content.readline(), 30))
    return read


async def kinds(answer: Any, count: int) -> list[tuple[str, str]]:
    events = [await event(answer) for _ in range(count)]
    return [(e["type"], e["object"]["metadata"].get("name", "")) for e in events]


async def test_a_watch_begins_with_what_there_is_and_goes_on_with_what_comes() -> None:
    async with a_world() as world:
        made = await world.pod("a")
        async with world.get() as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
            assert answer.headers["Cache-Control"] == "no-cache, private"
            assert await event(answer) == {"type": "ADDED", "object": made}
            await world.label("a", x="1")
            await world.pod("b")
            await world.bench.admin.delete(target("pods", "b"), b'{"gracePeriodSeconds":0}')
            assert await kinds(answer, 3) == [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "b")]


async def test_a_watch_of_a_deprecated_api_says_so() -> None:
    said = '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
    async with a_world() as world:
        async with world.session.get(f"{world.url}/api/v1/endpoints?watch=1") as answer:
            assert answer.headers.getall("Warning") == [said]
        async with world.get() as answer:
            assert "Warning" not in answer.headers


async def test_a_revision_is_where_a_watch_goes_on() -> None:
    async with a_world() as world:
        await world.pod("a")
        since = world.revision
        await world.pod("b")
        async with world.get(resourceVersion=since) as answer:
            assert await kinds(answer, 1) == [("ADDED", "b")]
        async with world.get(resourceVersion="0") as answer:
            assert await kinds(answer, 2) == [("ADDED", "a"), ("ADDED", "b")]


async def test_a_watch_ends_when_it_ends() -> None:
    async with a_world() as world:
        async with world.get() as answer:
            await world.pod("a")
            assert await kinds(answer, 1) == [("ADDED", "a")]
            assert world.ended == [], "the request lasts as long as the watch"
            assert world.streams == 1
        await _until(lambda: world.ended == [200])
        async with world.get(timeoutSeconds="1") as answer:
            await answer.read()
        await _until(lambda: world.ended == [200, 200])
        assert world.streams == 0


async def test_a_watch_that_is_stopped_before_it_runs_ends_as_well() -> None:
    async with a_world() as world:
        by_lines = world.watching._by_lines

        async def stopped_at_once(*about: Any) -> web.StreamResponse:
            answer = await by_lines(*about)
            (watch,) = world.watching.standing
            watch.interrupt()
            return answer

        world.watching._by_lines = stopped_at_once  # type: ignore[method-assign]
        async with world.get() as answer:
            assert await answer.read() == b""
        await _until(lambda: (world.ended, world.streams) == ([200], 0))


async def test_an_idle_watch_has_no_task() -> None:
    async with a_world() as world, world.get() as answer:
        (watch,) = world.watching.standing
        for name in ("a", "b"):
            await _until(lambda: watch.task is None)
            await world.pod(name)
            assert await kinds(answer, 1) == [("ADDED", name)]


async def test_one_user_has_no_more_watches_than_streams() -> None:
    async with a_world() as world, world.get() as first, world.get() as second:
        assert (first.status, second.status) == (200, 200)
        assert (await world.refused())["code"] == 429
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await world.session.ws_connect(f"{world.url}{PODS}?watch=true")
        assert refused.value.status == 429


async def test_entering_and_leaving_a_selector() -> None:
    async with a_world() as world:
        await world.pod("a", app="x")
        async with world.get(resourceVersion=world.revision, labelSelector="app=x") as answer:
            await world.label("a", app="y")
            await world.label("a", app="x")
            await world.label("a", other="1")
            assert await kinds(answer, 3) == [("DELETED", "a"), ("ADDED", "a"), ("MODIFIED", "a")]


@pytest.mark.parametrize("path", [f"{PODS}/b", "/api/v1/watch/namespaces/default/pods/b"])
async def test_one_object_is_watched_by_its_path(path: str) -> None:
    async with a_world() as world:
        await world.pod("a")
        await world.pod("b")
        async with world.get(path) as answer:
            assert await kinds(answer, 1) == [("ADDED", "b")]
            await world.label("a", x="1")
            await world.label("b", x="1")
            assert await kinds(answer, 1) == [("MODIFIED", "b")]


async def test_initial_events_end_with_a_bookmark_that_says_so() -> None:
    async with a_world() as world:
        await world.pod("a")
        initial = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
        async with world.get(**initial) as answer:
            assert await kinds(answer, 1) == [("ADDED", "a")]
            metadata = {"resourceVersion": world.revision, "annotations": {"k8s.io/initial-events-end": "true"}}
            marked = {"kind": "Pod", "apiVersion": "v1", "metadata": metadata}
            assert await event(answer) == {"type": "BOOKMARK", "object": marked}
        none = {"sendInitialEvents": "false", "resourceVersionMatch": "NotOlderThan"}
        async with world.get(**none) as answer:
            await world.pod("b")
            assert await kinds(answer, 1) == [("ADDED", "b")]


async def test_bookmarks_come_to_those_who_want_them() -> None:
    async with a_world() as world:
        since = world.revision
        async with (
            world.get(resourceVersion=since, allowWatchBookmarks="true") as told,
            world.get(resourceVersion=since) as untold,
        ):
            await world.tick()
            metadata = {"resourceVersion": since}
            marked = {"kind": "Pod", "apiVersion": "v1", "metadata": metadata}
            assert await event(told) == {"type": "BOOKMARK", "object": marked}
            await world.pod("a")
            assert await kinds(untold, 1) == [("ADDED", "a")]


async def test_a_watch_ends_when_its_time_is_over() -> None:
    async with a_world() as world, world.get(timeoutSeconds="1") as answer:
        assert await asyncio.wait_for(answer.content.read(), 30) == b""


async def test_a_history_that_is_gone_is_told_by_an_event() -> None:
    async with a_world() as world:
        world.bench.store._hub.reset(world.bench.store.revision)
        async with world.get(resourceVersion="1") as answer:
            assert answer.status == 200
            told = await event(answer)
            assert (told["type"], told["object"]["kind"]) == ("ERROR", "Status")
            assert (told["object"]["code"], told["object"]["reason"]) == (410, "Expired")
            assert told["object"]["message"] == f"too old resource version: 1 ({world.revision})"
            assert await answer.content.read() == b""


async def test_what_cannot_be_asked_is_refused_before_the_answer_begins() -> None:
    async with a_world() as world:
        assert (await world.refused(labelSelector="a in"))["reason"] == "BadRequest"
        assert (await world.refused(fieldSelector="spec.color=red"))["reason"] == "BadRequest"
        assert (await world.refused(sendInitialEvents="true"))["reason"] == "Invalid"
        assert (await world.refused(accept="application/yaml"))["reason"] == "NotAcceptable"
        world.user = User("nobody")
        assert (await world.refused())["reason"] == "Forbidden"


async def test_tables_tell_their_columns_once() -> None:
    async with a_world() as world:
        await world.pod("a")
        async with world.get(accept=TABLE) as answer:
            first = (await event(answer))["object"]
            await world.label("a", x="1")
            second = (await event(answer))["object"]
        assert (first["kind"], first["apiVersion"]) == ("Table", "meta.k8s.io/v1")
        assert first["columnDefinitions"][0]["name"] == "Name"
        assert second["columnDefinitions"] is None
        assert first["rows"][0]["cells"][0] == second["rows"][0]["cells"][0] == "a"
        assert second["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
        async with world.get(accept=TABLE, resourceVersion=world.revision) as answer:
            await world.label("a", x="2")
            assert (await event(answer))["object"]["columnDefinitions"]
            await world.label("a", x="3")
            assert (await event(answer))["object"]["columnDefinitions"] is None


async def test_metadata_alone() -> None:
    async with a_world() as world:
        pod = await world.pod("a")
        async with world.get(accept=METADATA) as answer:
            partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": pod["metadata"]}
            assert await event(answer) == {"type": "ADDED", "object": partial}


async def test_a_websocket_has_one_event_a_message() -> None:
    async with a_world() as world:
        await world.pod("a")
        await world.pod("b")
        async with world.session.ws_connect(f"{world.url}{PODS}?watch=true") as socket:
            read = [await socket.receive(30) for _ in range(2)]
            assert [message.type for message in read] == [aiohttp.WSMsgType.TEXT] * 2
            assert [message.json()["object"]["metadata"]["name"] for message in read] == ["a", "b"]
            await world.pod("c")
            assert (await socket.receive_json(timeout=30))["type"] == "ADDED"
        await _until(lambda: world.bench.store._hub.watchers == 0)


async def test_a_websocket_ends_when_its_time_is_over() -> None:
    async with a_world() as world, world.session.ws_connect(f"{world.url}{PODS}?watch=true&timeoutSeconds=1") as socket:
        assert (await socket.receive(30)).type is aiohttp.WSMsgType.CLOSE


async def test_nothing_is_seen_once_the_right_is_gone() -> None:
    async with a_world() as world, world.get(resourceVersion=world.revision) as answer:
        world.revoke_watch()
        await world.pod("secret")
        told = await event(answer)
        assert (told["type"], told["object"]["code"]) == ("ERROR", 403)
        assert b"secret" not in await answer.content.read()


async def test_a_watch_ends_with_the_credential_it_was_made_with() -> None:
    async with a_world() as world, world.get(resourceVersion=world.revision) as answer:
        world.unknown = unauthorized("the token has expired")
        await world.tick()
        told = await event(answer)
        assert (told["type"], told["object"]["code"]) == ("ERROR", 401)


async def test_a_watch_whose_client_leaves_is_forgotten() -> None:
    async with a_world() as world:
        async with world.get():
            await _until(lambda: world.bench.store._hub.watchers == 1)
        await _until(lambda: world.bench.store._hub.watchers == 0)


async def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WRITE_S", 0.3)
    async with a_world() as world:
        reader, writer = await asyncio.open_connection(*world.url.removeprefix("http://").split(":"), limit=1024)
        writer.write(b"GET /api/v1/namespaces/default/configmaps?watch=true HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for n in range(20):
            big = {"metadata": {"name": f"big-{n}"}, "data": {"k": "x" * 900_000}}
            await world.bench.create("configmaps", big)
            await asyncio.sleep(0)
        await _until(lambda: world.bench.store._hub.watchers == 0)
        writer.close()


async def test_watchers_of_one_batch_share_its_bytes() -> None:
    bench = await a_bench()
    changes = bench.store.watch("pods", bench.store.revision)
    others = bench.store.watch("pods", bench.store.revision)
    first, second = (asyncio.ensure_future(anext(aiter(each))) for each in (changes, others))
    await asyncio.sleep(0)
    await bench.create("pods", {"metadata": {"name": "a"}, "spec": SPEC})
    pods, now = target("pods").resource, bench.clock.wall()
    made = [await watch_frames.frames(await each, pods, WatchForm(), now) for each in (first, second)]
    assert made[0] is made[1]
    lines = await watch_frames.frames(await first, pods, WatchForm(lines=True), now)
    assert b"".join(made[0]) == b"".join(lines)


async def test_packed_pieces_are_the_pieces() -> None:
    pieces = [b"x" * 3_000_000, b"", b"end"]
    packed = b"".join(await compression.packed(pieces))
    assert gzip.decompress(packed) == b"".join(pieces)
    assert len(packed) < 100_000


async def _until(true: Callable[[], bool]) -> None:
    await expect_soon_async(true, 30, "what the test waits for")


async def test_a_handshake_that_is_none_is_the_clients_fault() -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    async with a_world() as world:
        for wrong in ({"Sec-WebSocket-Key": "x"}, {"Sec-WebSocket-Key": "", "Sec-WebSocket-Version": "9"}):
            async with world.session.get(f"{world.url}{PODS}?watch=true", headers={**upgrade, **wrong}) as answer:
                assert (answer.status, (await answer.json())["reason"]) == (400, "BadRequest")
        assert world.bounds._running == {}


async def test_a_browsers_token_is_answered_by_another_protocol_and_goes_into_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    protocols = ["base64url.bearer.authorization.k8s.io.c2VjcmV0", "base64.binary.k8s.io", "x"]
    async with a_world() as world:
        await world.pod("a")
        async with world.session.ws_connect(f"{world.url}{PODS}?watch=true", protocols=protocols) as socket:
            assert socket.protocol == "base64.binary.k8s.io"
            assert (await socket.receive_json(timeout=30))["type"] == "ADDED"
    ours = [record for record in caplog.records if "aiohttp.client" not in record.name]
    assert "c2VjcmV0" not in "".join(record.getMessage() for record in ours)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (frame(BINARY, b"x", masked=False), 1002), (frame(TEXT, b"\xff"), 1007), (frame(TEXT, length=4096), 1009),
        (frame(PING, b"x" * 126), 1002), (frame(TEXT, b"of no interest") + frame(CLOSE, b"\x03\xe8"), 1000),
    ],
)  # fmt: skip
async def test_what_a_watcher_may_not_say_ends_its_watch_alone(said: bytes, code: int) -> None:
    async with a_world() as world, world.get(resourceVersion=world.revision) as other:
        socket = await connect(int(world.url.rpartition(":")[2]), f"{PODS}?watch=true")
        await socket.send(said)
        assert await socket.until_closed() == code
        socket.close()
        await world.pod("a")
        assert (await event(other))["type"] == "ADDED"
        await _until(lambda: world.bench.store._hub.watchers == 1)


async def test_a_websocket_that_is_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WRITE_S", 0.3)
    # It hears no goodbye either, so none is waited for.
    monkeypatch.setattr(websockets, "CLOSE_S", 100.0)
    async with a_world() as world:
        socket = await connect(int(world.url.rpartition(":")[2]), f"{PODS}?watch=true")
        socket.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await world.pod("a")
        large = "x" * 200_000
        admin, name, kind = world.bench.admin, target("pods", "a"), "application/merge-patch+json"
        async with asyncio.timeout(60):
            for number in itertools.count():
                if not world.bounds._running:
                    break
                patch = {"metadata": {"annotations": {"large": f"{number}{large}"}}}
                await admin.patch(name, kind, msgspec.json.encode(patch))
                await asyncio.sleep(0.01)
        socket.writer.transport.resume_reading()  # type: ignore[attr-defined]
        # The connection is dropped with what it held: there is no goodbye behind it.
        assert await socket.until_closed() == 0
        socket.close()
