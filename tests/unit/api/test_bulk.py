"""A body is refused for what it would cost to decode, and for nothing that only looks like it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from barque.api import bulk
from barque.api.bulk import MOST_EXPONENTS, MOST_VALUES, check_bulk
from barque.api.codec import from_document
from barque.api.decode import decode_object, parse_configuration, parse_json, parse_list
from barque.api.errors import ApiError
from barque.api.patch import json_patch
from barque.api.resources import by_plural
from barque.api.types.core_v1 import Pod

CONFIGMAPS = by_plural("", "configmaps")


def many(value: str, count: int) -> bytes:
    return b'{"x":[%b]}' % b",".join([value.encode()] * count)


def refusal(body: bytes) -> str:
    with pytest.raises(ApiError) as refused:
        check_bulk(body)
    assert (refused.value.code, refused.value.reason) == (413, "RequestEntityTooLarge")
    return refused.value.message


@pytest.mark.parametrize("value", ["{}", "[]", "1", '""', '"\\""'])
def test_values_are_counted(value: str) -> None:
    brackets = 2 if value in ("{}", "[]") else 1
    check_bulk(many(value, MOST_VALUES // brackets - 2))
    assert refusal(many(value, MOST_VALUES // brackets + 2)).endswith("too many values: limit is 100000")


@pytest.mark.parametrize("number", ["1e308", "-1.5E+308", "1e-320", "9e00308"])
def test_numbers_at_the_end_of_what_can_be_read_are_counted(number: str) -> None:
    check_bulk(many(number, MOST_EXPONENTS))
    assert "numbers with large exponents" in refusal(many(number, MOST_EXPONENTS + 1))
    check_bulk(many("1e23", MOST_EXPONENTS + 1))


@pytest.mark.parametrize("text", ["{},", "1e308,", '\\"{},\\"', "\\\\", '\\\\\\"[,', "é,"])
def test_what_stands_in_texts_is_none(text: str) -> None:
    check_bulk(msgspec.json.encode({"data": {f"k{n}": text * 20_000 for n in range(10)}}))
    check_bulk(b'{"data":"%b"}' % (text.encode() * 200_000))


def test_pieces_of_a_body_are_told_apart_wherever_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"a":"x,\\"[{\\\\","b":[1,2,"{}"],"":{"c":""}}'
    whole = b"{:,:[1,2,],:{:}}"
    for size in range(1, len(body) + 1):
        monkeypatch.setattr(bulk, "_PORTION_BYTES", size)
        assert b"".join(bulk._outside_strings(body)) == whole


def test_a_text_that_never_ends_is_looked_at_once() -> None:
    check_bulk(b'["' + b'\\"' * 700_000)
    check_bulk(b'["' + b"\\" * 700_001)


def test_every_way_in_is_looked_at() -> None:
    dense = many("{}", MOST_VALUES)
    readers: list[Any] = [
        parse_json, parse_configuration, lambda body: parse_list(body[5:-1]),
        lambda body: decode_object(body, CONFIGMAPS),
    ]  # fmt: skip
    for read in readers:
        with pytest.raises(ApiError) as refused:
            read(dense)
        assert refused.value.code == 413


def test_what_a_patch_has_copied_is_looked_at() -> None:
    containers = [{} for _ in range(30_000)]
    document = {"spec": {"containers": containers, "x": []}}
    copies = [{"op": "copy", "from": "/spec/containers", "path": "/spec/x/-"} for _ in range(4)]
    with pytest.raises(ApiError) as refused:
        from_document(Pod, json_patch(document, copies))
    assert refused.value.code == 413
