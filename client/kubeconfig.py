"""Kubeconfigs: the file by which kubectl and every other Kubernetes client finds the REST door, and is known there.

`Access` is one way in: a cluster, a user, and a context of the two. `merged` puts it into the text of a file beside
whatever else is there: pure, text in, text out. `remember` and `forget` do that to a file.

Barque's own file lies beside its profile, `~/.barque/kubeconfig`, and is none that kubectl reads by itself: what a
user's `~/.kube/config` holds, and which of its contexts is the current one, an `init` must not change. `barque
kubeconfig --output FILE` is how one asks for that.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from barque.client import system_errors
from barque.client.pki import MASTER_HOST, write_private
from barque.client.profile import Profile

FILE = "kubeconfig"
DEFAULT_HTTPS_PORT = 6443
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_LISTS = ("clusters", "contexts", "users")


class KubeconfigError(Exception):
    """The file cannot be read, or a name in it is another cluster's; the message is one sentence for the user."""


class Access(NamedTuple):
    """One way in. `server` is `https://host:port`; `tls_server_name` is given where the certificate does not name that
    host. The user shows a certificate with its key, or a token. All PEM is text.
    """

    cluster: str
    server: str
    ca: str
    user: str
    cert: str = ""
    key: str = ""
    token: str = ""
    namespace: str = ""
    tls_server_name: str = ""
    context: str = ""

    @property
    def context_name(self) -> str:
        """What the context is called: as the cluster, where it is not said otherwise."""
        return self.context or self.cluster

    @property
    def user_name(self) -> str:
        """What the user is called in the file: there may be one of that name in each cluster."""
        return f"{self.user}@{self.cluster}"


def server_of(host: str, port: int, named: frozenset[str] | set[str]) -> tuple[str, str]:
    """The URL of the REST door at a master's `host`, and the TLS server name to expect there: "" where the master's
    certificate names the host, as it does those in `named` and this machine's own loopback.
    """
    return f"https://{host}:{port}", "" if host in (*_LOCAL, *named) else MASTER_HOST


def path_beside(profile: Path) -> Path:
    """Where Barque's own kubeconfig lies."""
    return profile.parent / FILE


def remember_beside(profile: Path, context: str, admin: Profile, https_port: int) -> Path:
    """Put into the file beside `profile` the same way in as `admin`: by its first master, whose certificate names the
    host that it is known by there. Returns the file. Raises `KubeconfigError`, `OSError`.
    """
    access = _access_of(context, admin, https_port)._replace(user=admin.identity.name)
    path = path_beside(profile)
    remember(path, access, use=True)
    return path


def check_beside(profile: Path, context: str, admin: Profile, https_port: int) -> None:
    """Raise `KubeconfigError` where `remember_beside` would; `admin` may be without certificate and key yet."""
    path = path_beside(profile)
    _check_names(_parse(_read(path), str(path)), _access_of(context, admin, https_port), str(path))


def _access_of(context: str, admin: Profile, https_port: int) -> Access:
    host = admin.masters[0].rpartition(":")[0]
    server, _ = server_of(host, https_port, {host})
    return Access(context, server, admin.ca, "", admin.cert, admin.key)


def render(access: Access) -> str:
    """A file of this way in alone."""
    return merged("", access, "")


def merged(text: str, access: Access, where: str, *, use: bool = False) -> str:
    """The file's text with this way in, what else it holds as it was. It becomes the current context where there is
    none, or with `use`. Raises `KubeconfigError` naming `where`, as where a name is another cluster's.
    """
    config = _parse(text, where)
    _check_names(config, access, where)
    cluster = {"certificate-authority-data": _data(access.ca), "server": access.server}
    if access.tls_server_name:
        cluster["tls-server-name"] = access.tls_server_name
    context = {"cluster": access.cluster, "user": access.user_name}
    namespace = access.namespace or _entry(config, "contexts", access.context_name).get("namespace", "")
    if namespace:
        context["namespace"] = namespace
    if access.token:
        user = {"token": access.token}
    else:
        user = {"client-certificate-data": _data(access.cert), "client-key-data": _data(access.key)}
    _put(config, "clusters", access.cluster, "cluster", cluster)
    _put(config, "contexts", access.context_name, "context", context)
    _put(config, "users", access.user_name, "user", user)
    if use or not config.get("current-context"):
        config["current-context"] = access.context_name
    return _text(config)


