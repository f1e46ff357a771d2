"""`PodStreams`: the handlers of the subresources that are streams into a pod. The caller has been authorised."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

from aiohttp import web

from barque.api.errors import bad_request
from barque.client.clock import Clock
from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.places import Place, Places, answers, choose_container
from barque.master.apiserver.rest.call import Handler, RestCall
from barque.master.apiserver.streams import (
    channels,
    logs,
    spdy_forwarding,
    spdy_processes,
    websocket_forwarding,
    websocket_processes,
    wires,
)
from barque.master.apiserver.streams.channels import ChannelSocket
from barque.master.apiserver.streams.forwarding import Join, Local, forward
from barque.master.apiserver.streams.idle import IDLE_S, Idleness
from barque.master.apiserver.streams.options import (
    ProcessOptions,
    log_request,
    ports,
    process_options,
    spdy_protocol,
)
from barque.master.apiserver.streams.processes import converse
from barque.master.apiserver.streams.spdy_forwarding import SpdyForwarding
from barque.master.apiserver.streams.wires import TunnelWire, UpgradedResponse
from barque.proto import pods_pb2 as pb


class PodStreams:
    """`bounds` are those of the other door, so that a user's streams are counted together."""

    def __init__(self, places: Places, bounds: Bounds, clock: Clock, idle_s: float = IDLE_S) -> None:
        self._places = places
        self._bounds = bounds
        self._clock = clock
        self._idle_s = idle_s

    def handlers(self) -> Mapping[str, Handler]:
        """By subresource."""
        return {"log": self.log, "exec": self.exec, "attach": self.attach, "portforward": self.portforward}

    async def log(self, call: RestCall) -> web.StreamResponse:
        """PodLogOptions by GET. A pod without a node has no log yet: 204, as Kubernetes answers."""
        info = call.info
        wanted = log_request(call.request.query, info.namespace, info.name)
        with self._counted(call):
            pod = await self._places.look_up(info.namespace, info.name)
            wanted.container = choose_container(pod, wanted.container)
            if not pod.spec.nodeName:
                return web.Response(status=204)
            place = await self._places.of(pod)
            idleness = self._idleness(call.request)
            async with self._places.stub(place) as stub, aclosing(answers(stub.Logs(wanted), place)) as chunks:
                return await logs.answer(call.request, chunks, idleness)

    async def exec(self, call: RestCall) -> web.StreamResponse:
        """PodExecOptions, over WebSocket or SPDY."""
        options = process_options(call.request.query)
        if not options.command:
            raise bad_request("you must specify at least one command for the container")
        return await self._process(call, options, lambda stub: stub.Exec())

    async def attach(self, call: RestCall) -> web.StreamResponse:
        """PodAttachOptions, over WebSocket or SPDY."""
        options = process_options(call.request.query)._replace(command=())
        return await self._process(call, options, lambda stub: stub.Attach())

    async def portforward(self, call: RestCall) -> web.StreamResponse:
        """Connections into the pod, over SPDY, SPDY inside WebSocket, or a WebSocket's channels."""
        request = call.request
        with self._counted(call):
            place = await self._places.find(call.info.namespace, call.info.name)

            async def join(port: int, local: Local) -> None:
                with self._counted(call):
                    async with self._places.stub(place) as stub:
                        await forward(stub, place, port, local)

            if wires.is_websocket(request):
                if spdy_forwarding.TUNNEL_PROTOCOL in channels.asked_protocols(request):
                    return await self._forward_in_tunnel(request, join)
                return await self._forward_by_channels(request, join)
            if wires.is_spdy(request):
                return await self._forward_by_spdy(request, join)
            raise wires.upgrade_required()

    async def _process(
        self, call: RestCall, options: ProcessOptions, method: Callable[[Any], Any]
    ) -> web.StreamResponse:
        request = call.request
        with self._counted(call):
            place = await self._places.find(call.info.namespace, call.info.name)
            start = pb.ExecInput.Start(
                namespace=call.info.namespace,
                pod=call.info.name,
                container=choose_container(place.pod, options.container),
                command=options.command,
                stdin=options.stdin,
                tty=options.tty,
            )
            idleness = self._idleness(request)
            if wires.is_websocket(request):
                talk = await websocket_processes.accept(request, options, idleness.touch)
                await idleness.run(self._converse(place, start, talk, method))
                return talk.response
            if not wires.is_spdy(request):
                raise wires.upgrade_required()
            async with spdy_processes.talking(request, options, idleness.touch) as talking:
                if await talking.opened():
                    await idleness.run(self._converse(place, start, talking, method))
                return talking.response

    async def _converse(self, place: Place, start: pb.ExecInput.Start, talk: Any, method: Callable[[Any], Any]) -> None:
        async with self._places.stub(place) as stub:
            await converse(method(stub), start, place, talk)

    async def _forward_by_spdy(self, request: web.BaseRequest, join: Join) -> web.StreamResponse:
        asked = request.headers.getall("X-Stream-Protocol-Version", [])
        protocol = spdy_protocol(asked, [spdy_forwarding.PROTOCOL])
        idleness = self._idleness(request)
        response = UpgradedResponse({"X-Stream-Protocol-Version": protocol}, idleness.touch)
        await response.take_over(request)
        await idleness.run(SpdyForwarding(response, join).run())
        return response

    async def _forward_in_tunnel(self, request: web.BaseRequest, join: Join) -> web.StreamResponse:
        idleness = self._idleness(request)
        websocket = await channels.accept(request, spdy_forwarding.TUNNEL_PROTOCOL)
        await idleness.run(SpdyForwarding(TunnelWire(websocket, idleness.touch), join).run())
        return websocket

    async def _forward_by_channels(self, request: web.BaseRequest, join: Join) -> web.StreamResponse:
        wanted = ports(request.query)
        protocol = channels.choose_protocol(request, websocket_forwarding.PROTOCOLS)
        idleness = self._idleness(request)
        websocket = await channels.accept(request, protocol)
        socket = ChannelSocket(websocket, protocol, idleness.touch)
        await idleness.run(websocket_forwarding.serve(socket, wanted, join))
        return websocket

    def _idleness(self, request: web.BaseRequest) -> Idleness:
        return Idleness(self._clock, self._idle_s, wires.notice_dead_client(request))

    @contextmanager
    def _counted(self, call: RestCall) -> Iterator[None]:
        """One stream of this user's. Raises 429 where there are too many, 503 once the master is stopping."""
        self._bounds.enter(call.user, "streams")
        try:
            yield
        finally:
            self._bounds.leave(call.user, "streams")
