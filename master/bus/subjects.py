"""Names on the bus: subjects and streams. Pure.

A subject is tokens between dots, so a dot (and what else NATS reads as a sign) inside a token is percent-encoded:
`barque.lab.change.apps.deployments.default.web%2Ev2`.
"""

from __future__ import annotations

import re

from barque.master.store.port import Key

EVENT_STREAM = "BARQUE_EVENTS"
CHANGE_STREAM = "BARQUE_CHANGES"
CORE_GROUP = "core"
CLUSTER_SCOPE = "_"
_UNSAFE = re.compile(rb"[^A-Za-z0-9_:-]")


def token(text: str) -> str:
    """`text` as one token of a subject; different texts give different tokens."""
    return _UNSAFE.sub(lambda found: b"%%%02X" % found.group()[0], text.encode()).decode() or "%"


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
    plural, _, group = key.resource.partition(".")
    place = token(key.namespace) if key.namespace else CLUSTER_SCOPE
    return f"barque.{token(cluster)}.change.{token(group or CORE_GROUP)}.{token(plural)}.{place}.{token(key.name)}"


def resync_subject(cluster: str) -> str:
    """Where the feed says that changes are missing before the next one."""
    return f"barque.{token(cluster)}.change.RESYNC"
