"""A process pays only for the groups it touches: what importing a module brings along, in an interpreter of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest

from barque.api import resources
from barque.api.types.generate import GROUPS

# The other groups that a group's structs refer to, besides metadata.
REFERS_TO = {
    "apps_v1": {"core_v1"},
    "batch_v1": {"core_v1"},
    "discovery_v1": {"core_v1"},
    "events_v1": {"core_v1"},
    "networking_v1": {"core_v1"},
    "node_v1": {"core_v1"},
    "storage_v1": {"core_v1"},
}
# Each import from a clean start, all in one interpreter.
_PROBE = """
import importlib, json, sys
found = {}
for name in sys.argv[1:]:
    for loaded in [m for m in sys.modules if m.startswith("barque")]:
        del sys.modules[loaded]
    importlib.import_module(name)
    found[name] = [m for m in sys.modules if m.startswith("barque.api")]
print(json.dumps(found))
"""


@cache
def brought_along(*modules: str) -> dict[str, set[str]]:
    """For each module those of `barque.api` that are loaded once it is imported."""
    run = subprocess.run([sys.executable, "-c", _PROBE, *modules], capture_output=True, text=True, check=True)
    return {name: set(loaded) for name, loaded in json.loads(run.stdout).items()}


def groups(loaded: set[str]) -> set[str]:
    """The groups of types among the modules; metadata comes with all of them, and what is published of all is data."""
    prefix = "barque.api.types."
    return {name.removeprefix(prefix) for name in loaded if name.startswith(prefix)} - {"base", "meta_v1", "published"}


def test_a_group_brings_only_those_its_structs_refer_to() -> None:
    modules = sorted(set(GROUPS.values()) - {"meta_v1"})
    found = brought_along(*(f"barque.api.types.{module}" for module in modules))
    for module in modules:
        loaded = found[f"barque.api.types.{module}"]
        assert groups(loaded) == {module} | REFERS_TO.get(module, set())
        assert {name for name in loaded if not name.startswith("barque.api.types")} == {"barque.api"}


@pytest.mark.parametrize(
    "module", ["resources", "decode", "selectors", "columns", "patch", "yaml_documents", "errors", "durations"]
)
def test_what_serves_all_kinds_brings_none(module: str) -> None:
    assert groups(brought_along(f"barque.api.{module}")[f"barque.api.{module}"]) == set()


def test_the_registry_imports_a_kind_when_it_is_asked_for() -> None:
    script = (
        "import sys; from barque.api import resources; lease = resources.by_kind('coordination.k8s.io/v1', 'Lease');"
        "before = set(sys.modules); lease.type; print(*sorted(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["barque.api.types.coordination_v1"]
    assert resources.by_kind("coordination.k8s.io/v1", "Lease").type.__name__ == "Lease"
