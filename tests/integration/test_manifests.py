"""The manifests people have, through the real command to a real master: stored, listed, described, diffed, patched and
deleted where Barque serves their kinds, and refused in Kubernetes' words where it does not. Nothing is half applied.

Besides the project's own manifests, those of a folder `shared/manifests` beside the checkout are tried where it exists.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from click.testing import CliRunner, Result

from barque.cli.main import cli
from barque.cli.manifests import expand_lists, parse
from tests.support.expecting import expect_soon
from tests.support.masters import AMaster

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT / "deploy" / "manifests", ROOT.parent / "shared" / "manifests" / "kubernetes-examples")
FILES = [file for folder in FOLDERS for file in sorted(folder.glob("*.yaml"))]
START_TIMEOUT_S = 60
pytestmark = pytest.mark.timeout(300)
# How a refusal may begin: of a kind, of a field that is not supported, of a value that Kubernetes refuses as well.
KIND_REFUSED = ('no matches for kind "', "barque does not serve ")
FIELD_REFUSED = (": Forbidden: barque ", ": Invalid value: ", ": Unsupported value: ", 'unknown field "')


class Master:
    """A master, and the command with its administrator's profile."""

    def __init__(self, directory: Path) -> None:
        self._profile = directory / "config"
        self._master = AMaster(directory, "m1")

    def start(self) -> None:
        """Until it answers."""
        self._master.start("--profile", str(self._profile))
        expect_soon(lambda: self.done("get", "namespace", "default"), START_TIMEOUT_S, "the namespaces")

    def run(self, *arguments: str) -> Result:
        result = CliRunner().invoke(cli, ["--config", str(self._profile), *arguments], prog_name="barque")
        assert self._master.runs, self._master.log
        return result

    def done(self, *arguments: str) -> str:
        """What the command prints; it must succeed."""
        result = self.run(*arguments)
        assert result.exit_code == 0, f"{' '.join(arguments)}: {result.stderr}"
        return result.stdout

    def stop(self) -> None:
        if self._master.runs:
            self._master.stop()


class Document(NamedTuple):
    """One object of a manifest."""

    file: str
    data: dict[str, Any]

    @property
    def title(self) -> str:
        return f"{self.data['apiVersion']} {self.data['kind']} {self.data['metadata']['name']}"

    @property
    def namespace(self) -> str:
        return str(self.data["metadata"].get("namespace") or "default")

    @property
    def word(self) -> str:
        """The type as it is typed: `deployment.apps`."""
        group = self.data["apiVersion"].rpartition("/")[0]
        kind = str(self.data["kind"]).lower()
        return f"{kind}.{group}" if group else kind

    def place(self) -> tuple[str, str, str]:
        return f"{self.word}/{self.data['metadata']['name']}", "-n", self.namespace


def documents_of(file: Path) -> list[Document]:
    raws = (item for raw in parse(file.name, file.read_bytes()) for item in expand_lists(raw))
    return [Document(file.name, raw.data) for raw in raws]


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    master = Master(tmp_path_factory.mktemp("master"))
    try:
        master.start()
        for namespace in sorted(
            {d.namespace for file in FILES for d in documents_of(file)} - {"default", "kube-system"}
        ):
            master.done("create", "namespace", namespace)
        yield master
    finally:
        master.stop()


@pytest.fixture(scope="module")
def table() -> Iterator[list[tuple[str, str, str]]]:
    """(file, object, what became of it), printed at the end."""
    rows: list[tuple[str, str, str]] = []
    yield rows
    width = max((len(title) for _, title, _ in rows), default=0)
    served = sum(became == "served" for _, _, became in rows)
    print(f"\n{served} of {len(rows)} objects of {len(FILES)} manifests are served")
    for file in dict.fromkeys(file for file, _, _ in rows):
        print(file)
        for _, title, became in (row for row in rows if row[0] == file):
            print(f"  {title:{width}}  {became}")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_a_manifest(master: Master, file: Path, tmp_path: Path, table: list[tuple[str, str, str]]) -> None:
    documents = documents_of(file)
    outcomes = []
    for number, document in enumerate(documents):
        alone = tmp_path / f"{number}.yaml"
        alone.write_text(yaml.safe_dump(document.data))
        outcomes.append(live_through(master, document, alone))
        table.append((file.name, document.title, outcomes[-1]))
    result = master.run("apply", "-f", str(file))
    if all(outcome == "served" for outcome in outcomes):
        assert result.exit_code == 0, result.stderr
        assert len(result.stdout.splitlines()) == len(documents)
        assert master.done("diff", "-f", str(file)) == ""
        master.done("delete", "-f", str(file))
    else:
        assert (result.exit_code, result.stdout) == (1, "")
    for document in documents:
        assert not is_there(master, document), f"{document.title} is left over"


def live_through(master: Master, document: Document, file: Path) -> str:
    """Bring one object through its life; how that went, in a word or two."""
    checked = master.run("apply", "-f", str(file), "--dry-run=server")
    applied = master.run("apply", "-f", str(file))
    assert checked.exit_code == applied.exit_code, (checked.stderr, applied.stderr)
    if applied.exit_code:
        assert not is_there(master, document)
        return refusal(applied.stderr)
    name = str(document.data["metadata"]["name"])
    assert applied.stdout.endswith(f"/{name} created\n")
    assert name in master.done("get", *document.place())
    assert name in master.done("get", document.word, "-n", document.namespace)
    assert "Name:  " in master.done("describe", *document.place())
    assert master.done("diff", "-f", str(file)) == ""
    assert master.done("apply", "-f", str(file)).endswith(" unchanged\n")
    patched = master.done("patch", *document.place(), "-p", "metadata: {labels: {patched: 'yes'}}")
    assert patched.endswith(f"/{name} patched\n")
    assert name in master.done("get", document.word, "-n", document.namespace, "-l", "patched=yes")
    assert master.done("diff", "-f", str(file)) == ""
    master.done("delete", "-f", str(file))
    assert not is_there(master, document)
    return "served"


def is_there(master: Master, document: Document) -> bool:
    """False also where its kind is not served at all."""
    result = master.run("get", *document.place())
    if result.exit_code:
        assert (
            "not found" in result.stderr
            or "doesn't have a resource type" in result.stderr
            or ("does not serve" in result.stderr)
        ), result.stderr
    return result.exit_code == 0


def refusal(said: str) -> str:
    """The refusal in short. It must be one of a kind or of fields, by name; and never a fault of the master's."""
    assert "InternalError" not in said
    assert "Traceback" not in said
    if any(words in said for words in KIND_REFUSED):
        return "refused: the kind is not served"
    assert any(words in said for words in FIELD_REFUSED), said
    fields = [line.strip("* ").partition(": ")[0] for line in said.splitlines() if line.startswith("* ")]
    if not fields:
        fields = [said.partition(" is invalid: ")[2].partition(": ")[0] or said.strip()]
    return f"refused: {', '.join(fields)}"


def test_there_are_manifests() -> None:
    assert any(file.name == "web.yaml" for file in FILES)
    assert os.access(FILES[0], os.R_OK)
