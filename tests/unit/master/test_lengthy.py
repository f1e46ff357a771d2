"""Large bodies: their work is done beside the loop, fairly between users, and costs no more than its size warrants."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from barque.api.patch import strategic_merge
from barque.api.selectors import Labels, Requirement, parse_labels
from barque.api.types.core_v1 import Pod
from barque.client.verbs import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, WriteOptions
from barque.master.apiserver import applying, creation, modification, patching
from barque.master.apiserver.lengthy import AT_ONCE_BYTES, LengthyWork
from barque.master.apiserver.portions import portions
from barque.master.apiserver.rest import bodies
from barque.master.apiserver.rest.call import RestCall
from barque.master.apiserver.rest.protobuf import decoding
from barque.master.apiserver.rest.request_info import request_info
from barque.master.auth.identity import User
from tests.support.memory_store import a_bench, refusal, target

LARGE = {f"key-{number}": "x" * 20 for number in range(1000)}
PLACE = "/api/v1/namespaces/default/configmaps"
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}}


async def test_little_work_is_done_at_once_and_much_beside_the_loop() -> None:
    work = LengthyWork()
    here = threading.get_ident()
    assert await work.do("a", AT_ONCE_BYTES - 1, threading.get_ident) == here
    beside = await work.do("a", AT_ONCE_BYTES, threading.get_ident)
    assert beside != here
    assert await work.do("b", AT_ONCE_BYTES, threading.get_ident) == beside


async def test_each_user_has_one_turn_at_a_time() -> None:
    work, done = LengthyWork(), list[str]()
    sent = ["a1", "a2", "a3", "b1", "c1", "b2"]

    async def do(name: str) -> None:
        await work.do(name[0], AT_ONCE_BYTES, lambda: done.append(name))

    await asyncio.gather(*map(do, sent))
    assert done[:3] == ["a1", "b1", "c1"]
    assert sorted(done) == sorted(sent)
    assert work._turns == {}


async def test_who_left_while_waiting_is_passed_over() -> None:
    work, done, free = LengthyWork(), list[str](), threading.Event()
    first = asyncio.ensure_future(work.do("a", AT_ONCE_BYTES, lambda: free.wait(60)))
    left = asyncio.ensure_future(work.do("b", AT_ONCE_BYTES, lambda: done.append("left")))
    stays = asyncio.ensure_future(work.do("c", AT_ONCE_BYTES, lambda: done.append("stays")))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.sleep(0)
    free.set()
    await asyncio.gather(first, stays)
    assert done == ["stays"]
    assert work._turns == {}


class Body:
    """Something that can be seen to be gone."""


async def test_what_a_refused_body_was_made_into_is_freed_beside_the_loop() -> None:
    gone: list[int] = []

    def work() -> None:
        body = Body()
        weakref.finalize(body, lambda: gone.append(threading.get_ident()))
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused") as refused:
        await LengthyWork().do("a", AT_ONCE_BYTES, work)
    assert gone
    assert gone != [threading.get_ident()]
    assert refused.value.__traceback__ is not None


async def test_of_very_many_faults_as_many_are_told_as_somebody_may_read() -> None:
    bench = await a_bench()
    few, many = ({f"/{number}": "" for number in range(count)} for count in (500, 20_000))
    refused = await refusal(bench.admin.create(target("configmaps"), msgspec.json.encode({**CONFIG, "data": few})))
    assert refused.details is not None
    assert len(refused.details.causes) == refused.message.count("Invalid value") == 500
    refused = await refusal(bench.admin.create(target("configmaps"), msgspec.json.encode({**CONFIG, "data": many})))
    assert refused.details is not None
    told = len(refused.details.causes)
    assert 500 < told < 20_000
    assert refused.message.count("Invalid value") == told
    assert refused.message.endswith(f", and {20_000 - told} more]")
    assert len(msgspec.json.encode(refused.status())) < 1024 * 1024


def a_call(user: str, media_type: str, body: bytes) -> RestCall:
    content = StreamReader(cast(Any, BaseProtocol(asyncio.get_running_loop())), 2**20)
    content.feed_data(body)
    content.feed_eof()
    request = make_mocked_request("POST", PLACE, {"Content-Type": media_type, "Content-Length": "1"}, payload=content)
    return RestCall(request, request_info("POST", PLACE), User(user))


@pytest.mark.parametrize("media_type", ["application/yaml", decoding.MEDIA_TYPE])
async def test_bodies_in_other_forms_take_turns_as_well(media_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read before anybody is asked whether their sender may do anything."""
    seen: list[int] = []

    def noted(*_: object) -> bytes:
        seen.append(threading.get_ident())
        return b"{}"

    monkeypatch.setattr(bodies, "_json_of", noted)
    monkeypatch.setattr(decoding, "json_of", noted)
    work = LengthyWork()
    thread = await work.do("x", AT_ONCE_BYTES, threading.get_ident)
    calls = [a_call(user, media_type, b"x" * AT_ONCE_BYTES) for user in ("a", "a", "b")]
    await asyncio.gather(*(bodies.read_object(call, work) for call in calls))
    assert seen == [thread] * 3


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Whether the costly steps were done beside the loop, by name."""
    seen: dict[str, bool] = {}
    loop = threading.get_ident()

    def note(module: Any, name: str) -> None:
        step: Callable[..., Any] = getattr(module, name)

        def noted(*args: Any, **named: Any) -> Any:
            seen[name] = threading.get_ident() != loop
            return step(*args, **named)

        monkeypatch.setattr(module, name, noted)

    for module, name in (
        (creation, "decode_object"), (creation, "validate"), (creation, "put"), (creation, "track_update"),
        (modification, "validate_update"), (modification, "put"), (modification, "decode_object"),
        (patching, "convert_patched"), (patching, "track_update"),
        (patching, "apply_configuration"), (applying, "parse_configuration"),
    ):  # fmt: skip
        note(module, name)
    return seen


@pytest.mark.parametrize("data", [LARGE, {"a": "b"}], ids=["large", "small"])
async def test_every_write_of_a_large_body_leaves_the_loop_alone(
    threads: dict[str, bool], data: dict[str, str]
) -> None:
    bench = await a_bench()
    large = data is LARGE
    body = msgspec.json.encode({**CONFIG, "data": data})
    await bench.admin.create(target("configmaps"), body)
    assert threads == dict.fromkeys(("decode_object", "validate", "put", "track_update"), large)
    threads.clear()
    await bench.admin.update(target("configmaps", "a"), msgspec.json.encode({**CONFIG, "data": {**data, "b": "c"}}))
    assert threads == dict.fromkeys(("decode_object", "validate_update", "put"), large)
    patches: list[tuple[str, Any]] = [
        (JSON_PATCH, [{"op": "add", "path": "/data/c", "value": "d"}]),
        (MERGE_PATCH, {"data": {"d": "e"}}),
        (STRATEGIC_MERGE_PATCH, {"data": {"e": "f"}}),
    ]
    for kind, patch in patches:
        threads.clear()
        # A few bytes, but the object that they change is large.
        await bench.admin.patch(target("configmaps", "a"), kind, msgspec.json.encode(patch))
        assert threads == dict.fromkeys(("convert_patched", "validate_update", "track_update", "put"), large)
    for name, step in (("a", "validate_update"), ("b", "validate")):
        threads.clear()
        applied = msgspec.json.encode({**CONFIG, "metadata": {"name": name, "namespace": "default"}, "data": data})
        options = WriteOptions(field_manager="me", force=True)
        await bench.admin.patch(target("configmaps", name), APPLY_PATCH, applied, options)
        assert threads == dict.fromkeys(("parse_configuration", "apply_configuration", step, "put"), large)


async def test_a_hundred_unknown_fields_are_told_and_no_more() -> None:
    bench = await a_bench()
    body = msgspec.json.encode({**CONFIG, **{f"field{number}": 0 for number in range(5000)}})
    warnings: list[str] = []
    verbs = bench.registry.as_user(bench.admin._user, warnings)
    await verbs.create(target("configmaps"), body, WriteOptions(field_validation="Warn"))
    assert warnings == [f'unknown field "field{number}"' for number in range(100)]
    refused = await refusal(verbs.create(target("configmaps"), body, WriteOptions(field_validation="Strict")))
    assert refused.code == 400
    assert refused.message.count("unknown field") == 100


class Counted(str):
    """A text that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        return str.__hash__(self)


