"""The schemas of OpenAPI documents: one for each struct, under Kubernetes' name (`io.k8s.api.core.v1.Pod`).

In: the full name of a definition. Out: its schema in the words of OpenAPI 2 or 3, with the extensions that say how it
is merged: patch-strategy and patch-merge-key for strategic patches, list-type, list-map-keys and map-type for
server-side apply. Required fields, formats and the names of moments and free-form JSON are those of the published data;
of groups that are no part of it (metrics), what the structs themselves say. Source: kube-openapi's rules of names and
extensions.
"""

from __future__ import annotations

import importlib
import types
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from barque.api.openapi.enums import enum_of
from barque.api.shapes import LIST_KEY_DEFAULTS
from barque.api.types import published
from barque.api.types.base import ListRule, Object

Schema = dict[str, Any]
Dialect = Literal["v2", "v3"]

PREFIXES: dict[Dialect, str] = {"v2": "#/definitions/", "v3": "#/components/schemas/"}

_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
DELETE_OPTIONS, STATUS, PATCH = f"{_META}.DeleteOptions", f"{_META}.Status", f"{_META}.Patch"
VERSION_INFO = "io.k8s.apimachinery.pkg.version.Info"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1"

# Packages that are not `io.k8s.api.<group>.<version>`, by the module of their structs.
_PACKAGES = {
    "meta_v1": _META,
    "apiextensions_v1": _EXTENSIONS,
    "apiregistration_v1": "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1",
    "metrics_v1beta1": "io.k8s.metrics.pkg.apis.metrics.v1beta1",
}
_MODULES = {package: module for module, package in _PACKAGES.items()}

