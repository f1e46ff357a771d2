"""The REST door of one master, put together: who answers which request.

A part of the composition root (`daemon`), apart for its length alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

from barque.api.resources import RESOURCES
from barque.client.client import Client
from barque.client.clock import Clock
from barque.client.pki import MASTERS_GROUP
from barque.master.apiserver.grpc_calls import Bounds
from barque.master.apiserver.node_channels import NodeChannels
from barque.master.apiserver.places import Places
from barque.master.apiserver.registry import Registry
from barque.master.apiserver.rest.call import Handler
from barque.master.apiserver.rest.callers import Callers
from barque.master.apiserver.rest.calls import Calls, Handlers, counted
from barque.master.apiserver.rest.discovery import Discovery
from barque.master.apiserver.rest.door import RestDoor
from barque.master.apiserver.rest.health import Check, Health
from barque.master.apiserver.rest.index import index_paths
from barque.master.apiserver.rest.issuer import issuer_paths
from barque.master.apiserver.rest.limits import Limits
from barque.master.apiserver.rest.objects import Objects
from barque.master.apiserver.rest.openapi import OpenAPI
from barque.master.apiserver.rest.proxy import Proxy
from barque.master.apiserver.rest.version import git_version, version_paths
from barque.master.apiserver.rest.watching import Watching
from barque.master.apiserver.streams.service import PodStreams
from barque.master.audit.audit import Audit
from barque.master.auth.authentication import Authenticator
from barque.master.auth.identity import User
from barque.master.metrics.page import MetricsPage, Source
from barque.master.metrics.process import build_families, process_families
from barque.master.metrics.requests import RequestMetrics

# One client may watch everything on behalf of thousands, as a dashboard does; connections have a bound of their own.
MAX_CALLS, MAX_STREAMS = 512, 20_000


# Reads the pods and services that a caller may connect to.
_PROXY = User("barque:proxy", (MASTERS_GROUP,))


@dataclass(frozen=True)
class Front:
    """What the door leads to. `address()` is the `host:port` clients reach it by; `fault()` why the store cannot serve,
    "" where it can; `more_paths` are those of joining; `sources` are figures beside the door's own.
    """

    registry: Registry
    channels: NodeChannels
    clock: Clock
    version: str
    address: Callable[[], str]
    fault: Callable[[], Awaitable[str]]
    more_paths: Mapping[str, Handler]
    sources: Collection[Source]

    def open(self, audit: Audit | None, limits: Limits) -> RestDoor:
        """The door, not listening yet."""
        environment = self.registry.environment
        authorizer = environment.authorizer
        authenticator = Authenticator(environment.tokens, environment.objects, self.clock)
        callers = Callers(authenticator, authorizer, self.clock)
        bounds = Bounds(MAX_CALLS, MAX_STREAMS)
        watching = Watching(self.registry, callers.recheck, lambda: authorizer.generation, bounds)
        discovery = Discovery(RESOURCES, self.address())
        paths = self._paths(discovery)
        metrics = RequestMetrics(self.clock.monotonic, [path for path in paths if " " not in path])
        built = partial(build_families, git_version(self.version), self.version)
        sources: list[Source] = [*self.sources, metrics.families, process_families, built]
        paths |= MetricsPage(sources).paths()
        paths |= index_paths([*discovery.places(), *paths])
        handlers = Handlers(Objects(self.registry), watching, self._streams(bounds), paths)
        return RestDoor(Calls(handlers, callers, authorizer, bounds, audit, metrics), watching.stop, limits)

    def _paths(self, discovery: Discovery) -> dict[str, Handler]:
        health = Health(live=[], ready=[Check("store", self.fault)])
        return {
            **health.paths(),
            **discovery.paths(),
            **OpenAPI(RESOURCES, git_version(self.version)).paths(),
            **version_paths(self.version),
            **issuer_paths(self.registry.environment.tokens, self.address),
            **self.more_paths,
        }

    def _streams(self, bounds: Bounds) -> dict[str, Handler]:
        streams = PodStreams(Places(self.registry, self.channels), bounds, self.clock)
        proxy = Proxy(Client(self.registry.as_user(_PROXY)), self.channels, self.registry.environment.entropy)
        return {**streams.handlers(), "proxy": counted(proxy, bounds)}
