"""What may be asked for: paths, verbs, parameters, bodies and answers of every served resource. Pure.

In: rows of the registry. Out: `Path`s in neither version's words, under the key of the document of version 3 that they
belong to: `api/v1`, `apis/apps/v1`. Names of operations, tags and actions are Kubernetes', since clients are generated
from them. The old paths below `/watch/` are served, but not told of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from barque.api.openapi.definitions import DELETE_OPTIONS, PATCH, STATUS, VERSION_INFO, module_of, name_of, struct_of
from barque.api.resources import Resource
from barque.api.subresources import SUBRESOURCES, Subresource

_JSON_AND_YAML = ("application/json", "application/yaml")
_STREAMED = (*_JSON_AND_YAML, "application/json;stream=watch")
_TEXTS = ("text/plain", *_JSON_AND_YAML)
_ANYTHING = ("*/*",)
_PATCHES = (
    "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)  # fmt: skip
# Deleting one of these answers with the object itself; all others with a Status.
_ANSWERING = {
    "pods", "podtemplates", "serviceaccounts", "services", "resourcequotas", "persistentvolumes",
    "persistentvolumeclaims",
}  # fmt: skip

_METHODS = {"get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}
_WORDS = {"get": "read", "create": "create", "update": "replace", "patch": "patch", "delete": "delete"}
_ACTIONS = {"get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}


class Parameter(NamedTuple):
    """One of a path or a query; `type` as JSON schema names it."""

    name: str
    type: str = "string"
    place: Literal["query", "path"] = "query"


class Operation(NamedTuple):
    """What one method of a path does.

    `action` is x-kubernetes-action, "" for paths that are no resource's; `kind` group, version and kind of
    x-kubernetes-group-version-kind. `body` and the values of `answers` are names of definitions: "" for no body, and
    for an answer that is text.
    """

    method: str
    id: str
    tag: str
    action: str
    kind: tuple[str, str, str]
    parameters: tuple[Parameter, ...]
    answers: dict[int, str]
    produces: tuple[str, ...] = _JSON_AND_YAML
    consumes: tuple[str, ...] = _ANYTHING
    body: str = ""
    body_required: bool = True


class Path(NamedTuple):
    """`document` is the key of the version 3 document it is told of in; `parameters` are those of every operation."""

    document: str
    path: str
    parameters: tuple[Parameter, ...]
    operations: tuple[Operation, ...]


def _queries(*names: str) -> tuple[Parameter, ...]:
    """Parameters by name, of type string, or as `name:type`."""
    pairs = (name.partition(":") for name in names)
    return tuple(Parameter(name, kind or "string") for name, _, kind in pairs)


_PRETTY = _queries("pretty")
_LISTING = _queries(
    "allowWatchBookmarks:boolean", "continue", "fieldSelector", "labelSelector", "limit:integer", "resourceVersion",
    "resourceVersionMatch", "sendInitialEvents:boolean", "timeoutSeconds:integer", "watch:boolean",
)  # fmt: skip
_WRITING = _queries("dryRun", "fieldManager", "fieldValidation")
_PATCHING = (*_WRITING, *_queries("force:boolean"))
_DELETING = _queries(
    "dryRun", "gracePeriodSeconds:integer", "ignoreStoreReadErrorWithClusterBreakingPotential:boolean",
    "orphanDependents:boolean", "propagationPolicy",
)  # fmt: skip
_SWEEPING = tuple(
    sorted({*_DELETING, *_LISTING} - {*_queries("allowWatchBookmarks:boolean", "watch:boolean")})
)  # fmt: skip
_PARAMETERS = {"get": (), "create": _WRITING, "update": _WRITING, "patch": _PATCHING, "delete": _DELETING}
_STREAMING = _queries("container", "stderr:boolean", "stdin:boolean", "stdout:boolean", "tty:boolean")
_CONNECTING = {
    "log": _queries(
        "container", "follow:boolean", "insecureSkipTLSVerifyBackend:boolean", "limitBytes:integer", "previous:boolean",
        "sinceSeconds:integer", "sinceTime", "stream", "tailLines:integer", "timestamps:boolean",
    ),
    "exec": (*_queries("command"), *_STREAMING),
    "attach": _STREAMING,
    "portforward": _queries("ports:integer"),
    "proxy": _queries("path"),
}  # fmt: skip
_NAME, _NAMESPACE = Parameter("name", place="path"), Parameter("namespace", place="path")


def paths_of(resources: Sequence[Resource]) -> Iterator[Path]:
    """Every path of these resources, then the paths that tell of groups and of the version."""
    for resource in resources:
        yield from _Verbs(resource).paths()
    yield from _index_paths(resources)


def load_types(resources: Sequence[Resource]) -> None:
    """Import the structs that these resources and their subresources are described by."""
    for resource in resources:
        struct_of(name_of(module_of(resource.api_version), resource.kind))
        for subresource in (SUBRESOURCES[name] for name in resource.subresources):
            if subresource.kind and not subresource.connects:
                struct_of(name_of(module_of(subresource.api_version), subresource.kind))


def document_of(resource: Resource) -> str:
    """The key of the version 3 document that tells of it: `api/v1`, `apis/apps/v1`."""
    return f"{'apis' if resource.group else 'api'}/{resource.api_version}"


class _Verbs:
    """The paths of one resource."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._names = _Names(resource.group, resource.version)
        self._document = document_of(resource)
        self._kind = (resource.group, resource.version, resource.kind)
        self._of_kind = name_of(module_of(resource.api_version), resource.kind)
        self._scope = "Namespaced" if resource.namespaced else ""
        below = "/namespaces/{namespace}" if resource.namespaced else ""
        self._many = f"/{self._document}{below}/{resource.plural}"
        self._of_many = (_NAMESPACE, *_PRETTY) if resource.namespaced else _PRETTY
        self._of_one = (_NAME, *self._of_many)

    def paths(self) -> Iterator[Path]:
        resource = self._resource
        if many := [
            self._collection(verb) for verb in ("list", "create", "deletecollection") if verb in resource.verbs
        ]:
            yield Path(self._document, self._many, self._of_many, tuple(many))
        if resource.namespaced and "list" in resource.verbs:
            every = (self._collection("list", f"list{self._names.tagged}{resource.kind}ForAllNamespaces"),)
            yield Path(self._document, f"/{self._document}/{resource.plural}", _PRETTY, every)
        one = f"{self._many}/{{name}}"
        if single := [self._single(verb) for verb in _METHODS if verb in resource.verbs and verb != "create"]:
            yield Path(self._document, one, self._of_one, tuple(single))
        for name in resource.subresources:
            subresource = SUBRESOURCES[name]
            below = f"{one}/{name}"
            if subresource.connects:
                yield from self._connecting(below, name, subresource)
            else:
                operations = tuple(self._below(name, subresource, verb) for verb in subresource.verbs)
                yield Path(self._document, below, self._of_one, operations)

    def _operation(self, method: str, name: str, action: str, answers: dict[int, str]) -> Operation:
        return Operation(method, name, self._names.tag, action, self._kind, (), answers)

    def _collection(self, verb: str, name: str = "") -> Operation:
        tagged, kind = self._names.tagged, f"{self._scope}{self._resource.kind}"
        if verb == "list":
            operation = self._operation("get", name or f"list{tagged}{kind}", "list", {200: f"{self._of_kind}List"})
            produces = _STREAMED if "watch" in self._resource.verbs else _JSON_AND_YAML
            return operation._replace(parameters=_LISTING, produces=produces)
        if verb == "create":
            operation = self._operation("post", f"create{tagged}{kind}", "post", _answers("create", self._of_kind))
            return operation._replace(parameters=_WRITING, body=self._of_kind)
        name = f"delete{tagged}Collection{kind}"
        operation = self._operation("delete", name, "deletecollection", {200: STATUS})
        return operation._replace(parameters=_SWEEPING, body=DELETE_OPTIONS, body_required=False)

    def _single(self, verb: str, suffix: str = "") -> Operation:
        """What is done to one object, or to a subresource whose bodies are that object."""
        name = f"{_WORDS[verb]}{self._names.tagged}{self._scope}{self._resource.kind}{suffix}"
        deleted = self._of_kind if self._resource.group_resource in _ANSWERING else STATUS
        answers = _answers(verb, deleted if verb == "delete" else self._of_kind)
        operation = self._operation(_METHODS[verb], name, _ACTIONS[verb], answers)
        return _with_body(operation._replace(parameters=_PARAMETERS[verb]), verb, self._of_kind)

    def _below(self, name: str, subresource: Subresource, verb: str) -> Operation:
        """What is done to a subresource."""
        operation = self._single(verb, name.capitalize())
        if not subresource.kind:
            return operation
        group, _, version = subresource.api_version.rpartition("/")
        full = name_of(module_of(subresource.api_version), subresource.kind)
        kind = (group, version, subresource.kind)
        return _with_body(operation._replace(kind=kind, answers=_answers(verb, full)), verb, full)

    def _connecting(self, path: str, name: str, subresource: Subresource) -> Iterator[Path]:
        """The paths of a stream or a proxy; a proxy has a second one, for what lies behind."""
        group, _, version = subresource.api_version.rpartition("/")
        kind = (group, version, subresource.kind) if subresource.kind else self._kind
        scoped, suffix = f"{self._scope}{self._resource.kind}", name.capitalize()

        def operation(verb: str, ending: str = "") -> Operation:
            method = _METHODS[verb]
            if name == "log":
                made = self._operation(method, f"read{self._names.tagged}{scoped}Log", "get", {200: ""})
                return made._replace(produces=_TEXTS)
            called = f"connect{self._names.tagged}{method.capitalize()}{scoped}{suffix}{ending}"
            return self._operation(method, called, "connect", {200: ""})._replace(kind=kind, produces=_ANYTHING)

        verbs = [verb for verb in _METHODS if verb in subresource.verbs]
        parameters = tuple(sorted((*self._of_one, *_CONNECTING[name])))
        if name != "log":
            parameters = tuple(parameter for parameter in parameters if parameter.name != "pretty")
        yield Path(self._document, path, parameters, tuple(operation(verb) for verb in verbs))
        if name == "proxy":
            behind = tuple(
                parameter._replace(place="path") if parameter.name == "path" else parameter for parameter in parameters
            )
            yield Path(self._document, f"{path}/{{path}}", behind, tuple(operation(verb, "WithPath") for verb in verbs))


