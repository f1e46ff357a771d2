"""Which reads wait for what all masters know, and which are answered by one that is alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from barque.api.errors import ApiError
from barque.client.verbs import MERGE_PATCH, Create, Page, Selection, Write
from barque.master.store.port import StoreUnavailableError
from tests.support.memory_store import Bench, a_bench, node_user, refusal, target

SPEC = {"containers": [{"name": "main", "image": "web:1"}]}
ALONE = StoreUnavailableError("no leader: 1 of 3 masters answer")


class Barriers:
    """Counts the barriers of a store; `catch_up` runs in the next one: what this master did not know until then."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.catch_up: Callable[[], Awaitable[object]] | None = None
        original = bench.store.barrier

        async def barrier() -> int:
            self.count += 1
            hook, self.catch_up = self.catch_up, None
            if hook is not None:
                await hook()
            return await original()

        monkeypatch.setattr(bench.store, "barrier", barrier)


@pytest.fixture
async def bench() -> Bench:
    bench = await a_bench()
    await bench.create("pods", {"metadata": {"name": "a"}, "spec": SPEC})
    return bench


@pytest.fixture
def barriers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Barriers:
    return Barriers(bench, monkeypatch)


def reads(bench: Bench, version: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    pods = target("pods")
    return {
        "get": lambda: bench.admin.get(target("pods", "a"), version),
        "list": lambda: bench.admin.list(pods, page=Page(resource_version=version)),
        "table": lambda: bench.admin.table(pods, page=Page(resource_version=version)),
        "selected": lambda: bench.admin.list(pods, Selection("app=a"), Page(5, resource_version=version)),
        "watch": lambda: anext(bench.admin.watch(pods, resource_version=version)),
    }


READS = ["get", "list", "table", "selected", "watch"]


@pytest.mark.parametrize("read", READS)
async def test_a_read_waits_once_for_what_everyone_knows(bench: Bench, barriers: Barriers, read: str) -> None:
    await reads(bench, "")[read]()
    assert barriers.count == 1


@pytest.mark.parametrize("read", READS)
async def test_without_a_quorum_a_read_is_refused_in_words_unless_old_data_will_do(bench: Bench, read: str) -> None:
    bench.store.failure = ALONE
    refused = await refusal(reads(bench, "")[read]())
    assert (refused.code, refused.message) == (503, "no leader: 1 of 3 masters answer")
    assert refused.details is not None
    assert refused.details.retryAfterSeconds == 1
    await reads(bench, "0")[read]()


async def test_a_read_of_a_revision_that_is_here_needs_no_other_master(bench: Bench) -> None:
    bench.store.failure = ALONE
    version = str(bench.store.revision)
    assert b'"a"' in await bench.admin.get(target("pods", "a"), version)
    for match in ("NotOlderThan", "Exact"):
        listed = await bench.admin.list(target("pods"), page=Page(resource_version=version, match=match))
        assert listed.resource_version == version


async def test_the_pages_of_old_data_need_no_other_master(bench: Bench) -> None:
    await bench.create("pods", {"metadata": {"name": "b"}, "spec": SPEC})
    bench.store.failure = ALONE
    first = await bench.admin.list(target("pods"), page=Page(1, resource_version="0"))
    second = await bench.admin.list(target("pods"), page=Page(1, first.continue_, resource_version="0"))
    assert [msgspec.json.decode(item)["metadata"]["name"] for item in (*first.items, *second.items)] == ["a", "b"]


async def test_a_write_that_its_compares_guard_waits_for_nobody(bench: Bench, barriers: Barriers) -> None:
    await bench.create("configmaps", {"metadata": {"name": "c"}})
    await bench.patch("configmaps", "c", {"data": {"k": "v"}})
    await bench.delete("configmaps", "c")
    assert barriers.count == 0


async def test_a_refusal_is_only_told_on_the_current_state(bench: Bench, barriers: Barriers) -> None:
    """The object was made through another master a moment ago, and this one does not have it yet."""

    async def arrives() -> None:
        await bench.create("configmaps", {"metadata": {"name": "c"}})

    barriers.catch_up = arrives
    assert (await bench.patch("configmaps", "c", {"data": {"k": "v"}}))["data"] == {"k": "v"}
    barriers.count = 0
    missing = await refusal(bench.patch("configmaps", "missing", {}, kind=MERGE_PATCH))
    assert (missing.code, barriers.count) == (404, 1)


async def test_an_answer_without_a_write_is_of_the_current_state(bench: Bench, barriers: Barriers) -> None:
    await bench.create("configmaps", {"metadata": {"name": "c"}, "data": {"k": "v"}})

    async def changes() -> None:
        await bench.update("configmaps", {"metadata": {"name": "c"}, "data": {"k": "other"}})

    barriers.catch_up = changes
    assert (await bench.patch("configmaps", "c", {"data": {"k": "v"}}))["data"] == {"k": "v"}
    assert (await bench.get("configmaps", "c"))["data"] == {"k": "v"}


async def test_bad_input_is_refused_without_a_quorum_too(bench: Bench) -> None:
    bench.store.failure = ALONE
    assert (await refusal(bench.create("configmaps", b"{"))).code == 400
    assert (await refusal(bench.create("configmaps", {"metadata": {"name": "c"}}))).code == 503


async def test_a_batch_is_refused_one_by_one(bench: Bench) -> None:
    bench.store.failure = ALONE
    writes: list[Write] = [Create(target("configmaps"), b'{"metadata":{"name":"c"}}') for _ in range(2)]
    answers = await bench.admin.batch(writes)
    assert [answer.code if isinstance(answer, ApiError) else 0 for answer in answers] == [503, 503]


async def test_a_worker_is_denied_only_on_the_current_state(bench: Bench, barriers: Barriers) -> None:
    """Its pod was bound to it a moment ago, through another master."""

    async def bound() -> None:
        await bench.bind("a", "n1")

    barriers.catch_up = bound
    worker = bench.registry.as_user(node_user("n1"))
    assert msgspec.json.decode(await worker.get(target("pods", "a")))["spec"]["nodeName"] == "n1"
    stranger = bench.registry.as_user(node_user("n2"))
    assert (await refusal(stranger.get(target("pods", "a")))).code == 403
