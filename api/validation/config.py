"""Validation of Namespace, ConfigMap, Secret and ServiceAccount."""

from __future__ import annotations

import base64

import msgspec

from barque.api import names
from barque.api.errors import FieldError, forbidden, invalid, required, too_long
from barque.api.types.core_v1 import ConfigMap, Namespace, Secret, ServiceAccount
from barque.api.validation.checks import immutable
from barque.api.validation.metadata import check_finalizer

_MAX_BYTES = 1024 * 1024
# The keys that a Secret of a type must have.
_REQUIRED_KEYS: dict[str, tuple[str, ...]] = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
# The keys whose values are JSON.
_JSON_KEYS = {"kubernetes.io/dockercfg": ".dockercfg", "kubernetes.io/dockerconfigjson": ".dockerconfigjson"}
_BASIC_AUTH_KEYS = ("username", "password")
_ACCOUNT_NAME = "kubernetes.io/service-account.name"


def check_namespace(namespace: Namespace) -> list[FieldError]:
    faults = []
    for index, name in enumerate(namespace.spec.finalizers):
        faults += check_finalizer(f"spec.finalizers[{index}]", name)
    return faults


def check_config_map(config_map: ConfigMap) -> list[FieldError]:
    faults = _check_keys(
        [("data", key) for key in config_map.data] + [("binaryData", k) for k in config_map.binaryData]
    )
    for key in config_map.binaryData:
        if key in config_map.data:
            faults.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
            faults.append(invalid(f"binaryData[{key}]", key, "duplicate of key present in data"))
    total = sum(len(value.encode()) for value in config_map.data.values())
    total += sum(_decoded_bytes(value) for value in config_map.binaryData.values())
    return [*faults, too_long("", _MAX_BYTES)] if total > _MAX_BYTES else faults


def check_secret(secret: Secret) -> list[FieldError]:
    faults = _check_keys([("data", key) for key in secret.data])
    total = sum(_decoded_bytes(value) for value in secret.data.values())
    faults += [too_long("data", _MAX_BYTES)] if total > _MAX_BYTES else []
    return faults or _check_type(secret)


def check_service_account(_account: ServiceAccount) -> list[FieldError]:
    """Kubernetes judges no more of it than the metadata."""
    return []


def check_namespace_status(new: Namespace, _old: Namespace) -> list[FieldError]:
    expected, when = ("Terminating", "not empty") if new.metadata.deletionTimestamp else ("Active", "empty")
    if new.status.phase == expected:
        return []
    why = f"may only be '{expected}' if `deletionTimestamp` is {when}"
    return [invalid("status.phase", new.status.phase, why)]


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


def _check_type(secret: Secret) -> list[FieldError]:
    """A type promises its readers certain keys."""
    data, kind = secret.data, secret.type
    if kind == "kubernetes.io/service-account-token" and not secret.metadata.annotations.get(_ACCOUNT_NAME):
        return [required(f"metadata.annotations[{_ACCOUNT_NAME}]")]
    if kind == "kubernetes.io/basic-auth" and not any(key in data for key in _BASIC_AUTH_KEYS):
        return [required(f"data[{key}]") for key in _BASIC_AUTH_KEYS]
    if kind == "kubernetes.io/ssh-auth" and not data.get("ssh-privatekey"):
        return [required("data[ssh-privatekey]")]
    faults = [required(f"data[{key}]") for key in _REQUIRED_KEYS.get(kind, ()) if key not in data]
    key = _JSON_KEYS.get(kind)
    if key in data and not _is_json_object(base64.b64decode(data[key])):
        faults.append(invalid(f"data[{key}]", "<secret contents redacted>", "must be a JSON object"))
    return faults


def _is_json_object(data: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(data), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _stays_immutable(flag: bool | None) -> list[FieldError]:
    return [] if flag else [forbidden("immutable", "field is immutable when `immutable` is set")]


def _frozen(path: str, same: bool) -> list[FieldError]:
    return [] if same else [forbidden(path, "field is immutable when `immutable` is set")]


def _check_keys(keys: list[tuple[str, str]]) -> list[FieldError]:
    return [invalid(f"{path}[{key}]", key, fault) for path, key in keys for fault in names.config_key(key)]


def _decoded_bytes(value: str) -> int:
    return len(value) * 3 // 4
