"""What differs from kind to kind when an object is written: generation, first status, what admission gives it."""

from __future__ import annotations

from typing import Any

import msgspec

from barque.api import codec, timestamps
from barque.api.defaults.networking import default_address
from barque.api.errors import ApiError, not_found
from barque.api.resources import Resource
from barque.api.types.apps_v1 import Deployment
from barque.api.types.base import Object
from barque.api.types.certificates_v1 import CertificateSigningRequest
from barque.api.types.core_v1 import (
    EphemeralContainer,
    LoadBalancerStatus,
    Namespace,
    NamespaceStatus,
    Node,
    Pod,
    PodStatus,
    Service,
    ServiceAccount,
    ServiceStatus,
)
from barque.api.types.discovery_v1 import EndpointSlice
from barque.master.admission import accounts, certificates, events, namespaces, nodes, pods, services
from barque.master.admission.claims import NO_CLAIMS, Claims
from barque.master.apiserver.environment import Call, Environment
from barque.master.auth.identity import User
from barque.master.store.port import Key

# Kinds that count the changes of their spec, as in Kubernetes.
_WITH_GENERATION = ("Pod", "PodTemplate", "Deployment", "ReplicaSet", "EndpointSlice")
_CREATED_BY_UPDATE = (
    "ClusterRole", "ClusterRoleBinding", "Endpoints", "Event", "Lease", "Role", "RoleBinding", "Service",
)  # fmt: skip
# Annotations that the controller of Deployments writes on them.
_CONTROLLER_PREFIX = "deployment.kubernetes.io/"
# A namespace has its default account some milliseconds after itself; a pod that comes along with it waits so long for
# that, and looks so often.
_NEWBORN_S = 3.0
_ACCOUNT_LOOK_S = 0.05


def has_generation(resource: Resource) -> bool:
    return resource.kind in _WITH_GENERATION


def has_status(resource: Resource) -> bool:
    """Whether the status is written by its own subresource alone."""
    return "status" in resource.subresources


def begin_status(obj: Any) -> None:
    """The status of a new object: the system's, except that a worker registers its node with one."""
    if isinstance(obj, Pod):
        obj.status = PodStatus(phase="Pending")
    elif isinstance(obj, Namespace):
        obj.status = NamespaceStatus(phase=namespaces.ACTIVE)
    elif isinstance(obj, Service):
        # As Kubernetes shows it, also while no provider has said anything.
        obj.status = ServiceStatus(loadBalancer=LoadBalancerStatus())
    elif not isinstance(obj, Node) and hasattr(obj, "status"):
        obj.status = type(obj.status)()


def with_status(old: Any, status: Any) -> Any:
    """`old` with another status and nothing else changed."""
    metadata = msgspec.structs.replace(old.metadata)
    return msgspec.structs.replace(old, metadata=metadata, status=status)


def with_namespace_finalizers(old: Namespace, new: Namespace) -> Namespace:
    """`old` with what `new` says its end is to wait for, and nothing else changed."""
    metadata = msgspec.structs.replace(old.metadata)
    spec = msgspec.structs.replace(old.spec, finalizers=new.spec.finalizers)
    return msgspec.structs.replace(old, metadata=metadata, spec=spec)


def needs_revision(resource: Resource) -> bool:
    """Whether an update must name the revision it was made on: who holds a lease is decided by that alone."""
    return resource.kind == "Lease"


def is_created_by_update(resource: Resource) -> bool:
    """Whether an update of what is not there creates it, as in Kubernetes (AllowCreateOnUpdate)."""
    return resource.kind in _CREATED_BY_UPDATE


def with_ephemeral_containers(old: Pod, added: list[EphemeralContainer]) -> Pod:
    """`old` with other ephemeral containers and nothing else changed, but for what counts the changes."""
    metadata = msgspec.structs.replace(old.metadata)
    pod = msgspec.structs.replace(
        old, metadata=metadata, spec=msgspec.structs.replace(old.spec, ephemeralContainers=added)
    )
    if is_redesigned(pod, old):
        metadata.generation = (metadata.generation or 0) + 1
    return pod


def with_resources(old: Pod, new: Pod) -> Pod:
    """`old` with what the containers of `new` ask for, by their names, and nothing else changed, but for what counts
    the changes.
    """
    metadata = msgspec.structs.replace(old.metadata)
    asked = {container.name: container.resources for container in (*new.spec.containers, *new.spec.initContainers)}
    spec = msgspec.structs.replace(
        old.spec,
        containers=[msgspec.structs.replace(c, resources=asked.get(c.name)) for c in old.spec.containers],
        initContainers=[msgspec.structs.replace(c, resources=asked.get(c.name)) for c in old.spec.initContainers],
    )
    pod = msgspec.structs.replace(old, metadata=metadata, spec=spec)
    if is_redesigned(pod, old):
        metadata.generation = (metadata.generation or 0) + 1
    return pod


