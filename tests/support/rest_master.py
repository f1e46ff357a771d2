"""A master on loopback as the clients of its REST door see it: a kubeconfig, a kubectl, the official Python client.

`a_rest_master(directory)` starts a real one, with its audit log on. Nodes are objects without a worker: what needs
running pods belongs into the lab.
"""

from __future__ import annotations

import datetime
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes
import kubernetes.config

from barque.client.kubeconfig import Access, render
from barque.client.pki import Authority, Identity, Subject, split_pem
from tests.support.kubectl import ClientBinary
from tests.support.masters import AMaster


class Answer(NamedTuple):
    """Of the door: the status, headers by lower-cased name, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes


class RestMaster:
    """A serving master, and the administrator's kubeconfig."""

    def __init__(self, master: AMaster) -> None:
        self.master = master
        self.kubeconfig = self.write_kubeconfig("admin", Identity.load(master.pki, "admin"))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.master.https_port}"

    def identity(self, name: str, *groups: str) -> Identity:
        """A user with a certificate of this cluster."""
        authority = Authority(*split_pem((self.master.pki / "authority.pem").read_bytes()))
        return authority.identity(Subject(name, groups), datetime.datetime.now(datetime.UTC))

    def write_kubeconfig(self, name: str, identity: Identity, namespace: str = "") -> Path:
        """A kubeconfig of this identity. All are in one home, so that clients learn once what the master serves."""
        path = self.master.directory / "users" / f"{name}.kubeconfig"
        path.parent.mkdir(parents=True, exist_ok=True)
        ca, cert, key = (pem.decode() for pem in (identity.ca_pem, identity.cert_pem, identity.key_pem))
        path.write_text(render(Access("tested", self.url, ca, identity.name, cert, key, namespace=namespace)))
        return path

    def api(self, kubeconfig: Path | None = None) -> kubernetes.client.ApiClient:
        """The official Python client."""
        return kubernetes.config.new_client_from_config(str(kubeconfig or self.kubeconfig))

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, *, identity: Identity | None = None,
        **headers: str,
    ) -> Answer:  # fmt: skip
        """A bare request, as the administrator or as `identity`; names of `headers` with `_` for `-`."""
        context = (identity or Identity.load(self.master.pki, "admin")).client_context()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return _ask(urllib.request.Request(self.url + path, body, named, method=method), context)

    def ask_as_nobody(self, path: str, **headers: str) -> Answer:
        """Without a certificate."""
        context = ssl.create_default_context(cafile=str(self.master.pki / "ca.pem"))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return _ask(urllib.request.Request(self.url + path, headers=named), context)


class Kubectl:
    """A kubectl as one user of a master runs it."""

    def __init__(self, client: ClientBinary, kubeconfig: Path) -> None:
        self.client = client
        self.kubeconfig = kubeconfig

    def __call__(self, *arguments: str, stdin: str | None = None, timeout_s: float = 90.0, **environment: str) -> str:
        """What it prints; fails where it fails."""
        done = self.run(*arguments, stdin=stdin, timeout_s=timeout_s, **environment)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def refused(self, *arguments: str, stdin: str | None = None) -> str:
        """Why it fails; fails where it does not."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode, f"kubectl {' '.join(arguments)} did not fail: {done.stdout}"
        return done.stderr

    def run(
        self, *arguments: str, stdin: str | None = None, timeout_s: float = 90.0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end, whatever that is."""
        return self.client.run(
            *arguments, kubeconfig=self.kubeconfig, stdin=stdin, status=None, timeout_s=timeout_s,
            environment=environment,
        )  # fmt: skip

    def begin(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start it, for what lasts: the caller ends it."""
        argv, env = self.client.command(arguments, self.kubeconfig, environment)
        return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@contextmanager
def a_rest_master(directory: Path, options: Sequence[str] = ()) -> Iterator[RestMaster]:
    """One that serves, until the end of the context."""
    master = AMaster(directory, "m1")
    log = master.directory / "audit.log"
    master.start("--profile", str(directory / "profile"), "--audit-log-path", str(log), *options)
    try:
        yield RestMaster(master)
    finally:
        if master.runs:
            master.stop()


def _ask(request: urllib.request.Request, context: ssl.SSLContext) -> Answer:
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=60) as answer:
            return _answer(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return _answer(refused)


def _answer(answer: Any) -> Answer:
    return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read())
