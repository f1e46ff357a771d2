"""What the bus answers a master's own requests with: the place of a message in its stream, or why it has none.

One subscription hears all answers of a connection, and a number in the subject tells whose each is: so a request costs
a future, and neither a task nor a timer. Whoever waits sets the bound.
"""

from __future__ import annotations

import asyncio
import datetime
import itertools

import msgspec
from nats.aio.msg import Msg

# The subject of a stream is heard by nobody: its servers are away or are choosing a leader. Nothing was written.
NO_RESPONDERS = "503"


class Refusal(msgspec.Struct):
    """JetStream's no. `err_code` as in nats-server's errors.json."""

    code: int = 0
    err_code: int = 0
    description: str = ""


# Nobody heard the request: the stream's servers are choosing a leader, or this one has not heard of it yet.
UNHEARD = Refusal(503, 0, "no server leads the stream")


class Reply(msgspec.Struct):
    """`seq` is the message's sequence where it was taken; else `error` says why not, and nothing was written."""

    seq: int = 0
    error: Refusal | None = None


class StreamBounds(msgspec.Struct, frozen=True):
    first_seq: int = 0
    last_seq: int = 0


class StreamOwner(msgspec.Struct, frozen=True):
    """Of a stream's configuration what tells whose it is."""

    metadata: dict[str, str] | None = None


class StreamState(msgspec.Struct):
    """A stream as its leader has it; `created` is its identity, `ts` the leader's clock."""

    config: StreamOwner = StreamOwner()
    created: str = ""
    ts: datetime.datetime | None = None
    state: StreamBounds = StreamBounds()
    error: Refusal | None = None


class Replies:
    """Hands each answer to the future of its request; `subject` is where answers come, each on a token of its own."""

    def __init__(self, inbox: str) -> None:
        self._prefix = f"{inbox}."
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[Msg]] = {}

    @property
    def subject(self) -> str:
        return f"{self._prefix}*"

    def __len__(self) -> int:
        """How many answers are awaited."""
        return len(self._waiting)

    def expect(self) -> tuple[str, asyncio.Future[Msg]]:
        """The subject to answer on, and what will hold the answer. Cancel the future to wait for it no longer."""
        address = f"{self._prefix}{next(self._numbers)}"
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[address] = future
        future.add_done_callback(lambda _: self._waiting.pop(address, None))
        return address, future

    async def hear(self, message: Msg) -> None:
        future = self._waiting.get(message.subject)
        if future is not None and not future.done():
            future.set_result(message)

    def end(self, why: Exception) -> None:
        """No answer will come any more."""
        for future in list(self._waiting.values()):
            if not future.done():
                future.set_exception(why)
                future.exception()  # whoever waits no longer must not make asyncio complain


def read_reply(message: Msg) -> Reply:
    """The answer to a publish. One that cannot be read says neither yes nor no."""
    if is_unheard(message):
        return Reply(error=UNHEARD)
    try:
        return msgspec.json.decode(message.data, type=Reply)
    except msgspec.DecodeError:
        return Reply()


def is_unheard(message: Msg) -> bool:
    """Whether the answer says that nobody heard the request."""
    return not message.data and (message.headers or {}).get("Status") == NO_RESPONDERS
