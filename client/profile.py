"""The connection profile: which clusters there are, and who one is in each. `~/.barque/config`, YAML, mode 0600.

A file is several contexts and the name of the current one, or, as a worker's is, the one profile itself. It holds the
certificates and keys themselves (PEM), so that it is one file to copy and one rename to renew. `BARQUE_CONFIG` names
another file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from barque.client import system_errors
from barque.client.pki import Identity, PkiError, write_private

ENVIRONMENT = "BARQUE_CONFIG"
DEFAULT_GRPC_PORT = 7443
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\s/\[\]]+)(?::(\d{1,5}))?")


class ProfileError(Exception):
    """The profile is missing or unusable; the message is one sentence that says what to do."""


class Profile(msgspec.Struct, forbid_unknown_fields=True):
    """How to reach a cluster. `masters` are `host:port` of their gRPC doors; `ca`, `cert` and `key` are PEM text."""

    masters: list[str]
    ca: str
    cert: str
    key: str
    cluster: str = "barque"
    namespace: str = "default"

    def __post_init__(self) -> None:
        if not self.masters:
            raise ValueError("masters is empty")
        self.masters = [normal_address(master, DEFAULT_GRPC_PORT) for master in self.masters]

    @classmethod
    def of(
        cls, masters: list[str], identity: Identity, *, cluster: str = "barque", namespace: str = "default"
    ) -> Profile:
        return cls(
            masters=masters,
            ca=identity.ca_pem.decode(),
            cert=identity.cert_pem.decode(),
            key=identity.key_pem.decode(),
            cluster=cluster,
            namespace=namespace,
        )

    @property
    def identity(self) -> Identity:
        return Identity(self.cert.encode(), self.key.encode(), self.ca.encode())

    def same_cluster(self, other: Profile) -> bool:
        """Whether both lead to one cluster: they trust the same CA, or meet a master at the same address."""
        return self.ca == other.ca or not set(self.masters).isdisjoint(other.masters)

    def save(self, path: Path) -> None:
        """Write this one profile durably, readable by the owner alone."""
        _write(path, render(self))


class Contexts(msgspec.Struct, forbid_unknown_fields=True, rename={"current": "current-context"}):
    """The profiles of a file by their names; `current` is "" where none is chosen."""

    contexts: dict[str, Profile]
    current: str = ""

    def chosen(self, name: str = "") -> Profile:
        """The profile of that name, by default the current one. Raises `ProfileError`."""
        wanted = name or self.current
        if not wanted:
            known = ", ".join(self.contexts) or "there is none"
            raise ProfileError(f"current-context is not set: `barque config use-context NAME` chooses one ({known})")
        if wanted not in self.contexts:
            known = ", ".join(self.contexts) or "none"
            raise ProfileError(f'no context exists with the name: "{wanted}"; there are: {known}')
        return self.contexts[wanted]

    def add(self, name: str, profile: Profile) -> None:
        """Put a cluster in, or what is new about it; its namespace stays. Raises `ProfileError` where the name is that
        of another cluster, whose key would be lost.
        """
        if not name or name != name.strip() or "\n" in name:
            raise ProfileError(f"{name!r} cannot be the name of a context")
        present = self.contexts.get(name)
        if present is not None and not present.same_cluster(profile):
            raise ProfileError(
                f'context "{name}" is another cluster\'s ({", ".join(present.masters)}): rename it with '
                f"`barque config rename-context {name} NAME`, or delete it with `barque config delete-context {name}`"
            )
        if present is not None:
            profile = msgspec.structs.replace(profile, namespace=present.namespace)
        self.contexts[name] = profile

    def save(self, path: Path) -> None:
        """Write all of them durably, readable by the owner alone."""
        _write(path, render(self))


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the profile is: `BARQUE_CONFIG`, else `~/.barque/config`."""
    named = environment.get(ENVIRONMENT, "")
    return Path(named).expanduser() if named else Path.home() / ".barque" / "config"


