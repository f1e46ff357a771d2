"""Delete: at once, or in two steps where someone must finish first.

A bound pod keeps its place for its grace period, until its worker deletes it again with grace 0; an object with
finalizers stays until each is taken out; a namespace stays, Terminating, until its controller has emptied it and takes
its own finalizer out. What a delete began, the update that takes out the last of these completes. Follows Kubernetes'
`rest.BeforeDelete` and its garbage collector's finalizers for `propagationPolicy`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from barque.api import conversion, podstatus, timestamps
from barque.api.errors import ApiError, not_found
from barque.api.resources import Resource, stored_resources
from barque.api.types.core_v1 import Namespace, Pod
from barque.api.types.meta_v1 import DeleteOptions, ObjectMeta
from barque.client.clock import timestamp
from barque.master.admission import namespaces
from barque.master.admission.claims import NO_CLAIMS
from barque.master.apiserver import metadata
from barque.master.apiserver.environment import Call, Environment, ExistingObject, decode_stored
from barque.master.apiserver.proposals import Plan, put
from barque.master.store.port import Compare, Filter, Key, Op, Refused, RevisionIs, Stored

# What a pod gets that does not say how long it needs, as in Kubernetes.
DEFAULT_GRACE_S = 30
ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
_POLICY_FINALIZERS = {"Orphan": [ORPHAN], "Foreground": [FOREGROUND], "Background": []}


def is_finished(obj: Any) -> bool:
    """Whether an object being deleted has nothing left to wait for."""
    meta: ObjectMeta = obj.metadata
    waits = bool(meta.finalizers) or bool(meta.deletionGracePeriodSeconds)
    return bool(meta.deletionTimestamp) and not waits and not (isinstance(obj, Namespace) and obj.spec.finalizers)


async def _check_emptied(obj: Any, environment: Environment) -> None:
    """Raises 409 where a namespace that is to go still holds objects.

    Safe because creates compare that the namespace is Active: once Terminating it only empties.
    """
    if not isinstance(obj, Namespace):
        return
    within = Filter(namespace=obj.metadata.name)
    left = []
    for resource in stored_resources():
        if resource.namespaced:
            count = len((await environment.objects.list(resource.group_resource, within)).items)
            left += [f"{count} {resource.group_resource}"] if count else []
    if left:
        raise namespaces.not_empty(obj.metadata.name, left)


async def removal(key: Key, obj: Any, compares: tuple[Compare, ...], environment: Environment) -> Op:
    """The op that takes the object out. Raises 409 for a namespace that is not yet empty."""
    await _check_emptied(obj, environment)
    return Op("delete", key, compares=compares)


class Deletion(ExistingObject):
    """The `Writer` of one delete."""

    def __init__(self, environment: Environment, call: Call, options: DeleteOptions) -> None:
        super().__init__(environment, call)
        self._options = options
        if self._resource.kind == "Namespace":
            namespaces.check_deletable(call.target.name)

    async def plan(self) -> Plan:
        stored = await self.backend.get(self._key)
        if stored is None:
            raise self._not_found()
        old = decode_stored(self._resource, stored)
        self._check_preconditions(old, stored.revision)
        self._environment.authorizer.check_write(self._call.user, "delete", self._call.target, old, None)
        new = msgspec.structs.replace(old, metadata=msgspec.structs.replace(old.metadata))
        self._mark(new)
        compares = (RevisionIs(self._key, stored.revision),)
        answer: Callable[[int], bytes]
        if is_finished(new):
            op = await removal(self._key, old, compares, self._environment)
            answer = partial(_at, stored, self._resource)
        elif new == old:
            return Plan(lambda _: conversion.shown(stored.json, self._resource), revision=stored.revision)
        else:
            limit = self._environment.settings.max_object_bytes
            op, slotted = put(self._resource, self._key, new, compares, NO_CLAIMS, limit)
            answer = slotted.at
        return Plan(answer, None if self._options.dryRun else op, stored.revision)

    def handle_refusal(self, plan: Plan, refusal: Refused) -> None:
        if refusal.revision == 0:
            raise self._not_found()

    def give_up(self) -> ApiError:
        return metadata.changed_meanwhile(self._call.target)

    def _not_found(self) -> ApiError:
        return not_found(self._resource.plural, self._resource.group, self._key.name)

    def _check_preconditions(self, old: Any, revision: int) -> None:
        wanted = self._options.preconditions
        if wanted is None:
            return
        meta = old.metadata
        unmet = partial(metadata.unmet, self._resource, meta.name)
        if wanted.uid and wanted.uid != meta.uid:
            raise unmet("UID", wanted.uid, meta.uid, "deleted and then recreated")
        if wanted.resourceVersion and wanted.resourceVersion != str(revision):
            raise unmet("ResourceVersion", wanted.resourceVersion, str(revision), "modified")

    def _mark(self, obj: Any) -> None:
        """Note on the object that it is to go: when, after what grace, and what the garbage collector must do first."""
        meta: ObjectMeta = obj.metadata
        grace_s = self._grace_s(obj)
        # A second delete may still say what becomes of the dependents, as in Kubernetes.
        self._set_policy(meta)
        if not meta.deletionTimestamp:
            meta.deletionTimestamp = timestamp(self._environment.clock.wall() + datetime.timedelta(seconds=grace_s))
            # A namespace goes once it is empty, however long that takes.
            meta.deletionGracePeriodSeconds = None if isinstance(obj, Namespace) else grace_s
            meta.generation = meta.generation + 1 if meta.generation else meta.generation
            if isinstance(obj, Namespace):
                obj.status = msgspec.structs.replace(obj.status, phase=namespaces.TERMINATING)
        elif grace_s < (meta.deletionGracePeriodSeconds or 0):
            _shorten(meta, grace_s)

    def _grace_s(self, obj: Any) -> int:
        """The grace period in force: none for what no worker runs."""
        if not isinstance(obj, Pod) or not obj.spec.nodeName or podstatus.is_terminal(obj):
            return 0
        asked = self._options.gracePeriodSeconds
        if asked is None and obj.metadata.deletionTimestamp:
            return obj.metadata.deletionGracePeriodSeconds or 0
        if asked is None:
            asked = obj.spec.terminationGracePeriodSeconds
        if asked is None:
            return DEFAULT_GRACE_S
        # Below zero means "at once, but let the worker see it": one second, as in Kubernetes.
        return asked if asked >= 0 else 1

    def _set_policy(self, meta: ObjectMeta) -> None:
        policy = self._options.propagationPolicy
        if self._options.orphanDependents is not None:
            policy = "Orphan" if self._options.orphanDependents else "Background"
        if policy:
            others = [f for f in meta.finalizers if f not in (ORPHAN, FOREGROUND)]
            meta.finalizers = [*others, *_POLICY_FINALIZERS[policy]]


def _at(stored: Stored, resource: Resource, revision: int) -> bytes:
    """The last state as this resource has it, with the revision of its delete."""
    json, slot = stored.json, stored.slot
    last = b"%b%d%b" % (json[:slot], revision, json[slot + len(str(stored.revision)) :])
    return conversion.shown(last, resource)


def _shorten(meta: ObjectMeta, grace_s: int) -> None:
    """Bring the end forward: it was `deletionTimestamp`, reckoned from the same beginning."""
    end = timestamps.parse(meta.deletionTimestamp)
    if end is not None:
        earlier = (meta.deletionGracePeriodSeconds or 0) - grace_s
        meta.deletionTimestamp = timestamp(end - datetime.timedelta(seconds=earlier))
    meta.deletionGracePeriodSeconds = grace_s