def test_a_strategic_patch_looks_elements_up() -> None:
    def pod(count: int, image: str) -> dict[str, Any]:
        return {"spec": {"containers": [{"name": Counted(f"c{n}"), "image": image} for n in range(count)]}}

    Counted.compared = 0
    merged = strategic_merge(Pod, pod(300, "old"), pod(300, "new"))
    assert merged == pod(300, "new")
    assert Counted.compared < 300 * 20


def test_a_selector_of_many_values_looks_them_up() -> None:
    values = [Counted(f"v{number}") for number in range(500)]
    for operator, inside in (("In", True), ("NotIn", False)):
        labels = Labels((Requirement("a", operator, tuple(values)),))
        assert labels.matches({"a": "v499"}) is inside
        Counted.compared = 0
        for _ in range(10):
            assert labels.matches({"a": "none"}) is not inside
            assert labels.matches({}) is not inside
        assert Counted.compared < 50
    assert parse_labels(f"a in ({','.join(values)})") == parse_labels(f"a in ({','.join(reversed(values))})")


def test_portions_are_bounded_in_number_and_bytes() -> None:
    items = [b"x"] * 5 + [b"x" * 100] + [b"x" * 4] * 5
    assert [[len(item) for item in portion] for portion in portions(items, len, 3, 10)] == [
        [1, 1, 1], [1, 1], [100], [4, 4], [4, 4], [4],
    ]  # fmt: skip
    assert list(portions([], len, 3, 10)) == []
