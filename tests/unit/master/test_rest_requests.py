"""What a request at the REST door asks for: its path, its query, and the form of its answer."""

from __future__ import annotations

import pytest

from barque.api.errors import ApiError
from barque.client.verbs import Page, WriteOptions
from barque.master.apiserver.rest import options
from barque.master.apiserver.rest import request_info as reading
from barque.master.apiserver.rest.negotiation import Accepted, accepted
from barque.master.apiserver.rest.request_info import RequestInfo, request_info


def words(method: str, path: str, watch: bool = False) -> dict[str, str]:
    """The parts of a resource request that are there."""
    info = request_info(method, path, watch)
    assert info.is_resource, path
    return {name: value for name, value in info._asdict().items() if value and name not in ("path", "is_resource")}


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/v1/pods", "list v1 pods"),
        ("GET", "/api/v1/namespaces/a/pods", "list v1 pods ns=a"),
        ("GET", "/api/v1/namespaces/a/pods/", "list v1 pods ns=a"),
        ("GET", "/api/v1/namespaces/a/pods/p", "get v1 pods ns=a name=p"),
        ("HEAD", "/api/v1/namespaces/a/pods/p", "get v1 pods ns=a name=p"),
        ("POST", "/api/v1/namespaces/a/pods", "create v1 pods ns=a"),
        ("PUT", "/api/v1/namespaces/a/pods/p/status", "update v1 pods ns=a name=p sub=status"),
        ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale", "patch apps v1 deployments ns=a name=d sub=scale"),
        ("DELETE", "/api/v1/namespaces/a/pods/p", "delete v1 pods ns=a name=p"),
        ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection v1 pods ns=a"),
        ("GET", "/api/v1/namespaces", "list v1 namespaces"),
        ("GET", "/api/v1/namespaces/a", "get v1 namespaces name=a"),
        ("PUT", "/api/v1/namespaces/a/finalize", "update v1 namespaces name=a sub=finalize"),
        ("GET", "/api/v1/namespaces/a/status", "get v1 namespaces name=a sub=status"),
        ("GET", "/api/v1/watch/namespaces/a/pods/p", "watch v1 pods ns=a name=p"),
        ("GET", "/api/v1/nodes/n/proxy/a//b%2Fc/", "get v1 nodes name=n sub=proxy rest=/a//b%2Fc/"),
        ("OPTIONS", "/api/v1/namespaces/a/services/s:80/proxy", "get v1 services ns=a name=s:80 sub=proxy"),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode", "get rbac.authorization.k8s.io v1 clusterroles name=system:node"),  # noqa: E501
    ],
)  # fmt: skip
def test_the_request_that_a_path_is(method: str, path: str, expected: str) -> None:
    said = words(method, path)
    short = {"namespace": "ns=", "name": "name=", "subresource": "sub=", "rest": "rest="}
    order = ("verb", "group", "version", "resource", "namespace", "name", "subresource", "rest")
    assert " ".join(short.get(part, "") + said[part] for part in order if part in said) == expected


def test_watch_is_a_list_that_goes_on() -> None:
    assert words("GET", "/api/v1/pods", watch=True)["verb"] == "watch"
    assert words("GET", "/api/v1/namespaces/a/pods/p", watch=True)["verb"] == "watch"
    assert words("GET", "/api/v1/namespaces/a/pods/p/log", watch=True)["verb"] == "get"


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1", "/api/v1/", "/apis", "/apis/apps", "/apis/apps/v1", "/version"]
)
def test_other_paths_are_no_resources(path: str) -> None:
    info = request_info("GET", path)
    assert (info.is_resource, info.verb) == (False, "get")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/a/pods/..", "/api/v1/namespaces/%2e%2e/pods/p", "/api/v1/namespaces/a/pods/a%2fb",
        "/api/v1/namespaces/a/pods/%ff", "/api/v1/namespaces/a/pods/a%00", "/api/v1/namespaces/a/pods/p/log/more",
        "/api/v1/namespaces//pods", "/api/v1/namespaces/a/pods//log", "/api/v1/namespaces/a/pods/%252e",
        "/api/v1//pods",
    ],
)  # fmt: skip
def test_path_tricks_lead_nowhere(path: str) -> None:
    with pytest.raises(ApiError) as refused:
        request_info("GET", path)
    assert (refused.value.code, refused.value.message) == (404, "the server could not find the requested resource")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "OPTIONS"])
