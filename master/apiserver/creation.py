"""Create: decode, default, name, validate, admit; an op that holds while the name is free and its namespace live."""

from __future__ import annotations

import copy
from typing import Any

from barque.api.decode import decode_object
from barque.api.defaults import apply_defaults
from barque.api.errors import ApiError, already_exists, conflict, invalid_object
from barque.api.validation import validate
from barque.client.verbs import WriteOptions
from barque.master.admission import namespaces
from barque.master.apiserver import metadata, strategies
from barque.master.apiserver.backend import Backend
from barque.master.apiserver.environment import Call, Environment
from barque.master.apiserver.proposals import Plan, check_size, put
from barque.master.store.port import Absent, Compare, Key, Refused

# How often a generated name may already be taken before the user is told, as in Kubernetes.
MAX_GENERATED_NAMES = 8


class Creation:
    """The `Writer` of one create."""

    def __init__(self, environment: Environment, call: Call, body: bytes, options: WriteOptions) -> None:
        check_size(len(body), environment.settings.max_object_bytes)
        self._environment = environment
        self._call = call
        self._options = options
        self._resource = call.target.resource
        self._object = self._read(body)
        self._prefix = "" if self._object.metadata.name else self._object.metadata.generateName
        self._names_tried = 0
        self._doubtful = False
        self._admitted = self._object

    @property
    def backend(self) -> Backend:
        return self._environment.backend(self._resource)

    @property
    def subject(self) -> tuple[Key, ...]:
        return (self._key, namespaces.key(self._call.target.namespace))

    @property
    def _key(self) -> Key:
        meta = self._object.metadata
        return Key(self._resource.group_resource, meta.namespace, meta.name)

    def _read(self, body: bytes) -> Any:
        """The object as it will be stored, but for a generated name and what admission hands out."""
        target, environment = self._call.target, self._environment
        obj: Any
        obj, warnings = decode_object(body, self._resource, self._options.field_validation or "Strict")
        self._call.warnings.extend(warnings)
        meta = obj.metadata
        metadata.match_namespace(meta, target)
        metadata.match_name(meta, target)
        generation = strategies.has_generation(self._resource)
        metadata.stamp(meta, environment.clock, environment.entropy, generation=generation)
        apply_defaults(obj)
        strategies.begin_status(obj)
        return obj

    async def plan(self) -> Plan:
        environment = self._environment
        if self._prefix:
            self._object.metadata.name = metadata.generated_name(self._prefix, environment.entropy)
            self._names_tried += 1
            apply_defaults(self._object)
        self._check()
        if self._options.dry_run or self._doubtful or not self.backend.guards:
            await self._check_place()
        # Admission fills in numbers that another attempt must not inherit.
        obj = copy.deepcopy(self._object) if strategies.claims_numbers(self._resource) else self._object
        claims = strategies.admit(obj, None, self._key, environment)
        self._admitted = obj
        limit = environment.settings.max_object_bytes
        op, slotted = put(self._resource, self._key, obj, self._compares(), claims, limit)
        if self._options.dry_run:
            return Plan(lambda _: slotted.json)
        return Plan(slotted.at, op, claims=claims)

    def handle_refusal(self, plan: Plan, refusal: Refused) -> None:
        if refusal.compare < 0:
            if refusal.reservation not in plan.claims.chosen:
                raise strategies.reservation_taken(self._admitted, refusal.reservation)
        elif refusal.compare == 0:
            if not self._prefix or self._names_tried >= MAX_GENERATED_NAMES:
                raise already_exists(self._resource.plural, self._resource.group, self._key.name)
        else:
            self._doubtful = True

    def give_up(self) -> ApiError:
        why = "others were quicker too often; try again"
        return conflict(self._resource.plural, self._resource.group, self._key.name, why)

    def _check(self) -> None:
        """Everything that can be said of the object alone."""
        obj, user = self._object, self._call.user
        errors = validate(obj)
        if errors:
            raise invalid_object(self._resource.kind, self._resource.group, obj.metadata.name, errors)
        self._environment.authorizer.check_write(user, "create", self._call.target, None, obj)

    async def _check_place(self) -> None:
        """The namespace, where the op's compares do not say it or have just refused it; the name on a dry run."""
        key = self._key
        if key.namespace:
            namespace = await self._environment.objects.get(namespaces.key(key.namespace))
            namespaces.check_live(namespace, self._resource, key.name, key.namespace)
        if self._options.dry_run and await self.backend.get(key) is not None:
            raise already_exists(self._resource.plural, self._resource.group, key.name)

    def _compares(self) -> tuple[Compare, ...]:
        key = self._key
        if key.namespace and self.backend.guards:
            return (Absent(key), namespaces.is_live(key.namespace))
        return (Absent(key),)
