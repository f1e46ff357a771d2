"""Names on the bus: subjects and streams. Pure. How a token is written, see `client.subjects`."""

from __future__ import annotations

from functools import lru_cache

from barque.client.subjects import CLUSTER_SCOPE, CORE_GROUP, RESYNC, token
from barque.master.store.port import Key

__all__ = [
    "CHANGE_STREAM",
    "EVENT_STREAM",
    "answered_subject",
    "change_subject",
    "change_subjects",
    "event_subject",
    "event_subjects",
    "resync_subject",
    "token",
]

EVENT_STREAM = "BARQUE_EVENTS"
CHANGE_STREAM = "BARQUE_CHANGES"
# Resources times namespaces that are written at a time; the names are many more and made anew.
_PLACES = 4096


def event_subjects(cluster: str) -> str:
    """What the stream of Event records holds."""
    return f"barque.{token(cluster)}.event.>"


def event_subject(cluster: str, key: Key) -> str:
    """Where all writes of one Event object stand."""
    return f"barque.{token(cluster)}.event.{token(key.namespace)}.{token(key.name)}"


def change_subjects(cluster: str) -> str:
    """What the stream of changes holds; outside consumers subscribe to this or to a part of it."""
    return f"barque.{token(cluster)}.change.>"


def change_subject(cluster: str, key: Key) -> str:
    """`barque.<cluster>.change.<group>.<resource>.<namespace>.<name>`."""
    return _place(cluster, key.resource, key.namespace) + token(key.name)


@lru_cache(_PLACES)
def _place(cluster: str, resource: str, namespace: str) -> str:
    plural, _, group = resource.partition(".")
    scope = token(namespace) if namespace else CLUSTER_SCOPE
    return f"barque.{token(cluster)}.change.{token(group or CORE_GROUP)}.{token(plural)}.{scope}."


def resync_subject(cluster: str) -> str:
    """Where the feed says that changes are missing before the next one."""
    return f"barque.{token(cluster)}.change.{RESYNC}"


def answered_subject(cluster: str, what: str) -> str:
    """Where the masters tell each other which requests they have answered; `what` tells the sorts apart."""
    return f"barque.{token(cluster)}.answered.{what}"


def usage_subjects(cluster: str) -> str:
    """Where the masters tell each other the usage of all nodes."""
    return f"barque.{token(cluster)}.usage.*"


def usage_subject(cluster: str, node: str) -> str:
    """Where the usage of one node is told."""
    return f"barque.{token(cluster)}.usage.{token(node)}"
