"""The change feed: every committed change of the store on the bus, for consumers outside of the cluster.

Each change is one JSON message `{"revision", "verb", "object"}` on `barque.<cluster>.change.<group>.<resource>.
<namespace>.<name>`, in the order of revisions, exactly once: a message names its predecessor (expected last message
id), so neither a resent message nor a second publisher can break the order, and after any restart the feed goes on from
the stream's own last message. Where the store's history no longer reaches back that far, a message of verb RESYNC on
`barque.<cluster>.change.RESYNC` says so before the feed goes on; a consumer must then read the state itself.

Of Secrets only the metadata travels, without annotations: those may hold what was last applied.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from barque.client.clock import Clock
from barque.client.gathering import gathered
from barque.master.bus.link import BusAwayError, Link, Outgoing, Session
from barque.master.bus.subjects import CHANGE_STREAM, change_subject, change_subjects, resync_subject
from barque.master.store.epoch import is_internal
from barque.master.store.port import Change, HistoryGoneError, Key, SlowWatcherError, Store, StoreUnavailableError

log = logging.getLogger(__name__)

STREAM_BYTES = 256 * 1024 * 1024
# Messages under way at once; each names its predecessor, so they stand or fall together and share one answer.
IN_FLIGHT = 256
IN_FLIGHT_BYTES = 1024 * 1024
_PAUSE_S = 0.5
# After each batch changes gather for this long: a lone change goes out at once, a stream of them in few chains, each of
# which costs the master an answer to wait for.
GATHER_S = 0.05
SECRETS = "secrets"


class FeedMessage(msgspec.Struct):
    """One message. `generation` counts the RESYNCs, so that ids never repeat even if a store is set back."""

    revision: int
    verb: Literal["ADDED", "MODIFIED", "DELETED", "RESYNC"]
    cluster: str
    generation: int
    object: msgspec.Raw


class Position(NamedTuple):
    """Where the feed stands: the last message's id and what it was about; an empty stream is the default."""

    revision: int = 0
    generation: int = 0
    cluster: str = ""
    last_id: str = ""


class Step(NamedTuple):
    """A message to be sent, and where the feed stands once it is taken."""

    message: Outgoing
    position: Position


class ChangeFeed:
    """Publishes the store's changes; `run()` goes on for ever. `lag()` is how far it is behind, in revisions."""

    def __init__(self, link: Link, store: Store, cluster: str, clock: Clock) -> None:
        self._link = link
        self._store = store
        self._cluster = cluster
        self._clock = clock
        self._at = 0

    def lag(self) -> int:
        return max(0, self._store.revision - self._at)

    async def run(self) -> None:
        """Follow the store, whatever happens to the bus."""
        while True:
            session = await self._link.up()
            try:
                await self._publish_all(session, await self._position(session))
            except (BusAwayError, APIError) as error:
                log.debug("change feed: %s", error)
            except (SlowWatcherError, StoreUnavailableError) as error:
                # The bus was slower than the store, or the store is stopping: go on from the stream's last message.
                log.debug("change feed: %s", error)
            await self._clock.sleep(_PAUSE_S)

    async def _position(self, session: Session) -> Position:
        """Where the stream ends."""
        wanted = api.StreamConfig(
            name=CHANGE_STREAM,
            subjects=[change_subjects(self._cluster)],
            max_bytes=STREAM_BYTES,
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.OLD,
            num_replicas=1,
            # Not synced message by message: what a power cut takes from the end is published again, since the feed goes
            # on from the stream's last message.
            persist_mode=api.PersistMode.ASYNC,
        )
        info = await session.ensure_stream(wanted, 1)
        if not info.state.messages:
            return Position()
        try:
            last = await session.ask(session.jetstream.get_msg(CHANGE_STREAM, info.state.last_seq))
        except NotFoundError:
            return Position()
        return read_position(last.data or b"", (last.headers or {}).get(api.Header.MSG_ID.value, ""))

    async def _publish_all(self, session: Session, position: Position) -> None:
        """From `position` on, until the bus or the store breaks off."""
        if position.cluster not in ("", self._store.cluster_id) or position.revision > self._store.revision:
            position = await self._resync(session, position)
        while True:
            self._at = position.revision
            changes = gathered(self._store.changes(position.revision), self._clock, GATHER_S)
            try:
                async for batch in changes:
                    for chain in _chains(self._steps(position, batch)):
                        await session.publish_chain([step.message for step in chain])
                        position = chain[-1].position
                        self._at = position.revision
            except HistoryGoneError:
                position = await self._resync(session, position)
            finally:
                await changes.aclose()

    def _steps(self, position: Position, changes: Sequence[Change]) -> Iterator[Step]:
        for change in changes:
            if is_internal(change.key):
                continue
            message = message_of(change, self._store.cluster_id, position.generation)
            step = _step(change_subject(self._cluster, change.key), message, position.last_id)
            position = step.position
            yield step

    async def _resync(self, session: Session, position: Position) -> Position:
        revision, generation = self._store.revision, position.generation + 1
        log.warning("the change feed has a gap: %d to %d; it says RESYNC", position.revision, revision)
        marker = FeedMessage(revision, "RESYNC", self._store.cluster_id, generation, msgspec.Raw(b"null"))
        step = _step(resync_subject(self._cluster), marker, position.last_id)
        await session.publish_chain([step.message])
        return step.position


