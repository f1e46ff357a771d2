"""Who may do what at the API: administrators and masters everything, a worker its own pods and what they reference.

`node_verdict` is the rule itself, a pure function from a request to a verdict that may name one fact still to be
looked up; `Authorizer` looks it up. Follows Kubernetes' node authoriser and its NodeRestriction admission; RBAC is
not served.

`check_node_write` is the second half for writes: it sees the object before and after, at the very revision the write
compares, so that nothing can change between the check and the write.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from barque.api import codec, selectors
from barque.api.errors import ApiError
from barque.api.types.core_v1 import Container, EphemeralContainer, Node, Pod, Volume
from barque.api.types.meta_v1 import StatusDetails
from barque.api.validation.pod_annotations import MIRROR
from barque.client.verbs import Selection, Target
from barque.master.apiserver.backend import Backend
from barque.master.auth.identity import User
from barque.master.store.port import Filter, Key, Stored

_READ = ("get", "list", "watch")
_OPEN_TO_NODES = ("services", "endpointslices.discovery.k8s.io", "nodes")
# Labels that only an administrator sets, so that a worker cannot draw chosen pods to itself (Kubernetes'
# NodeRestriction).
_RESTRICTED_DOMAIN = "node-restriction.kubernetes.io"


class Allowed(NamedTuple):
    pass


class Denied(NamedTuple):
    why: str


class IfOwnPod(NamedTuple):
    """Allowed if the pod at `key` is bound to the node."""

    key: Key


class IfReferenced(NamedTuple):
    """Allowed if a pod of the node references this secret or configmap, or runs as this service account."""

    key: Key


Verdict = Allowed | Denied | IfOwnPod | IfReferenced


class Reference(NamedTuple):
    resource: str
    name: str


def node_verdict(node: str, verb: str, target: Target, selection: Selection = Selection()) -> Verdict:
    """What the worker of `node` may do."""
    key = key_of(target)
    resource = key.resource
    if resource == "pods":
        return _pod_verdict(node, verb, target, selection)
    if resource == "serviceaccounts" and target.subresource == "token" and verb == "create":
        # Which pod the token is for, the request itself says: `apiserver.token_request` checks that it is there.
        return IfReferenced(key)
    if resource in ("secrets", "configmaps") and not target.subresource:
        if verb == "get" and target.name:
            return IfReferenced(key)
        return Denied(f"a node may only get a {target.resource.singular} that one of its pods references")
    if resource == "nodes" and verb in ("create", "update", "patch"):
        own = target.name == node or (verb == "create" and not target.name)
        if own and target.subresource in ("", "status"):
            return Allowed()
        return Denied(f"node '{node}' is not allowed to modify node '{target.name}'")
    if resource in _OPEN_TO_NODES and verb in _READ:
        return Allowed()
    if resource == "namespaces" and verb == "get":
        return Allowed()
    if resource == "events" and verb in ("create", "update", "patch") and not target.subresource:
        return Allowed()
    return Denied("not allowed to nodes")


def _pod_verdict(node: str, verb: str, target: Target, selection: Selection) -> Verdict:
    if verb in ("list", "watch"):
        if selectors.parse_fields(selection.fields, target.resource).equal("spec.nodeName") == node:
            return Allowed()
        return Denied(f"a node may list and watch its own pods only: use the field selector spec.nodeName={node}")
    may_read = verb == "get" and target.subresource in ("", "status")
    may_report = verb in ("update", "patch") and target.subresource == "status"
    may_remove = verb == "delete" and not target.subresource
    if verb == "create" and not target.subresource:
        # Of its static pods' mirrors, which `check_node_write` tells from others.
        return Allowed()
    if target.name and (may_read or may_report or may_remove):
        return IfOwnPod(key_of(target))
    return Denied("a node may get and delete its own pods and write their status, nothing else")


def check_node_write(node: str, target: Target, before: Any, after: Any) -> str:
    """Why this worker may not make this change, "" if it may; `before` is None on create, `after` on delete."""
    if isinstance(before, Pod):
        return "" if before.spec.nodeName == node else f"the pod is not bound to node '{node}'"
    if isinstance(after, Pod):
        return _check_mirror(node, after)
    if isinstance(after, Node):
        return _check_own_node(node, before, after)
    return ""


def _check_mirror(node: str, pod: Pod) -> str:
    """Why a node may not create this pod: it shows one that it runs already, and gives no way to anybody's secrets."""
    if MIRROR not in pod.metadata.annotations:
        return f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods'
    if pod.spec.nodeName != node:
        return f'node "{node}" can only create pods with spec.nodeName set to itself'
    owners = pod.metadata.ownerReferences
    if len(owners) > 1 or any((owner.kind, owner.name) != ("Node", node) for owner in owners):
        return f'node "{node}" can only create pods with an owner reference set to itself'
    if named := sorted(references(pod)):
        return f'node "{node}" can not create pods that reference {named[0].resource}'
    if any(volume.persistentVolumeClaim or volume.projected for volume in pod.spec.volumes):
        return f'node "{node}" can not create pods that reference claims or service account tokens'
    return ""


def _check_own_node(node: str, before: Node | None, after: Node) -> str:
    if after.metadata.name != node:
        return f"node '{node}' is not allowed to modify node '{after.metadata.name}'"
    if before is None:
        if after.spec.podCIDR or after.spec.podCIDRs:
            return "a node's pod network is given by the masters"
    elif after.spec != before.spec:
        return f"node '{node}' is not allowed to change its own spec"
    labels = before.metadata.labels if before is not None else {}
    changed = {k for k in labels.keys() | after.metadata.labels.keys() if labels.get(k) != after.metadata.labels.get(k)}
    restricted = sorted(label for label in changed if label.partition("/")[0].endswith(_RESTRICTED_DOMAIN))
    if restricted:
        return f"is not allowed to modify labels: {', '.join(restricted)}"
    finalizers = before.metadata.finalizers if before is not None else []
    owners = before.metadata.ownerReferences if before is not None else []
    if after.metadata.finalizers != finalizers or after.metadata.ownerReferences != owners:
        return "a node may not change its own finalizers and owners"
    return ""


