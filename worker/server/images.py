"""`NodeImagesService`: the images of this node, loaded, listed and removed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from barque.api.errors import ApiError, bad_request
from barque.proto import images_pb2 as pb
from barque.proto import images_pb2_grpc
from barque.worker.runtime.port import ImageInUseError, ImageMissingError, Runtime
from barque.worker.server.calls import Bounds, Context, Handled, read_first

# How long a caller may pause within an archive.
PIECE_TIMEOUT_S = 60.0


class NodeImagesService(images_pb2_grpc.NodeImagesServicer):
    """`note` hears the id of each image that was loaded."""

    def __init__(self, runtime: Runtime, note: Callable[[str], None]) -> None:
        self._runtime = runtime
        self._note = note
        self._bounds = Bounds()

    async def Load(self, request_iterator: AsyncIterator[pb.LoadInput], context: Context) -> pb.LoadReply:
        async with Handled(context, self._bounds, "streams"):
            first = await read_first(request_iterator, "how large the archive is")
            if first is None or first.WhichOneof("input") != "start":
                raise bad_request("the first message of a load must say how large the archive is")
            size = first.start.size_bytes
            names = await self._runtime.load_images(_pieces(request_iterator, size), size)
            for name in names:
                image = await self._runtime.image(name)
                if image is not None:
                    self._note(image.id)
            return pb.LoadReply(images=names)

    async def List(self, request: pb.ListImagesRequest, context: Context) -> pb.ListImagesReply:
        async with Handled(context, self._bounds, "calls"):
            in_use = await self._runtime.images_in_use()
            images = [
                pb.NodeImage(id=image.id, names=image.names, size_bytes=image.size_bytes, in_use=image.id in in_use)
                for image in await self._runtime.images()
            ]
            return pb.ListImagesReply(images=images)

    async def Remove(self, request: pb.RemoveImageRequest, context: Context) -> pb.RemoveImageReply:
        async with Handled(context, self._bounds, "calls"):
            try:
                await self._runtime.remove_image(request.image)
            except ImageMissingError as error:
                raise ApiError(404, "NotFound", str(error)) from error
            except ImageInUseError as error:
                raise ApiError(409, "Conflict", str(error)) from error
            return pb.RemoveImageReply()


async def _pieces(messages: AsyncIterator[pb.LoadInput], size: int) -> AsyncIterator[bytes]:
    """The archive as it comes. Raises 400 where there is more or less of it than was said."""
    received = 0
    while (message := await _next(messages)) is not None:
        received += len(message.data)
        if received > size:
            raise bad_request(f"the archive is larger than the {size} bytes that were announced")
        yield message.data
    if received < size:
        raise bad_request(f"the archive ended after {received} of {size} bytes")


async def _next(messages: AsyncIterator[pb.LoadInput]) -> pb.LoadInput | None:
    try:
        async with asyncio.timeout(PIECE_TIMEOUT_S):
            return await anext(messages, None)
    except TimeoutError:
        raise bad_request(f"the archive did not go on for {PIECE_TIMEOUT_S:.0f} s") from None
