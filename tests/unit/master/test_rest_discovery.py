"""What the REST door says of itself: discovery in both forms, OpenAPI's documents, the version."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from barque.api.errors import ApiError
from barque.api.openapi import v2
from barque.api.resources import RESOURCES, Resource, by_plural
from barque.api.types.generate import SCHEMA_VERSION
from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.rest.call import Handler, RestCall
from barque.master.apiserver.rest.calls import Calls, Handlers
from barque.master.apiserver.rest.discovery import Discovery
from barque.master.apiserver.rest.documents import Document
from barque.master.apiserver.rest.index import index_paths
from barque.master.apiserver.rest.openapi import OpenAPI, _sliced
from barque.master.apiserver.rest.request_info import request_info
from barque.master.apiserver.rest.version import MAJOR, MINOR, PATCH, git_version, version_paths
from barque.master.auth.identity import User

ROWS = (
    by_plural("", "pods"),
    by_plural("", "serviceaccounts"),
    by_plural("apps", "deployments"),
    by_plural("events.k8s.io", "events"),
    by_plural("metrics.k8s.io", "nodes"),
    Resource("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscaler"),
    Resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscaler"),
    Resource(
        "authentication.k8s.io", "v1", "TokenReview", "tokenreviews", "tokenreview", namespaced=False,
        verbs=("create",), storage="review",
    ),
)  # fmt: skip
V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
V2BETA1 = V2.replace("v=v2", "v=v2beta1")
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


def called(path: str, headers: dict[str, str], method: str = "GET") -> RestCall:
    request = make_mocked_request(method, path, headers)
    return RestCall(request, request_info(method, path.partition("?")[0]), User("anna"))


async def ask(
    paths: Mapping[str, Handler], path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> web.Response:
    call = called(path, headers or {}, method)
    asked = call.info.path
    found = paths.get(asked) or next(paths[p] for p in paths if p.endswith("/") and asked.startswith(p))
    answer = await found(call)
    assert isinstance(answer, web.Response)
    return answer


def body(answer: web.Response) -> Any:
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


DISCOVERY = Discovery(ROWS, "10.0.0.1:6443").paths()


async def discovered(path: str) -> Any:
    answer = await ask(DISCOVERY, path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    return body(answer)


async def test_the_core_says_its_versions_and_where_it_is_reached() -> None:
    assert await discovered("/api") == {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "10.0.0.1:6443"}],
    }


async def test_groups_stand_in_kubernetes_order_with_the_newest_version_preferred() -> None:
    told = await discovered("/apis")
    assert (told["kind"], told["apiVersion"]) == ("APIGroupList", "v1")
    assert [group["name"] for group in told["groups"]] == [
        "apps", "events.k8s.io", "authentication.k8s.io", "autoscaling", "metrics.k8s.io",
    ]  # fmt: skip
    autoscaling = {
        "name": "autoscaling",
        "versions": [
            {"groupVersion": "autoscaling/v2", "version": "v2"},
            {"groupVersion": "autoscaling/v1", "version": "v1"},
        ],
        "preferredVersion": {"groupVersion": "autoscaling/v2", "version": "v2"},
    }
    assert told["groups"][3] == autoscaling
    assert await discovered("/apis/autoscaling") == {"kind": "APIGroup", "apiVersion": "v1", **autoscaling}


@pytest.mark.shows("/")
async def test_the_index_names_every_path_that_answers() -> None:
    paths = Discovery(ROWS, "10.0.0.1:6443")
    index = index_paths([*paths.places(), *paths.paths(), "/healthz", "/healthz/", "POST /barque/v1/join"])
    told = body(await ask(index, "/"))["paths"]
    assert told == sorted(told)
    assert {"/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz"} < set(told)
    assert not {path for path in told if path.endswith("/") or " " in path}
    known: Any = None
    calls = Calls(Handlers(_silent, _silent, {}, {**index, "/version": _silent}), known, known, Bounds())
    assert calls._handler("GET", "/") is index["/"]
    for path in ("/nothing", "/version/nothing"):
        with pytest.raises(ApiError, match="could not find"):
            calls._handler("GET", path)


async def _silent(call: RestCall) -> Any:
    raise AssertionError(f"{call.info.path} is not asked for")


@pytest.mark.shows("/api, /apis")
async def test_the_resources_of_the_core() -> None:
    told = await discovered("/api/v1")
    assert list(told) == ["kind", "groupVersion", "resources"]
    assert told["groupVersion"] == "v1"
    rows = {row["name"]: row for row in told["resources"]}
    assert rows["pods"] == {
        "name": "pods",
        "singularName": "pod",
        "namespaced": True,
        "kind": "Pod",
        "verbs": VERBS,
        "shortNames": ["po"],
        "categories": ["all"],
        "storageVersionHash": "xPOwRZ+Yhw8=",
    }
    assert rows["pods/status"] == {
        "name": "pods/status", "singularName": "", "namespaced": True, "kind": "Pod",
        "verbs": ["get", "patch", "update"],
    }  # fmt: skip
    assert rows["pods/eviction"] == {
        "name": "pods/eviction", "singularName": "", "namespaced": True, "group": "policy", "version": "v1",
        "kind": "Eviction", "verbs": ["create"],
    }  # fmt: skip
    assert rows["serviceaccounts/token"]["group"] == "authentication.k8s.io"


async def test_other_groups_say_their_version_twice_and_what_is_kept_as_another_says_so_in_its_hash() -> None:
    told = await discovered("/apis/events.k8s.io/v1")
    assert list(told) == ["kind", "apiVersion", "groupVersion", "resources"]
    assert told["resources"][0]["storageVersionHash"] == "r2yiGXH7wu8="


async def test_virtual_kinds_have_their_verbs_and_no_storage() -> None:
    (row,) = (await discovered("/apis/authentication.k8s.io/v1"))["resources"]
    assert row == {
        "name": "tokenreviews", "singularName": "tokenreview", "namespaced": False, "kind": "TokenReview",
        "verbs": ["create"],
    }  # fmt: skip


@pytest.mark.shows("/api, /apis")
@pytest.mark.parametrize(("accept", "version"), [(f"{V2},{V2BETA1},application/json", "v2"), (V2BETA1, "v2beta1")])
async def test_all_groups_in_one_answer(accept: str, version: str) -> None:
    answer = await ask(DISCOVERY, "/apis", {"Accept": accept})
    assert answer.headers["Content-Type"] == V2.replace("v=v2", f"v={version}")
    told = body(answer)
    assert (told["kind"], told["apiVersion"]) == ("APIGroupDiscoveryList", f"apidiscovery.k8s.io/{version}")
    assert told["items"][0] == {
        "metadata": {"name": "apps", "creationTimestamp": None},
        "versions": [
            {
                "version": "v1",
                "resources": [
                    {
                        "resource": "deployments",
                        "responseKind": {"group": "apps", "version": "v1", "kind": "Deployment"},
                        "scope": "Namespaced",
                        "singularResource": "deployment",
                        "verbs": VERBS,
                        "shortNames": ["deploy"],
                        "categories": ["all"],
                        "subresources": [
                            {
                                "subresource": "scale",
                                "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
                                "verbs": ["get", "patch", "update"],
                            },
                            {
                                "subresource": "status",
                                "responseKind": {"group": "apps", "version": "v1", "kind": "Deployment"},
                                "verbs": ["get", "patch", "update"],
                            },
                        ],
                    }
                ],
                "freshness": "Current",
            }
        ],
    }
    assert [item["metadata"].get("name") for item in told["items"]] == [
        "apps", "events.k8s.io", "authentication.k8s.io", "autoscaling", "metrics.k8s.io",
    ]  # fmt: skip
    core = body(await ask(DISCOVERY, "/api", {"Accept": accept}))
    assert [item["metadata"] for item in core["items"]] == [{}]


@pytest.mark.parametrize(
    ("accept", "path"),
    [
        (f"application/json;q=0.9,{V2};q=0.8", "/apis"),
        ("application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList,*/*", "/apis"),
        (f"{V2},application/json", "/apis/apps"),
        ("application/vnd.kubernetes.protobuf,application/json", "/apis"),
    ],
)
async def test_the_old_form_where_the_new_one_is_not_wanted_or_not_there(accept: str, path: str) -> None:
    answer = await ask(DISCOVERY, path, {"Accept": accept})
    assert answer.headers["Content-Type"] == "application/json"
    assert body(answer)["kind"] in ("APIGroupList", "APIGroup")


@pytest.mark.parametrize(
    ("path", "headers", "method", "code"),
    [
        ("/apis/none.example", {}, "GET", 404),
        ("/apis/apps/v9", {}, "GET", 404),
        ("/api/v2", {}, "GET", 404),
        ("/apis", {"Accept": "application/vnd.kubernetes.protobuf"}, "GET", 406),
        ("/apis", {"Accept": "text/html"}, "GET", 406),
        ("/apis/apps", {"Accept": V2}, "GET", 406),
        ("/apis", {"Accept": V2.replace("v=v2", "v=v3")}, "GET", 406),
        ("/apis", {}, "POST", 405),
    ],
)
async def test_what_is_refused(path: str, headers: dict[str, str], method: str, code: int) -> None:
    with pytest.raises(ApiError) as refusal:
        await ask(DISCOVERY, path, headers, method)
    assert refusal.value.code == code


@pytest.mark.parametrize("path", ["/api/", "/apis/", "/apis/apps/", "/apis/apps/v1/"])
async def test_a_slash_at_the_end_means_nothing(path: str) -> None:
    assert await discovered(path) == await discovered(path.rstrip("/"))


# --- documents


async def test_who_has_a_document_is_not_sent_it_again() -> None:
    first = await ask(DISCOVERY, "/apis", {"Accept": V2})
    tag = first.headers["ETag"]
    assert isinstance(first.body, bytes)
    assert tag == f'"{hashlib.sha512(first.body).hexdigest().upper()}"'
    again = await ask(DISCOVERY, "/apis", {"Accept": V2, "If-None-Match": f'"old", W/{tag}'})
    assert (again.status, again.body, again.headers["ETag"]) == (304, None, tag)
    other = await ask(DISCOVERY, "/apis", {"If-None-Match": tag})
    assert other.status == 200


@pytest.mark.parametrize(
    ("accepts", "packed"),
    [("gzip", True), ("br, gzip", True), ("", False), ("gzip;q=0", False), ("deflate", False)],
)
def test_large_documents_are_packed_for_those_who_unpack(accepts: str, packed: bool) -> None:
    content = b'{"kind":"APIGroupList"}' * 100
    answer = Document(content).answer(called("/apis", {"Accept-Encoding": accepts}))
    assert isinstance(answer.body, bytes)
    assert ("Content-Encoding" in answer.headers) is packed
    assert (gzip.decompress(answer.body) if packed else answer.body) == content


def test_small_documents_are_sent_as_they_are() -> None:
    answer = Document(b"{}").answer(called("/apis", {"Accept-Encoding": "gzip"}))
    assert (answer.body, answer.headers.get("Content-Encoding")) == (b"{}", None)


# --- OpenAPI


@pytest.fixture(scope="module")
def openapi() -> OpenAPI:
    return OpenAPI(RESOURCES, "v1.36.0+barque-0.1.0")


@pytest.mark.shows("/openapi/v3")
async def test_the_index_leads_to_documents_that_may_be_kept_for_good() -> None:
    paths = OpenAPI(ROWS[:3], "v1.36.0").paths()
    index = body(await ask(paths, "/openapi/v3"))["paths"]
    assert list(index) == ["api", "api/v1", "apis", "apis/apps", "apis/apps/v1", "version"]
    address = index["apis/apps/v1"]["serverRelativeURL"]
    answer = await ask(paths, address)
    assert body(answer)["info"] == {"title": "Barque", "version": "v1.36.0"}
    assert address == f"/openapi/v3/apis/apps/v1?hash={answer.headers['ETag'].strip(chr(34))}"
    assert answer.headers["Cache-Control"] == "public, immutable"
    assert answer.headers["Expires"].endswith("GMT")


async def test_an_old_hash_leads_to_the_new_one_and_none_is_not_kept() -> None:
    paths = OpenAPI(ROWS[:1], "v1.36.0").paths()
    address = body(await ask(paths, "/openapi/v3"))["paths"]["api/v1"]["serverRelativeURL"]
    moved = await ask(paths, "/openapi/v3/api/v1?hash=ABC")
    assert (moved.status, moved.headers["Location"]) == (301, address)
    plain = await ask(paths, "/openapi/v3/api/v1")
    assert plain.status == 200
    assert plain.headers["Cache-Control"] == "no-cache, private"


@pytest.mark.shows("/openapi/v2")
@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/com.github.proto-openapi.spec.v2@v1.0+protobuf", PROTOBUF),
        (f"{PROTOBUF},application/json;q=0.5", PROTOBUF),
    ],
)
async def test_version_2_in_the_form_that_is_wanted(accept: str, answered: str) -> None:
    answer = await ask(OpenAPI(ROWS[:1], "v1.36.0").paths(), "/openapi/v2", {"Accept": accept})
    assert answer.headers["Content-Type"] == answered
    assert isinstance(answer.body, bytes)
    assert answer.body.startswith(b'{"swagger":"2.0"' if answered == "application/json" else b"\x0a\x032.0")


@pytest.mark.parametrize(
    ("path", "accept", "code"),
    [
        ("/openapi/v3/apis/none/v1", "", 404),
        ("/openapi/v3/api/v1", "text/html", 406),
        ("/openapi/v2", "text/html", 406),
    ],
)
async def test_documents_and_forms_that_are_not_there(openapi: OpenAPI, path: str, accept: str, code: int) -> None:
    with pytest.raises(ApiError) as refusal:
        await ask(openapi.paths(), path, {"Accept": accept})
    assert refusal.value.code == code


async def test_others_have_their_turn_while_documents_are_made() -> None:
    made = 0
    seen: list[int] = []

    async def watch() -> None:
        while True:
            seen.append(made)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    async for _ in _sliced(v2.whole(RESOURCES, "v1.36.0")):
        made += 1
    watching.cancel()
    assert made > 300
    assert max(later - earlier for earlier, later in pairwise([*seen, made])) <= 8


async def test_who_ask_at_once_wait_for_the_same_making() -> None:
    openapi = OpenAPI(ROWS[:1], "v1.36.0")
    answers = await asyncio.gather(*(ask(openapi.paths(), "/openapi/v2") for _ in range(3)))
    assert len({id(answer.body) for answer in answers}) == 1


async def test_a_making_whose_asker_goes_is_made_anew() -> None:
    paths = OpenAPI(ROWS[:1], "v1.36.0").paths()
    asked = asyncio.create_task(ask(paths, "/openapi/v2"))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked])
    assert (await ask(paths, "/openapi/v2")).status == 200


# --- the version


@pytest.mark.shows("/version")
async def test_the_version_is_that_of_the_schemas() -> None:
    assert f"v{MAJOR}.{MINOR}.{PATCH}" == SCHEMA_VERSION
    told = body(await ask(version_paths("0.1.0"), "/version"))
    assert (told["major"], told["minor"], told["gitVersion"]) == ("1", "36", "v1.36.0+barque-0.1.0")
    assert all(isinstance(value, str) for value in told.values())
    assert git_version("0.2.0.dev1+local") == "v1.36.0+barque-0.2.0.dev1-local"
