"""What a stream is made or changed to, and whose it is."""

from __future__ import annotations

import pytest
from nats.js import api

from barque.master.bus.streams import OWNER, ForeignStreamError, Streams

WANTED = api.StreamConfig(name="S", subjects=["s.>"])


def copies(streams: Streams, present: int | None) -> list[int | None]:
    found = api.StreamConfig(name="S", num_replicas=present) if present is not None else None
    return [config.num_replicas for config in streams.choices(WANTED, found)]


def test_in_the_masters_servers_there_are_as_many_copies_as_wanted_or_as_can_be_had() -> None:
    assert copies(Streams(lambda: 3), None) == [3, 2, 1]
    assert copies(Streams(lambda: 1), 3) == [1]


def test_in_a_nats_of_the_users_copies_are_only_added() -> None:
    assert copies(Streams(lambda: 1, "ours"), 3) == [3, 2, 1]
    assert copies(Streams(lambda: 3, "ours"), 1) == [3, 2, 1]


def test_there_a_stream_says_whose_it_is() -> None:
    assert [config.metadata for config in Streams(lambda: 1, "ours").choices(WANTED, None)] == [{OWNER: "ours"}]
    assert [config.metadata for config in Streams(lambda: 1).choices(WANTED, None)] == [None]


def test_only_the_streams_of_a_server_alone_do_not_last() -> None:
    """How a stream is synced cannot be changed when it is to have more copies; there it is made anew."""
    assert [Streams(lambda: 1).lasting, Streams(lambda: 3).lasting, Streams(lambda: 1, "ours").lasting] == [
        False, True, True,
    ]  # fmt: skip


def test_what_cannot_be_changed_stays_as_it_is() -> None:
    found = api.StreamConfig(name="S", first_seq=7, persist_mode=api.PersistMode.ASYNC)
    (config,) = Streams(lambda: 1).choices(WANTED, found)
    assert (config.first_seq, config.persist_mode) == (7, api.PersistMode.ASYNC)


@pytest.mark.parametrize("metadata", [None, {}, {OWNER: "ours"}, {"of": "others"}])
def test_our_own_stream_is_used(metadata: dict[str, str] | None) -> None:
    Streams(lambda: 1, "ours").check("S", metadata)
    Streams(lambda: 1).check("S", {OWNER: "theirs"})


def test_another_clusters_stream_is_not() -> None:
    with pytest.raises(ForeignStreamError, match=r"^the stream S is that of another cluster \(theirs\)"):
        Streams(lambda: 1, "ours").check("S", {OWNER: "theirs"})
