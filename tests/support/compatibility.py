"""Writes docs/compatibility.md: what of Kubernetes' published API Barque serves, verb by verb.

In: the published schema data (which groups, versions and kinds there are), the registry of resources (what is served),
`DIFFERS` (where a verb is served and does not do quite the same), `PATHS` (what is no resource) and the tests' marks: a
test with `@pytest.mark.shows("pods/exec", "pods")` proves these rows, and so does a module whose `pytestmark` is such a
mark. Out: the page, the same for the same tree. `make generate` writes it; a unit test fails when it is stale.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from barque.api.resources import ALL_VERBS, RESOURCES, Resource
from barque.api.subresources import SUBRESOURCES
from barque.api.types.generate import SCHEMA_VERSION, load_definitions
from barque.api.unserved import UNSERVED

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "compatibility.md"

# Verbs of kinds that do not have them all.
_REVIEWS = ("create",)
_VERBS = {
    "namespaces": tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
    "componentstatuses": ("get", "list"),
    "nodes.metrics.k8s.io": ("get", "list"),
    "pods.metrics.k8s.io": ("get", "list"),
    "bindings": _REVIEWS,
    "selfsubjectreviews.authentication.k8s.io": _REVIEWS,
    "tokenreviews.authentication.k8s.io": _REVIEWS,
    "localsubjectaccessreviews.authorization.k8s.io": _REVIEWS,
    "selfsubjectaccessreviews.authorization.k8s.io": _REVIEWS,
    "selfsubjectrulesreviews.authorization.k8s.io": _REVIEWS,
    "subjectaccessreviews.authorization.k8s.io": _REVIEWS,
}
# Subresources besides `status`, which every kind has whose published schema has a status.
_SUBRESOURCES = {
    "namespaces": ("finalize",),
    "nodes": ("proxy",),
    "pods": (
        "attach", "binding", "ephemeralcontainers", "eviction", "exec", "log", "portforward", "proxy", "resize",
    ),
    "replicationcontrollers": ("scale",),
    "serviceaccounts": ("token",),
    "services": ("proxy",),
    "deployments.apps": ("scale",),
    "replicasets.apps": ("scale",),
    "statefulsets.apps": ("scale",),
    "certificatesigningrequests.certificates.k8s.io": ("approval",),
}  # fmt: skip
_VERBS_OF_FINALIZE = ("update",)
# Published kinds that are no resources: bodies of subresources, and what discovery is made of.
_BODIES = {"APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "DeleteOptions", "Eviction", "Scale", "Status",
           "TokenRequest", "WatchEvent"}  # fmt: skip

_REFUSED = "fields whose behaviour is missing are refused by name ([objects](objects.md#what-is-refused-by-name))"
_TEMPLATES = f"in pod templates, {_REFUSED}"
_EVENTS = "kept by the bus for an hour, at most 48 MiB; beyond a rate writes hear 429 ([bus](bus.md#events))"
_WRITES = ("create", "update", "patch")

# By row: the verbs that are served and do not do quite what Kubernetes' do, and how.
DIFFERS: dict[str, tuple[tuple[str, ...], str]] = {
    "namespaces/finalize": (("update",), "a namespace that still holds objects is not let go"),
    "componentstatuses": (("get", "list"), "the parts are Barque's: store, bus, usage ([bus](bus.md#the-servers))"),
    "events": (_WRITES, _EVENTS),
    "events.events.k8s.io": (_WRITES, _EVENTS),
    "nodes": (_WRITES, _REFUSED),
    "pods": (_WRITES, _REFUSED),
    "services": (_WRITES, _REFUSED),
    "podtemplates": (_WRITES, _TEMPLATES),
    "deployments.apps": (_WRITES, _TEMPLATES),
    "replicasets.apps": (_WRITES, _TEMPLATES),
    "nodes.metrics.k8s.io": (("get", "list"), "samples are ten seconds apart ([bus](bus.md#usage))"),
    "pods.metrics.k8s.io": (("get", "list"), "samples are ten seconds apart ([bus](bus.md#usage))"),
}

# Paths that are no resource's: whether they are served, and what to know of them.
PATHS: dict[str, tuple[str, str]] = {
    "/": ("✓", "the index of all paths"),
    "/api, /apis": ("✓", "and every group and version below; also as one document, apidiscovery.k8s.io v2 and v2beta1"),
    "/openapi/v2": ("✓", "JSON and protobuf"),
    "/openapi/v3": ("≈", "JSON alone"),
    "/version": ("✓", "major and minor are those of the schemas that Barque speaks"),
    "/healthz, /livez, /readyz": ("≈", "the parts are Barque's"),
    "/metrics": ("≈", "the metrics are Barque's"),
    "/.well-known/openid-configuration, /openid/v1/jwks": ("✓", ""),
    "/logs": ("✗", "a master's log is the journal of its unit"),
    "/debug": ("✗", ""),
}

_HEAD = """\
# What of Kubernetes' API there is

