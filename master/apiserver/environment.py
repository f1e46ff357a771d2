"""What every verb of the registry works with: where objects are kept, time, chance, settings, and who may what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, TypeVar

from barque.api import codec, conversion
from barque.api.apply import Manager
from barque.api.errors import unavailable
from barque.api.resources import Resource
from barque.api.types.base import Object
from barque.client.clock import Clock
from barque.client.verbs import Target, WriteOptions
from barque.master.admission.claims import Held
from barque.master.admission.events import EventLimits
from barque.master.apiserver.backend import Backend
from barque.master.apiserver.event_turns import EventTurns
from barque.master.apiserver.lengthy import LengthyWork
from barque.master.apiserver.options import manager_name
from barque.master.apiserver.settings import ApiSettings
from barque.master.auth.account_tokens import AccountTokens
from barque.master.auth.authorizer import Authorizer, key_of
from barque.master.auth.identity import User
from barque.master.store.port import Key, Store, Stored

T = TypeVar("T", bound=Object)


@dataclass(frozen=True)
class Environment:
    """Shared by all requests; holds no state of its own but how many Events were written lately, and who waits to write
    more of them, or for the thread of lengthy work.
    """

    store: Store
    objects: Backend
    events: Backend
    views: Mapping[str, Backend]
    authorizer: Authorizer
    tokens: AccountTokens
    settings: ApiSettings
    clock: Clock
    entropy: Random
    event_limits: EventLimits
    lengthy: LengthyWork = field(default_factory=LengthyWork)
    event_turns: EventTurns = field(default_factory=EventTurns)

    def backend(self, resource: Resource) -> Backend:
        """Where the objects of this resource are kept. Raises 503 for a view that this registry does not have."""
        match resource.storage:
            case "store":
                return self.objects
            case "bus":
                return self.events
        view = self.views.get(resource.storage)
        if view is None:
            raise unavailable(f"{resource.plural} of {resource.api_version} are not served here")
        return view

    def held(self, prefix: str, owner: Key) -> Held:
        """The reservations with this prefix as this master knows them."""
        return Held(self.store.reserved(prefix), owner)


@dataclass(frozen=True)
class Call:
    """One caller's write: who, on what, how, and what the caller is told besides the answer."""

    user: User
    target: Target
    warnings: list[str]
    options: WriteOptions

    def warn(self, remarks: Sequence[str]) -> None:
        """Tell the caller; a write that is made anew says the same again and is heard once."""
        self.warnings.extend(remark for remark in remarks if remark not in self.warnings)

    def manager(self, now: str, operation: Literal["Apply", "Update"] = "Update") -> Manager:
        """In whose name the written fields are tracked."""
        return Manager(manager_name(self.options, self.user), operation, self.target.subresource, now)


class ExistingObject:
    """What writers of one existing object share: where it is kept, and which writes of a batch come before theirs."""

    def __init__(self, environment: Environment, call: Call) -> None:
        self._environment = environment
        self._call = call
        self._resource = call.target.resource
        self._key = key_of(call.target)

    @property
    def backend(self) -> Backend:
        return self._environment.backend(self._resource)

    @property
    def subject(self) -> tuple[Key, ...]:
        return (self._key,)


def duplicate(obj: T) -> T:
    """A copy that shares nothing with the original, by way of its bytes: that is the fastest."""
    return codec.decode(type(obj), codec.encode(obj))


def decode_stored(resource: Resource, stored: Stored) -> Any:
    """The object of stored bytes as this resource has it, with its resourceVersion taken out: the store alone writes
    that.
    """
    obj: Any = conversion.converted(codec.decode(resource.stored.type, stored.json), resource)
    obj.metadata.resourceVersion = ""
    return obj
