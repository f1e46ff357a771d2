"""What a worker may do: its own node and pods, what these reference, and what every worker reads.

`node_verdict` is the rule itself, a pure function from a request to a verdict that may name one fact still to be
looked up; `NodeAuthorizer` looks it up. `check_node_write` is the second half for writes: it sees the object before
and after, at the very revision the write compares, so that nothing can change between the check and the write; it holds
whatever else allows the write.

Follows Kubernetes' node authoriser and its NodeRestriction admission, but for lists of all pods, secrets and
configmaps, which a worker has no use for.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.x509.oid import NameOID

from barque.api import codec, resources, selectors
from barque.api.errors import ApiError
from barque.api.types.certificates_v1 import CertificateSigningRequest
from barque.api.types.coordination_v1 import Lease
from barque.api.types.core_v1 import Container, EphemeralContainer, Node, Pod, Volume
from barque.api.validation.pod_annotations import MIRROR
from barque.client.pki import NODE_PREFIX
from barque.client.verbs import Target
from barque.master.apiserver.backend import Backend
from barque.master.auth.attributes import ALLOW, Attributes, Decision
from barque.master.store.port import Filter, Key, Stored

_READ = ("get", "list", "watch")
_OPEN_TO_NODES = ("services", "endpoints", "endpointslices.discovery.k8s.io", "nodes")
_EVENTS = ("events", "events.events.k8s.io")
_REQUESTS = "certificatesigningrequests.certificates.k8s.io"
_LEASES = "leases.coordination.k8s.io"
_LEASE_NAMESPACE = "kube-node-lease"
# Who asks for these is to be the node itself.
_NODE_SIGNERS = ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet")
# Labels that only an administrator sets, so that a worker cannot draw chosen pods to itself (Kubernetes'
# NodeRestriction); and of Kubernetes' own those that a node may say of itself.
_RESTRICTED_DOMAIN = "node-restriction.kubernetes.io"
_KUBERNETES_DOMAINS = ("kubernetes.io", "k8s.io")
_NODE_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
_NODE_LABELS = frozenset(
    ("beta.kubernetes.io/arch", "beta.kubernetes.io/instance-type", "beta.kubernetes.io/os",
     "failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone", "kubernetes.io/arch",
     "kubernetes.io/hostname", "kubernetes.io/os", "node.kubernetes.io/instance-type",
     "topology.kubernetes.io/region", "topology.kubernetes.io/zone")
)  # fmt: skip


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


def node_verdict(node: str, asked: Attributes) -> Verdict:
    """What the worker of `node` may do."""
    verb, name, subresource = asked.verb, asked.name, asked.subresource
    key = Key(f"{asked.resource}.{asked.group}" if asked.group else asked.resource, asked.namespace, name)
    resource = key.resource
    if asked.path:
        return Denied("not allowed to nodes")
    if resource == "pods":
        return _pod_verdict(node, key, asked)
    if resource == "serviceaccounts" and subresource == "token" and verb == "create":
        # Which pod the token is for, the request itself says: `apiserver.token_request` checks that it is there.
        return IfReferenced(key)
    if resource in ("secrets", "configmaps") and not subresource:
        if verb == "get" and name:
            return IfReferenced(key)
        return Denied(f"a node may only get a {resource.removesuffix('s')} that one of its pods references")
    if resource == "nodes" and verb in ("create", "update", "patch"):
        own = name == node or (verb == "create" and not name)
        if own and subresource in ("", "status"):
            return Allowed()
        return Denied(f"node '{node}' is not allowed to modify node '{name}'")
    if resource == _LEASES and not subresource:
        return _lease_verdict(node, key, verb)
    if resource in _OPEN_TO_NODES and verb in _READ and not subresource:
        return Allowed()
    if resource == "namespaces" and verb == "get" and not subresource:
        return Allowed()
    if resource in _EVENTS and verb in ("create", "update", "patch") and not subresource:
        return Allowed()
    if resource == _REQUESTS and verb in ("create", *_READ) and not subresource:
        return Allowed()
    return Denied("not allowed to nodes")


def _lease_verdict(node: str, key: Key, verb: str) -> Verdict:
    if key.namespace != _LEASE_NAMESPACE:
        return Denied(f"can only access leases in the {_LEASE_NAMESPACE!r} system namespace")
    if verb == "create":
        # The name may stand in the body alone, which `check_node_write` sees.
        return Allowed() if key.name in ("", node) else Denied(_other_lease(node))
    if verb in ("get", "update", "patch", "delete"):
        return Allowed() if key.name == node else Denied(_other_lease(node))
    return Denied("not allowed to nodes")


def _other_lease(node: str) -> str:
    return f"node '{node}' can only access node lease with the same name as the requesting node"


def _pod_verdict(node: str, key: Key, asked: Attributes) -> Verdict:
    verb, subresource = asked.verb, asked.subresource
    if verb in ("list", "watch"):
        if _selects_node(node, asked.selection.fields):
            return Allowed()
        return Denied(f"a node may list and watch its own pods only: use the field selector spec.nodeName={node}")
    may_read = verb == "get" and subresource in ("", "status")
    may_report = verb in ("update", "patch") and subresource == "status"
    may_remove = verb == "delete" and not subresource
    may_evict = verb == "create" and subresource == "eviction"
    if verb == "create" and not subresource:
        # Of its static pods' mirrors, which `check_node_write` tells from others.
        return Allowed()
    if key.name and (may_read or may_report or may_remove or may_evict):
        return IfOwnPod(key)
    return Denied("a node may get, evict and delete its own pods and write their status, nothing else")


def _selects_node(node: str, fields: str) -> bool:
    try:
        return selectors.parse_fields(fields, resources.by_plural("", "pods")).equal("spec.nodeName") == node
    except ApiError:
        return False


def check_node_write(node: str, target: Target, before: Any, after: Any) -> str:
    """Why this worker may not make this change, "" if it may; `before` is None on create, `after` on delete."""
    if isinstance(before, Pod):
        return "" if before.spec.nodeName == node else f"the pod is not bound to node '{node}'"
    if isinstance(after, Pod):
        return _check_mirror(node, after)
    if isinstance(after, Node):
        return _check_own_node(node, before, after)
    if isinstance(after, Lease) and target.namespace == _LEASE_NAMESPACE:
        return "" if after.metadata.name == node else _other_lease(node)
    if isinstance(after, CertificateSigningRequest) and before is None:
        return _check_request(node, after)
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
    if restricted := sorted(filter(_is_restricted, changed)):
        listed = ", ".join(restricted)
        if before is None:
            return f'node "{node}" is not allowed to set the following labels: {listed}'
        return f"is not allowed to modify labels: {listed}"
    finalizers = before.metadata.finalizers if before is not None else []
    owners = before.metadata.ownerReferences if before is not None else []
    if after.metadata.finalizers != finalizers or after.metadata.ownerReferences != owners:
        return "a node may not change its own finalizers and owners"
    return ""


def _is_restricted(label: str) -> bool:
    domain, slash, _ = label.partition("/")
    if not slash or label in _NODE_LABELS:
        return False
    if _is_within(domain, _RESTRICTED_DOMAIN):
        return True
    own = any(_is_within(domain, allowed) for allowed in _NODE_DOMAINS)
    return not own and any(_is_within(domain, theirs) for theirs in _KUBERNETES_DOMAINS)


def _is_within(domain: str, parent: str) -> bool:
    return domain == parent or domain.endswith(f".{parent}")


def _check_request(node: str, request: CertificateSigningRequest) -> str:
    """Why a node may not ask for this certificate: a node's own is for that node."""
    if request.spec.signerName not in _NODE_SIGNERS:
        return ""
    try:
        asked = x509.load_pem_x509_csr(base64.b64decode(request.spec.request, validate=True))
    except (ValueError, binascii.Error):
        return "unable to parse csr"
    names = [attribute.value for attribute in asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return "" if names == [NODE_PREFIX + node] else f"can only create a node CSR with CN={NODE_PREFIX}{node}"


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


class NodeAuthorizer:
    """Decides for workers. `pods` is where the pods are kept; no state but a cache of parsed pods."""

    def __init__(self, pods: Backend) -> None:
        self._pods = pods
        # References of bound pods by node, with the revision they were read at: a node's pods seldom change.
        self._parsed: dict[str, dict[Key, tuple[int, frozenset[Reference]]]] = {}

    async def decide(self, node: str, asked: Attributes) -> Decision:
        """Allowed, or no opinion with the reason why not."""
        match node_verdict(node, asked):
            case Denied(why):
                return Decision(reason=why)
            case IfOwnPod(key):
                allowed = await self._is_own(node, key)
            case IfReferenced(key):
                allowed = await self._is_referenced(node, key)
                if not allowed:
                    await self._pods.current()
                    allowed = await self._is_referenced(node, key)
            case Allowed():
                return ALLOW
        return ALLOW if allowed else Decision(reason=no_relationship(node))

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


def no_relationship(node: str) -> str:
    return f"no relationship found between node '{node}' and this object"
