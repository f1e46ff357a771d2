"""Discovery: which groups, versions and resources there are. `/api`, `/apis` and what lies below them.

In: the registry of resources and the door's address. Out: documents, made once: the old form, one for each path
(`APIVersions`, `APIGroupList`, `APIGroup`, `APIResourceList`), and the aggregated one, everything below `/api` or
`/apis` in one answer (`APIGroupDiscoveryList` of apidiscovery.k8s.io, v2 and v2beta1), for those whose Accept header
names it. Each has an ETag. Source: KEP-3352.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from barque.api.errors import ApiError, not_found_path
from barque.api.resources import Resource
from barque.api.subresources import SUBRESOURCES
from barque.master.apiserver.rest.call import Handler, RestCall
from barque.master.apiserver.rest.documents import Document
from barque.master.apiserver.rest.negotiation import clauses

Json = dict[str, Any]

_GROUP = "apidiscovery.k8s.io"
_FORM = "APIGroupDiscoveryList"
_AGGREGATED = ("v2", "v2beta1")
# The order in which Kubernetes' aggregator tells of groups, and so the one in which a word that several have is looked
# up by clients. What is not listed follows, by name.
_ORDER = (
    "", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch",
    "certificates.k8s.io", "networking.k8s.io", "policy", "rbac.authorization.k8s.io", "storage.k8s.io",
    "admissionregistration.k8s.io", "apiextensions.k8s.io", "scheduling.k8s.io", "coordination.k8s.io", "node.k8s.io",
    "discovery.k8s.io", "flowcontrol.apiserver.k8s.io",
)  # fmt: skip


class _Version(NamedTuple):
    group: str
    version: str
    resources: tuple[Resource, ...]

    @property
    def name(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


class Discovery:
    """The handler of `/api`, `/apis` and their documents below.

    `address` is the `host:port` that clients reach the door by.
    """

    def __init__(self, resources: Sequence[Resource], address: str) -> None:
        groups = _groups(resources)
        self._documents = {path: Document(msgspec.json.encode(body)) for path, body in _plain(groups, address).items()}
        self._aggregated = {
            (path, version): _aggregated(version, [each for each in groups if bool(each[0].group) == (path == "/apis")])
            for path in ("/api", "/apis")
            for version in _AGGREGATED
        }

    def paths(self) -> dict[str, Handler]:
        """The handlers by path, or by the beginning of one."""
        return dict.fromkeys(("/api", "/api/", "/apis", "/apis/"), self)

    def places(self) -> tuple[str, ...]:
        """The paths of all documents."""
        return tuple(self._documents)

    async def __call__(self, call: RestCall) -> web.StreamResponse:
        path = call.info.path.rstrip("/")
        plain = self._documents.get(path)
        if plain is None:
            raise not_found_path()
        wanted = _wanted(call.request.headers.get("Accept", ""), path in ("/api", "/apis"))
        return self._aggregated.get((path, wanted), plain).answer(call)


def _wanted(accept: str, aggregates: bool) -> str:
    """The version of the aggregated form that is wanted, "" for the old form. Raises 406 where neither is."""
    for media_type, named in clauses(accept.strip() or "*/*"):
        if media_type not in ("application/json", "application/*", "*/*") or named.get("q") == "0":
            continue
        if "as" not in named:
            return ""
        if aggregates and (named["as"], named.get("g")) == (_FORM, _GROUP) and named.get("v") in _AGGREGATED:
            return named["v"]
    accepted = "only the following media types are accepted: application/json"
    raise ApiError(406, "NotAcceptable", accepted)


def _groups(resources: Sequence[Resource]) -> list[list[_Version]]:
    """The versions of each group, the preferred one first."""
    by_version: dict[str, dict[str, list[Resource]]] = {}
    for resource in resources:
        by_version.setdefault(resource.group, {}).setdefault(resource.version, []).append(resource)
    groups = [
        [
            _Version(group, version, tuple(sorted(rows, key=lambda row: row.plural)))
            for version, rows in sorted(versions.items(), key=lambda item: _maturity(item[0]), reverse=True)
        ]
        for group, versions in by_version.items()
    ]
    return sorted(groups, key=lambda versions: (_rank(versions[0].group), versions[0].group))


def _rank(group: str) -> int:
    return _ORDER.index(group) if group in _ORDER else len(_ORDER)


def _maturity(version: str) -> tuple[int, ...]:
    """Orders versions as Kubernetes does: v2, v1, v2beta1, v1beta2, v1alpha1."""
    for stage, word in enumerate(("alpha", "beta")):
        if word in version:
            return stage, *(int(number) for number in version[1:].split(word))
    return 2, int(version[1:])


# --- the old form


def _plain(groups: list[list[_Version]], address: str) -> dict[str, Json]:
    """The documents by path."""
    core = [version for versions in groups for version in versions if not version.group]
    reached = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    described = {versions[0].group: _group(versions) for versions in groups if versions[0].group}
    documents: dict[str, Json] = {
        "/api": {
            "kind": "APIVersions",
            "versions": [version.version for version in core],
            "serverAddressByClientCIDRs": reached,
        },
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(described.values())},
    }
    for name, group in described.items():
        documents[f"/apis/{name}"] = {"kind": "APIGroup", "apiVersion": "v1", **group}
    for version in (version for versions in groups for version in versions):
        # The core's lists have always been without an apiVersion.
        head = {"kind": "APIResourceList"} | ({"apiVersion": "v1"} if version.group else {})
        rows = [row for resource in version.resources for row in _rows(resource)]
        path = f"/{'apis' if version.group else 'api'}/{version.name}"
        documents[path] = {**head, "groupVersion": version.name, "resources": rows}
    return documents


def _group(versions: list[_Version]) -> Json:
    named = [{"groupVersion": version.name, "version": version.version} for version in versions]
    return {"name": versions[0].group, "versions": named, "preferredVersion": named[0]}


def _rows(resource: Resource) -> list[Json]:
    """The resource and its subresources as `APIResource`s."""
    row: Json = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": sorted(resource.verbs),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    if resource.storage in ("store", "bus"):
        row["storageVersionHash"] = _storage_hash(resource)
    return [row, *(_subresource_row(resource, name) for name in sorted(resource.subresources))]


def _subresource_row(resource: Resource, name: str) -> Json:
    group, version, kind = _response_kind(resource, name)
    row: Json = {"name": f"{resource.plural}/{name}", "singularName": "", "namespaced": resource.namespaced}
    if (group, version) != (resource.group, resource.version):
        row |= {"group": group, "version": version}
    return {**row, "kind": kind, "verbs": sorted(SUBRESOURCES[name].verbs)}


def _response_kind(resource: Resource, subresource: str) -> tuple[str, str, str]:
    found = SUBRESOURCES[subresource]
    if not found.kind:
        return resource.group, resource.version, resource.kind
    group, _, version = found.api_version.rpartition("/")
    return group, version, found.kind


def _storage_hash(resource: Resource) -> str:
    """Changes when the version does in which the objects are kept."""
    stored = resource.stored
    digest = hashlib.sha256(f"{stored.group}/{stored.version}/{stored.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


# --- the aggregated form


def _aggregated(version: str, groups: list[list[_Version]]) -> Document:
    items = [
        {
            "metadata": {"name": versions[0].group, "creationTimestamp": None} if versions[0].group else {},
            "versions": [
                {
                    "version": each.version,
                    "resources": [_discovered(resource) for resource in each.resources],
                    "freshness": "Current",
                }
                for each in versions
            ],
        }
        for versions in groups
    ]
    body = {"kind": _FORM, "apiVersion": f"{_GROUP}/{version}", "metadata": {}, "items": items}
    return Document(msgspec.json.encode(body), f"application/json;g={_GROUP};v={version};as={_FORM}")


def _discovered(resource: Resource) -> Json:
    row: Json = {
        "resource": resource.plural,
        "responseKind": _as_kind((resource.group, resource.version, resource.kind)),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": sorted(resource.verbs),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    if resource.subresources:
        row["subresources"] = [
            {
                "subresource": name,
                "responseKind": _as_kind(_response_kind(resource, name)),
                "verbs": sorted(SUBRESOURCES[name].verbs),
            }
            for name in sorted(resource.subresources)
        ]
    return row


def _as_kind(kind: tuple[str, str, str]) -> Json:
    return dict(zip(("group", "version", "kind"), kind, strict=True))