def message_of(change: Change, cluster_id: str, generation: int) -> FeedMessage:
    """What the feed says of a change."""
    stored = change.after or change.before
    assert stored is not None
    verb: Literal["ADDED", "MODIFIED", "DELETED"]
    verb = "DELETED" if change.after is None else "MODIFIED" if change.before is not None else "ADDED"
    json = stored.json
    if change.after is None:
        # A deletion shows the last state at the deletion's own revision, as a watch does.
        slot = stored.slot
        json = b"%b%d%b" % (json[:slot], change.revision, json[slot + len(str(stored.revision)) :])
    return FeedMessage(change.revision, verb, cluster_id, generation, msgspec.Raw(published(stored.key, json)))


def published(key: Key, json: bytes) -> bytes:
    """The object as outsiders may see it: of a Secret its type and its metadata without annotations."""
    if key.resource != SECRETS:
        return json
    secret = msgspec.json.decode(json, type=_Secret)
    hidden = ("annotations", "managedFields")
    secret.metadata = {name: value for name, value in secret.metadata.items() if name not in hidden}
    return msgspec.json.encode(secret)


def read_position(data: bytes, message_id: str) -> Position:
    """The position after the stream's last message; the beginning where that cannot be read."""
    try:
        last = msgspec.json.decode(data, type=FeedMessage)
    except msgspec.DecodeError:
        return Position(last_id=message_id)
    return Position(last.revision, last.generation, last.cluster, message_id)


def _step(subject: str, message: FeedMessage, previous_id: str) -> Step:
    message_id = f"{message.cluster}.{message.generation}.{message.revision}"
    headers = {api.Header.MSG_ID.value: message_id}
    if previous_id:
        headers[api.Header.EXPECTED_LAST_MSG_ID.value] = previous_id
    position = Position(message.revision, message.generation, message.cluster, message_id)
    return Step(Outgoing(subject, msgspec.json.encode(message), headers), position)


def _chains(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Steps in order, as many together as may be under way at once."""
    chain: list[Step] = []
    size = 0
    for step in steps:
        chain.append(step)
        size += len(step.message.payload)
        if len(chain) >= IN_FLIGHT or size >= IN_FLIGHT_BYTES:
            yield chain
            chain, size = [], 0
    if chain:
        yield chain


class _Secret(msgspec.Struct):
    """All of a Secret that leaves the cluster."""

    apiVersion: str
    kind: str
    metadata: dict[str, object]
    type: str = ""
