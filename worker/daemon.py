"""The worker daemon's composition root: makes every part, hands each to those that need it, runs them all.

Crash-only: stopping, by signal or by SIGKILL, leaves the pods running; starting takes them over.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import os
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from barque.api.errors import ApiError
from barque.api.types import core_v1, discovery_v1
from barque.api.views import NodeView
from barque.client import profile as profiles
from barque.client.address import NoAddressError, default_address
from barque.client.client import Client
from barque.client.clock import Clock, SystemClock
from barque.client.cycles import freeze_survivors
from barque.client.informer import Informer
from barque.client.masters import learn_masters
from barque.client.pki import Identity, pin_of
from barque.client.profile import Profile, ProfileError
from barque.client.recorder import EventRecorder
from barque.client.remote import Connection, connect
from barque.client.renewal import RenewingIdentity, renew_through
from barque.client.supervise import run_all
from barque.network.dns.node import NodeDns
from barque.network.dns.settings import DnsSettings
from barque.network.iptables.driver import Iptables, IptablesError, open_iptables
from barque.network.overlay.overlay import Overlay
from barque.network.overlay.peers import Ranges
from barque.network.overlay.underlay import Underlay, UnderlayError
from barque.network.pods.network import PodNetwork as HostPodNetwork
from barque.network.proxy.proxy import PROXY_SYSCTL_FILE, ServiceProxy
from barque.network.sysctls import SysctlRecord
from barque.proto import cluster_pb2_grpc
from barque.worker import host
from barque.worker.actions import HostProber
from barque.worker.desired import PodCache, write_durably
from barque.worker.eviction.evictor import Evictor, Measures
from barque.worker.eviction.signals import Signal, SignalName, read_signals
from barque.worker.images.collector import Disk, ImageCollector
from barque.worker.images.images import Images
from barque.worker.images.pull_secrets import PullSecrets
from barque.worker.lock import only_one
from barque.worker.masters import MastersKeeper
from barque.worker.mounts import KernelMounter, Mounter
from barque.worker.network_port import PodNetwork
from barque.worker.node import NodeKeeper, Registered, Where, unregistered
from barque.worker.pods.config import NodeFacts
from barque.worker.pods.manager import PodManager
from barque.worker.pods.names import ClusterDns
from barque.worker.pods.parts import Parts
from barque.worker.pods.static import StaticPods
from barque.worker.probes import Prober
from barque.worker.reference_files import ReferenceFiles
from barque.worker.references import References
from barque.worker.runtime.docker_runtime import DEFAULT_HOST, DockerRuntime, go_architecture
from barque.worker.runtime.port import LogRotation, Runtime, RuntimeFault
from barque.worker.server.door import serve
from barque.worker.server.images import NodeImagesService
from barque.worker.server.readings import About
from barque.worker.server.service import NodeService
from barque.worker.sessions import Heartbeat
from barque.worker.settings import Settings, WorkerError
from barque.worker.stats.disks import Disks
from barque.worker.stats.gauges import Gauges
from barque.worker.stats.meter import Meter
from barque.worker.stats.sampler import Sampler
from barque.worker.status_writer import StatusWriter
from barque.worker.volumes.contents import VolumeContents
from barque.worker.volumes.tokens import PodTokens, RequestedTokens
from barque.worker.volumes.volumes import PodVolumes

log = logging.getLogger(__name__)

_STOP_GRACE_S = 1.0


class Membership(NamedTuple):
    """Who this worker is, and in which cluster."""

    profile: Profile
    node: str
    # From the CA's pin: the masters it talks to hold that CA's certificates, so it cannot be another cluster.
    cluster: str


class Machinery(NamedTuple):
    """What touches the host; simulated nodes bring their own, and serve no services where `iptables` is None."""

    runtime: Runtime
    network: PodNetwork
    mounter: Mounter
    prober: Prober
    iptables: Iptables | None
    # Whether what containers use can be measured: not so where they are simulated.
    measured: bool = False
    # How other hosts' pods are reached; None where there are no other hosts, as all are simulated.
    overlay: Overlay | None = None


def read_membership(settings: Settings) -> Membership:
    """As `worker join` left it. Raises `WorkerError`."""
    if not settings.profile.exists():
        raise WorkerError(
            f"this host has not joined a cluster ({settings.profile} is missing): run `barque worker join` first"
        )
    try:
        profile = profiles.load(settings.profile)
    except ProfileError as error:
        raise WorkerError(str(error)) from error
    node = profile.identity.subject.node
    if not node:
        raise WorkerError(
            f"{settings.profile} is no worker's ({profile.identity.name}): run `barque worker join` first"
        )
    if settings.node_name and settings.node_name != node:
        raise WorkerError(f"this host joined as node {node}, not {settings.node_name}: join again to rename it")
    if settings.masters:
        profile = msgspec.structs.replace(profile, masters=list(settings.masters))
    return Membership(profile, node, cluster_of(profile.identity))


def cluster_of(identity: Identity) -> str:
    """The cluster's identity as a label value."""
    return pin_of(identity.ca_pem).rpartition(":")[2][:32]


