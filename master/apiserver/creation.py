"""Create: decode, default, name, validate, admit; an op that holds while the name is free and its namespace live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from barque.api.apply import track_update
from barque.api.bulk import check_bulk
from barque.api.codec import Slotted
from barque.api.decode import decode_object
from barque.api.defaults import apply_defaults
from barque.api.errors import ApiError, already_exists, conflict, invalid_object
from barque.api.types.core_v1 import Pod
from barque.api.types.meta_v1 import ManagedFieldsEntry
from barque.api.validation import validate
from barque.api.warnings import about_new
from barque.client.clock import timestamp
from barque.master.admission import namespaces
from barque.master.admission.claims import Claims
from barque.master.apiserver import metadata, strategies
from barque.master.apiserver.backend import Backend
from barque.master.apiserver.cohorts import in_step
from barque.master.apiserver.environment import Call, Environment
from barque.master.apiserver.proposals import Plan, put
from barque.master.store.port import Absent, Compare, Key, Op, Refused

T = TypeVar("T")

# How often a generated name may already be taken before the user is told, as in Kubernetes.
MAX_GENERATED_NAMES = 8


class Creation:
    """The `Writer` of one create.

    `read` gives the user's object anew each time: admission fills in numbers that another attempt must not inherit.
    `owners` says whose its fields are; without it they are the caller's. `size_bytes` is what it is read from.
    """

    def __init__(
        self,
        environment: Environment,
        call: Call,
        read: Callable[[], Any],
        owners: Callable[[Any], list[ManagedFieldsEntry]] | None = None,
        size_bytes: int = 0,
    ) -> None:
        self._environment = environment
        self._call = call
        self._resource = call.target.resource
        self._read = read
        self._owners = owners
        self._size_bytes = size_bytes
        self._names_tried = 0
        self._doubtful = False
        self._now = timestamp(environment.clock.wall())
        self._object = self._begin()
        self._planned = False

    @property
    def backend(self) -> Backend:
        return self._environment.backend(self._resource)

    @property
    def subject(self) -> tuple[Key, ...]:
        return (self._key, namespaces.key(self._call.target.namespace))

    @property
    def _key(self) -> Key:
        meta = self._object.metadata
        return Key(self._resource.stored.group_resource, meta.namespace, meta.name)

    def _begin(self) -> Any:
        """The object as it will be stored, but for what admission hands out."""
        target, environment = self._call.target, self._environment
        obj = self._read()
        meta = obj.metadata
        metadata.match_namespace(meta, target)
        metadata.match_name(meta, target)
        metadata.stamp(meta, self._now, environment.entropy, generation=strategies.has_generation(self._resource))
        if not meta.name and meta.generateName:
            meta.name = metadata.generated_name(meta.generateName, environment.entropy)
            self._names_tried += 1
        apply_defaults(obj)
        strategies.begin_status(obj)
        strategies.note_requester(obj, self._call.user)
        # Before admission: what the cluster adds belongs to nobody, as in Kubernetes.
        meta.managedFields = self._owners(obj) if self._owners else self._own_all(obj)
        strategies.fill_in(obj)
        return obj

    async def plan(self) -> Plan:
        environment = self._environment
        if self._planned:
            self._object = await self._lengthy(self._begin)
        else:
            strategies.count_event(self._object, self._call, environment)
        self._planned = True
        obj, dry_run = self._object, self._call.options.dry_run
        if isinstance(obj, Pod):
            await self._complete(obj)
        await self._lengthy(self._check)
        environment.authorizer.check_write(self._call.user, "create", self._call.target, None, obj)
        if dry_run or self._doubtful or not self.backend.guards:
            await self._check_place()
        await in_step()
        claims = strategies.admit(obj, None, self._key, environment)
        op, slotted = await self._lengthy(lambda: self._put(obj, claims))
        if dry_run:
            return Plan(lambda _: slotted.unstored())
        return Plan(slotted.at, op, claims=claims)

    def _put(self, obj: Any, claims: Claims) -> tuple[Op, Slotted]:
        limit = self._environment.settings.max_object_bytes
        op, slotted = put(self._resource, self._key, obj, self._compares(), claims, limit)
        # With its owners it may hold twice what was sent; a patch of it is made of all that.
        check_bulk(slotted.json)
        return op, slotted

    async def _lengthy(self, work: Callable[[], T]) -> T:
        return await self._environment.lengthy.do(self._call.user.name, self._size_bytes, work)

    def handle_refusal(self, plan: Plan, refusal: Refused) -> None:
        if refusal.compare < 0:
            if refusal.reservation not in plan.claims.chosen:
                raise strategies.reservation_taken(self._object, refusal.reservation)
        elif refusal.compare == 0:
            taken = already_exists(self._resource.plural, self._resource.group, self._key.name)
            if not self._names_tried:
                raise taken
            if self._names_tried >= MAX_GENERATED_NAMES:
                raise metadata.no_name_found(taken)
        else:
            self._doubtful = True

    def give_up(self) -> ApiError:
        why = "others were quicker too often; try again"
        return conflict(self._resource.plural, self._resource.group, self._key.name, why)

    async def _complete(self, pod: Pod) -> None:
        try:
            await strategies.complete_pod(pod, self._environment)
        except ApiError:
            # Where the whole namespace is not there, that is what to say.
            await self._check_place()
            raise

    def _own_all(self, obj: Any) -> list[ManagedFieldsEntry]:
        return track_update(None, obj, self._call.manager(self._now))

    def _check(self) -> None:
        """Everything that can be said of the object alone."""
        obj = self._object
        errors = validate(obj)
        if errors:
            raise invalid_object(self._resource.kind, self._resource.group, obj.metadata.name, errors)
        self._call.warn(about_new(obj))
        strategies.check_requested(obj)

    async def _check_place(self) -> None:
        """The namespace, where the op's compares do not say it or have just refused it; the name on a dry run."""
        key = self._key
        if key.namespace:
            objects, at = self._environment.objects, namespaces.key(key.namespace)
            namespace = await objects.get(at)
            if namespace is None:
                await objects.current()
                namespace = await objects.get(at)
            namespaces.check_live(namespace, self._resource, key.name, key.namespace)
        if self._call.options.dry_run and await self.backend.get(key) is not None:
            raise already_exists(self._resource.plural, self._resource.group, key.name)

    def _compares(self) -> tuple[Compare, ...]:
        key = self._key
        if key.namespace and self.backend.guards:
            return (Absent(key), namespaces.is_live(key.namespace))
        return (Absent(key),)


def reader(call: Call, body: bytes) -> Callable[[], Any]:
    """What `Creation` reads the body of a create with; raises 400."""

    def read() -> Any:
        obj, warnings = decode_object(body, call.target.resource, call.options.field_validation)
        call.warn(warnings)
        return obj

    return read
