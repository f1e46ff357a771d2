"""The verbs on objects: a request's parts to the registry's verbs, and the bytes of its answer back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from aiohttp import web

from barque.api import resources
from barque.api.errors import not_found_path
from barque.api.subresources import SUBRESOURCES
from barque.api.types.meta_v1 import Status
from barque.client.verbs import APPLY_PATCH, RawList, Target
from barque.master.apiserver.binding import is_binding
from barque.master.apiserver.registry import Registry, UserVerbs
from barque.master.apiserver.rest import lists, options, tables
from barque.master.apiserver.rest.answers import object_answer, pieces_answer
from barque.master.apiserver.rest.bodies import read_body, read_object
from barque.master.apiserver.rest.call import RestCall
from barque.master.apiserver.rest.negotiation import Accepted, accepted
from barque.master.apiserver.rest.request_info import RequestInfo, not_allowed

_NO_QUERY: Mapping[str, str] = {}
# Of these a delete answers with the object even where it is gone at once; of others with a Status (Kubernetes'
# `ReturnDeletedObject`).
_RETURNED = frozenset(
    ("pods", "services", "serviceaccounts", "podtemplates", "resourcequotas", "persistentvolumes",
     "persistentvolumeclaims", "podsecuritypolicies.policy", "namespaces")
)  # fmt: skip


class _Remains(msgspec.Struct):
    """What a delete's answer tells of whether the object is still there."""

    name: str = ""
    uid: str = ""
    deletionTimestamp: str = ""
    finalizers: list[str] = []
    deletionGracePeriodSeconds: int | None = None


class _Deleted(msgspec.Struct):
    metadata: _Remains


_BOUND = msgspec.json.encode(Status(status="Success", code=201))
_deleted = msgspec.json.Decoder(_Deleted)


class Objects:
    """Answers every request about objects but watches and streams."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lengthy = registry.environment.lengthy
        self._verbs = {
            "get": self._get,
            "list": self._list,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }

    async def __call__(self, call: RestCall) -> web.StreamResponse:
        verbs = self._registry.as_user(call.user, call.warnings, call.decided)
        header = call.request.headers.get("Accept", "")
        return await self._verbs[call.info.verb](call, verbs, target_of(call), accepted(header))

    async def _get(self, call: RestCall, verbs: UserVerbs, target: Target, form: Accepted) -> web.StreamResponse:
        query = query_of(call)
        version = query.get("resourceVersion", "")
        if form.form == "Table" and target.subresource not in ("scale",):
            return await tables.table_answer(call, verbs, target, form)
        return await self._one(call, await verbs.get(target, version), target, form)

    async def _list(self, call: RestCall, verbs: UserVerbs, target: Target, form: Accepted) -> web.StreamResponse:
        if form.form == "Table":
            return await tables.table_answer(call, verbs, target, form)
        query = query_of(call)
        listed = await verbs.list(target, options.selection(query), options.page(query))
        return await self._many(call, listed, target, form)

    async def _create(self, call: RestCall, verbs: UserVerbs, target: Target, form: Accepted) -> web.StreamResponse:
        said = options.write_options(query_of(call), "CreateOptions", _agent(call), apply=False)
        body = await read_object(call, self._lengthy, said.field_validation)
        json = await verbs.create(target, body, said)
        if is_binding(target):
            # The verb tells the pod as it is bound; Kubernetes' clients hear that it is.
            return await object_answer(call, _BOUND, form, 201)
        return await self._one(call, json, target, form, 201)

    async def _update(self, call: RestCall, verbs: UserVerbs, target: Target, form: Accepted) -> web.StreamResponse:
        said = options.write_options(query_of(call), "UpdateOptions", _agent(call), apply=False)
        body = await read_object(call, self._lengthy, said.field_validation)
        json = await verbs.update(target, body, said)
        return await self._one(call, json, target, form, 201 if verbs.created else 200)

    async def _patch(self, call: RestCall, verbs: UserVerbs, target: Target, form: Accepted) -> web.StreamResponse:
        content_type = call.request.headers.get("Content-Type", "")
        applies = content_type.partition(";")[0].strip() == APPLY_PATCH
        said = options.write_options(query_of(call), "PatchOptions", _agent(call), apply=applies)
        body = await read_body(call)
        json = await verbs.patch(target, content_type, body, said)
        return await self._one(call, json, target, form, 201 if verbs.created else 200)

    async def _delete(self, call: RestCall, verbs: UserVerbs, target: Target, form: Accepted) -> web.StreamResponse:
        said = options.delete_options(query_of(call), await read_object(call, self._lengthy))
        json = await verbs.delete(target, said)
        if target.resource.group_resource in _RETURNED:
            return await self._one(call, json, target, form)
        kept = _deleted.decode(json).metadata
        if kept.deletionTimestamp and (kept.finalizers or kept.deletionGracePeriodSeconds):
            return await self._one(call, json, target, form)
        return await object_answer(call, _success(kept, target), form)

    async def _delete_collection(
        self, call: RestCall, verbs: UserVerbs, target: Target, form: Accepted
    ) -> web.StreamResponse:
        query = query_of(call)
        said = options.delete_options(query, await read_object(call, self._lengthy))
        deleted = await verbs.delete_collection(target, options.selection(query), said, options.page(query))
        return await self._many(call, deleted, target, form)

    async def _one(
        self, call: RestCall, json: bytes, target: Target, form: Accepted, code: int = 200
    ) -> web.StreamResponse:
        if form.form and target.subresource not in ("scale", "token", "eviction"):
            json = await tables.formed(json, target.resource, form, self._registry.environment.clock.wall())
        return await object_answer(call, json, form, code)

    async def _many(self, call: RestCall, listed: RawList, target: Target, form: Accepted) -> web.StreamResponse:
        if form.form in ("PartialObjectMetadata", "PartialObjectMetadataList"):
            return await pieces_answer(call, await tables.metadata_list(listed, form), form)
        return await pieces_answer(call, lists.list_pieces(listed, target.resource), form)


def target_of(call: RestCall) -> Target:
    """What the request is about. Raises 404 and 405 for what no path leads to."""
    if call.target is None:
        call.target = _target(call.info)
    return call.target


def _target(info: RequestInfo) -> Target:
    if not resources.is_known(info.group, info.resource):
        raise not_found_path()
    resource = resources.by_plural(info.group, info.resource, info.version)
    if info.subresource and info.subresource not in resource.subresources:
        raise not_found_path()
    if resource.namespaced:
        if not info.namespace and info.name:
            raise not_found_path()
        if not info.namespace and info.verb not in ("list", "watch"):
            raise not_allowed()
    elif info.namespace:
        raise not_found_path()
    if info.verb == "create" and info.name and not info.subresource:
        raise not_allowed()
    verbs = SUBRESOURCES[info.subresource].verbs if info.subresource else resource.verbs
    if info.verb not in verbs:
        raise not_allowed()
    return Target(resource, info.namespace, info.name, info.subresource)


def query_of(call: RestCall) -> Mapping[str, str]:
    """The query, where there is one: most requests have none."""
    return call.query if "?" in call.request.raw_path else _NO_QUERY


def _agent(call: RestCall) -> str:
    return call.request.headers.get("User-Agent", "")


def _success(gone: _Remains, target: Target) -> bytes:
    """The Status of a delete that is done."""
    resource = target.resource
    details: dict[Literal["name", "group", "kind", "uid"], str] = {"name": gone.name}
    if resource.group:
        details["group"] = resource.group
    details |= {"kind": resource.plural, "uid": gone.uid}
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
    return msgspec.json.encode(status)