def without(text: str, ca: str, where: str) -> str:
    """The file's text without the clusters of this CA, their contexts and the users of those alone; "" where nothing is
    left. Raises `KubeconfigError`.
    """
    config = _parse(text, where)
    gone = {each["name"] for each in config["clusters"] if _ca_of(each) == _data(ca)}
    leading = [each for each in config["contexts"] if each.get("context", {}).get("cluster") in gone]
    kept = [each for each in config["contexts"] if each not in leading]
    users = {each["context"].get("user") for each in leading} - {each.get("context", {}).get("user") for each in kept}
    config["clusters"] = [each for each in config["clusters"] if each["name"] not in gone]
    config["contexts"] = kept
    config["users"] = [each for each in config["users"] if each["name"] not in users]
    if config.get("current-context") in {each["name"] for each in leading}:
        config["current-context"] = ""
    return _text(config) if any(config[part] for part in _LISTS) else ""


def remember(path: Path, access: Access, *, use: bool = False) -> None:
    """Put a way in into the file at `path`, mode 0600. Raises `KubeconfigError`, `OSError`."""
    text = merged(_read(path), access, str(path), use=use)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A link stays one: it is the file behind it that is replaced.
    write_private(path.resolve(), text.encode())


def forget(path: Path, ca: str) -> None:
    """Take the cluster with this CA out of the file, which goes with the last. Raises `KubeconfigError`, `OSError`."""
    if not path.exists():
        return
    text = without(_read(path), ca, str(path))
    if text:
        write_private(path.resolve(), text.encode())
    else:
        path.unlink()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"cannot read {path}: {system_errors.told(error)}") from error


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        loaded: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise KubeconfigError(f"{where} is not YAML: {str(error).splitlines()[0]}") from error
    if loaded is not None and (not isinstance(loaded, dict) or loaded.get("kind", "Config") != "Config"):
        raise KubeconfigError(f"{where} is no kubeconfig")
    config: dict[str, Any] = {"apiVersion": "v1", "kind": "Config"} | (loaded or {})
    for part in _LISTS:
        if config.get(part) is None:
            config[part] = []
        named = isinstance(config[part], list) and all(isinstance(e, dict) and "name" in e for e in config[part])
        if not named:
            raise KubeconfigError(f"{where} is no kubeconfig: its {part} are not a list of named entries")
    return config


def _check_names(config: dict[str, Any], access: Access, where: str) -> None:
    """Refuse names that stand for something else: whatever they lead to would be lost. A cluster that was founded anew
    at the same address has taken the former one's place, as in a profile (`Profile.same_cluster`).
    """
    for each in config["clusters"]:
        same = _ca_of(each) == _data(access.ca) or _server_of(each) == access.server
        if each["name"] == access.cluster and not same:
            raise KubeconfigError(
                f'the cluster "{access.cluster}" in {where} is another one ({_server_of(each)}): take it out with '
                f"`kubectl --kubeconfig {where} config delete-cluster {access.cluster}`, or choose another name or file"
            )
    leads_to = _entry(config, "contexts", access.context_name).get("cluster", access.cluster)
    if leads_to != access.cluster:
        raise KubeconfigError(
            f'the context "{access.context_name}" in {where} leads to another cluster ({leads_to}): choose another name'
        )


def _entry(config: dict[str, Any], part: str, name: str) -> Mapping[str, Any]:
    """What the file says under this name, {} where nothing."""
    inner = part.removesuffix("s")
    found = next((each.get(inner) for each in config[part] if each["name"] == name), None)
    return found or {}


def _put(config: dict[str, Any], part: str, name: str, inner: str, value: dict[str, str]) -> None:
    entry = {"name": name, inner: value}
    places = [at for at, each in enumerate(config[part]) if each["name"] == name]
    if places:
        config[part][places[0]] = entry
    else:
        config[part].append(entry)


def _ca_of(cluster: Mapping[str, Any]) -> str:
    return str((cluster.get("cluster") or {}).get("certificate-authority-data", ""))


def _server_of(cluster: Mapping[str, Any]) -> str:
    return str((cluster.get("cluster") or {}).get("server", "unknown"))


def _data(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()


def _text(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=1 << 20)