def is_redesigned(new: Any, old: Any) -> bool:
    """Whether an update counts for the generation: it changes the spec or, without one, all but the metadata.

    Of the metadata counts what is handed on: a Deployment's annotations, to its ReplicaSets, and the labels of a slice,
    which say whose endpoints it holds.
    """
    if isinstance(new, Deployment) and _handed_on(new) != _handed_on(old):
        return True
    if isinstance(new, EndpointSlice) and new.metadata.labels != old.metadata.labels:
        return True
    if hasattr(new, "spec"):
        return bool(new.spec != old.spec)
    fields = (name for name in new.__struct_fields__ if name not in ("metadata", "status"))
    return any(getattr(new, name) != getattr(old, name) for name in fields)


def _handed_on(deployment: Deployment) -> dict[str, str]:
    """The annotations that go to its ReplicaSets: not those that its controller counts revisions in."""
    return {
        key: value for key, value in deployment.metadata.annotations.items() if not key.startswith(_CONTROLLER_PREFIX)
    }


def carry_over(new: Object, old: Object) -> None:
    """Keep what was handed out once and the update leaves open."""
    if isinstance(new, Service) and isinstance(old, Service):
        services.carry_over(new, old)
    elif isinstance(new, Node) and isinstance(old, Node):
        nodes.carry_over(new, old)
    elif isinstance(new, CertificateSigningRequest) and isinstance(old, CertificateSigningRequest):
        new.spec = old.spec
    elif isinstance(new, Namespace) and isinstance(old, Namespace):
        # Whoever may change a namespace may not yet let it go with all that is in it: `finalize` is for that.
        new.spec.finalizers = old.spec.finalizers


def fill_in(obj: Any) -> None:
    """Give a new object what the cluster says of it before it is judged."""
    if isinstance(obj, Service):
        default_address(obj)


def note_requester(obj: Any, user: User) -> None:
    """Write into a new object who asks, where its kind says that."""
    if isinstance(obj, CertificateSigningRequest):
        certificates.note_requester(obj, user)


def check_requested(obj: Any) -> None:
    """Raise 403 where a new object, valid in itself, asks for what nobody gets."""
    if isinstance(obj, CertificateSigningRequest):
        certificates.check_subject(obj)


async def check_decider(new: Any, old: Any, call: Call, environment: Environment) -> None:
    """Raise 403 where a decision that an object waits for is not the caller's."""
    if isinstance(old, CertificateSigningRequest):
        await certificates.check_decider(call.target.subresource, new, old, call.user, environment.authorizer.decide)


async def complete_pod(pod: Pod, environment: Environment) -> None:
    """Give a new pod what its service account lends it, before it is validated. Raises 403."""
    name = accounts.name_account(pod)
    if name:
        account = await _find_account(pod, accounts.key(pod.metadata.namespace, name), environment)
        accounts.admit_account(pod, account)


async def _find_account(pod: Pod, key: Key, environment: Environment) -> ServiceAccount:
    """The account; a default one that is about to be made is waited for."""
    stored = await environment.objects.get(key)
    while stored is None and key.name == accounts.DEFAULT and await _is_newborn(key.namespace, environment):
        await environment.clock.sleep(_ACCOUNT_LOOK_S)
        stored = await environment.objects.get(key)
    if stored is None:
        raise accounts.missing(pod, not_found("serviceaccount", "", key.name))
    return codec.decode(ServiceAccount, stored.json)


async def _is_newborn(name: str, environment: Environment) -> bool:
    stored = await environment.objects.get(namespaces.key(name))
    born = timestamps.parse(codec.decode(Namespace, stored.json).metadata.creationTimestamp) if stored else None
    return born is not None and abs((environment.clock.wall() - born).total_seconds()) < _NEWBORN_S


def count_event(obj: Any, call: Call, environment: Environment) -> None:
    """Count a write of an Event, once for a request and before more is done for it. Raises 429."""
    if events.is_event(obj) and not call.options.dry_run:
        environment.event_limits.admit(obj, call.target.namespace, call.user.name, environment.clock.monotonic())


def admit(obj: Object, old: Object | None, key: Key, environment: Environment) -> Claims:
    """Give a valid object what the cluster says of it; what it hands out once only is reserved in its own op."""
    settings = environment.settings
    if isinstance(obj, Pod) and old is None:
        pods.admit_pod(obj, settings)
    if isinstance(obj, Service) and (old is None or isinstance(old, Service)):
        held = environment.held("", key)
        return services.admit_service(obj, old, held, settings, environment.entropy)
    if isinstance(obj, Node) and (old is None or isinstance(old, Node)):
        return nodes.admit_node(obj, old, environment.held(nodes.POD_CIDR, key), settings)
    return NO_CLAIMS


def reservation_taken(obj: Object, reservation: str) -> ApiError:
    """The error for a number that the user asked for and another object holds."""
    if isinstance(obj, Service):
        return services.reservation_taken(obj, reservation)
    if isinstance(obj, Node):
        return nodes.reservation_taken(obj)
    raise AssertionError(f"{type(obj).__name__} reserves nothing, yet {reservation} was refused")
