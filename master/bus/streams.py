"""A cluster's streams as they are to be: made where there are none, adapted where they differ.

In the masters' own servers they have exactly as many copies as are wanted, or as can be had until the servers are
there. A NATS of the user's is shared: copies are only ever added there, since the user may have asked for more, and
each stream says in its metadata whose it is, so that two clusters in one account do not take each other's for their
own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from nats.js import api
from nats.js.errors import APIError, NotFoundError

from barque.master.bus.link import BusAwayError, Session

# Where a stream's metadata say of which cluster it is: by the cluster's id.
OWNER = "barque.cluster"
# nats-server's words for servers that are too few: no suitable peers, insufficient resources, not clustered.
_TOO_FEW_SERVERS = (10005, 10023, 10074)


class ForeignStreamError(BusAwayError):
    """The stream is another cluster's."""


class Streams:
    """`replicas` says how many copies there are to be; `owner` is this cluster's id in a NATS of the user's, "" in the
    masters' own servers, which nobody else uses.
    """

    def __init__(self, replicas: Callable[[], int], owner: str = "") -> None:
        self.replicas = replicas
        self._owner = owner

    @property
    def lasting(self) -> bool:
        """Whether a stream that is made now is the one that there will be with more copies: how it is synced cannot be
        changed later. A master's own server that stands alone has streams that are made anew when others join.
        """
        return bool(self._owner) or self.replicas() > 1

    def check(self, stream: str, metadata: Mapping[str, str] | None) -> None:
        """Return where the stream may be used. Raises `ForeignStreamError`."""
        found = (metadata or {}).get(OWNER, "")
        if self._owner and found not in ("", self._owner):
            raise ForeignStreamError(
                f"the stream {stream} is that of another cluster ({found}): each needs an account of its own"
            )

    async def ensure(self, session: Session, wanted: api.StreamConfig, first_sequence: int) -> api.StreamInfo:
        """The stream as it is to be, whatever `wanted` says of copies and metadata; where there is none, made so that
        it begins at `first_sequence`. Raises `ForeignStreamError`, `BusAwayError`, `APIError`.
        """
        assert wanted.name is not None
        jetstream = session.jetstream
        try:
            found = await session.ask(jetstream.stream_info(wanted.name))
        except NotFoundError:
            found = None
        if found is not None:
            self.check(wanted.name, found.config.metadata)
        for config in self.choices(wanted, found.config if found is not None else None):
            try:
                if found is None:
                    return await session.ask(
                        jetstream.add_stream(dataclasses.replace(config, first_seq=first_sequence))
                    )
                if _shape(found.config) == _shape(config):
                    return found
                return await session.ask(jetstream.update_stream(config))
            except APIError as error:
                if config.num_replicas == 1 or error.err_code not in _TOO_FEW_SERVERS:
                    raise
        raise AssertionError("the last choice is one copy, which is made or refused")

    def choices(self, wanted: api.StreamConfig, found: api.StreamConfig | None) -> list[api.StreamConfig]:
        """The configurations to try, the best first."""
        present = (found.num_replicas or 1) if found is not None else 1
        most = max(self.replicas(), present) if self._owner else self.replicas()
        if found is not None:
            # Neither can be changed.
            wanted = dataclasses.replace(wanted, first_seq=found.first_seq, persist_mode=found.persist_mode)
        metadata = {OWNER: self._owner} if self._owner else None
        return [
            dataclasses.replace(wanted, num_replicas=replicas, metadata=metadata) for replicas in range(most, 0, -1)
        ]


def _shape(config: api.StreamConfig) -> tuple[object, ...]:
    """What of a stream's configuration is kept as it is wanted."""
    owner = (config.metadata or {}).get(OWNER, "")
    return config.subjects, config.max_bytes, config.max_age or 0, config.num_replicas or 1, owner
