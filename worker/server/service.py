"""`NodeService`: logs, commands, connections and usage of this node's pods, and what it tells of itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from barque.api.errors import ApiError, bad_request, not_found
from barque.client.clock import Clock
from barque.proto import node_pb2, node_pb2_grpc
from barque.proto import pods_pb2 as pb
from barque.worker import netns
from barque.worker.pods import choosing
from barque.worker.pods.manager import PodManager
from barque.worker.pods.observed import Instance
from barque.worker.runtime.port import ExecOptions, Runtime
from barque.worker.server import commands, forwarding, logs
from barque.worker.server.calls import Bounds, Context, Handled
from barque.worker.server.forwarding import Dial
from barque.worker.server.readings import About, Readings
from barque.worker.stats.meter import Meter


class NodeService(node_pb2_grpc.NodeServicer):
    """`dial` connects into a pod's network namespace; simulated nodes have none."""

    def __init__(
        self,
        manager: PodManager,
        runtime: Runtime,
        meter: Meter,
        clock: Clock,
        dial: Dial = netns.connect,
        about: About | None = None,
    ) -> None:
        self._manager = manager
        self._runtime = runtime
        self._meter = meter
        self._clock = clock
        self._dial = dial
        self._bounds = Bounds()
        self._about = about or About()
        self._readings = Readings(self._about, manager.pods, self._measure, self._read_log)

    async def Logs(self, request: pb.LogsRequest, context: Context) -> AsyncIterator[pb.LogsChunk]:
        async with Handled(context, self._bounds, "streams"), aclosing(self._read_log(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def Exec(
        self, request_iterator: AsyncIterator[pb.ExecInput], context: Context
    ) -> AsyncIterator[pb.ExecOutput]:
        async with Handled(context, self._bounds, "streams"):
            start = await commands.read_start(request_iterator, "an exec")
            if not start.command:
                raise bad_request("you must specify at least one command for the container")
            found = self._manager.find(start.namespace, start.pod, start.container, running=True)
            options = ExecOptions(start.command, start.stdin, start.tty, start.size.columns, start.size.rows)
            session = await self._runtime.exec(found.id, options)
            async with aclosing(commands.converse(session, request_iterator)) as outputs:
                async for output in outputs:
                    yield output
            yield pb.ExecOutput(exit_code=await session.exit_code())

    async def Attach(
        self, request_iterator: AsyncIterator[pb.ExecInput], context: Context
    ) -> AsyncIterator[pb.ExecOutput]:
        async with Handled(context, self._bounds, "streams"):
            start = await commands.read_start(request_iterator, "an attach")
            found = self._manager.find(start.namespace, start.pod, start.container, running=True)
            pod, _ = self._manager.look_up(start.namespace, start.pod)
            container = choosing.choose_member(pod, start.container).container
            session = await self._runtime.attach(found.id, stdin=start.stdin and bool(container.stdin))
            if start.size.columns and start.size.rows:
                try:
                    await session.resize(start.size.columns, start.size.rows)
                except BaseException:
                    await session.close()
                    raise
            async with aclosing(commands.converse(session, request_iterator)) as outputs:
                async for output in outputs:
                    yield output

    async def PortForward(
        self, request_iterator: AsyncIterator[pb.PortForwardInput], context: Context
    ) -> AsyncIterator[pb.PortForwardOutput]:
        async with Handled(context, self._bounds, "connections"):
            start = await forwarding.read_start(request_iterator)
            sandbox, address = self._sandbox(start.namespace, start.pod)
            if start.at_address:
                dialled = self._dial(sandbox.netns, start.port, address)
                stream = await forwarding.reach(dialled, address, start.port)
            else:
                stream = await forwarding.connect(self._dial, sandbox.netns, start)
            async with aclosing(forwarding.splice(stream, request_iterator)) as outputs:
                async for output in outputs:
                    yield output

    async def Dial(
        self, request_iterator: AsyncIterator[pb.PortForwardInput], context: Context
    ) -> AsyncIterator[pb.PortForwardOutput]:
        async with Handled(context, self._bounds, "connections"):
            start = await forwarding.read_start(request_iterator)
            host = self._about.address
            stream = await forwarding.reach(forwarding.dial_node(host, start.port), host, start.port)
            async with aclosing(forwarding.splice(stream, request_iterator)) as outputs:
                async for output in outputs:
                    yield output

    async def Stats(self, request: node_pb2.StatsRequest, context: Context) -> node_pb2.StatsReply:
        async with Handled(context, self._bounds, "calls"):
            return await self._measure()

    async def Read(self, request: node_pb2.ReadRequest, context: Context) -> AsyncIterator[node_pb2.ReadOutput]:
        async with Handled(context, self._bounds, "streams"):
            found = await self._readings.answer(request.path, request.query)
            head = node_pb2.ReadOutput.Head(code=found.code, content_type=found.content_type)
            async with aclosing(found.body) as pieces:
                # What is refused is refused before the head is sent.
                first = await anext(pieces, b"")
                yield node_pb2.ReadOutput(head=head)
                yield node_pb2.ReadOutput(data=first)
                async for piece in pieces:
                    yield node_pb2.ReadOutput(data=piece)

    async def _measure(self) -> node_pb2.StatsReply:
        return await self._meter.read(self._manager.observations())

    async def _read_log(self, request: pb.LogsRequest) -> AsyncGenerator[pb.LogsChunk, None]:
        """A log from where the request wants it."""
        position = logs.read_position(request.position)
        container = self._logged(request, position)
        since = logs.since_of(request, self._clock.wall())
        start = position or await logs.begin(self._runtime, container, request)
        async with (
            aclosing(self._runtime.logs(container, logs.options_of(request, start, since))) as records,
            aclosing(logs.chunks(records, request, start)) as chunks,
        ):
            async for chunk in chunks:
                yield chunk

    def _logged(self, request: pb.LogsRequest, position: logs.Position | None) -> str:
        """The id of the container whose log is meant; taken up again, it is the same one as long as it is there."""
        if position is None:
            return self._manager.find(request.namespace, request.pod, request.container, previous=request.previous).id
        pod, observed = self._manager.look_up(request.namespace, request.pod)
        name = choosing.choose_member(pod, request.container).name
        held = observed.containers.get(name, [])
        if not any(instance.id == position.container and not instance.gone for instance in held):
            raise not_found("containers", "", name)
        return position.container

    def _sandbox(self, namespace: str, pod_name: str) -> tuple[Instance, str]:
        """The pod's sandbox and address."""
        _, observed = self._manager.look_up(namespace, pod_name)
        sandbox = observed.sandbox
        if sandbox is None or not sandbox.running or not sandbox.netns:
            raise ApiError(404, "NotFound", f'sandbox for pod "{pod_name}" not found or not running')
        return sandbox, observed.address
