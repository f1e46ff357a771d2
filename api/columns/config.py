"""Tables of Namespace, ConfigMap, Secret and ServiceAccount."""

from __future__ import annotations

import datetime

from barque.api.columns.age import age
from barque.api.columns.table import AGE, NAME, Cell, Table, column
from barque.api.types.core_v1 import ConfigMap, Namespace, Secret, ServiceAccount


def _namespace(namespace: Namespace, now: datetime.datetime) -> list[Cell]:
    return [namespace.metadata.name, namespace.status.phase, age(namespace.metadata.creationTimestamp, now)]


def _config_map(config_map: ConfigMap, now: datetime.datetime) -> list[Cell]:
    entries = len(config_map.data) + len(config_map.binaryData)
    return [config_map.metadata.name, entries, age(config_map.metadata.creationTimestamp, now)]


def _secret(secret: Secret, now: datetime.datetime) -> list[Cell]:
    return [secret.metadata.name, secret.type, len(secret.data), age(secret.metadata.creationTimestamp, now)]


def _service_account(account: ServiceAccount, now: datetime.datetime) -> list[Cell]:
    return [account.metadata.name, age(account.metadata.creationTimestamp, now)]


TABLES = {
    "Namespace": Table((NAME, column("Status", "Whether the namespace is in use or going."), AGE), _namespace),
    "ConfigMap": Table((NAME, column("Data", "How many entries there are."), AGE), _config_map),
    "Secret": Table(
        (NAME, column("Type", "What the secret is for."), column("Data", "How many entries there are."), AGE), _secret
    ),
    "ServiceAccount": Table((NAME, AGE), _service_account),
}
