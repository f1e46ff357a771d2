"""Objects at the REST door, on the wire: a server and a client on the loopback, a registry on a store in memory."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest
from aiohttp import web

from barque.api.errors import ApiError
from barque.master.apiserver.rest import compression
from barque.master.apiserver.rest.answers import refusal
from barque.master.apiserver.rest.call import RestCall
from barque.master.apiserver.rest.limits import BoundedServer
from barque.master.apiserver.rest.objects import Objects
from barque.master.apiserver.rest.request_info import request_info
from tests.support.memory_store import ADMIN, Bench, a_bench

MAPS = "/api/v1/namespaces/default/configmaps"
APPLY = {"Content-Type": "application/apply-patch+yaml"}
JSON = {"Content-Type": "application/json"}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
NO_SUCH_RESOURCE = (404, "the server could not find the requested resource")
NOT_ALLOWED = (405, "the server does not allow this method on the requested resource")


class Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def refusal(self) -> tuple[int, str]:
        assert self.json["kind"] == "Status"
        assert self.json["code"] == self.status
        return self.status, self.json["message"]


class World:
    """A bench behind a server of objects alone."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._objects = Objects(bench.registry)
        self.port = 0
        self._session: Any = None

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        call = None
        try:
            call = RestCall(request, request_info(request.method, request.raw_path.partition("?")[0]), ADMIN)
            return await self._objects(call)
        except ApiError as error:
            return refusal(call, error)

    async def ask(self, method: str, path: str, body: Any = b"", **headers: str) -> Answer:
        """`body` is JSON unless it is bytes."""
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self._session.request(method, url, data=data or None, headers=headers) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    @asynccontextmanager
    async def open(self) -> AsyncIterator["World"]:
        server = BoundedServer(self.answer)
        site = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        self.port = site.sockets[0].getsockname()[1]
        try:
            timeout = aiohttp.ClientTimeout(total=30)
            async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as self._session:
                yield self
        finally:
            site.close()
            await server.shutdown(0.1)


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    async with World(await a_bench()).open() as world:
        yield world


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_what_is_new_answers_201_by_whichever_verb_it_came() -> None:
    role = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles/r"
    async with a_world() as world:
        assert (await world.ask("POST", MAPS, config_map("a"), **JSON)).status == 201
        applied = f"{MAPS}/b?fieldManager=me"
        assert (await world.ask("PATCH", applied, config_map("b", k="1"), **APPLY)).status == 201
        assert (await world.ask("PATCH", applied, config_map("b", k="2"), **APPLY)).status == 200
        assert (await world.ask("PUT", role, {"metadata": {"name": "r"}}, **JSON)).status == 201
        assert (await world.ask("PUT", role, {"metadata": {"name": "r"}}, **JSON)).status == 200


async def test_an_answer_says_the_same_on_a_connection_that_ends() -> None:
    """Most answers are written at once, without aiohttp's map of headers; those that differ take its way."""
    async with a_world() as world:
        made = await world.ask("POST", MAPS, config_map("a"), **JSON)
        kept = await world.ask("GET", f"{MAPS}/a")
        ended = await world.ask("GET", f"{MAPS}/a", Connection="close")
        alone = await world.ask("HEAD", f"{MAPS}/a")
        assert (made.status, made.body) == (201, kept.body)
        told = {"Cache-Control": "no-cache, private", "Content-Type": "application/json"}
        told["Content-Length"] = str(len(kept.body))
        for answer in (kept, ended, alone):
            assert answer.status == 200
            assert told.items() <= dict(answer.headers).items()
            assert answer.headers["Date"].endswith(" GMT")
        assert set(ended.headers) - set(kept.headers) == {"Connection"}
        assert (ended.body, alone.body) == (kept.body, b"")


