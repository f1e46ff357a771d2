"""Rows of Namespace, ConfigMap and Secret."""

from __future__ import annotations

import datetime

from barque.api.columns.age import age
from barque.api.types.core_v1 import ConfigMap, Namespace, Secret


def namespace_cells(namespace: Namespace, now: datetime.datetime) -> list[str]:
    return [namespace.metadata.name, namespace.status.phase, age(namespace.metadata.creationTimestamp, now)]


def config_map_cells(config_map: ConfigMap, now: datetime.datetime) -> list[str]:
    entries = len(config_map.data) + len(config_map.binaryData)
    return [config_map.metadata.name, str(entries), age(config_map.metadata.creationTimestamp, now)]


def secret_cells(secret: Secret, now: datetime.datetime) -> list[str]:
    return [secret.metadata.name, secret.type, str(len(secret.data)), age(secret.metadata.creationTimestamp, now)]
