"""Validation of Namespace, ConfigMap and Secret."""

from __future__ import annotations

import base64
import binascii

from barque.api import names
from barque.api.errors import FieldError, duplicate, forbidden, invalid, required, too_long
from barque.api.types.core_v1 import ConfigMap, Namespace, Secret
from barque.api.validation.checks import immutable, spelt

_MAX_BYTES = 1024 * 1024
# The keys that a Secret of a type must have; of those in brackets Kubernetes wants at least one.
_REQUIRED_KEYS: dict[str, tuple[str, ...]] = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_BASIC_AUTH_KEYS = ("username", "password")


def check_namespace(namespace: Namespace) -> list[FieldError]:
    faults = []
    for index, name in enumerate(namespace.spec.finalizers):
        faults += spelt(f"spec.finalizers[{index}]", name, names.qualified_name)
    return faults


def check_config_map(config_map: ConfigMap) -> list[FieldError]:
    faults = _check_keys(
        [("data", key) for key in config_map.data] + [("binaryData", k) for k in config_map.binaryData]
    )
    for key in config_map.binaryData:
        if key in config_map.data:
            faults.append(duplicate(f"data[{key}]", key))
        faults += _check_base64(f"binaryData[{key}]", config_map.binaryData[key])
    total = sum(len(value.encode()) for value in config_map.data.values())
    total += sum(_decoded_bytes(value) for value in config_map.binaryData.values())
    return [*faults, too_long("", _MAX_BYTES)] if total > _MAX_BYTES else faults


def check_secret(secret: Secret) -> list[FieldError]:
    faults = _check_keys([("data", key) for key in secret.data])
    for key, value in secret.data.items():
        faults += _check_base64(f"data[{key}]", value)
    faults += [required(f"data[{k}]") for k in _REQUIRED_KEYS.get(secret.type, ()) if k not in secret.data]
    if secret.type == "kubernetes.io/basic-auth" and not any(key in secret.data for key in _BASIC_AUTH_KEYS):
        faults += [required(f"data[{key}]") for key in _BASIC_AUTH_KEYS]
    total = sum(_decoded_bytes(value) for value in secret.data.values())
    return [*faults, too_long("data", _MAX_BYTES)] if total > _MAX_BYTES else faults


def check_config_map_update(new: ConfigMap, old: ConfigMap) -> list[FieldError]:
    if not old.immutable:
        return []
    return [
        *_stays_immutable(new.immutable),
        *_frozen("data", new.data == old.data),
        *_frozen("binaryData", new.binaryData == old.binaryData),
    ]


def check_secret_update(new: Secret, old: Secret) -> list[FieldError]:
    faults = immutable("type", new.type, old.type)
    if old.immutable:
        faults += [*_stays_immutable(new.immutable), *_frozen("data", new.data == old.data)]
    return faults


def _stays_immutable(flag: bool | None) -> list[FieldError]:
    return [] if flag else [forbidden("immutable", "field is immutable when `immutable` is set")]


def _frozen(path: str, same: bool) -> list[FieldError]:
    return [] if same else [forbidden(path, "field is immutable when `immutable` is set")]


def _check_keys(keys: list[tuple[str, str]]) -> list[FieldError]:
    return [invalid(f"{path}[{key}]", key, fault) for path, key in keys for fault in names.config_key(key)]


def _check_base64(path: str, value: str) -> list[FieldError]:
    """Never shows the value: it may be secret."""
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return [FieldError(path, "FieldValueInvalid", "Invalid value: must be base64 (use stringData for plain text)")]
    return []


def _decoded_bytes(value: str) -> int:
    return len(value) * 3 // 4
