"""The gRPC door (`:7443`): Resources, Pods, Feed, Cluster and Sessions behind one port with mutual TLS.

In: the registry, the services of the neighbours, credentials that demand a certificate of the cluster's CA. Out: a
running server. Runs on the daemon's event loop (uvloop).
"""

from __future__ import annotations

import asyncio
import logging

import grpc
import grpc.aio

from barque.client import wire
from barque.master.apiserver.cluster_service import ClusterService
from barque.master.apiserver.feed_service import FeedService
from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.images_service import ImagesService
from barque.master.apiserver.messages import Registrar
from barque.master.apiserver.node_channels import Dial, NodeChannels
from barque.master.apiserver.pods_service import PodsService
from barque.master.apiserver.registry import Registry
from barque.master.apiserver.resources_service import ResourcesService
from barque.master.audit.audit import Audit
from barque.master.bus.relay import FeedRelay
from barque.proto import cluster_pb2_grpc, feed_pb2_grpc, images_pb2_grpc, pods_pb2_grpc, sessions_pb2_grpc

log = logging.getLogger(__name__)

# Five thousand workers hold some eight streams each; beyond this the door itself is being flooded.
_MAX_RPCS = 50_000
# Within this time every client that is busy has called once more, and gone to another master.
_TURN_AWAY_S = 0.2


class GrpcServer:
    """A door that is open. `port` is the one it listens on."""

    def __init__(self, server: grpc.aio.Server, channels: NodeChannels, bounds: Bounds, port: int) -> None:
        self._server = server
        self._channels = channels
        self._bounds = bounds
        self.port = port

    async def stop(self, grace_s: float) -> None:
        """Send whoever calls to another master, take no more calls, give those under way `grace_s` seconds, then end
        them. A call that meets the end of the server itself breaks off, and nobody could say what came of it.
        """
        self._bounds.close("this master is stopping; nothing was done")
        await asyncio.sleep(_TURN_AWAY_S)
        await self._server.stop(grace_s)
        await self._channels.close()


async def serve(
    registry: Registry,
    *,
    address: str,
    credentials: grpc.ServerCredentials,
    sessions: sessions_pb2_grpc.SessionsServicer,
    cluster: ClusterService,
    dial: Dial,
    bounds: Bounds | None = None,
    feed: FeedRelay | None = None,
    audit: Audit | None = None,
) -> GrpcServer:
    """Listen on `host:port` (port 0 picks a free one); without `feed` its service is left out, without `audit` nothing
    is audited.

    Raises `OSError` where the address cannot be had."""
    bounds = bounds or Bounds()
    channels = NodeChannels(dial, registry.environment.clock)
    server = grpc.aio.server(options=wire.SERVER_OPTIONS, maximum_concurrent_rpcs=_MAX_RPCS)
    ResourcesService(registry, bounds, audit).add_to_server(server)
    registrar = Registrar(server)
    pods = PodsService(registry, channels, bounds, registry.environment.clock, audit)
    pods_pb2_grpc.add_PodsServicer_to_server(pods, registrar)
    images_pb2_grpc.add_ImagesServicer_to_server(ImagesService(registry, dial, bounds, audit), registrar)
    cluster_pb2_grpc.add_ClusterServicer_to_server(cluster, registrar)
    sessions_pb2_grpc.add_SessionsServicer_to_server(sessions, registrar)
    if feed is not None:
        service = FeedService(feed, registry.environment.authorizer, bounds, audit)
        feed_pb2_grpc.add_FeedServicer_to_server(service, registrar)
    port = wire.listen(server, address, credentials)
    await server.start()
    return GrpcServer(server, channels, bounds, port)
