"""Pages of a list and the revisions one may ask for, as Kubernetes' ListOptions have them."""

import asyncio
import base64
from typing import Any

import msgspec
import pytest

from barque.client.verbs import Page, RawList, Selection
from tests.support.memory_store import Bench, a_bench, refusal, target

CONFIGS = target("configmaps")
EVERYWHERE = target("configmaps", "", "")


async def with_configs(*names: str, namespace: str = "default") -> Bench:
    bench = await a_bench()
    await add(bench, *names, namespace=namespace)
    return bench


async def add(bench: Bench, *names: str, namespace: str = "default") -> None:
    for name in names:
        await bench.create("configmaps", {"metadata": {"name": name, "labels": {"app": name[0]}}}, namespace)


def names(listed: RawList) -> list[str]:
    return [msgspec.json.decode(item)["metadata"]["name"] for item in listed.items]


def token(**parts: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


async def test_all_pages_are_of_the_first_one_s_revision() -> None:
    bench = await with_configs("a", "b", "c", "d", "e")
    first = await bench.admin.list(CONFIGS, page=Page(limit=2))
    assert (names(first), first.remaining) == (["a", "b"], 3)
    await bench.delete("configmaps", "c")
    await bench.patch("configmaps", "d", {"data": {"new": "yes"}})
    await add(bench, "bb", "f")
    second = await bench.admin.list(CONFIGS, page=Page(limit=2, continue_=first.continue_))
    assert (names(second), second.remaining) == (["c", "d"], 1)
    assert b"new" not in second.items[1]
    last = await bench.admin.list(CONFIGS, page=Page(limit=2, continue_=second.continue_))
    assert (names(last), last.continue_, last.remaining) == (["e"], "", None)
    assert {first.resource_version, second.resource_version, last.resource_version} == {first.resource_version}
    # The rest may be asked for at once, and by another limit.
    rest = await bench.admin.list(CONFIGS, page=Page(continue_=first.continue_))
    assert names(rest) == ["c", "d", "e"]


async def test_a_page_that_holds_everything_is_the_last() -> None:
    bench = await with_configs("a", "b")
    for limit in (0, 2, 3, -1):
        listed = await bench.admin.list(CONFIGS, page=Page(limit=limit))
        assert (names(listed), listed.continue_, listed.remaining) == (["a", "b"], "", None)
    empty = await bench.admin.list(target("secrets"), page=Page(limit=1))
    assert (empty.items, empty.continue_) == ([], "")


async def test_pages_go_through_all_namespaces() -> None:
    bench = await with_configs("x", "y")
    await add(bench, "a", namespace="kube-public")
    seen, page = [], Page(limit=1)
    while True:
        listed = await bench.admin.list(EVERYWHERE, page=page)
        seen += names(listed)
        if not listed.continue_:
            break
        page = Page(limit=1, continue_=listed.continue_)
    assert seen == ["x", "y", "a"]


async def test_with_a_selector_nobody_counts_the_rest() -> None:
    bench = await with_configs("a1", "b1", "a2", "b2", "a3")
    selection = Selection("app=a")
    first = await bench.admin.list(CONFIGS, selection, Page(limit=2))
    assert (names(first), first.remaining) == (["a1", "a2"], None)
    last = await bench.admin.list(CONFIGS, selection, Page(limit=2, continue_=first.continue_))
    assert (names(last), last.continue_) == (["a3"], "")
    by_field = await bench.admin.list(CONFIGS, Selection(fields="metadata.name!=a1"), Page(limit=1))
    assert (names(by_field), by_field.remaining) == (["a2"], None)
    assert by_field.continue_


async def test_a_token_outlived_by_its_history_says_how_to_go_on() -> None:
    bench = await with_configs("a", "b", "c")
    first = await bench.admin.list(CONFIGS, page=Page(limit=1))
    await bench.delete("configmaps", "b")
    await add(bench, "d")
    bench.store._hub.reset(bench.store.revision)
    gone = await refusal(bench.admin.list(CONFIGS, page=Page(limit=1, continue_=first.continue_)))
    assert (gone.code, gone.reason) == (410, "Expired")
    assert gone.message.startswith("The provided continue parameter is too old to display a consistent list result.")
    assert gone.status().metadata.continue_ == gone.continue_
    rest = await bench.admin.list(CONFIGS, page=Page(continue_=gone.continue_))
    assert (names(rest), rest.resource_version) == (["c", "d"], str(bench.store.revision))


async def test_an_exact_revision_is_the_state_as_it_was() -> None:
    bench = await with_configs("a", "b")
    then = str(bench.store.revision)
    await bench.delete("configmaps", "a")
    await add(bench, "c")
    listed = await bench.admin.list(CONFIGS, page=Page(resource_version=then, match="Exact"))
    assert (names(listed), listed.resource_version) == (["a", "b"], then)
    # With a limit and without a match a revision is meant exactly, as it was before there were matches.
    first = await bench.admin.list(CONFIGS, page=Page(limit=1, resource_version=then))
    assert (names(first), first.resource_version) == (["a"], then)
    bench.store._hub.reset(bench.store.revision)
    gone = await refusal(bench.admin.list(CONFIGS, page=Page(resource_version=then, match="Exact")))
    assert (gone.code, gone.reason) == (410, "Expired")
    assert gone.message == "The resourceVersion for the provided list is too old."


@pytest.mark.parametrize("page", [Page(resource_version="3"), Page(resource_version="3", match="NotOlderThan"), Page(resource_version="0"), Page(1000, "", "0", "NotOlderThan"), Page(1000, "", "3", "NotOlderThan")])  # fmt: skip  # noqa: E501
async def test_any_other_revision_is_a_lower_bound(page: Page) -> None:
    bench = await with_configs("a", "b")
    listed = await bench.admin.list(CONFIGS, page=page)
    assert (names(listed), listed.resource_version) == (["a", "b"], str(bench.store.revision))


@pytest.mark.parametrize("match", ["", "Exact", "NotOlderThan"])
async def test_a_revision_that_does_not_come_is_504_with_when_to_ask_again(match: Any) -> None:
    bench = await with_configs("a")
    wanted = str(bench.store.revision + 5)
    asked = asyncio.ensure_future(refusal(bench.admin.list(CONFIGS, page=Page(resource_version=wanted, match=match))))
    await bench.clock.advance(3.1)
    refused = await asked
    assert (refused.code, refused.reason) == (504, "Timeout")
    current = bench.store.revision
    assert refused.message == f"Timeout: Too large resource version: {wanted}, current: {current}"
    assert refused.details is not None
    assert refused.details.retryAfterSeconds == 1
    assert [cause.reason for cause in refused.details.causes] == ["ResourceVersionTooLarge"]


async def test_a_revision_that_comes_in_time_is_waited_for() -> None:
    bench = await with_configs("a")
    wanted = str(bench.store.revision + 1)
    asked = asyncio.ensure_future(bench.admin.list(CONFIGS, page=Page(resource_version=wanted)))
    await asyncio.sleep(0)
    await add(bench, "b")
    assert names(await asked) == ["a", "b"]


@pytest.mark.parametrize(
    ("page", "code", "words"),
    [
        (Page(match="Exact"), 422, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        (Page(1, "x", "", "NotOlderThan"), 422, "resourceVersionMatch is forbidden when continue is provided"),
        (Page(0, "", "1", "Newest"), 422, 'Unsupported value: "Newest": supported values: "Exact", "NotOlderThan", ""'),  # type: ignore[arg-type]
        (Page(0, "", "0", "Exact"), 422, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'),
        (Page(1, "x", "5"), 400, "specifying resource version is not allowed when using continue"),
        (Page(0, "", "abc"), 400, 'resourceVersion: Invalid value: "abc": must be a resource version of this cluster'),
        (Page(0, "", "-1"), 400, "must be a resource version"),
        (Page(0, "", "9" * 30), 400, "must be a resource version"),
        (Page(1, "ä"), 400, "continue key is not valid"),
        (Page(1, "%%%"), 400, "continue key is not valid"),
        (Page(1, token(v="meta.k8s.io/v9", rv=1, start="default/a")), 400, "does not recognize this encoded version"),
        (Page(1, token(v="meta.k8s.io/v1", rv=0, start="default/a")), 400, "incorrect encoded start resourceVersion"),
        (Page(1, token(v="meta.k8s.io/v1", rv=1)), 400, "encoded start key empty"),
        (Page(1, token(v="meta.k8s.io/v1", rv=1, start="kube-system/a")), 400, "continue key is not valid"),
        (Page(1, token(v="meta.k8s.io/v1", rv=1, start="a")), 400, "continue key is not valid"),
        (Page(1, token(v="meta.k8s.io/v1", rv=1, start="../../a")), 400, "continue key is not valid"),
    ],
)
async def test_what_cannot_be_asked(page: Page, code: int, words: str) -> None:
    bench = await with_configs("a")
    refused = await refusal(bench.admin.list(CONFIGS, page=page))
    assert refused.code == code
    assert words in refused.message


async def test_a_token_of_a_revision_to_come_is_no_token() -> None:
    bench = await with_configs("a")
    page = Page(1, token(v="meta.k8s.io/v1", rv=bench.store.revision + 9, start="default/a"))
    refused = await refusal(bench.admin.list(CONFIGS, page=page))
    assert (refused.code, refused.reason) == (400, "BadRequest")


async def test_get_takes_a_lower_bound_too() -> None:
    bench = await with_configs("a")
    assert await bench.admin.get(target("configmaps", "a"), "1") == await bench.admin.get(target("configmaps", "a"))
    assert (await refusal(bench.admin.get(target("configmaps", "a"), "x"))).code == 400
    asked = asyncio.ensure_future(refusal(bench.admin.get(target("configmaps", "a"), "99")))
    await bench.clock.advance(3.1)
    assert (await asked).code == 504
