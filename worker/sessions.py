"""`Heartbeat`: this worker's life sign to the masters, every two seconds over one stream, reconnected for ever.

Any master will do. One that does not answer, or says that it reaches no leader, is left with everything that is under
way there, watches too: they would go on, but tell nothing new.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import grpc.aio

from barque.api.errors import ApiError, unavailable
from barque.client import wire
from barque.client.clock import Clock
from barque.client.endings import Ending
from barque.client.remote import Connection
from barque.client.usage import SAMPLE_INTERVAL_S
from barque.proto import sessions_pb2
from barque.worker.pods.backoff import doubled

log = logging.getLogger(__name__)

INTERVAL_S = 2.0
# No answer for so long: the master is paused or cut off, and another one may hear us in time.
ANSWER_TIMEOUT_S = 3.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
# Older than this, the newest sample says nothing any more: measuring has failed since.
SAMPLE_AGE_S = 2 * SAMPLE_INTERVAL_S


class Heartbeat:
    """`node_uid` is asked at each beat, and `usage` for the sample to send with it (b"" for none). Each session begins
    with the newest sample, for the master may know nothing yet; no sample is sent twice in one. `on_session` is told
    whenever a master begins (True) or ceases to hear us.
    """

    def __init__(
        self,
        connection: Connection,
        node: str,
        node_uid: Callable[[], str],
        on_session: Callable[[bool], None],
        clock: Clock,
        usage: Callable[[], bytes] = bytes,
    ) -> None:
        self._connection = connection
        self._node = node
        self._node_uid = node_uid
        self._on_session = on_session
        self._clock = clock
        self._usage = usage
        self._sample, self._sampled_s = b"", float("-inf")
        self._sequence = 0
        self._failures = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            master = self._connection.master
            try:
                await self._connection.ready()
                master = self._connection.master
                await self._beat()
            except grpc.aio.AioRpcError as error:
                self._note_failure(str(wire.api_error(error)))
                await self._connection.channels.leave(master)
            except (ApiError, TimeoutError) as error:
                self._note_failure(str(error) or "no answer in time")
                if isinstance(error, TimeoutError):
                    await self._connection.channels.leave(master)
            await self._clock.sleep(doubled(self._failures, FIRST_PAUSE_S, LONGEST_PAUSE_S))

    async def _beat(self) -> None:
        """One stream, until it breaks."""
        call = self._connection.sessions.Heartbeat()
        ending = Ending(call)
        try:
            first = True
            while True:
                self._sequence += 1
                beat = sessions_pb2.Beat(
                    node=self._node, node_uid=self._node_uid(), sequence=self._sequence, usage=self._next_sample(first)
                )
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    await call.write(beat)
                    reply = await call.read()
                if reply is grpc.aio.EOF:
                    raise _ended()
                if first:
                    first = False
                    if self._failures:
                        log.info("connected to the master at %s", self._connection.master)
                    self._failures = 0
                    self._on_session(True)
                await self._clock.sleep(reply.interval_ms / 1000 or INTERVAL_S)
        except asyncio.InvalidStateError:
            # The stream ended between two beats, which gRPC says with this error and no reason.
            raise ending.refusal or _ended() from None
        except grpc.aio.AioRpcError as error:
            raise await ending.of(error) or _ended() from error
        finally:
            call.cancel()

    def _next_sample(self, first: bool) -> bytes:
        fresh, now = self._usage(), self._clock.monotonic()
        if fresh:
            self._sample, self._sampled_s = fresh, now
        elif not first or now - self._sampled_s > SAMPLE_AGE_S:
            return b""
        return self._sample

    def _note_failure(self, why: str) -> None:
        if self._failures == 0:
            self._on_session(False)
            log.warning("no session with a master, and keep trying; pods go on: %s", why)
        self._failures += 1


def _ended() -> ApiError:
    return unavailable("the master ended the session")
