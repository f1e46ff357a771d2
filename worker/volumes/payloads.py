"""The files of configMap, secret, downwardAPI and projected volumes: from objects to contents and modes. Pure.

Follows Kubernetes' volume plugins; `ConfigError` carries their words.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from barque.api.types import core_v1
from barque.worker.pods import env
from barque.worker.pods.config import fs_group_of
from barque.worker.pods.env import ConfigError, Names, Sources
from barque.worker.volumes.publish import FileContent

DEFAULT_MODE = 0o644
# A token is for the pod's own user or group alone, where it has one.
TOKEN_MODE = 0o600
DEFAULT_TOKEN_S = 3600

Files = dict[str, FileContent]


class TokenKey(NamedTuple):
    """One token that a pod's volume shows; `audience` "" is the API's own."""

    audience: str
    expiration_s: int


class Held(NamedTuple):
    """What payloads are made of. `tokens` by what was asked for."""

    sources: Sources
    tokens: Mapping[TokenKey, str] = {}


def references(pod: core_v1.Pod) -> Names:
    """The ConfigMaps and Secrets that the pod's volumes show."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    for volume in pod.spec.volumes:
        if volume.configMap:
            config_maps.add(volume.configMap.name)
        if volume.secret:
            secrets.add(volume.secret.secretName)
        for part in _projections(volume):
            if part.configMap:
                config_maps.add(part.configMap.name)
            if part.secret:
                secrets.add(part.secret.name)
    return Names(frozenset(config_maps), frozenset(secrets))


def tokens(pod: core_v1.Pod) -> list[TokenKey]:
    """The service account tokens that the pod's volumes show."""
    parts = (part.serviceAccountToken for volume in pod.spec.volumes for part in _projections(volume))
    return list(dict.fromkeys(_token_key(part) for part in parts if part))


def changes_by_itself(volume: core_v1.Volume) -> bool:
    """Whether the volume shows something of the cluster that may change while the pod runs."""
    return any((volume.configMap, volume.secret, volume.downwardAPI, volume.projected))


def files_of(pod: core_v1.Pod, volume: core_v1.Volume, held: Held) -> Files:
    """The files of one such volume. Raises `ConfigError` where something it names is missing."""
    if volume.configMap:
        source = volume.configMap
        found = held.sources.config_maps.get(source.name)
        return _config_map(source.name, found, source.items, bool(source.optional), _mode(source.defaultMode))
    if volume.secret:
        name, mode = volume.secret.secretName, _mode(volume.secret.defaultMode)
        return _secret(
            name, held.sources.secrets.get(name), volume.secret.items, bool(volume.secret.optional), mode
        )  # fmt: skip
    if volume.downwardAPI:
        return _downward(pod, volume.downwardAPI.items, held.sources, _mode(volume.downwardAPI.defaultMode))
    if volume.projected:
        mode = _mode(volume.projected.defaultMode)
        parts = [_projected(pod, part, held, mode) for part in volume.projected.sources]
        # Where two sources claim a path, the later one has it.
        return {path: content for part in parts for path, content in part.items()}
    raise ValueError(f"volume {volume.name} shows nothing of the cluster")


def file_user(pod: core_v1.Pod) -> int | None:
    """The user that all containers of the pod run as, where its definition says so."""
    shared = pod.spec.securityContext.runAsUser if pod.spec.securityContext else None
    containers = [*pod.spec.initContainers, *pod.spec.containers]
    own = [c.securityContext.runAsUser if c.securityContext else None for c in containers]
    users = {shared if user is None else user for user in own}
    return users.pop() if len(users) == 1 else None


