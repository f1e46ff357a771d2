"""The labels by which a worker knows its own containers again, whatever has happened to it meanwhile."""

from __future__ import annotations

CLUSTER = "barque.io/cluster"
NODE = "barque.io/node"
NODE_UID = "barque.io/node-uid"
POD_UID = "barque.io/pod-uid"
POD_NAME = "barque.io/pod-name"
POD_NAMESPACE = "barque.io/pod-namespace"
# "sandbox" or "container".
ROLE = "barque.io/role"
CONTAINER_NAME = "barque.io/container-name"
# Counts from 0; the newest attempt of a container is its restart count.
ATTEMPT = "barque.io/attempt"
# How many runs in a row ended early before this one: what the restart back-off is computed from.
STREAK = "barque.io/streak"
# The id of the sandbox whose namespaces a container shares.
SANDBOX = "barque.io/sandbox"
CONFIG_HASH = "barque.io/config-hash"
CONFIG_HASH_VERSION = "barque.io/config-hash-version"
# Seconds a container may take to stop, for when its pod is no longer known.
GRACE = "barque.io/grace-s"
# As Kubernetes gives a pod that says nothing.
DEFAULT_GRACE_S = 30

SANDBOX_ROLE = "sandbox"
CONTAINER_ROLE = "container"
