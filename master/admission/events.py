"""How many Events may be written: Kubernetes' EventRateLimit. Pure; the clock is an argument.

A limit is a bucket of tokens for each key of its type: the server, a namespace, a user, or a source with the object
that it speaks of. The limits are asked from the narrowest to the widest, and an Event that is refused takes no token
anywhere: so what one object floods is not missing to the others. Buckets are bounded in number, those unused for
longest go first. Follows Kubernetes' plugin/pkg/admission/eventratelimit, which asks all limits in the order given.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from barque.api.errors import ApiError
from barque.api.types import core_v1, events_v1
from barque.api.types.meta_v1 import StatusDetails

LimitType = Literal["Server", "Namespace", "User", "SourceAndObject"]
_NARROWEST_FIRST = ("SourceAndObject", "User", "Namespace", "Server")


class EventLimit(NamedTuple):
    """`qps` Events a second over time, `burst` at once, for each of at most `cache_size` keys."""

    type: LimitType
    qps: float
    burst: int
    cache_size: int = 4096


# No component says 25 things a second of one object; the server's bound is twice what a busy cluster records, and a
# user's half of that: nobody writes so much that there is nothing left for the others.
DEFAULT_LIMITS = (
    EventLimit("SourceAndObject", 25, 50),
    EventLimit("User", 1500, 3000),
    EventLimit("Server", 3000, 6000),
)


class _Buckets:
    """The buckets of one limit; each is its tokens and when they were counted, in seconds."""

    def __init__(self, limit: EventLimit) -> None:
        self.limit = limit
        self._buckets: OrderedDict[str, list[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def bucket(self, key: str, now: float) -> list[float]:
        """The key's bucket as it is by now."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = [float(self.limit.burst), now]
            if len(self._buckets) > self.limit.cache_size:
                self._buckets.popitem(last=False)
            return bucket
        self._buckets.move_to_end(key)
        tokens, at = bucket
        bucket[0] = min(self.limit.burst, tokens + (now - at) * self.limit.qps)
        bucket[1] = now
        return bucket


class EventLimits:
    """The limits of one server. `refused` counts what they kept out."""

    def __init__(self, limits: Sequence[EventLimit] = DEFAULT_LIMITS) -> None:
        ordered = sorted(limits, key=lambda limit: _NARROWEST_FIRST.index(limit.type))
        self._limits = [_Buckets(limit) for limit in ordered]
        self.refused = 0

    def __len__(self) -> int:
        """How many buckets there are."""
        return sum(map(len, self._limits))

    def admit(self, event: core_v1.Event | events_v1.Event, namespace: str, user: str, now: float) -> None:
        """Count one write of the Event at `now`, in seconds of a clock that only goes forward. Raises 429."""
        buckets: list[list[float]] = []
        for of_limit in self._limits:
            limit = of_limit.limit
            key = _key(limit.type, event, namespace, user)
            bucket = of_limit.bucket(key, now)
            # Shares of a token add up in floats: a whole one must count as whole.
            if bucket[0] < 1 - 1e-9:
                self.refused += 1
                raise _too_many(limit, key, bucket[0])
            buckets.append(bucket)
        for bucket in buckets:
            bucket[0] -= 1


def is_event(obj: Any) -> bool:
    """Whether the object is one that these limits count."""
    return isinstance(obj, core_v1.Event | events_v1.Event)


def _key(limit: LimitType, event: core_v1.Event | events_v1.Event, namespace: str, user: str) -> str:
    match limit:
        case "SourceAndObject":
            return _source_and_object(event)
        case "User":
            return user
        case "Namespace":
            return namespace
    return ""


def _source_and_object(event: core_v1.Event | events_v1.Event) -> str:
    """Who speaks of what, as Kubernetes writes it: without anything between the parts."""
    if isinstance(event, core_v1.Event):
        source, about = event.source, event.involvedObject
    else:
        source, about = event.deprecatedSource, event.regarding
    of_source = source.component + source.host if source is not None else ""
    if about is None:
        return of_source
    return f"{of_source}{about.kind}{about.namespace}{about.name}{about.uid}{about.apiVersion}"


def _too_many(limit: EventLimit, key: str, tokens: float) -> ApiError:
    message = f"Too many requests: limit reached on type {limit.type} for key {key}"
    after = max(1, math.ceil((1 - tokens) / limit.qps))
    return ApiError(429, "TooManyRequests", message, StatusDetails(retryAfterSeconds=after))
