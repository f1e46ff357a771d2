"""The subresources of every resource: which verbs each has, and of which kind its bodies are.

A resource names those it has in `Resource.subresources`; here stands what they are, once for all resources. In a
`Target` a stream (`log`, `exec`, …) never appears: the doors pass it on to the node.
"""

from __future__ import annotations

from typing import NamedTuple

_CHANGING = ("get", "update", "patch")
# What is passed through to a pod, whichever method it comes by. A request by it is authorised as `create`, however it
# came: who may read may not yet run commands (Kubernetes' AuthorizePodWebsocketUpgradeCreatePermission).
_CONNECTING = ("create", "get")
_PROXYING = ("create", "delete", "get", "patch", "update")


class Subresource(NamedTuple):
    """`kind` and `api_version` are those of its bodies, "" for those of the resource itself. `connects` tells that it
    is a stream or a proxy: nothing of it is an object.
    """

    verbs: tuple[str, ...]
    kind: str = ""
    api_version: str = ""
    connects: bool = False


SUBRESOURCES: dict[str, Subresource] = {
    "status": Subresource(_CHANGING),
    "scale": Subresource(_CHANGING, "Scale", "autoscaling/v1"),
    "ephemeralcontainers": Subresource(_CHANGING),
    "resize": Subresource(_CHANGING),
    "approval": Subresource(_CHANGING),
    "finalize": Subresource(("update",)),
    "binding": Subresource(("create",), "Binding", "v1"),
    "eviction": Subresource(("create",), "Eviction", "policy/v1"),
    "token": Subresource(("create",), "TokenRequest", "authentication.k8s.io/v1"),
    "log": Subresource(("get",), connects=True),
    "exec": Subresource(_CONNECTING, "PodExecOptions", "v1", connects=True),
    "attach": Subresource(_CONNECTING, "PodAttachOptions", "v1", connects=True),
    "portforward": Subresource(_CONNECTING, "PodPortForwardOptions", "v1", connects=True),
    "proxy": Subresource(_PROXYING, "ProxyOptions", "v1", connects=True),
}
