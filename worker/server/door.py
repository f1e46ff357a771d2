"""Opens the worker's door (`:7450`)."""

from __future__ import annotations

import grpc
import grpc.aio

from barque.client import wire
from barque.proto import images_pb2_grpc, node_pb2_grpc


async def serve(
    service: node_pb2_grpc.NodeServicer,
    images: images_pb2_grpc.NodeImagesServicer,
    address: str,
    credentials: grpc.ServerCredentials,
) -> tuple[grpc.aio.Server, int]:
    """A running server and its port. Raises OSError where the address is taken."""
    server = grpc.aio.server(options=wire.SERVER_OPTIONS)
    node_pb2_grpc.add_NodeServicer_to_server(service, server)
    images_pb2_grpc.add_NodeImagesServicer_to_server(images, server)
    port = wire.listen(server, address, credentials)
    await server.start()
    return server, port
