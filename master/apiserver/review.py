"""`Review`: the `Writer` of a kind that is a question: its create is answered with a status, and nothing is kept.

The answer is what this master would act on itself: a no has been looked up on the current state by whoever says it.
"""

from __future__ import annotations

from typing import Any

from barque.api import codec
from barque.api.decode import decode_object
from barque.api.errors import ApiError
from barque.client.clock import timestamp
from barque.master.apiserver import metadata
from barque.master.apiserver.backend import Backend
from barque.master.apiserver.environment import Call, Environment
from barque.master.apiserver.proposals import Plan
from barque.master.store.port import Key, Refused


class Review:
    """One question. A subclass's `answer` fills in what is asked for. Raises 400 where the body is none."""

    def __init__(self, environment: Environment, call: Call, body: bytes) -> None:
        asked: Any
        asked, warnings = decode_object(body, call.target.resource, call.options.field_validation)
        call.warn(warnings)
        metadata.match_namespace(asked.metadata, call.target)
        self._environment = environment
        self._call = call
        self._asked = asked

    async def answer(self, review: Any) -> None:
        """Complete the review, whatever its status says. A no is said on the current state. Raises `ApiError`."""
        raise NotImplementedError

    @property
    def backend(self) -> Backend:
        return self._environment.objects

    @property
    def subject(self) -> tuple[Key, ...]:
        return ()

    async def plan(self) -> Plan:
        review = self._asked
        review.metadata.creationTimestamp = timestamp(self._environment.clock.wall())
        await self.answer(review)
        answer = codec.encode(review)
        return Plan(lambda _: answer, stands=True)

    def handle_refusal(self, plan: Plan, refusal: Refused) -> None:
        raise AssertionError("a review writes nothing that could be refused")

    def give_up(self) -> ApiError:
        raise AssertionError("a review writes nothing that could be refused")