Generated from Kubernetes' published schemas ({version}), the registry of resources and the marks of tests; do not edit.
`make generate` writes it anew.

✓ works · ≈ works and differs, as said beside it · ✗ absent: refused by name · an empty cell: Kubernetes has none either

Of everything: answers are JSON or YAML, never protobuf or CBOR, which clients fall back from by themselves; sets of
managed fields describe what Barque's JSON has, which leaves out what is empty
([why](decisions/0005-owners-of-fields.md)); strategic merge tells ports of one number apart by protocol; deletion does
not take `ignoreStoreReadErrorWithClusterBreakingPotential`; OpenAPI documents have no descriptions.
"""
_COLUMNS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
_TITLES = "| | " + " | ".join((*_COLUMNS[:-1], "delete many")) + " | differs in | shown by |"


class Row(NamedTuple):
    """One resource or subresource: the verbs that Kubernetes has, and those that Barque has."""

    name: str
    kind: str
    published: tuple[str, ...]
    served: tuple[str, ...]

    @property
    def works(self) -> bool:
        return set(self.published) <= set(self.served)


def sections() -> dict[str, list[Row]]:
    """The rows of every stable group and version, by its name."""
    found: dict[str, list[Row]] = {}
    with_status = _kinds_with_status()
    served = {(row.api_version, row.plural): row for row in RESOURCES}
    names = {(row.api_version, row.plural): row.kind for row in (*RESOURCES, *UNSERVED)}
    for (api_version, plural), kind in sorted(names.items()):
        rows = _rows(api_version, plural, kind, served.get((api_version, plural)), (api_version, kind) in with_status)
        found.setdefault(api_version, []).extend(rows)
    return dict(sorted(found.items(), key=lambda item: ("/" in item[0], item[0])))


def _rows(api_version: str, plural: str, kind: str, resource: Resource | None, has_status: bool) -> Iterator[Row]:
    group = api_version.rpartition("/")[0]
    name = f"{plural}.{group}" if group else plural
    published = _VERBS.get(name, ALL_VERBS)
    yield Row(name, kind, published, resource.verbs if resource else ())
    status = ("status",) if has_status and published != _REVIEWS else ()
    known = (*_SUBRESOURCES.get(name, ()), *status)
    for below in sorted({*known, *(resource.subresources if resource else ())}):
        verbs = SUBRESOURCES[below].verbs if below in SUBRESOURCES else _VERBS_OF_FINALIZE
        has = resource is not None and below in resource.subresources
        yield Row(f"{name}/{below}", "", verbs if below in known else (), verbs if has else ())


def _kinds_with_status() -> set[tuple[str, str]]:
    return {
        (api_version, kind) for api_version, kind, definition in _published() if "status" in definition["properties"]
    }


@cache
def _definitions() -> dict[str, Any]:
    return load_definitions()


def _published() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Group and version, kind and definition of all published kinds that are no lists."""
    for definition in _definitions().values():
        kinds = definition.get("x-kubernetes-group-version-kind", [])
        if len(kinds) != 1 or "items" in definition["properties"]:
            continue
        group, version, kind = (kinds[0][name] for name in ("group", "version", "kind"))
        yield f"{group}/{version}" if group else version, kind, definition


