"""What the query of a stream asks for, the sizes of terminals, how a command ended."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from yarl import URL

from barque.api.errors import ApiError
from barque.master.apiserver.streams import options
from barque.master.apiserver.streams.idle import Idleness
from barque.master.apiserver.streams.processes import SUCCESS, Sizes, exit_status, status_bytes
from barque.proto import pods_pb2 as pb
from tests.support.clock import FakeClock, settle


def query(text: str) -> MultiDict[str]:
    return MultiDict(URL(f"http://x/?{text}").query)


def test_the_options_of_a_command() -> None:
    asked = options.process_options(query("container=a&command=ls&command=-l&command=&stdin=1&stdout=true&stderr"))
    assert asked == options.ProcessOptions("a", ("ls", "-l", ""), True, True, True, False)
    # A terminal has one output.
    assert options.process_options(query("stdout=1&stderr=1&tty=true")) == options.ProcessOptions(
        "", (), False, True, False, True
    )


def test_a_process_without_streams_is_refused() -> None:
    with pytest.raises(ApiError, match=r"^you must specify at least 1 of stdin, stdout, stderr$"):
        options.process_options(query("stdin=false&stdout=0"))


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("", {}),
        ("container=a&follow=true", {"container": "a", "follow": True}),
        ("previous=1&timestamps", {"previous": True, "timestamps": True}),
        ("tailLines=0&limitBytes=7", {"tail_lines": 0, "limit_bytes": 7}),
        ("sinceSeconds=5&stream=All", {"since_s": 5}),
        ("sinceTime=2026-01-01T00:00:00.5%2B02:00", {"since_time": "2026-01-01T00:00:00.5+02:00"}),
        ("stream=Stderr&insecureSkipTLSVerifyBackend=true", {"stream": "stderr"}),
        ("sinceTime=&tailLines=&unknown=x", {}),
    ],
)  # fmt: skip
def test_the_options_of_a_log(text: str, changed: dict[str, Any]) -> None:
    plain = {"namespace": "default", "pod": "web", "tail_lines": -1}
    assert options.log_request(query(text), "default", "web") == pb.LogsRequest(**(plain | changed))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tailLines=-1", "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("limitBytes=0", "limitBytes: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=0", "sinceSeconds: Invalid value: 0: must be greater than 0"),
        (
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
            "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        ("stream=out", 'stream: Unsupported value: "out": supported values: "All", "Stderr", "Stdout"'),
        (
            "stream=Stdout&tailLines=1",
            "Forbidden: `tailLines` and specific `stream` are mutually exclusive for now",
        ),
    ],
)
def test_a_log_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(ApiError) as refused:
        options.log_request(query(text), "default", "web")
    error = refused.value
    assert (error.code, error.message) == (422, f'PodLogOptions "web" is invalid: {words}')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tailLines=x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("sinceTime=noon", 'parsing time "noon" as "2006-01-02T15:04:05Z07:00": cannot parse "noon"'),
        ("sinceTime=2026-13-01T00:00:00Z", 'parsing time "2026-13-01T00:00:00Z" as "2006-01-02T15:04:05Z07:00": '),
    ],
)
def test_a_value_that_cannot_be_read_is_refused(text: str, words: str) -> None:
    with pytest.raises(ApiError) as refused:
        options.log_request(query(text), "default", "web")
    assert (refused.value.code, refused.value.message[: len(words)]) == (400, words)


def test_the_ports_of_a_port_forward() -> None:
    assert options.ports(query("ports=80,443&ports=8080")) == [80, 443, 8080]
    assert options.ports(query("port=1")) == [1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 'query parameter "port" is required'),
        ("ports=", 'unable to parse "" as a port'),
        ("ports=a", 'unable to parse "a" as a port'),
        ("ports=-1", 'unable to parse "-1" as a port'),
        ("ports=65536", 'unable to parse "65536" as a port'),
        ("ports=0", 'port "0" must be > 0'),
        ("ports=" + ",".join(["1"] * 128), "128 ports are more than 127"),
        ("ports=" + "1" * 5000, f'unable to parse "{"1" * 80}" as a port'),
    ],
)
def test_ports_that_are_none_are_refused(text: str, words: str) -> None:
    with pytest.raises(ApiError) as refused:
        options.ports(query(text))
    assert (refused.value.code, refused.value.message) == (400, words)


def test_protocols_are_chosen_by_the_clients_liking() -> None:
    served = ["v4.channel.k8s.io", "v3.channel.k8s.io", "channel.k8s.io"]
    assert options.spdy_protocol(["v5.channel.k8s.io", "v3.channel.k8s.io", "v4.channel.k8s.io"], served) == served[1]
    assert options.spdy_protocol(["x, channel.k8s.io"], served) == served[2]
    with pytest.raises(ApiError) as refused:
        options.spdy_protocol(["x", "y"], served)
    assert (refused.value.code, refused.value.message) == (
        403,
        "unable to upgrade: unable to negotiate protocol: client supports [x y], server accepts "
        "[v4.channel.k8s.io v3.channel.k8s.io channel.k8s.io]",
    )
    with pytest.raises(ApiError, match=r"^unable to upgrade: X-Stream-Protocol-Version is required$"):
        options.spdy_protocol([], served)


def test_sizes_come_in_any_pieces() -> None:
    said = b'{"Width":80,"Height":24}\n{"Width":100,"Height":50}{"width": 1, "height": 2}'
    for piece in range(1, len(said)):
        sizes = Sizes()
        found = [size for at in range(0, len(said), piece) for size in sizes.feed(said[at : at + piece])]
        assert found == [(80, 24), (100, 50), (1, 2)]


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_sizes_that_cannot_be_read_are_dropped(pieces: list[bytes]) -> None:
    sizes = Sizes()
    for piece in [*pieces, b'{"Width":0,"Height":1}', b"[" * 4000, b'{"Width":' + b"9" * 4000, b"}"]:
        assert sizes.feed(piece) == []
    sizes.feed(b"x" * 5000)
    assert len(sizes._text) <= 5000


def test_how_a_command_ended() -> None:
    assert exit_status(0) == SUCCESS
    assert msgspec.json.decode(status_bytes(exit_status(7), as_json=True)) == {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code: command terminated with exit code 7",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "7"}]},
    }
    assert msgspec.json.decode(status_bytes(SUCCESS, as_json=True))["status"] == "Success"
    # Before v4: failures alone, in words.
    assert status_bytes(exit_status(7), as_json=False).startswith(b"command terminated with non-zero exit code")
    assert status_bytes(SUCCESS, as_json=False) == b""


async def test_what_is_idle_for_too_long_ends_and_a_sign_of_life_puts_it_off() -> None:
    clock, ended = FakeClock(), []

    async def session() -> None:
        try:
            await FakeClock().sleep(1)
        finally:
            ended.append(clock.monotonic())

    idleness = Idleness(clock, 100)
    running = asyncio.create_task(idleness.run(session()))
    await clock.advance(90)
    idleness.touch()
    await clock.advance(90)
    assert not running.done()
    await clock.advance(20)
    await settle()
    assert running.done()
    assert ended == [190]
