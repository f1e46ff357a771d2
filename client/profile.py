"""The connection profile: which masters, and who one is there. `~/.barque/config`, YAML, mode 0600.

The file holds the certificate and key themselves (PEM), so that it is one file to copy and one rename to renew.
`BARQUE_CONFIG` names another file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

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

    def save(self, path: Path) -> None:
        """Write durably, readable by the owner alone."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, render(self).encode())


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the profile is: `BARQUE_CONFIG`, else `~/.barque/config`."""
    named = environment.get(ENVIRONMENT, "")
    return Path(named).expanduser() if named else Path.home() / ".barque" / "config"


def load(path: Path | None = None) -> Profile:
    """Read and check the profile at `path`, by default at `default_path()`. Raises `ProfileError`."""
    where = path or default_path()
    try:
        text = where.read_text()
    except FileNotFoundError:
        raise ProfileError(f"no profile at {where}: run `barque up` or set {ENVIRONMENT}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"cannot read the profile {where}: {error}") from error
    return parse(text, str(where))


def parse(text: str, where: str) -> Profile:
    """A profile from its YAML. Raises `ProfileError` naming `where`."""
    try:
        data: Any = yaml.safe_load(text)
        profile = msgspec.convert(data, Profile)
        profile.identity.check(where)
    except yaml.YAMLError as error:
        raise ProfileError(f"the profile {where} is not YAML: {_fault(error)}") from error
    except msgspec.ValidationError as error:
        raise ProfileError(f"the profile {where} is not usable: {error}") from error
    except PkiError as error:
        raise ProfileError(f"the profile {error}") from error
    return profile


def render(profile: Profile) -> str:
    """The profile as YAML, with PEM as readable blocks."""
    return yaml.dump(msgspec.to_builtins(profile), Dumper=_Dumper, sort_keys=False)


def normal_address(text: str, default_port: int) -> str:
    """`host` or `host:port` as `host:port`; IPv6 stands in brackets. Raises ValueError."""
    found = _ADDRESS.fullmatch(text.strip())
    port = int(found.group(2) or default_port) if found else 0
    if found is None or not 0 < port < 65536:
        raise ValueError(f"{text!r} is not host:port")
    return f"{found.group(1)}:{port}"


def _fault(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).splitlines()[0]


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
