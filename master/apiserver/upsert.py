"""Writes that change the object there is, or create it where there is none.

Which of the two it is may change between two attempts. Creating takes the right to create beside that to change.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from barque.api.errors import ApiError, not_found
from barque.api.types.meta_v1 import ManagedFieldsEntry
from barque.master.apiserver import metadata
from barque.master.apiserver.creation import Creation
from barque.master.apiserver.environment import Call, Environment, ExistingObject
from barque.master.apiserver.modification import Change, Modification, Replace
from barque.master.apiserver.proposals import Plan
from barque.master.store.port import Refused


class Upsert(ExistingObject, ABC):
    """The `Writer` of one such write. `verb` is what the caller may do to an object that is there; the change is read
    from so many bytes.
    """

    def __init__(self, environment: Environment, call: Call, verb: str, change: Change, size_bytes: int) -> None:
        super().__init__(environment, call)
        self._size_bytes = size_bytes
        self._existing = Modification(environment, call, verb, change, size_bytes)
        self._writer: Creation | Modification = self._existing

    @property
    def created(self) -> bool:
        """Whether the object is new, once the write is done."""
        return isinstance(self._writer, Creation)

    async def plan(self) -> Plan:
        stored = await self.backend.get(self._key)
        if stored is not None:
            self._writer = self._existing
            return await self._existing.plan_on(stored)
        if self._call.target.subresource:
            raise self._not_found()
        self._check_creatable()
        await self._environment.authorizer.authorize(self._call.user, "create", self._call.target)
        if not isinstance(self._writer, Creation):  # one that was refused knows what it must look at this time
            self._writer = await self._environment.lengthy.do(self._call.user.name, self._size_bytes, self._creation)
        return await self._writer.plan()

    def _creation(self) -> Creation:
        return Creation(self._environment, self._call, self._begin, self._owners, self._size_bytes)

    @abstractmethod
    def _check_creatable(self) -> None:
        """Raises where the caller can only mean an object that is there."""

    @abstractmethod
    def _begin(self) -> Any:
        """The new object, made anew each time."""

    @abstractmethod
    def _owners(self, obj: Any) -> list[ManagedFieldsEntry]:
        """Whose its fields are."""

    def _not_found(self) -> ApiError:
        return not_found(self._resource.plural, self._resource.group, self._key.name)

    def handle_refusal(self, plan: Plan, refusal: Refused) -> None:
        if isinstance(self._writer, Creation) and refusal.compare == 0:
            return  # someone else has just created it: there is an object to change now
        if isinstance(self._writer, Modification) and refusal.compare >= 0:
            return  # changed, or gone: either way another attempt sees it
        self._writer.handle_refusal(plan, refusal)

    def give_up(self) -> ApiError:
        return self._writer.give_up()


class Replacing(Upsert):
    """An update of a kind that is created where it is missing (`strategies.is_created_by_update`).

    Other than in Kubernetes, who names a revision means the object that had it: nothing is created then.
    """

    def __init__(self, environment: Environment, call: Call, body: bytes) -> None:
        self._change = Replace(call, body)
        super().__init__(environment, call, "update", self._change, len(body))

    def _check_creatable(self) -> None:
        if self._change.expected is not None:
            raise self._not_found()
        if self._change.uid:
            raise metadata.stale_uid(self._call.target, self._change.uid, "")

    def _begin(self) -> Any:
        return self._change.begin()

    def _owners(self, obj: Any) -> list[ManagedFieldsEntry]:
        return self._change.owners(None, obj, obj.metadata.creationTimestamp)