@pytest.mark.parametrize(
    ("method", "path", "refusal"),
    [
        ("GET", "/api/v1/namespaces/default/gadgets", NO_SUCH_RESOURCE),
        ("GET", "/apis/none.example/v1/gadgets", NO_SUCH_RESOURCE),
        ("GET", f"{MAPS}/a/status", NO_SUCH_RESOURCE),
        ("GET", "/api/v1/configmaps/a", NO_SUCH_RESOURCE),
        ("GET", "/api/v1/namespaces/default/nodes", NO_SUCH_RESOURCE),
        ("POST", "/api/v1/configmaps", NOT_ALLOWED),
        ("DELETE", "/api/v1/configmaps", NOT_ALLOWED),
        ("DELETE", "/api/v1/namespaces", NOT_ALLOWED),
        ("POST", f"{MAPS}/a", NOT_ALLOWED),
        ("GET", "/api/v1/namespaces/default/finalize", NOT_ALLOWED),
        ("GET", "/apis/authorization.k8s.io/v1/subjectaccessreviews", NOT_ALLOWED),
    ],
)
async def test_where_no_path_leads(method: str, path: str, refusal: tuple[int, str]) -> None:
    async with a_world() as world:
        assert (await world.ask(method, path, {}, **JSON)).refusal == refusal


async def test_unknown_fields_are_remarked_unless_the_caller_says_more() -> None:
    odd = {**config_map("a"), "odd": 1}
    async with a_world() as world:
        strict = await world.ask("POST", f"{MAPS}?fieldValidation=Strict", odd, **JSON)
        assert strict.status == 400
        assert 'strict decoding error: unknown field "odd"' in strict.json["message"]
        ignored = await world.ask("POST", f"{MAPS}?fieldValidation=Ignore&dryRun=All", odd, **JSON)
        assert (ignored.status, ignored.headers.getall("Warning", [])) == (201, [])
        for path in (MAPS, f"{MAPS}?fieldManager=me"):
            warned = await world.ask("POST", path, {**odd, "metadata": {"generateName": "a-"}}, **JSON)
            assert (warned.status, warned.headers.getall("Warning")) == (201, ['299 - "unknown field \\"odd\\""'])
            assert "odd" not in warned.json


