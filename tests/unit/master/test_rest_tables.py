"""Objects in other forms than their own: tables and bare metadata."""

import datetime

import msgspec
import pytest

from barque.api.errors import ApiError
from barque.client.verbs import RawList
from barque.master.apiserver.rest.negotiation import Accepted
from barque.master.apiserver.rest.tables import formed, in_version, metadata_list
from tests.support.memory_store import target

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CONFIG = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","resourceVersion":"7"},"data":{"metadata":"x"}}'
PARTIAL = {
    "kind": "PartialObjectMetadata",
    "apiVersion": "meta.k8s.io/v1",
    "metadata": {"name": "a", "resourceVersion": "7"},
}
RESOURCE = target("configmaps").resource


async def test_one_object_as_a_table() -> None:
    table = msgspec.json.decode(await formed(CONFIG, RESOURCE, Accepted("Table"), NOW))
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert table["metadata"] == {"resourceVersion": "7"}
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    (row,) = table["rows"]
    assert row["cells"][:2] == ["a", 1]
    assert row["object"]["kind"] == "PartialObjectMetadata"


async def test_one_object_as_its_metadata() -> None:
    assert msgspec.json.decode(await formed(CONFIG, RESOURCE, Accepted("PartialObjectMetadata"), NOW)) == PARTIAL


async def test_older_tables_carry_older_metadata() -> None:
    row = await formed(CONFIG, RESOURCE, Accepted("PartialObjectMetadata"), NOW)
    assert msgspec.json.decode(in_version(row, "v1beta1"))["apiVersion"] == "meta.k8s.io/v1beta1"
    assert in_version(row, "v1") == row


async def test_a_list_as_metadata() -> None:
    listed = RawList([CONFIG] * 1500, "9", "next", 3)
    pieces = await metadata_list(listed, Accepted("PartialObjectMetadataList"))
    found = msgspec.json.decode(b"".join(pieces))
    assert (found["kind"], found["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert found["metadata"] == {"resourceVersion": "9", "continue": "next", "remainingItemCount": 3}
    assert found["items"] == [PARTIAL] * 1500


async def test_the_form_must_suit_what_is_asked_for() -> None:
    with pytest.raises(ApiError, match="is not a list") as one:
        await formed(CONFIG, RESOURCE, Accepted("PartialObjectMetadataList"), NOW)
    with pytest.raises(ApiError, match="is a list") as many:
        await metadata_list(RawList([], "1"), Accepted("PartialObjectMetadata"))
    assert (one.value.code, many.value.code) == (406, 406)
