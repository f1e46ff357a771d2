"""`barque feed`: what is printed of the feed, where it goes on, and which subjects are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest
from click.testing import Result

from barque.api.errors import ApiError, expired, unavailable
from barque.client import wire
from barque.proto import feed_pb2
from tests.support.registry_cluster import RegistryCluster, run

Batch = Sequence[tuple[int, str, dict[str, Any]]]
LOST, GONE = unavailable("the connection broke"), expired("what came after 6 is not kept any more")
REFUSED = ApiError(403, "Forbidden", "not allowed")
POD, NODE = "core.pods.default.web-1", "core.nodes._.n1"


class Feed:
    """The service as a master serves it: each call sends the next script of batches, then breaks or is refused."""

    def __init__(self, *scripts: Sequence[Batch | ApiError]) -> None:
        self._scripts = list(scripts)
        self.asked: list[tuple[str, int]] = []

    def Follow(self, request: feed_pb2.FollowRequest) -> Call:
        self.asked.append((request.subject, request.after))
        if not self._scripts:
            raise KeyboardInterrupt
        return Call(self._scripts.pop(0))


class Call:
    def __init__(self, script: Sequence[Batch | ApiError]) -> None:
        self._script = script

    async def __aiter__(self) -> AsyncIterator[feed_pb2.FeedBatch]:
        for step in self._script:
            if isinstance(step, ApiError):
                carried = grpc.aio.Metadata(*wire.status_metadata(step))
                raise grpc.aio.AioRpcError(grpc.StatusCode.UNKNOWN, grpc.aio.Metadata(), carried)
            entries = [
                feed_pb2.FeedEntry(sequence=sequence, subject=subject, message=msgspec.json.encode(message))
                for sequence, subject, message in step
            ]
            yield feed_pb2.FeedBatch(entries=entries, sequence=entries[-1].sequence if entries else 40)

    def cancel(self) -> None: ...


def change(sequence: int, subject: str, verb: str, revision: int) -> tuple[int, str, dict[str, Any]]:
    about = None if verb == "RESYNC" else {"metadata": {"name": "x"}}
    message = {"revision": revision, "verb": verb, "cluster": "c", "generation": 1, "object": about}
    return sequence, subject, message


def followed(*arguments: str, feed: Feed) -> Result:
    cluster = RegistryCluster()
    cluster.feed = feed
    return run(cluster, "feed", *arguments)


def test_a_line_for_each_change_over_broken_calls() -> None:
    feed = Feed(
        [[], [change(41, POD, "ADDED", 7), change(42, NODE, "MODIFIED", 8)], LOST],
        [[change(43, "RESYNC", "RESYNC", 9), change(44, "apps.deployments.a.b%2Ec", "DELETED", 10)]],
    )
    result = followed(feed=feed)
    assert result.stdout == (
        "7           ADDED     pods  default/web-1\n"
        "8           MODIFIED  nodes  n1\n"
        "9           RESYNC    changes up to this revision are missing: read the state again\n"
        "10          DELETED   deployments.apps  a/b.c\n"
    )
    assert feed.asked == [(">", 0), (">", 42), (">", 44)]
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (130, "go on with: barque feed '>' --after 44")


def test_so_many_whole_messages_after_a_sequence() -> None:
    first, second = change(6, POD, "ADDED", 7), change(8, POD, "DELETED", 8)
    feed = Feed([[first], [second, change(9, POD, "ADDED", 9)]])
    result = followed("core.pods.>", "-o", "json", "--count", "2", "--after", "5", feed=feed)
    read = [msgspec.json.decode(line) for line in result.stdout.splitlines()]
    assert read == [{"sequence": at, **message} for at, _, message in (first, second)]
    assert (result.exit_code, result.stderr) == (0, "go on with: barque feed 'core.pods.>' --after 8\n")
    assert feed.asked == [("core.pods.>", 5)]


def test_what_went_missing_meanwhile_is_said_and_what_was_asked_for_and_is_gone_ends_it() -> None:
    begun = Feed([[change(6, POD, "ADDED", 7)], LOST], [GONE])
    result = followed(feed=begun)
    assert f"RESYNC: {GONE.message}; what follows is what comes from now on\n" in result.stderr
    assert [after for _, after in begun.asked] == [0, 6, 0]
    asked = followed("--after", "5", feed=Feed([GONE]))
    assert (asked.exit_code, asked.stdout) == (1, "")
    assert f"Error from server (Expired): {GONE.message}\n" in asked.stderr


def test_who_may_not_watch_is_told() -> None:
    result = followed(feed=Feed([REFUSED]))
    assert (result.exit_code, result.stderr) == (1, "Error from server (Forbidden): not allowed\n")


@pytest.mark.parametrize("subject", ["core.events.>", "foo.bar.>", "core.pods.a.b.c", "core.pods._.x", "core..>", ""])
def test_a_subject_that_never_matches_is_refused(subject: str) -> None:
    feed = Feed()
    result = followed(subject, feed=feed)
    assert result.stderr.startswith(f'error: the subject "{subject}" is invalid: ')
    assert (result.exit_code, feed.asked) == (1, [])
