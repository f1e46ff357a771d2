"""`barque image`: archives onto nodes, what is there, what goes; one node's failure keeps no other from it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from barque.api.errors import ApiError, unavailable
from barque.proto import images_pb2 as pb
from tests.support.builders import a_node
from tests.support.registry_cluster import RegistryCluster, run

MIB = 1024 * 1024


class Nodes:
    """Answers for the Images service; `loaded` is what each node was sent, `refusals` is by node."""

    def __init__(self) -> None:
        self.loaded: dict[str, tuple[int, bytes]] = {}
        self.removed: list[tuple[str, str]] = []
        self.refusals: dict[str, ApiError] = {}

    async def Load(self, messages: AsyncIterator[Any]) -> Any:
        start = (await anext(messages)).start
        self._check(start.node)
        self.loaded[start.node] = (start.size_bytes, b"".join([message.data async for message in messages]))
        return pb.LoadReply(images=["web:1"])

    async def List(self, request: Any) -> Any:
        self._check(request.node)
        images = [
            pb.NodeImage(id="sha256:" + "ab" * 32, names=["web:1", "web@sha256:00"], size_bytes=3 * MIB, in_use=True),
            pb.NodeImage(id="sha256:" + "cd" * 32, size_bytes=10),
        ]
        return pb.ListImagesReply(images=images)

    async def Remove(self, request: Any) -> Any:
        self._check(request.node)
        self.removed.append((request.node, request.image))
        return pb.RemoveImageReply()

    def _check(self, node: str) -> None:
        if node in self.refusals:
            raise self.refusals[node]


@pytest.fixture
def cluster() -> RegistryCluster:
    made = RegistryCluster(a_node("n1").build(), a_node("n2").build())
    made.images = Nodes()
    return made


def test_an_archive_is_loaded_onto_every_node(cluster: RegistryCluster, tmp_path: Path) -> None:
    file = tmp_path / "web.tar"
    file.write_bytes(b"x" * (MIB + 5))
    result = run(cluster, "image", "load", str(file))
    assert (result.stdout, result.stderr) == ("node/n1: loaded web:1\nnode/n2: loaded web:1\n", "")
    assert cluster.images.loaded == dict.fromkeys(("n1", "n2"), (MIB + 5, b"x" * (MIB + 5)))


def test_an_archive_is_loaded_onto_the_nodes_that_are_named(cluster: RegistryCluster, tmp_path: Path) -> None:
    file = tmp_path / "web.tar"
    file.write_bytes(b"x")
    assert run(cluster, "image", "load", str(file), "--node", "n2").exit_code == 0
    assert list(cluster.images.loaded) == ["n2"]
    missing = run(cluster, "image", "load", str(tmp_path / "gone"))
    assert (missing.stderr, missing.exit_code) == (f"error: {tmp_path / 'gone'} is no file\n", 1)


def test_a_node_that_cannot_be_reached_keeps_no_other_from_it(cluster: RegistryCluster, tmp_path: Path) -> None:
    file = tmp_path / "web.tar"
    file.write_bytes(b"x")
    cluster.images.refusals["n1"] = unavailable("node n1 at 10.0.0.1:7450 cannot be reached: refused")
    result = run(cluster, "image", "load", str(file))
    assert result.stdout == "node/n2: loaded web:1\n"
    assert (
        "node/n1: Error from server (ServiceUnavailable): node n1 at 10.0.0.1:7450 cannot be reached" in result.stderr
    )
    assert result.exit_code == 1


def test_what_nodes_have_is_listed(cluster: RegistryCluster) -> None:
    lines = run(cluster, "image", "ls", "--node", "n1").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["NODE", "IMAGE", "ID", "SIZE", "IN", "USE"],
        ["n1", "<none>", "cdcdcdcdcdcd", "10", "bytes", "no"],
        ["n1", "web:1", "abababababab", "3.0", "MiB", "yes"],
    ]
    assert len(run(cluster, "image", "ls").stdout.splitlines()) == 5


def test_an_image_in_use_stays_and_that_is_said(cluster: RegistryCluster) -> None:
    cluster.images.refusals["n2"] = ApiError(409, "Conflict", "unable to remove web:1: a container is using it")
    result = run(cluster, "image", "rm", "web:1")
    assert result.stdout == "node/n1: removed web:1\n"
    assert "node/n2: Error from server (Conflict): unable to remove web:1: a container is using it" in result.stderr
    assert (result.exit_code, cluster.images.removed) == (1, [("n1", "web:1")])


def test_a_cluster_without_nodes_has_no_images() -> None:
    empty = RegistryCluster()
    empty.images = Nodes()
    assert "the cluster has no node" in run(empty, "image", "ls").stderr