def references(pod: Pod) -> frozenset[Reference]:
    """The secrets and configmaps a pod needs, for volumes, environment and registries, and the account it runs as."""
    found: set[Reference] = {Reference("secrets", r.name) for r in pod.spec.imagePullSecrets}
    if pod.spec.serviceAccountName:
        found.add(Reference("serviceaccounts", pod.spec.serviceAccountName))
    for volume in pod.spec.volumes:
        found |= _volume_references(volume)
    for container in (*pod.spec.initContainers, *pod.spec.containers):
        found |= _environment_references(container)
    for debugger in pod.spec.ephemeralContainers:
        found |= _environment_references(debugger)
    return frozenset(found)


def _volume_references(volume: Volume) -> set[Reference]:
    found: set[Reference] = set()
    if volume.secret is not None:
        found.add(Reference("secrets", volume.secret.secretName))
    if volume.configMap is not None:
        found.add(Reference("configmaps", volume.configMap.name))
    for source in volume.projected.sources if volume.projected is not None else ():
        if source.secret is not None:
            found.add(Reference("secrets", source.secret.name))
        if source.configMap is not None:
            found.add(Reference("configmaps", source.configMap.name))
    return found


def _environment_references(container: Container | EphemeralContainer) -> set[Reference]:
    found: set[Reference] = set()
    for variable in container.env:
        source = variable.valueFrom
        if source is not None and source.secretKeyRef is not None:
            found.add(Reference("secrets", source.secretKeyRef.name))
        if source is not None and source.configMapKeyRef is not None:
            found.add(Reference("configmaps", source.configMapKeyRef.name))
    for bulk in container.envFrom:
        if bulk.secretRef is not None:
            found.add(Reference("secrets", bulk.secretRef.name))
        if bulk.configMapRef is not None:
            found.add(Reference("configmaps", bulk.configMapRef.name))
    return found


class Authorizer:
    """Decides every request. `pods` is where the pods are kept; only lookups, no state but a cache of parsed pods."""

    def __init__(self, pods: Backend) -> None:
        self._pods = pods
        # References of bound pods by node, with the revision they were read at: a node's pods seldom change.
        self._parsed: dict[str, dict[Key, tuple[int, frozenset[Reference]]]] = {}

    async def authorize(self, user: User, verb: str, target: Target, selection: Selection = Selection()) -> None:
        """Return if the user may, raise 403 in Kubernetes' words if not; 404 for a pod that is not there."""
        if user.is_master:
            return
        if not user.node:
            raise denied(user, verb, target)
        match node_verdict(user.node, verb, target, selection):
            case Allowed():
                return
            case Denied(why):
                raise denied(user, verb, target, why)
            case IfOwnPod(key):
                if not await self._is_own(user.node, key):
                    raise denied(user, verb, target, no_relationship(user.node))
            case IfReferenced(key):
                if not await self._is_referenced(user.node, key):
                    await self._pods.current()
                    if not await self._is_referenced(user.node, key):
                        raise denied(user, verb, target, no_relationship(user.node))

    def check_write(self, user: User, verb: str, target: Target, before: Any, after: Any) -> None:
        """The second half for writes, on the object before and after. Raises 403."""
        if user.is_master:
            return
        why = check_node_write(user.node, target, before, after)
        if why:
            raise denied(user, verb, target, why)

    async def _is_own(self, node: str, key: Key) -> bool:
        """What is at hand may say yes; no, or that the pod is gone, is only said on the current state."""
        pod = await self._pods.get(key)
        if pod is None or pod.fields.get("spec.nodeName") != node:
            await self._pods.current()
            pod = await self._pods.get(key)
        # A worker must learn that its pod is gone; whose an absent pod was, no one can tell.
        return pod is None or pod.fields.get("spec.nodeName") == node

    async def _is_referenced(self, node: str, key: Key) -> bool:
        pods = await self._pods.list("pods", Filter(node=node))
        known = self._parsed.get(node, {})
        fresh = {pod.key: self._parse(pod, known.get(pod.key)) for pod in pods.items}
        self._parsed[node] = fresh
        wanted = Reference(key.resource, key.name)
        return any(pod.namespace == key.namespace and wanted in found for pod, (_, found) in fresh.items())

    def _parse(self, pod: Stored, known: tuple[int, frozenset[Reference]] | None) -> tuple[int, frozenset[Reference]]:
        if known is not None and known[0] == pod.revision:
            return known
        return pod.revision, references(codec.decode(Pod, pod.json))


def key_of(target: Target) -> Key:
    """The store key of a target."""
    return Key(target.resource.stored.group_resource, target.namespace, target.name)


def no_relationship(node: str) -> str:
    return f"no relationship found between node '{node}' and this object"


def denied(user: User, verb: str, target: Target, why: str = "") -> ApiError:
    """403 exactly as Kubernetes words it."""
    resource = target.resource
    subject = resource.group_resource + (f' "{target.name}"' if target.name else "")
    plural = f"{resource.plural}/{target.subresource}" if target.subresource else resource.plural
    scope = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    message = (
        f'{subject} is forbidden: User "{user.name}" cannot {verb} resource "{plural}" '
        f'in API group "{resource.group}" {scope}{f": {why}" if why else ""}'
    )
    details = StatusDetails(name=target.name, group=resource.group, kind=resource.plural)
    return ApiError(403, "Forbidden", message, details)