async def test_a_large_object_is_packed_for_who_takes_that() -> None:
    large = config_map("a", word="x" * compression.THRESHOLD_BYTES)
    async with a_world() as world:
        made = await world.ask("POST", MAPS, large, **JSON, **{"Accept-Encoding": "gzip"})
        assert (made.status, made.headers["Content-Encoding"]) == (201, "gzip")
        assert msgspec.json.decode(gzip.decompress(made.body))["data"] == large["data"]
        plain = await world.ask("GET", f"{MAPS}/a", **{"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in plain.headers
        assert plain.json["data"] == large["data"]


@pytest.mark.parametrize(
    ("query", "agent", "indented"),
    [("", "kubectl/v1.33", False), ("", "curl/8.0", True), ("?pretty=false", "curl/8.0", False),
     ("?pretty=true", "kubectl/v1.33", True)],
)  # fmt: skip
async def test_who_reads_it_gets_indents(query: str, agent: str, indented: bool) -> None:
    agent_is = {"User-Agent": agent}
    async with a_world() as world:
        await world.ask("POST", MAPS, config_map("a"), **JSON)
        for path in (MAPS, f"{MAPS}/a", f"{MAPS}/none"):
            for accept in ({}, TABLE):
                answer = await world.ask("GET", path + query, **agent_is, **accept)
                assert answer.body.startswith(b'{\n  "') == indented
                assert answer.json == (await world.ask("GET", path, **accept)).json


async def test_a_body_is_asked_for_where_the_client_waits_to_be_told() -> None:
    body = msgspec.json.encode(config_map("a"))
    head = f"POST {MAPS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    async with a_world() as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(f"{head}Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await asyncio.wait_for(reader.read(), 30)).startswith(b"HTTP/1.1 201 Created\r\n")
        writer.close()


async def test_who_binds_or_evicts_a_pod_hears_that_it_is_done() -> None:
    done = {"apiVersion": "v1", "kind": "Status", "metadata": {}, "code": 201, "status": "Success"}
    async with a_world() as world:
        pods = "/api/v1/namespaces/default/pods"
        spec = {"containers": [{"name": "main", "image": "web:1"}]}
        await world.ask("POST", pods, {"metadata": {"name": "p"}, "spec": spec}, **JSON)
        binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
        bound = await world.ask("POST", f"{pods}/p/binding", binding, **JSON)
        assert (bound.status, bound.json) == (201, done)
        assert (await world.bench.get("pods", "p"))["spec"]["nodeName"] == "n1"
        evicted = await world.ask("POST", f"{pods}/p/eviction", {"metadata": {"name": "p"}}, **JSON)
        assert (evicted.status, evicted.json) == (201, done)


@pytest.mark.shows("bindings")
async def test_a_binding_may_be_created_by_itself() -> None:
    done = {"apiVersion": "v1", "kind": "Status", "metadata": {}, "code": 201, "status": "Success"}
    async with a_world() as world:
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        await world.bench.create("pods", pod)
        where, body = "/api/v1/namespaces/default/bindings", {"metadata": {"name": "p"}, "target": {"name": "n1"}}
        answer = await world.ask("POST", where, body, **JSON, **TABLE)
        assert (answer.status, answer.json) == (201, done)
        assert (await world.bench.get("pods", "p"))["spec"]["nodeName"] == "n1"
        assert (await world.ask("GET", where)).refusal == NOT_ALLOWED


async def test_deprecated_apis_say_so_in_every_answer() -> None:
    said = ['299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"']
    endpoints = "/api/v1/namespaces/default/endpoints"
    async with a_world() as world:
        asked = [
            ("POST", endpoints, {"metadata": {"name": "e"}}),
            ("GET", f"{endpoints}/e", b""),
            ("GET", endpoints, b""),
        ]
        for method, path, body in [*asked, ("GET", f"{endpoints}/none", b""), ("DELETE", f"{endpoints}/e", b"")]:
            for headers in ({}, TABLE) if method == "GET" else (JSON,):
                answer = await world.ask(method, path, body, **headers)
                assert answer.headers.getall("Warning", []) == said, (method, path)
        assert "Warning" not in (await world.ask("GET", MAPS)).headers


async def test_a_page_of_a_collection_is_deleted() -> None:
    async with a_world() as world:
        for name in ("a", "b", "c"):
            await world.bench.create("configmaps", config_map(name))
        deleted = (await world.ask("DELETE", f"{MAPS}?limit=2")).json
        assert [item["metadata"]["name"] for item in deleted["items"]] == ["a", "b"]
        assert deleted["metadata"]["continue"]
        assert await world.bench.names("configmaps", "default") == ["c"]


async def test_a_namespace_is_let_go_by_finalize_alone() -> None:
    async with a_world() as world:
        await world.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}}, **JSON)
        body = {"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": {"finalizers": ["example.com/wait"]}}
        replaced = (await world.ask("PUT", "/api/v1/namespaces/n", body, **JSON)).json
        assert (replaced["spec"]["finalizers"], replaced["metadata"]["labels"]["a"]) == (["kubernetes"], "b")
        finalized = (await world.ask("PUT", "/api/v1/namespaces/n/finalize", body, **JSON)).json
        assert finalized["spec"]["finalizers"] == ["example.com/wait"]
        assert (await world.bench.get("namespaces", "n"))["spec"] == finalized["spec"]
        emptied = await world.ask("PUT", "/api/v1/namespaces/n/finalize", {"metadata": {"name": "n"}}, **JSON)
        assert emptied.json["spec"]["finalizers"] == ["kubernetes"], (
            "one that is not being deleted is to be emptied first"
        )
        going = (await world.ask("DELETE", "/api/v1/namespaces/n")).json
        assert (going["kind"], going["status"]) == ("Namespace", {"phase": "Terminating"})