async def machinery(settings: Settings, membership: Membership, clock: Clock) -> Machinery:
    """The real thing. Raises `WorkerError` where the host lacks something."""
    rotation = LogRotation(settings.container_log_max_bytes, settings.container_log_max_files)
    runtime = DockerRuntime(
        settings.docker_host, membership.cluster, membership.node, sandboxes=settings.sandboxes, rotation=rotation
    )
    try:
        await runtime.prepare()
    except RuntimeFault as error:
        await runtime.close()
        at = settings.docker_host or DEFAULT_HOST
        raise WorkerError(
            f"no Docker at {at}: install it (docker.io) or start it (systemctl start docker): {error}"
        ) from error
    try:
        # After Docker's start, for its rules tell which variant of iptables this host uses.
        iptables = await open_iptables(settings.network)
    except IptablesError as error:
        await runtime.close()
        raise WorkerError(str(error)) from error
    network = HostPodNetwork(
        settings.network, iptables, cluster_cidr=settings.cluster_cidr, service_cidr=settings.service_cidr, clock=clock
    )
    ranges = Ranges(settings.cluster_cidr, settings.service_cidr)
    overlay = Overlay(settings.overlay._replace(node_ip=settings.node_ip), ranges, membership.profile.masters, clock)
    return Machinery(runtime, network, KernelMounter(), HostProber(runtime), iptables, True, overlay)


async def run(settings: Settings, clock: Clock | None = None) -> None:
    """Run the worker until cancelled. Raises `WorkerError` where it cannot start, `UnexpectedEndError` later."""
    clock = clock or SystemClock()
    if os.geteuid() != 0:
        raise WorkerError("a worker needs root, for containers and networking: run it with sudo or as a service")
    membership = read_membership(settings)
    with only_one(settings):
        made = await machinery(settings, membership, clock)
        await Worker(settings, membership, made, clock).run()