def _projected(pod: core_v1.Pod, part: core_v1.VolumeProjection, held: Held, mode: int) -> Files:
    sources = held.sources
    if part.configMap:
        name = part.configMap.name
        return _config_map(
            name, sources.config_maps.get(name), part.configMap.items, bool(part.configMap.optional), mode
        )  # fmt: skip
    if part.secret:
        name = part.secret.name
        return _secret(name, sources.secrets.get(name), part.secret.items, bool(part.secret.optional), mode)
    if part.downwardAPI:
        return _downward(pod, part.downwardAPI.items, sources, mode)
    if part.serviceAccountToken:
        user = file_user(pod)
        if user is not None or fs_group_of(pod) is not None:
            mode = TOKEN_MODE
        token = held.tokens[_token_key(part.serviceAccountToken)]
        return {part.serviceAccountToken.path: FileContent(token.encode(), mode, user)}
    raise ConfigError("barque does not support this kind of projected volume")


def _config_map(
    name: str, found: core_v1.ConfigMap | None, items: Sequence[core_v1.KeyToPath], optional: bool, mode: int
) -> Files:
    if found is None:
        if optional:
            return {}
        raise ConfigError(f'configmap "{name}" not found')
    data = {key: value.encode() for key, value in found.data.items()}
    data |= {key: base64.b64decode(value) for key, value in found.binaryData.items()}
    return _chosen(data, items, mode, optional, "configmap references non-existent config key")


def _secret(
    name: str, found: core_v1.Secret | None, items: Sequence[core_v1.KeyToPath], optional: bool, mode: int
) -> Files:
    if found is None:
        if optional:
            return {}
        raise ConfigError(f'secret "{name}" not found')
    data = {key: base64.b64decode(value) for key, value in found.data.items()}
    return _chosen(data, items, mode, optional, "references non-existent secret key")


def _chosen(
    data: Mapping[str, bytes], items: Sequence[core_v1.KeyToPath], mode: int, optional: bool, missing: str
) -> Files:
    if not items:
        return {key: FileContent(value, mode) for key, value in data.items()}
    found: Files = {}
    for item in items:
        if item.key in data:
            found[item.path] = FileContent(data[item.key], mode if item.mode is None else item.mode)
        elif not optional:
            raise ConfigError(f"{missing}: {item.key}")
    return found


def _downward(pod: core_v1.Pod, items: Sequence[core_v1.DownwardAPIVolumeFile], sources: Sources, mode: int) -> Files:
    found: Files = {}
    for item in items:
        text = _resource(pod, item, sources) if item.fieldRef is None else _field(pod, item.fieldRef, sources)
        found[item.path] = FileContent(text.encode(), mode if item.mode is None else item.mode)
    return found


_MAPS: dict[str, Callable[[core_v1.Pod], Mapping[str, str]]] = {
    "metadata.labels": lambda pod: pod.metadata.labels,
    "metadata.annotations": lambda pod: pod.metadata.annotations,
}


def _field(pod: core_v1.Pod, ref: core_v1.ObjectFieldSelector, sources: Sources) -> str:
    whole = _MAPS.get(ref.fieldPath)
    if whole is None:
        return env.pod_field(pod, ref.fieldPath, sources)
    return "\n".join(f"{key}={_quoted(value)}" for key, value in sorted(whole(pod).items()))


def _resource(pod: core_v1.Pod, item: core_v1.DownwardAPIVolumeFile, sources: Sources) -> str:
    if item.resourceFieldRef is None:
        raise ConfigError(f"the downward file {item.path} names no source")
    return env.resource_field(pod, pod.spec.containers[0], item.resourceFieldRef, sources)


def _quoted(text: str) -> str:
    """As Go's %q: like a JSON string, save for control characters."""
    quoted = json.dumps(text, ensure_ascii=False)
    for name, sign in (("\\u0007", "\\a"), ("\\u000b", "\\v")):
        quoted = quoted.replace(name, sign)
    return quoted.replace("\\u00", "\\x")


def _projections(volume: core_v1.Volume) -> Iterable[core_v1.VolumeProjection]:
    return volume.projected.sources if volume.projected else ()


def _token_key(part: core_v1.ServiceAccountTokenProjection) -> TokenKey:
    return TokenKey(part.audience, part.expirationSeconds or DEFAULT_TOKEN_S)


def _mode(mode: int | None) -> int:
    return DEFAULT_MODE if mode is None else mode