_TIME: Schema = {"type": "string", "format": "date-time"}
_FREE: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_INFO_FIELDS = (
    "buildDate", "compiler", "gitCommit", "gitTreeState", "gitVersion", "goVersion", "major", "minor", "platform",
)  # fmt: skip
_OPTIONAL_INFO_FIELDS = ("emulationMajor", "emulationMinor", "minCompatibilityMajor", "minCompatibilityMinor")
# Definitions that are no structs here. Those that are written in one of two types say so only in version 3: version 2
# has no words for it.
_STANDING: dict[str, Schema] = {
    f"{_META}.Time": _TIME,
    f"{_META}.MicroTime": _TIME,
    f"{_META}.FieldsV1": _FREE,
    PATCH: {"type": "object"},
    _QUANTITY: {"type": "string"},
    _INT_OR_STRING: {"type": "string", "format": "int-or-string"},
    "io.k8s.apimachinery.pkg.runtime.RawExtension": _FREE,
    f"{_EXTENSIONS}.JSON": {},
    f"{_EXTENSIONS}.JSONSchemaPropsOrArray": {},
    f"{_EXTENSIONS}.JSONSchemaPropsOrBool": {},
    f"{_EXTENSIONS}.JSONSchemaPropsOrStringArray": {},
    f"{_EXTENSIONS}.CustomResourceSubresourceStatus": {"type": "object"},
    VERSION_INFO: {
        "type": "object",
        "required": list(_INFO_FIELDS),
        "properties": {name: {"type": "string"} for name in sorted((*_INFO_FIELDS, *_OPTIONAL_INFO_FIELDS))},
    },
}
_STANDING_V3: dict[str, Schema] = {
    _QUANTITY: {"oneOf": [{"type": "string"}, {"type": "number"}]},
    _INT_OR_STRING: {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
}

_SCALARS: dict[frozenset[type], Schema] = {
    frozenset({str}): {"type": "string"},
    frozenset({int}): {"type": "integer", "format": "int32"},
    frozenset({float}): {"type": "number", "format": "double"},
    frozenset({bool}): {"type": "boolean"},
}
_UNIONS = {frozenset({str, int, float}): _QUANTITY, frozenset({str, int}): _INT_OR_STRING}

# Fields that the published data knows nothing of, with the formats of the API they are of.
_OWN_SCALARS = {
    ("metrics_v1beta1", "NodeMetrics", "timestamp"): f"{_META}.Time",
    ("metrics_v1beta1", "PodMetrics", "timestamp"): f"{_META}.Time",
}
# Kinds of apimachinery whose structs leave apiVersion to the writer: they are said in every group.
_KINDS_OF_ALL = ("APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "DeleteOptions")
_ALWAYS_THERE = ("apiVersion", "kind", "metadata", "spec", "status")


def module_of(api_version: str) -> str:
    """The module of `barque.api.types` with the structs of a group and version."""
    group, _, version = api_version.rpartition("/")
    return f"{group.split('.')[0] or 'core'}_{version}"


def name_of(module: str, struct: str) -> str:
    """`core_v1`, `Pod` -> `io.k8s.api.core.v1.Pod`."""
    group, _, version = module.rpartition("_")
    return f"{_PACKAGES.get(module) or f'io.k8s.api.{group}.{version}'}.{struct}"


def struct_of(name: str) -> type[Object] | None:
    """The struct of a definition; None for those that have none. Imports its module."""
    package, _, struct = name.rpartition(".")
    if name in _STANDING:
        return None
    module = _MODULES.get(package) or "_".join(package.split(".")[-2:])
    found: type[Object] = getattr(importlib.import_module(f"barque.api.types.{module}"), struct)
    return found


def schema_of(name: str, dialect: Dialect) -> Schema:
    """The schema of this name."""
    struct = struct_of(name)
    if struct is None:
        return (_STANDING_V3.get(name) if dialect == "v3" else None) or _STANDING[name]
    return _Struct(struct, dialect).schema()


def reached(names: Iterable[str]) -> Iterator[str]:
    """These names and all that their definitions refer to, each once; a little work before each."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            yield name
            pending += _references_of(name)


@cache
def _references_of(name: str) -> tuple[str, ...]:
    return tuple(sorted({*_references(schema_of(name, "v2"))}))


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for each in schema for name in _references(each)]
    if not isinstance(schema, dict):
        return []
    named = schema.get("$ref")
    if isinstance(named, str):
        return [named.removeprefix(PREFIXES["v2"])]
    return [name for each in schema.values() for name in _references(each)]


class _Struct:
    """The making of one struct's schema."""

    def __init__(self, struct: type[Object], dialect: Dialect) -> None:
        self._struct = struct
        self._name = struct.__name__
        self._module = struct.__module__.rpartition(".")[2]
        self._dialect: Dialect = dialect
        tables = importlib.import_module(struct.__module__)
        self._lists: dict[tuple[str, str], ListRule] = tables.LIST_RULES
        self._maps: dict[tuple[str, str], str] = tables.MAP_TYPES

    def schema(self) -> Schema:
        fields = {info.encode_name: info for info in msgspec.structs.fields(self._struct)}
        schema: Schema = {"type": "object"}
        required = self._required(fields)
        if required:
            schema["required"] = required
        if fields:
            schema["properties"] = {name: self._field(name, fields[name]) for name in sorted(fields)}
        if map_type := self._maps.get((self._name, "")):
            schema["x-kubernetes-map-type"] = map_type
        kinds = self._kinds(fields)
        if kinds:
            schema["x-kubernetes-group-version-kind"] = kinds
        return schema

    def _required(self, fields: dict[str, msgspec.structs.FieldInfo]) -> list[str]:
        if self._module in published.FORMATS or self._module in published.REQUIRED:
            return list(published.REQUIRED.get(self._module, {}).get(self._name, ()))
        optional = (list, dict, msgspec.NODEFAULT)
        return [
            name
            for name, info in sorted(fields.items())
            if name not in _ALWAYS_THERE and info.default_factory not in optional
        ]

    def _kinds(self, fields: dict[str, msgspec.structs.FieldInfo]) -> list[Schema]:
        if self._module == "meta_v1" and self._name in _KINDS_OF_ALL:
            return [{"group": "", "kind": self._name, "version": "v1"}]
        defaults = [fields[name].default_factory for name in ("apiVersion", "kind") if name in fields]
        if len(defaults) != 2 or not all(callable(default) for default in defaults):
            return []
        api_version, kind = (default() for default in defaults)
        group, _, version = api_version.rpartition("/")
        return [{"group": group, "kind": kind, "version": version}] if api_version else []

    def _field(self, name: str, info: msgspec.structs.FieldInfo) -> Schema:
        schema = self._typed(name, info.type)
        extensions = self._extensions(name)
        if name in LIST_KEY_DEFAULTS and self._name.endswith("Port"):
            extensions["default"] = LIST_KEY_DEFAULTS[name]
        if values := enum_of(self._module, self._name, name):
            if "items" in schema:
                schema["items"]["enum"] = list(values)
            else:
                schema["enum"] = list(values)
        if "$ref" in schema and extensions and self._dialect == "v3":
            # In version 3 nothing may stand beside a reference.
            schema = {"allOf": [schema]}
        return {**schema, **extensions}

    def _extensions(self, name: str) -> Schema:
        extensions: Schema = {}
        rule = self._lists.get((self._name, name))
        if rule is not None:
            if rule.list_type:
                extensions["x-kubernetes-list-type"] = rule.list_type
            if rule.keys:
                extensions["x-kubernetes-list-map-keys"] = list(rule.keys)
            if rule.merge_key:
                extensions["x-kubernetes-patch-merge-key"] = rule.merge_key
            if rule.strategy:
                extensions["x-kubernetes-patch-strategy"] = rule.strategy
        elif (self._name, name) in published.ATOMIC.get(self._module, ()):
            extensions["x-kubernetes-list-type"] = "atomic"
        if map_type := self._maps.get((self._name, name)):
            extensions["x-kubernetes-map-type"] = map_type
        return extensions

    def _typed(self, field: str, annotation: Any) -> Schema:
        """The schema of a field's type, down through lists and maps."""
        alternatives = _alternatives(annotation)
        scalar = published.SCALARS.get(self._module, {}).get((self._name, field)) or _OWN_SCALARS.get(
            (self._module, self._name, field)
        )
        if len(alternatives) == 1:
            origin, inner = get_origin(alternatives[0]), get_args(alternatives[0])
            if origin is list:
                return {"type": "array", "items": self._typed(field, inner[0])}
            if origin is dict and inner[1] is not Any:
                return {"type": "object", "additionalProperties": self._typed(field, inner[1])}
        if scalar:
            return {"$ref": PREFIXES[self._dialect] + scalar}
        return self._leaf(field, alternatives)

    def _leaf(self, field: str, alternatives: list[Any]) -> Schema:
        kinds = [each for each in alternatives if isinstance(each, type) and issubclass(each, Object)]
        if kinds:
            full = name_of(kinds[0].__module__.rpartition(".")[2], kinds[0].__name__)
            return {"$ref": PREFIXES[self._dialect] + full}
        scalars = frozenset(alternatives)
        if scalars in _UNIONS:
            return {"$ref": PREFIXES[self._dialect] + _UNIONS[scalars]}
        schema = dict(_SCALARS.get(scalars, _FREE))
        if form := published.FORMATS.get(self._module, {}).get((self._name, field)):
            schema["format"] = form
        return schema


def _alternatives(annotation: Any) -> list[Any]:
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return [member for member in members if member is not type(None)]
