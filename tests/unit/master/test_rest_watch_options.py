"""What a watch's query asks for, and what Kubernetes says of queries that make no sense."""

import random

import pytest

from barque.api.errors import ApiError
from barque.client.verbs import Selection
from barque.master.apiserver.rest import compression
from barque.master.apiserver.rest.watch_options import WatchOptions, named_target, watch_options
from tests.support.memory_store import target

INITIAL = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
PREFIX = 'ListOptions.meta.k8s.io "" is invalid: '


def read(**query: str) -> WatchOptions:
    return watch_options(query, random.Random(1))


def test_where_a_watch_begins() -> None:
    assert (read().since, read().at_once, read().initial) == (0, False, True)
    zero = read(resourceVersion="0")
    assert (zero.since, zero.at_once, zero.initial) == (0, True, True)
    later = read(resourceVersion="7")
    assert (later.since, later.at_once, later.initial) == (7, False, False)


def test_initial_events_are_sent_or_left_out_as_is_said() -> None:
    said = read(**INITIAL, resourceVersion="7", allowWatchBookmarks="true")
    assert (said.since, said.initial, said.marks_initial, said.bookmarks) == (7, True, True, True)
    assert not read(**INITIAL).marks_initial
    none = read(sendInitialEvents="false", resourceVersionMatch="NotOlderThan")
    assert (none.since, none.initial) == (0, False)


def test_a_watch_lasts_as_long_as_it_says_else_half_an_hour_to_an_hour() -> None:
    assert read(timeoutSeconds="5").timeout_s == 5
    assert read(timeoutSeconds="-5").timeout_s == 0
    assert read(timeoutSeconds="9999999").timeout_s == 86400
    lasts = {watch_options({}, random.Random(n)).timeout_s for n in range(50)}
    assert len(lasts) == 50
    assert min(lasts) >= 1800
    assert max(lasts) <= 3600


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (
            {"sendInitialEvents": "true"},
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            {"resourceVersionMatch": "NotOlderThan", "resourceVersion": "3"},
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is "
            "provided",
        ),
        (
            {"sendInitialEvents": "false", "resourceVersionMatch": "Exact"},
            "[resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to "
            'NotOlderThan, resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan"]',
        ),
        (
            {**INITIAL, "continue": "x"},
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
        ),
    ],
)
def test_options_that_do_not_go_together(query: dict[str, str], why: str) -> None:
    with pytest.raises(ApiError) as refused:
        read(**query)
    assert (refused.value.code, refused.value.message) == (422, PREFIX + why)


@pytest.mark.parametrize("query", [{"timeoutSeconds": "soon"}, {"resourceVersion": "new"}])
def test_words_that_cannot_be_read(query: dict[str, str]) -> None:
    with pytest.raises(ApiError) as refused:
        read(**query)
    assert refused.value.code == 400


def test_a_watch_of_one_name_is_one_of_that_object() -> None:
    pods = target("pods")
    assert named_target(pods, Selection(fields="metadata.name=web")).name == "web"
    assert named_target(pods, Selection(fields="metadata.name!=web")).name == ""
    web = pods._replace(name="web")
    assert named_target(web, Selection(fields="metadata.name=web")) == web
    with pytest.raises(ApiError, match="doesn't match requested name"):
        named_target(web, Selection(fields="metadata.name=api"))


@pytest.mark.parametrize(
    ("header", "taken"),
    [("gzip", True), ("deflate, gzip", True), ("", False), ("br", False), ("gzip;q=0", False), ("xgzip", False)],
)
def test_who_takes_gzip(header: str, taken: bool) -> None:
    assert compression.takes_gzip(header) is taken
