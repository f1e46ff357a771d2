"""What is sent to the REST door to hurt it costs no more than what is honest."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from barque.api.errors import ApiError
from barque.api.yaml_documents import YamlError, read_documents
from barque.master.apiserver.rest.answers import headers_of
from barque.master.apiserver.rest.call import RestCall
from barque.master.apiserver.rest.limits import limits_within
from barque.master.apiserver.rest.lists import joined
from barque.master.apiserver.rest.protobuf import decoding
from barque.master.apiserver.rest.request_info import RequestInfo
from barque.master.auth.identity import ANONYMOUS


def test_a_long_text_is_not_repeated_by_aliases_without_end() -> None:
    text = b'a: &x "' + b"z" * 100_000 + b'"\nb: [' + b"*x," * 100 + b"]\n"
    with pytest.raises(YamlError, match="too large once its aliases are written out"):
        list(read_documents(text))
    within = text.replace(b"*x," * 100, b"*x," * 10)
    assert len(next(read_documents(within)).data["b"]) == 10


@pytest.mark.parametrize(
    "body", [b"k8s\0\x0a\x03\x0a\x01\xff", b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x05\x0a\x03\x0a\x01\xff"]
)
def test_protobuf_whose_text_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError, match="string field contains invalid UTF-8") as refused:
        decoding.json_of(body)
    assert refused.value.code == 400


def test_warnings_are_told_once_and_only_as_many_as_clients_read() -> None:
    request: web.BaseRequest = make_mocked_request("GET", "/")
    warnings = ["the same"] * 3 + [f"{number:0256}" for number in range(300_000)]
    told = headers_of(RestCall(request, RequestInfo("/", False), ANONYMOUS, warnings)).getall("Warning")
    assert told[0] == '299 - "the same"'
    assert len(told) == 1 + 15


@pytest.mark.parametrize(
    ("files", "connections"), [(1_048_576, 16_384), (65_536, 16_384), (4096, 3008), (1024, 448), (64, 1)]
)
def test_connections_leave_files_to_others(files: int, connections: int) -> None:
    assert limits_within(files).connections == connections


def test_pieces_of_a_list_are_joined_to_some_worth_a_write() -> None:
    pieces = [b"x" * 1000] * 300
    writes = list(joined(pieces))
    assert b"".join(writes) == b"".join(pieces)
    assert [len(write) for write in writes] == [132_000, 132_000, 36_000]
