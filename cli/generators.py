"""The objects that `create KIND NAME` makes of its options, as plain dictionaries in kubectl's form. Pure but for the
files that `--from-file` and its kin name.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from barque.cli.output import CliError

# What a ConfigMap or a Secret may have for a key.
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
REGISTRY_TYPE = "kubernetes.io/dockerconfigjson"
DOCKER_REGISTRY = "https://index.docker.io/v1/"


def namespace(name: str) -> dict[str, Any]:
    return _object("v1", "Namespace", name)


def service_account(name: str) -> dict[str, Any]:
    return _object("v1", "ServiceAccount", name)


def config_map(name: str, data: dict[str, bytes]) -> dict[str, Any]:
    """Text goes into `data`, what is no UTF-8 into `binaryData`."""
    made = _object("v1", "ConfigMap", name)
    for key, value in data.items():
        try:
            made.setdefault("data", {})[key] = value.decode()
        except UnicodeDecodeError:
            made.setdefault("binaryData", {})[key] = _base64(value)
    return made


def secret(name: str, data: dict[str, bytes], kind: str = "") -> dict[str, Any]:
    made = _object("v1", "Secret", name)
    if data:
        made["data"] = {key: _base64(value) for key, value in data.items()}
    if kind:
        made["type"] = kind
    return made


def tls_secret(name: str, certificate: bytes, key: bytes) -> dict[str, Any]:
    """Raises `CliError` where the two do not belong together or are no PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        leaf = x509.load_pem_x509_certificate(certificate).public_key()
        own = load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError) as error:
        raise CliError(f"a certificate and its key are wanted, both as PEM: {error}") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if leaf.public_bytes(*form) != own.public_bytes(*form):
        raise CliError("tls: private key does not match public key")
    return secret(name, {"tls.crt": certificate, "tls.key": key}, "kubernetes.io/tls")


def registry_secret(name: str, server: str, username: str, password: str, email: str) -> dict[str, Any]:
    """What a container runtime shows to a registry."""
    login = {"username": username, "password": password}
    if email:
        login["email"] = email
    login["auth"] = _base64(f"{username}:{password}".encode())
    config = json.dumps({"auths": {server: login}}, separators=(",", ":")).encode()
    return secret(name, {".dockerconfigjson": config}, REGISTRY_TYPE)


def deployment(
    name: str, images: Sequence[str], *, replicas: int = 1, port: int | None = None, command: Sequence[str] = ()
) -> dict[str, Any]:
    """One container for each image, named after it; `command` is the only container's."""
    if command and len(images) > 1:
        raise CliError("cannot specify multiple --image options and command")
    labels = {"app": name}
    containers: list[dict[str, Any]] = []
    for image, container in zip(images, _container_names(images), strict=True):
        made: dict[str, Any] = {"name": container, "image": image}
        if port is not None:
            made["ports"] = [{"containerPort": port}]
        if command:
            made["command"] = list(command)
        containers.append(made)
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return _object("apps/v1", "Deployment", name, labels) | {"spec": spec}


def service(name: str, kind: str, ports: Sequence[str], *, cluster_ip: str = "", node_port: int = 0) -> dict[str, Any]:
    """`ports` as `PORT` or `PORT:TARGET`; it selects the pods labelled `app=NAME`."""
    if not ports and cluster_ip != "None":
        raise CliError("at least one port must be specified, as in --tcp=80:8080")
    spec: dict[str, Any] = {"type": kind, "selector": {"app": name}}
    if ports:
        spec["ports"] = [_service_port(text, node_port) for text in ports]
    if cluster_ip:
        spec["clusterIP"] = cluster_ip
    return _object("v1", "Service", name, {"app": name}) | {"spec": spec}


def gather(literals: Iterable[str], files: Iterable[str], env_files: Iterable[str]) -> dict[str, bytes]:
    """The entries of `--from-literal KEY=VALUE`, `--from-file [KEY=]PATH` (a folder gives each of its files) and
    `--from-env-file`. Raises `CliError`, for a key given twice too.
    """
    entries: dict[str, bytes] = {}
    for text in literals:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise CliError(f"invalid literal source {text}, expected key=value")
        _add(entries, key, _unquoted(value).encode())
    for text in files:
        for key, path in _sources(text):
            _add(entries, key, _read(path))
    for text in env_files:
        for key, value in _variables(text):
            _add(entries, key, value.encode())
    return entries


def _add(entries: dict[str, bytes], key: str, value: bytes) -> None:
    if not _KEY.fullmatch(key) or key in (".", ".."):
        raise CliError(f"{json.dumps(key)} is not a valid key: it must consist of letters, digits, '-', '_' or '.'")
    if key in entries:
        raise CliError(f'cannot add key "{key}", another key by that name already exists')
    entries[key] = value


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


def _sources(text: str) -> Iterable[tuple[str, Path]]:
    key, equals, path = text.rpartition("=")
    source = Path(path)
    if equals and not (key and path):
        raise CliError(f"invalid file source {text}, expected [key=]path")
    if equals:
        return [(key, source)]
    if not source.is_dir():
        return [(source.name, source)]
    return [(file.name, file) for file in sorted(source.iterdir()) if file.is_file() and _KEY.fullmatch(file.name)]


def _variables(text: str) -> Iterable[tuple[str, str]]:
    lines = _read(Path(text)).decode(errors="replace").removeprefix("\ufeff").splitlines()
    for number, line in enumerate(lines, 1):
        stripped = line.lstrip()
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.partition("=")
        if not equals or not _VARIABLE.fullmatch(name):
            raise CliError(f"{text}:{number}: {json.dumps(line)} is not NAME=value")
        yield name, value


def _read(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise CliError(f"error reading {path}: {(error.strerror or str(error)).lower()}") from None


def read_file(path: str) -> bytes:
    """The contents of a file that an option names. Raises `CliError`."""
    return _read(Path(path))


def _container_names(images: Sequence[str]) -> list[str]:
    """The last part of each image's name; numbered where two are alike."""
    names: list[str] = []
    for image in images:
        name = re.sub(r"[^-a-z0-9]", "-", image.rpartition("/")[2].partition("@")[0].partition(":")[0].lower())
        names.append(name if name not in names else f"{name}-{len(names)}")
    return names


def _service_port(text: str, node_port: int) -> dict[str, Any]:
    first, _, target = text.partition(":")
    port = {"name": text.replace(":", "-"), "protocol": "TCP", "port": _number(first), "targetPort": _target(target)}
    if not target:
        port["targetPort"] = port["port"]
    if node_port:
        port["nodePort"] = node_port
    return port


def _target(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _number(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise CliError(f"{json.dumps(text)} is not a port; ports are given as PORT or PORT:TARGET, as in --tcp=80:8080")
    return int(text)


def _object(api_version: str, kind: str, name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