class _Names:
    """How a group and version are written in the names of operations (`RbacAuthorizationV1`) and in tags."""

    def __init__(self, group: str, version: str = "") -> None:
        first, *others = (group.removesuffix(".k8s.io") or "core").split(".")
        camel = first + "".join(word.capitalize() for word in others)
        self.tag = f"{camel}_{version}" if version else camel
        self.tagged = f"{camel[0].upper()}{camel[1:]}{version.capitalize()}"


def _answers(verb: str, name: str) -> dict[int, str]:
    codes = {"create": (200, 201, 202), "update": (200, 201), "patch": (200, 201), "delete": (200, 202)}
    return dict.fromkeys(codes.get(verb, (200,)), name)


def _with_body(operation: Operation, verb: str, name: str) -> Operation:
    if verb == "patch":
        return operation._replace(body=PATCH, consumes=_PATCHES)
    if verb == "delete":
        return operation._replace(body=DELETE_OPTIONS, body_required=False)
    return operation._replace(body=name) if verb in ("create", "update") else operation


def _index_paths(resources: Iterable[Resource]) -> Iterator[Path]:
    """What tells of groups, versions and resources."""
    resources = list(resources)
    yield _index("api", "getCoreAPIVersions", "core", "APIVersions")
    yield _index("apis", "getAPIVersions", "apis", "APIGroupList")
    for group in dict.fromkeys(resource.group for resource in resources if resource.group):
        names = _Names(group)
        yield _index(f"apis/{group}", f"get{names.tagged}APIGroup", names.tag, "APIGroup")
    for group, version in dict.fromkeys((resource.group, resource.version) for resource in resources):
        names = _Names(group, version)
        document = f"apis/{group}/{version}" if group else f"api/{version}"
        yield _index(document, f"get{names.tagged}APIResources", names.tag, "APIResourceList")
    operation = Operation("get", "getCodeVersion", "version", "", ("", "", ""), (), {200: VERSION_INFO})
    yield Path("version", "/version/", (), (operation._replace(produces=_JSON_AND_YAML[:1]),))


def _index(document: str, name: str, tag: str, kind: str) -> Path:
    operation = Operation("get", name, tag, "", ("", "", ""), (), {200: name_of("meta_v1", kind)})
    return Path(document, f"/{document}/", (), (operation,))
