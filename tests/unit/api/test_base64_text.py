"""Base64 in objects: taken as Go takes it, kept in one form, refused with the place that Go names."""

from __future__ import annotations

import pytest

from barque.api import base64_text
from tests.support.memory_store import a_bench, refusal


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("", ""), ("YQ==", "YQ=="), ("YWI=", "YWI="), ("YWJj", "YWJj"), ("YW\nJj\r\n", "YWJj"), ("YQ\n=\n=\n", "YQ=="),
        # Bits beyond the last byte are nobody's.
        ("YR==", "YQ=="), ("//++", "//++"),
    ],
)  # fmt: skip
def test_what_go_takes(text: str, held: str) -> None:
    assert base64_text.settled(text) == held


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("not base64!", 3), ("YQ", 0), ("YWJjYQ", 4), ("YWJjY", 4), ("YWJ", 0), ("YW\nJ", 1), ("=", 0), ("Y===", 1),
        ("YQ=", 3), ("YQ=a", 2), ("YQ==YQ==", 4), ("YWI=x", 4), ("YW-_", 2), ("YWJjé", 4), ("YWJj\udc80", 4),
    ],
)  # fmt: skip
def test_where_go_stumbles(text: str, place: int) -> None:
    with pytest.raises(ValueError, match=rf"^illegal base64 data at input byte {place}$"):
        base64_text.settled(text)


async def test_objects_are_read_that_way() -> None:
    bench = await a_bench()
    made = await bench.create("secrets", {"metadata": {"name": "s"}, "data": {"a": "Y\nQ==", "b": "YR=="}})
    assert made["data"] == {"a": "YQ==", "b": "YQ=="}
    for plural, kind, field in (("secrets", "Secret", "data"), ("configmaps", "ConfigMap", "binaryData")):
        wrong = {"metadata": {"name": "w"}, field: {"k": "hello!"}}
        refused = await refusal(bench.create(plural, wrong))
        why = f'{kind} in version "v1" cannot be handled as a {kind}: {field}[k]: illegal base64 data at input byte 5'
        assert (refused.code, refused.message) == (400, why)
    refused = await refusal(bench.patch("secrets", "s", {"data": {"a": "?"}}))
    assert refused.code == 422
    assert refused.message.endswith("data[a]: illegal base64 data at input byte 0")
