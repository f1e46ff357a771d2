"""Defaults of Namespace and Secret."""

from __future__ import annotations

import base64

from barque.api.types.core_v1 import Namespace, Secret


def default_namespace(namespace: Namespace) -> None:
    if namespace.metadata.name:
        namespace.metadata.labels.setdefault("kubernetes.io/metadata.name", namespace.metadata.name)
    if not namespace.spec.finalizers and not namespace.metadata.deletionTimestamp:
        namespace.spec.finalizers = ["kubernetes"]
    namespace.status.phase = namespace.status.phase or "Active"


def default_secret(secret: Secret) -> None:
    """Fold `stringData`, which is write-only, into `data`."""
    secret.type = secret.type or "Opaque"
    for key, text in secret.stringData.items():
        secret.data[key] = base64.b64encode(text.encode()).decode()
    secret.stringData = {}
