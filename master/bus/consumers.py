"""Readers' consumers of the change feed, made for them by a master.

JetStream delivers a consumer's messages wherever its configuration says, and believes whoever may create one: so a
reader's request comes to a master, which makes of it what a reader may have: a pull consumer without acknowledgements,
in memory, that ends when it is not used. The name and the filter are those of the request's subject, which the server
has checked against the reader's permissions. `render_consumer` is pure.
"""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec
from nats.aio.msg import Msg

from barque.client.clock import Clock
from barque.master.bus.accounts import create_prefix
from barque.master.bus.link import BusAwayError, Link, Session
from barque.master.bus.serving import serve
from barque.master.bus.subjects import CHANGE_STREAM, answered_subject

# A consumer that nobody asks for so long is removed.
UNUSED_S = 300
# Of one consumer: requests for messages that wait, messages asked for by one, and how long one waits.
MAX_WAITING = 16
MAX_BATCH = 4096
MAX_EXPIRES_S = 60
ANSWER_TIMEOUT_S = 3.0
_NANO = 1_000_000_000
# nats-server's number for a consumer that cannot be made, and what it calls its answer.
_CONSUMER_CREATE = 10012
_ANSWER_TYPE = "io.nats.jetstream.api.v1.consumer_create_response"


class NotForReadersError(Exception):
    """A consumer that no reader may have; the message says why."""


class Consumers:
    """Makes the consumers that readers ask this master for; `run()` goes on for ever."""

    def __init__(self, link: Link, cluster: str, clock: Clock) -> None:
        self._link = link
        self._cluster = cluster
        self._prefix = create_prefix(cluster)
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled, whatever happens to the bus."""
        told = answered_subject(self._cluster, "consumer")
        await serve(self._link, f"{self._prefix}.>", told, self._answer, self._clock)

    async def _answer(self, session: Session, request: Msg) -> None:
        place = request.subject.removeprefix(f"{self._prefix}.")
        name, _, within = place.partition(".")
        try:
            wanted = render_consumer(name, within, request.data)
        except NotForReadersError as error:
            await session.tell(request.reply, _refusal(str(error)))
            return
        made = await session.post(f"$JS.API.CONSUMER.CREATE.{CHANGE_STREAM}.{place}", wanted)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = await made
        except TimeoutError as error:
            raise BusAwayError("JetStream does not answer") from error
        await session.tell(request.reply, answer.data)


def render_consumer(name: str, within: str, asked: bytes) -> bytes:
    """The request to JetStream for the consumer `name` with the filter `within` ("" for any), of what a reader asked.

    Raises `NotForReadersError`.
    """
    try:
        wanted = msgspec.json.decode(asked, type=_Request).config
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotForReadersError(f"the request cannot be read: {error}") from error
    if wanted.deliver_subject or wanted.durable_name:
        raise NotForReadersError("consumers of the change feed are pull consumers without a durable name")
    if wanted.ack_policy != "none":
        raise NotForReadersError("consumers of the change feed acknowledge nothing: ack_policy must be none")
    if wanted.name not in ("", name):
        raise NotForReadersError("the consumer's name is not that of the request's subject")
    if within and (wanted.filter_subjects or wanted.filter_subject != within):
        raise NotForReadersError("the consumer's filter is not that of the request's subject")
    unused = UNUSED_S * _NANO
    given = {**_GIVEN, "name": name, "inactive_threshold": min(wanted.inactive_threshold or unused, unused)}
    return msgspec.json.encode({"stream_name": CHANGE_STREAM, "config": msgspec.to_builtins(wanted) | given})


def _refusal(why: str) -> bytes:
    error = {"code": 400, "err_code": _CONSUMER_CREATE, "description": why}
    return msgspec.json.encode({"type": _ANSWER_TYPE, "error": error})


class _Config(msgspec.Struct, omit_defaults=True):
    """What of a consumer a reader may choose; what else is asked for is not heard, or refused below."""

    name: str = ""
    deliver_policy: Literal["all", "last", "new", "by_start_sequence", "by_start_time", "last_per_subject"] = "all"
    opt_start_seq: int = 0
    opt_start_time: str = ""
    filter_subject: str = ""
    filter_subjects: list[str] = []
    headers_only: bool = False
    inactive_threshold: int = 0
    ack_policy: str = "none"
    durable_name: str = ""
    deliver_subject: str = ""


class _Request(msgspec.Struct):
    config: _Config


# What a reader may not choose.
_GIVEN = {
    "ack_policy": "none",
    "replay_policy": "instant",
    "mem_storage": True,
    "num_replicas": 1,
    "max_waiting": MAX_WAITING,
    "max_batch": MAX_BATCH,
    "max_expires": MAX_EXPIRES_S * _NANO,
}