def test_what_a_collection_cannot(method: str) -> None:
    with pytest.raises(ApiError) as refused:
        request_info(method, "/api/v1/namespaces/a/pods")
    assert (refused.value.code, refused.value.reason) == (405, "MethodNotAllowed")


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", Accepted()),
        ("*/*", Accepted()),
        ("application/vnd.kubernetes.protobuf, */*", Accepted()),
        ("application/vnd.kubernetes.protobuf,application/json", Accepted()),
        (f"{TABLE},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Accepted("Table")),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", Accepted("Table", "v1beta1")),
        ("application/json;as=Unknown;v=v1;g=meta.k8s.io,application/json", Accepted()),
        ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", Accepted("PartialObjectMetadata")),
        ("application/yaml", Accepted(yaml=True)),
        ("application/json;q=0.5, application/yaml", Accepted(yaml=True)),
        ("application/json;q=0, text/yaml;q=nonsense", Accepted(yaml=True)),
    ],
)
def test_the_form_of_an_answer(header: str, expected: Accepted) -> None:
    assert accepted(header) == expected


def test_what_nobody_speaks_is_not_acceptable() -> None:
    with pytest.raises(ApiError) as refused:
        accepted("application/vnd.kubernetes.protobuf")
    assert (refused.value.code, refused.value.reason) == (406, "NotAcceptable")


def test_the_options_of_a_write() -> None:
    query = {"dryRun": "All", "fieldManager": "me", "fieldValidation": "Strict", "force": "true"}
    said = options.write_options(query, "PatchOptions", "kubectl/v1.32", apply=True)
    assert said == WriteOptions(True, "me", "Strict", True)
    assert options.write_options({}, "CreateOptions", "kubectl/v1.32 (linux)", apply=False).field_manager == "kubectl"
    assert options.write_options({}, "PatchOptions", "kubectl/v1.32", apply=True).field_manager == ""


def test_a_dry_run_is_of_all_or_refused() -> None:
    with pytest.raises(ApiError) as refused:
        options.write_options({"dryRun": "Some"}, "CreateOptions", "", apply=False)
    assert (refused.value.code, refused.value.message) == (
        422,
        'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]: supported values: "All"',
    )


def test_delete_options_come_in_the_body_or_the_query() -> None:
    query = {"gracePeriodSeconds": "0", "propagationPolicy": "Foreground", "dryRun": "All"}
    assert options.delete_options(query, b"") == (
        b'{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"propagationPolicy":"Foreground",'
        b'"dryRun":["All"]}'
    )
    assert options.delete_options(query, b"{}") == b"{}"
    assert options.delete_options({}, b"") == b""


def test_the_part_of_a_list() -> None:
    query = {"limit": "5", "continue": "x", "resourceVersion": "7", "resourceVersionMatch": "Exact"}
    assert options.page(query) == Page(5, "x", "7", "Exact")
    with pytest.raises(ApiError) as refused:
        options.page({"sendInitialEvents": "true"})
    assert (refused.value.code, refused.value.message) == (
        422,
        'ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list',
    )


@pytest.mark.parametrize("value", ["x", "5.0", "9" * 30, "٣", "-", "9223372036854775808"])
def test_a_limit_that_is_no_number(value: str) -> None:
    with pytest.raises(ApiError) as refused:
        options.page({"limit": value})
    assert refused.value.code == 400


def test_the_time_of_a_list_is_a_number_too() -> None:
    assert options.page({"timeoutSeconds": "5"}) == Page()
    with pytest.raises(ApiError, match=r'strconv.ParseInt: parsing "soon": invalid syntax'):
        options.page({"timeoutSeconds": "soon"})


def test_a_place_is_found_anew_for_each_method() -> None:
    path = "/api/v1/namespaces/a/pods/p"
    assert request_info("GET", path) == RequestInfo(path, True, "get", "", "v1", "pods", "", "a", "p")
    assert request_info("DELETE", path).verb == "delete"


def test_requests_that_say_the_same_share_what_was_read_and_long_ones_are_not_kept() -> None:
    path = "/api/v1/namespaces/a/configmaps"
    assert request_info("GET", path, True) is request_info("GET", f"{path[:-1]}s", True)
    assert request_info("GET", path, True).verb == "watch"
    assert request_info("GET", path).verb == "list"
    kept = reading._kept.cache_info().currsize
    for number in range(3):
        assert request_info("GET", f"{path}/{'x' * 600}{number}").name == f"{'x' * 600}{number}"
    assert reading._kept.cache_info().currsize == kept