def load(path: Path | None = None, context: str = "") -> Profile:
    """The profile to use of the file at `path`, by default at `default_path()`: that of `context`, else the current
    one. Raises `ProfileError`.
    """
    where = path or default_path()
    try:
        profile = load_contexts(where).chosen(context)
        profile.identity.check(str(where))
    except PkiError as error:
        raise ProfileError(f"the profile {error}") from error
    return profile


def load_contexts(path: Path) -> Contexts:
    """All contexts of a file; a single profile is the context of its cluster's name. Raises `ProfileError`."""
    try:
        return parse(path.read_text(), str(path))
    except FileNotFoundError:
        raise ProfileError(
            f"no profile at {path}: `barque up` makes a cluster on this machine, `barque config import FILE` takes "
            f"over the way to one elsewhere, {ENVIRONMENT} names another file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"cannot read the profile {path}: {system_errors.told(error)}") from error


def parse(text: str, where: str) -> Contexts:
    """The contexts of a file's YAML. Raises `ProfileError` naming `where`."""
    try:
        data: Any = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if isinstance(data, dict) and "contexts" in data:
            return msgspec.convert(data, Contexts)
        profile = msgspec.convert(data, Profile)
    except yaml.YAMLError as error:
        raise ProfileError(f"the profile {where} is not YAML: {_fault(error)}") from error
    except msgspec.ValidationError as error:
        raise ProfileError(f"the profile {where} is not usable: {error}") from error
    return Contexts({profile.cluster: profile}, profile.cluster)


def remember(path: Path, name: str, profile: Profile) -> None:
    """Make a cluster the current context of the file at `path`, beside those that are there.

    Raises `ProfileError` where the file cannot be read, or the name is another cluster's: nothing is changed then.
    """
    contexts = load_contexts(path) if path.exists() else Contexts({})
    contexts.add(name, profile)
    contexts.current = name
    contexts.save(path)


def note_masters(path: Path, ca: str, masters: Sequence[str]) -> None:
    """Have every profile of the cluster with this CA in the file name these masters; what else it holds, and whether it
    is one profile or several, stays. It is replaced as a whole, and only where that changes it. Raises `ProfileError`.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"cannot read the profile {path}: {system_errors.told(error)}") from error
    contexts = parse(text, str(path))
    outdated = [each for each in contexts.contexts.values() if each.ca == ca and each.masters != list(masters)]
    if not outdated:
        return
    for profile in outdated:
        profile.masters = list(masters)
    single = not any(line.startswith("contexts:") for line in text.splitlines())
    try:
        _write(path, render(outdated[0] if single else contexts))
    except OSError as error:
        raise ProfileError(f"cannot write the profile {path}: {system_errors.told(error)}") from error


def forget(path: Path, ca: str) -> None:
    """Take the contexts of the cluster with this CA out of the file; it goes with the last. Raises `ProfileError`."""
    contexts = load_contexts(path)
    kept = {name: each for name, each in contexts.contexts.items() if each.ca != ca}
    if not kept:
        path.unlink()
        return
    Contexts(kept, contexts.current if contexts.current in kept else "").save(path)


def render(profile: Profile | Contexts) -> str:
    """The profile as YAML, with PEM as readable blocks."""
    data = msgspec.to_builtins(profile)
    if isinstance(profile, Contexts):
        data = {"current-context": data.pop("current-context"), **data}
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False)


def normal_address(text: str, default_port: int) -> str:
    """`host` or `host:port` as `host:port`; IPv6 stands in brackets. Raises ValueError."""
    found = _ADDRESS.fullmatch(text.strip())
    port = int(found.group(2) or default_port) if found else 0
    if found is None or not 0 < port < 65536:
        raise ValueError(f"{text!r} is not host:port")
    return f"{found.group(1)}:{port}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, text.encode())


def _fault(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).splitlines()[0]


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