def unstable() -> dict[str, list[str]]:
    """The kinds of alpha and beta versions, which Kubernetes serves only where they are turned on."""
    served = {row.api_version for row in RESOURCES}
    found: dict[str, list[str]] = {}
    for api_version, kind, _ in _published():
        if ("alpha" in api_version or "beta" in api_version) and api_version not in served:
            found.setdefault(api_version, []).append(kind)
    return {api_version: sorted(kinds) for api_version, kinds in sorted(found.items())}


def unknown() -> set[tuple[str, str]]:
    """Stable published kinds that neither the registry nor the table of unserved ones knows."""
    known = {(row.api_version, row.kind) for row in (*RESOURCES, *UNSERVED)}
    left_out = unstable()
    return {
        (api_version, kind)
        for api_version, kind, _ in _published()
        if api_version not in left_out and kind not in _BODIES and (api_version, kind) not in known
    }


def shown(root: Path = ROOT / "tests") -> dict[str, list[str]]:
    """The tests that prove a row, by its name, as `file.py::test` below `tests/`."""
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("test_*.py")):
        text = path.read_text()
        if "mark.shows(" not in text:
            continue
        file = str(path.relative_to(root))
        for test, rows in _marks(ast.parse(text)):
            for row in rows:
                found.setdefault(row, []).append(f"{file}::{test}" if test else file)
    return found


def _marks(module: ast.Module) -> Iterator[tuple[str, list[str]]]:
    """The tests of a module, "" for the whole of it, with the rows that their marks name."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name, marks = node.name, node.decorator_list
        elif isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["pytestmark"]:
            name, marks = "", node.value.elts if isinstance(node.value, ast.List) else [node.value]
        else:
            continue
        for mark in marks:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.shows":
                yield name, [ast.literal_eval(argument) for argument in mark.args]


def render() -> str:
    """The page."""
    proofs = shown()
    parts = [_HEAD.format(version=SCHEMA_VERSION)]
    for api_version, rows in sections().items():
        parts.append(f"\n## {api_version}\n\n{_TITLES}\n|---{'|:-:' * len(_COLUMNS)}|---|---|\n")
        parts += [_render(row, proofs.get(row.name, [])) for row in rows]
    parts.append("\n## Beside resources\n\n| path | | | shown by |\n|---|:-:|---|---|\n")
    for name, (state, said) in PATHS.items():
        parts.append(f"| {_code(name)} | {state} | {said} | {_links(proofs.get(name, []))} |\n")
    parts.append("\n## Alpha and beta\n\nKubernetes serves these only where they are turned on; Barque does not.\n\n")
    parts += [f"* {api_version}: {', '.join(kinds)}\n" for api_version, kinds in unstable().items()]
    return "".join(parts)


def _render(row: Row, proofs: list[str]) -> str:
    differing, how = DIFFERS.get(row.name, ((), ""))
    cells = [_cell(row, verb, verb in differing) for verb in _COLUMNS]
    title = f"`{row.name}`" + (f" {row.kind}" if row.kind else "")
    told = how if {*differing} & {*row.served} else ""
    return f"| {title} | {' | '.join(cells)} | {told} | {_links(proofs)} |\n"


def _code(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))


def _links(proofs: list[str]) -> str:
    return ", ".join(f"[{proof.rpartition('/')[2]}](../tests/{proof.partition('::')[0]})" for proof in proofs)


def _cell(row: Row, verb: str, differs: bool) -> str:
    if verb in row.served:
        return "≈" if differs else "✓"
    return "✗" if verb in row.published else ""


def main() -> None:
    """Write the page."""
    PAGE.write_text(render())


if __name__ == "__main__":
    main()
