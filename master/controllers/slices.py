"""How the EndpointSlices of one service are to change, without I/O, whoever keeps them.

In: the endpoints that there should be, grouped by their ports, and the slices that there are. Out: a `SlicePlan`.
Follows Kubernetes' endpointslice reconciler: slices are changed as few and as little as possible, so that a pod's
readiness moves one small object; what has to be written anyway is filled first; one that would be deleted becomes the
one that would be made. Names of new slices follow from owner, ports and position, so a stale cache creates none twice.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from barque.api import codec
from barque.api.errors import ApiError
from barque.api.types.discovery_v1 import Endpoint, EndpointPort, EndpointSlice
from barque.api.types.meta_v1 import ObjectMeta, OwnerReference
from barque.client.client import Client, target_of_object
from barque.client.verbs import Create, Delete, Update, Write

MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class Group(NamedTuple):
    """Endpoints, by `identity`, that are reached at the same ports."""

    ports: list[EndpointPort]
    endpoints: dict[str, Endpoint]


class Frame(NamedTuple):
    """What all slices of one service have in common.

    `annotations` are left to others where they are None; `size` is how many endpoints a slice may hold.
    """

    name: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str] | None
    owner: OwnerReference
    size: int


class SlicePlan(NamedTuple):
    create: list[EndpointSlice]
    update: list[EndpointSlice]
    delete: list[EndpointSlice]


def identity(endpoint: Endpoint) -> str:
    """What makes an endpoint the same one after a change: its pod, or its address."""
    reference = endpoint.targetRef
    if reference is not None and reference.uid:
        return reference.uid
    return f"{endpoint.addresses[0] if endpoint.addresses else ''} {endpoint.hostname}"


def ports_key(ports: Sequence[EndpointPort]) -> bytes:
    """The same for the same ports, in whichever order."""
    rows = [[p.name or "", p.protocol or "TCP", p.port, p.appProtocol or ""] for p in ports]
    return msgspec.json.encode(sorted(rows, key=repr))


def plan_slices(
    frame: Frame,
    groups: Mapping[bytes, Group],
    existing: Sequence[EndpointSlice],
    is_taken: Callable[[str], bool],
    *,
    keeps_empty: bool = False,
) -> SlicePlan:
    """How the slices must change. `existing` are those of this owner; `is_taken(name)` tells of any slice.

    With `keeps_empty` a service without endpoints has one slice that says so.
    """
    plan = SlicePlan([], [], [])
    by_ports: dict[bytes, list[EndpointSlice]] = {}
    for held in existing:
        if not held.metadata.deletionTimestamp:
            by_ports.setdefault(ports_key(held.ports), []).append(held)
    spare: list[EndpointSlice] = []
    wanted: list[tuple[Group, list[Endpoint]]] = []
    for key, group in groups.items():
        wanted += _plan_group(plan, frame, group, by_ports.pop(key, []), spare)
    spare += [held for slices in by_ports.values() for held in slices]
    if keeps_empty and not groups:
        wanted += _keep_one_empty(plan, frame, spare)
    given: set[str] = set()
    for group, endpoints in wanted:
        if spare:
            plan.update.append(_changed(frame, spare.pop(), endpoints, group.ports))
        else:
            name = _name(frame, group.ports, lambda name: name in given or is_taken(name))
            given.add(name)
            plan.create.append(_new_slice(frame, name, group.ports, endpoints))
    plan.delete.extend(spare)
    return plan


def _plan_group(
    plan: SlicePlan, frame: Frame, group: Group, slices: Sequence[EndpointSlice], spare: list[EndpointSlice]
) -> list[tuple[Group, list[Endpoint]]]:
    """Fit the group's endpoints into its slices; returns what needs further ones, and leaves those emptied in `spare`.

    Those in place stay. New ones go where something changes anyway, and else into one slice that has room for all.
    """
    missing = dict(group.endpoints)
    kept: list[tuple[EndpointSlice, list[Endpoint]]] = []
    for held in sorted(slices, key=lambda s: s.metadata.name):
        shown = (missing.pop(identity(endpoint), None) for endpoint in held.endpoints)
        kept.append((held, [endpoint for endpoint in shown if endpoint is not None]))
    new = list(missing.values())
    # The fullest first, to end with few slices.
    for _, present in sorted((k for k in kept if _differs(frame, *k)), key=lambda k: -len(k[1])):
        room = frame.size - len(present)
        present.extend(new[:room])
        new = new[room:]
    full = len(new) // frame.size * frame.size
    further = [(group, new[start : start + frame.size]) for start in range(0, full, frame.size)]
    rest = new[full:]
    roomy = [present for held, present in kept if rest and len(present) + len(rest) <= frame.size]
    if roomy:
        max(roomy, key=len).extend(rest)
    elif rest:
        further.append((group, rest))
    for held, present in kept:
        if not present:
            spare.append(held)
        elif _differs(frame, held, present):
            plan.update.append(_changed(frame, held, present, held.ports))
    return further


def _keep_one_empty(plan: SlicePlan, frame: Frame, spare: list[EndpointSlice]) -> list[tuple[Group, list[Endpoint]]]:
    """A service without endpoints keeps one empty slice, so that readers see that it is known to have none."""
    empty = next((held for held in spare if not held.ports), None)
    if empty is None:
        return [(Group([], {}), [])]
    spare.remove(empty)
    if _differs(frame, empty, []):
        plan.update.append(_changed(frame, empty, [], []))
    return []


def _differs(frame: Frame, held: EndpointSlice, endpoints: list[Endpoint]) -> bool:
    meta = held.metadata
    return (
        held.endpoints != endpoints or meta.labels != frame.labels or frame.annotations not in (None, meta.annotations)
    )


def _changed(frame: Frame, held: EndpointSlice, endpoints: list[Endpoint], ports: list[EndpointPort]) -> EndpointSlice:
    changed = copy.copy(held)
    changed.metadata = copy.copy(held.metadata)
    changed.metadata.labels = dict(frame.labels)
    if frame.annotations is not None:
        changed.metadata.annotations = dict(frame.annotations)
    changed.endpoints, changed.ports = endpoints, ports
    return changed


def _new_slice(frame: Frame, name: str, ports: list[EndpointPort], endpoints: list[Endpoint]) -> EndpointSlice:
    meta = ObjectMeta(
        name=name,
        generateName=f"{frame.name}-",
        namespace=frame.namespace,
        labels=dict(frame.labels),
        annotations=dict(frame.annotations or {}),
        ownerReferences=[frame.owner],
    )
    return EndpointSlice(metadata=meta, addressType="IPv4", endpoints=endpoints, ports=ports)


def _name(frame: Frame, ports: Sequence[EndpointPort], is_taken: Callable[[str], bool]) -> str:
    """A name for a new slice: the same inputs give the same name."""
    key, position = ports_key(ports), 0
    while True:
        seed = f"{frame.owner.uid} {position} ".encode() + key
        number = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "big")
        suffix = "".join(_ALPHABET[number // len(_ALPHABET) ** i % len(_ALPHABET)] for i in range(5))
        # A name is at most 253 characters.
        name = f"{frame.name[:247]}-{suffix}"
        if not is_taken(name):
            return name
        position += 1


async def write_plan(client: Client, plan: SlicePlan) -> ApiError | None:
    """Carry the plan out in one batch. Returns the first refusal that matters; raises `ApiError` where all failed."""
    writes: list[Write] = [Create(target_of_object(s, named=False), codec.encode(s)) for s in plan.create]
    writes += [Update(target_of_object(s), codec.encode(s)) for s in plan.update]
    for held in plan.delete:
        options = msgspec.json.encode({"preconditions": {"uid": held.metadata.uid}})
        writes.append(Delete(target_of_object(held), options))
    answers = await client.batch(writes) if writes else []
    for write, answer in zip(writes, answers, strict=True):
        if isinstance(answer, ApiError) and not (isinstance(write, Delete) and answer.reason == "NotFound"):
            return answer
    return None
