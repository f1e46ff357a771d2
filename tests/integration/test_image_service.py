"""Images of a node through a master's door: real sockets, real certificates, a worker with a fake engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from barque.api.errors import ApiError
from barque.client import pki, wire
from barque.client.endings import answered
from barque.proto import images_pb2 as pb
from barque.proto import images_pb2_grpc
from barque.worker.runtime.fake import FakeRuntime
from barque.worker.runtime.port import ContainerSpec
from barque.worker.server.images import NodeImagesService
from tests.integration.test_grpc_door import Harbour, harbour, rpc_refusal
from tests.support.clock import FakeClock

__all__ = ["harbour"]


class Machine:
    """A node whose worker answers for its images; `noted` are the ids of those that were loaded."""

    def __init__(self) -> None:
        self.runtime = FakeRuntime(FakeClock())
        self.noted: list[str] = []
        self._server = grpc.aio.server(options=wire.SERVER_OPTIONS)

    async def start(self, harbour: Harbour, name: str) -> None:
        identity = harbour.identity_of(pki.node_subject(name), (pki.node_host(name),))
        service = NodeImagesService(self.runtime, self.noted.append)
        images_pb2_grpc.add_NodeImagesServicer_to_server(service, self._server)
        port = self._server.add_secure_port("127.0.0.1:0", identity.server_credentials())
        await self._server.start()
        await harbour.node(name, port)

    async def stop(self) -> None:
        await self._server.stop(None)


@pytest.fixture
async def machine(harbour: Harbour) -> AsyncIterator[Machine]:
    made = Machine()
    await made.start(harbour, "n1")
    yield made
    await made.stop()


async def an_archive(*names: str, node: str = "n1", announced: int = 0) -> AsyncIterator[Any]:
    data = " ".join(names).encode()
    yield pb.LoadInput(start=pb.LoadInput.Start(node=node, size_bytes=announced or len(data)))
    for at in range(0, len(data), 5):
        yield pb.LoadInput(data=data[at : at + 5])


async def load_refusal(images: Any, announced: int = 0) -> tuple[grpc.StatusCode, ApiError]:
    return await rpc_refusal(answered(images.Load(an_archive("page:1", announced=announced))))


async def test_an_archive_reaches_the_node_and_is_its_own_from_then_on(harbour: Harbour, machine: Machine) -> None:
    images = harbour.connect().images
    reply = await images.Load(an_archive("page:1", "page:2"))
    assert list(reply.images) == ["page:1", "page:2"]
    assert machine.noted == ["sha256:page:1", "sha256:page:2"]
    await machine.runtime.create(ContainerSpec("c", "page:1", {}))
    found = {image.names[0]: image for image in (await images.List(pb.ListImagesRequest(node="n1"))).images}
    assert (found["page:1"].in_use, found["page:2"].in_use) == (True, False)
    assert found["page:2"].id == "sha256:page:2"


async def test_removals_and_their_refusals(harbour: Harbour, machine: Machine) -> None:
    images = harbour.connect().images
    await machine.runtime.create(ContainerSpec("c", "web:1", {}))
    _, refused = await rpc_refusal(images.Remove(pb.RemoveImageRequest(node="n1", image="web:1")))
    assert (refused.code, "a container is using it" in refused.message) == (409, True)
    _, absent = await rpc_refusal(images.Remove(pb.RemoveImageRequest(node="n1", image="gone:1")))
    assert (absent.code, absent.message) == (404, "No such image: gone:1")
    machine.runtime.images_here["old:1"] = "sha256:old:1"
    await images.Remove(pb.RemoveImageRequest(node="n1", image="old:1"))
    assert "old:1" not in machine.runtime.images_here


@pytest.mark.parametrize(
    ("announced", "words"),
    [(3, "larger than the 3 bytes that were announced"), (99, "the archive ended after 6 of 99 bytes")],
)
async def test_an_archive_of_another_size_is_refused(
    harbour: Harbour, machine: Machine, announced: int, words: str
) -> None:
    _, refused = await load_refusal(harbour.connect().images, announced)
    assert (refused.code, words in refused.message) == (400, True)
    assert "page:1" not in machine.runtime.images_here


async def test_only_administrators_may_and_only_masters_reach_a_worker(harbour: Harbour, machine: Machine) -> None:
    as_worker = harbour.as_node("n1").images
    request = pb.ListImagesRequest(node="n1")
    for refusal in (
        rpc_refusal(as_worker.List(request)),
        rpc_refusal(as_worker.Remove(pb.RemoveImageRequest(node="n1", image="web:1"))),
        load_refusal(as_worker),
    ):
        code, refused = await refusal
        assert (code, refused.code) == (grpc.StatusCode.PERMISSION_DENIED, 403)
    assert machine.runtime.calls == []


async def test_a_node_that_is_not_there_or_does_not_answer_is_said(harbour: Harbour) -> None:
    images = harbour.connect().images
    _, absent = await rpc_refusal(images.List(pb.ListImagesRequest(node="n9")))
    assert (absent.code, absent.message) == (404, 'nodes "n9" not found')
    await harbour.node("n2", 1)
    _, dead = await rpc_refusal(images.List(pb.ListImagesRequest(node="n2")))
    assert dead.code == 503
    assert "node n2 at 127.0.0.1:1 cannot be reached" in dead.message