class Worker:
    """One node's worker; several may live in one process on simulated machinery."""

    def __init__(self, settings: Settings, membership: Membership, machinery: Machinery, clock: Clock) -> None:
        self._settings = settings
        self._membership = membership
        self._machinery = machinery
        self._clock = clock
        folder = settings.references / membership.cluster
        self._reference_files = ReferenceFiles(folder, membership.profile.identity.key_pem)
        self._collector = ImageCollector(machinery.runtime, settings.images, clock)
        self._gauges = Gauges(clock, settings.pods)
        self._disks = Disks(machinery.runtime, clock)

    async def run(self) -> None:
        """Until cancelled."""
        membership, settings = self._membership, self._settings
        renewing = self._renewing_identity(lambda: connection.cluster, lambda: connection.channels.masters)
        connection = connect(membership.profile, identity=lambda: renewing.current, say=log.debug)
        renewing.on_change(lambda _: connection.renew())
        renewing.on_change(lambda renewed: asyncio.to_thread(self._reference_files.rekey, renewed.key_pem))
        address = await self._address()
        settings.pods.mkdir(parents=True, exist_ok=True)
        facts = await asyncio.to_thread(host.read_facts, go_architecture(), settings.pods)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._machinery.runtime.close)
            stack.push_async_callback(connection.close)
            services = Informer(connection.client, core_v1.Service, clock=self._clock)
            name = membership.node
            recorder = EventRecorder(connection.client, "barque-worker", name, self._clock, unregistered(name))
            parts = self._parts(connection.client, services, recorder, address, facts.memory_bytes)
            manager = PodManager(parts, lambda info, why: node.note_runtime(info, why))
            meter = Meter(self._gauges, self._disks, self._clock)
            about = About(name, address, settings.configuration)
            service = NodeService(manager, self._machinery.runtime, meter, self._clock, about=about)
            images = NodeImagesService(self._machinery.runtime, self._collector.note)
            port = await stack.enter_async_context(_served(service, images, settings.listen, renewing))
            where = Where(membership.node, address, port)
            node = NodeKeeper(
                connection.client, where, facts, version(), self._machinery.runtime.images, self._clock, recorder
            )
            node.say("Normal", "Starting", "Starting barque-worker.")
            parts.allocatable = node.allocatable
            log.info("worker of node %s at %s:%d", membership.node, address, port)
            tasks = self._tasks(connection, parts, manager, node, services)
            cycles = freeze_survivors(self._clock)
            masters = MastersKeeper(
                lambda: learn_masters(connection), lambda found: self._save(renewing.current, found), self._clock
            )
            more = {"masters": masters.run(), "events": recorder.run(), "certificate": renewing.run(), "cycles": cycles}
            await run_all({**tasks, **more})

    def _tasks(
        self,
        connection: Connection,
        parts: Parts,
        manager: PodManager,
        node: NodeKeeper,
        services: Informer[core_v1.Service],
    ) -> Mapping[str, Coroutine[Any, Any, object]]:
        client, clock, name = connection.client, self._clock, self._membership.node
        sampler = Sampler(manager.observations, self._gauges, self._disks, clock)
        heartbeat = Heartbeat(connection, name, lambda: parts.node.uid, node.note_session, clock, sampler.take)
        tasks = {
            "pods": self._run_pods(client, parts, manager, node),
            "heartbeat": heartbeat.run(),
            "pod statuses": parts.statuses.run(),
            "own node": node.informer.run(),
            "services": services.run(),
        }
        if self._machinery.measured:
            tasks |= {"usage": sampler.run(), "disk use": self._disks.run(manager.observations)}
        iptables, cidr = self._machinery.iptables, self._settings.cluster_cidr
        if iptables is not None:
            slices = Informer(client, discovery_v1.EndpointSlice, clock=clock)
            sysctls = SysctlRecord(self._settings.network / PROXY_SYSCTL_FILE)
            proxy = ServiceProxy(services, slices, iptables, clock, node=name, cluster_cidr=cidr, sysctls=sysctls)
            node.informer.add_handler(proxy.handle_node)
            tasks["endpoint slices"] = slices.run()
            tasks["service proxy"] = proxy.run()
            tasks["cluster DNS"] = self._dns(services, slices, parts.host_ip).run()
        return tasks

    def _dns(
        self, services: Informer[core_v1.Service], slices: Informer[discovery_v1.EndpointSlice], address: str
    ) -> NodeDns:
        settings = self._settings
        wanted = DnsSettings(
            settings.dns_address,
            settings.service_cidr,
            settings.cluster_cidr,
            node_address=address,
            ttl_s=settings.dns_ttl_s,
            stub_domains=settings.stub_domains,
        )
        return NodeDns(services, slices, wanted, settings.network, self._clock)

    async def _run_pods(self, client: Client, parts: Parts, manager: PodManager, node: NodeKeeper) -> None:
        """Register, set up the pod network, then keep the pods."""
        node.note_runtime(await self._machinery.runtime.prepare(), "")
        registered = await self._register(node)
        parts.node = parts.node._replace(uid=registered.uid)
        overlay = self._machinery.overlay
        await self._machinery.network.start(
            registered.pod_cidr, self._settings.mtu or (overlay.mtu if overlay else 1500)
        )
        node.note_network("")
        cache = PodCache(self._settings.desired, self._membership.cluster, self._clock)
        await asyncio.to_thread(parts.references.load)
        manager.load(await asyncio.to_thread(cache.load))
        informer = Informer(client, core_v1.Pod, fields=f"spec.nodeName={self._membership.node}", clock=self._clock)
        informer.add_handler(cache.handle_pod)
        informer.add_handler(manager.handle_pod)

        def forget_references(_: core_v1.Pod | None, new: core_v1.Pod | None) -> None:
            if new is None and informer.synced:
                parts.references.retain(informer.list())

        informer.add_handler(forget_references)
        static = StaticPods(
            self._settings.manifests, manager, parts, lambda: informer.list() if informer.synced else None
        )
        # Before anything is judged to be of no known pod.
        await static.load()

        async def note_synced() -> None:
            await informer.wait_synced()
            pods = informer.list()
            cache.retain({pod.metadata.uid for pod in pods})
            parts.references.retain(pods)
            await manager.synced(pods)
            await asyncio.Event().wait()

        await run_all(
            {
                "containers": manager.run(),
                "own pods": informer.run(),
                "first sync": note_synced(),
                "pods on disk": cache.run(),
                "static pods": static.run(),
                "node": node.run(),
                **self._housekeeping(parts, manager, node),
                **self._reach_others(client, parts, node, registered),
                "own node's identity": self._follow_node(node, parts, registered),
                "pod network": self._machinery.network.run(),
            }
        )

    def _reach_others(
        self, client: Client, parts: Parts, node: NodeKeeper, registered: Registered
    ) -> dict[str, Coroutine[Any, Any, object]]:
        """The way to the pods of other hosts, and what this one is told of its own address."""
        overlay = self._machinery.overlay
        if overlay is None:
            return {}

        def move(_: Underlay) -> None:
            node.note_address(overlay.address)
            parts.host_ip = overlay.address
            self._machinery.network.use_mtu(self._settings.mtu or overlay.mtu)

        overlay.on_underlay, overlay.on_state = move, node.note_overlay
        nodes = Informer(client, NodeView, clock=self._clock)
        return {"nodes": nodes.run(), "overlay": overlay.run(nodes, self._membership.node, registered.pod_cidr)}

    def _housekeeping(
        self, parts: Parts, manager: PodManager, node: NodeKeeper
    ) -> dict[str, Coroutine[Any, Any, object]]:
        """What keeps memory and disk from running out, on a host that can be measured."""
        pods, clock = self._settings.pods, self._clock
        if not self._machinery.measured:
            return {}

        def signals() -> dict[SignalName, Signal]:
            return read_signals(pods, Path(node.health.runtime.root_dir) if node.health.runtime else pods)

        async def disk() -> Disk:
            found = (await asyncio.to_thread(signals)).get("imagefs.available")
            return Disk(*found) if found else Disk(0, 0)

        self._collector.watch(disk, lambda reason, message: node.say("Warning", reason, message))
        measures = Measures(signals, self._gauges.working_set, parts.volumes.disk_use)
        evictor = Evictor(manager, measures, clock, self._collector.collect_all, node.note_pressure, node.say)
        parts.admit = evictor.admit
        return {"eviction": evictor.run(), "image collection": self._collector.run()}

    async def _follow_node(self, node: NodeKeeper, parts: Parts, registered: Registered) -> None:
        """A Node removed and registered anew has another uid, which is noted, and perhaps another pod network."""
        changed = asyncio.Event()
        node.informer.add_handler(lambda _, new: changed.set() if new is not None else None)
        while True:
            await changed.wait()
            changed.clear()
            held = node.informer.get(self._membership.node)
            if held is None or held.metadata.uid == parts.node.uid:
                continue
            parts.node = parts.node._replace(uid=held.metadata.uid)
            await self._keep(Registered(held.metadata.uid, held.spec.podCIDR))
            if held.spec.podCIDR != registered.pod_cidr:
                raise WorkerError(
                    f"node {held.metadata.name} was registered anew with pod network {held.spec.podCIDR} instead of "
                    f"{registered.pod_cidr}: start the worker again to use it"
                )

    async def _keep(self, found: Registered) -> None:
        held = _Kept(self._membership.cluster, self._membership.node, found.uid, found.pod_cidr)
        await asyncio.to_thread(write_durably, self._settings.node_file, msgspec.json.encode(held))

    async def _register(self, node: NodeKeeper) -> Registered:
        """The node's uid and pod network: as known from an earlier run, else from the masters."""
        path = self._settings.node_file
        if path.exists():
            try:
                kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
            except msgspec.DecodeError as error:
                raise WorkerError(f"{path} is damaged ({error}): remove it and start again") from error
            if (kept.cluster, kept.node) == (self._membership.cluster, self._membership.node):
                return Registered(kept.uid, kept.pod_cidr)
        try:
            found = await node.register()
        except ApiError as error:
            raise WorkerError(f"the masters refuse node {self._membership.node}: {error}") from error
        await self._keep(found)
        return found

    def _parts(
        self,
        client: Client,
        services: Informer[core_v1.Service],
        recorder: EventRecorder,
        address: str,
        memory_bytes: int,
    ) -> Parts:
        clock, made, membership, settings = self._clock, self._machinery, self._membership, self._settings
        references = References(client, clock, self._reference_files)
        tokens = PodTokens(RequestedTokens(client), clock, random.Random().random)
        name, cluster = membership.node, membership.cluster
        dns = ClusterDns((settings.dns_address,)) if made.iptables is not None else None
        return Parts(
            client=client,
            runtime=made.runtime,
            network=made.network,
            volumes=PodVolumes(settings.pods, made.mounter, memory_bytes, dns),
            volume_contents=VolumeContents(references, tokens, clock),
            images=Images(made.runtime, clock, parallel=settings.max_parallel_image_pulls, note=self._collector.note),
            pull_secrets=PullSecrets(references),
            references=references,
            services=services.list,
            prober=made.prober,
            recorder=recorder,
            statuses=StatusWriter(client, clock),
            clock=clock,
            node=NodeFacts(cluster, name, "", memory_bytes, settings.pod_max_pids, settings.seccomp),
            host_ip=address,
        )

    def _renewing_identity(
        self, cluster: Callable[[], cluster_pb2_grpc.ClusterStub], masters: Callable[[], Sequence[str]]
    ) -> RenewingIdentity:
        def save(identity: Identity) -> None:
            self._save(identity, masters())

        own = self._membership.profile.identity
        return RenewingIdentity(own, renew_through(cluster), save, self._clock, random.Random())

    def _save(self, identity: Identity, masters: Sequence[str]) -> None:
        """Who this worker is, and which masters it knows."""
        Profile.of(list(masters), identity, cluster=self._membership.profile.cluster).save(self._settings.profile)

    async def _address(self) -> str:
        """The one that others are told."""
        overlay = self._machinery.overlay
        if overlay is not None:
            try:
                await overlay.locate()
            except UnderlayError as error:
                raise WorkerError(str(error)) from error
            return overlay.address
        if self._settings.node_ip:
            return self._settings.node_ip
        try:
            return await default_address(self._membership.profile.masters)
        except NoAddressError as error:
            raise WorkerError(f"{error} (--node-ip)") from error


class _Kept(msgspec.Struct):
    cluster: str
    node: str
    uid: str
    pod_cidr: str


@contextlib.asynccontextmanager
async def _served(
    service: NodeService, images: NodeImagesService, listen: str, renewing: RenewingIdentity
) -> AsyncIterator[int]:
    """The node API while it runs; its port."""
    try:
        server, port = await serve(service, images, listen, renewing.server_credentials())
    except OSError as error:
        raise WorkerError(f"{error}; name another with --listen") from error
    try:
        yield port
    finally:
        await server.stop(_STOP_GRACE_S)


def version() -> str:
    """The version this worker reports."""
    return f"v{importlib.metadata.version('barque')}"
