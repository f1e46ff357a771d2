"""What nobody should send: objects with the fields of their kind and any values, bodies that are no objects, options.

Everything is drawn from a `random.Random`, Hypothesis' own for what it is to shrink. A document follows the shape of
its kind, for what is wrong from the top is refused at the top: mostly values of the right type, taken from those that
some field gives a meaning to, and now and then anything at all.
"""

from __future__ import annotations

import base64
from random import Random
from typing import Any, Literal, NamedTuple, cast

import msgspec

from barque.api.resources import RESOURCES, Resource
from barque.api.shapes import FieldShape, shape_of
from barque.api.types.autoscaling_v1 import Scale
from barque.api.types.base import Object
from barque.client.verbs import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_MERGE_PATCH,
    Page,
    Selection,
    Target,
    WriteOptions,
)

Document = dict[str, Any]

NAMES = (
    "web", "web", "web", "web", "web", "web", "default", "n1", "nowhere", "main", "", "A_b", "ä", "x" * 64, "x" * 300,
    "a/b", "..",
)  # fmt: skip
WORDS = (
    *NAMES, "a", "app", "example.com/a", "metadata.name", "spec.nodeName",
    "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-01-01", "10.96.0.7",
    "10.96.0.300", "fd00::1", "None", "10.0.0.0/8", "10.244.9.0/24", "TCP", "SCTP", "ClusterIP", "NodePort",
    "LoadBalancer", "ExternalName", "IPv4", "Always", "Never", "OnFailure", "True", "Unknown", "Pending", "Running",
    "Recreate", "RollingUpdate", "In", "Exists", "NoSchedule", "NoExecute", "Equal", "DirectoryOrCreate",
    "Foreground", "foregroundDeletion", "kubernetes", "Active", "Terminating", "Opaque", "Apply", "Update",
    "kubernetes.io/tls", "1", "-1", "0", "1Gi", "100m", "1.5", "1e3", "1E", "1e999", "1e999999999",
    "99999999999999999999999", "0.0000000000001", "Ki", "50%", "200%", "%", "http", "/", "/a/../b", "//", "$(A)",
    "a=b", "{", "\0", "\u2028", "\U0001f6a2", "-", "v1", "apps/v1", "Pod", "ConfigMap", "QUJD", "===", "*", "1h",
    "-1s", " ", "\n",
)  # fmt: skip
_INTEGERS = (0, 0, 1, 1, 2, 3, 80, 443, 8080, 30080, -1, 100, 511, 65535, 65536, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1)
_HUGE = (2**63, 2**64, -(2**31) - 1, -(2**63), -(2**63) - 1, 10**30, 1e300, -0.0, 0.1)
_KEYS = (
    *("cpu", "memory", "app", "a") * 3, "example.com/a", "pods", "k.txt", "", "-", "ä", "x" * 300, "$patch", "f:spec",
    "..",
)  # fmt: skip
_DIRECTIVES: tuple[tuple[str, Any], ...] = (
    ("$patch", "replace"), ("$patch", "delete"), ("$patch", "merge"), ("$patch", 1), ("$retainKeys", ["name"]),
    ("$retainKeys", [None]), ("$setElementOrder/containers", [{"name": "main"}]), ("$setElementOrder/ports", [{}]),
    ("$setElementOrder/finalizers", ["a", 1]), ("$deleteFromPrimitiveList/finalizers", ["a"]),
    ("$deleteFromPrimitiveList/x", 1),
)  # fmt: skip
_LABEL_SELECTORS = (
    "", "", "", "app=web", "app in (a,b)", "!app", "a>1", "a=", "=", ",", "a in", "a in ()", "a notin (b", "é=1", "(",
)  # fmt: skip
_FIELD_SELECTORS = (
    "", "", "", "metadata.name=web", "spec.nodeName=n1", "spec.nodeName!=", "status.phase=Running", "a=b", "=", ",",
    "\\",
)  # fmt: skip
_SUBRESOURCES = ("status", "scale", "binding", "eviction", "log")
_NAMESPACES = (*("default",) * 8, "", "nowhere", "going", "A_b", "..")
_TYPES = (MERGE_PATCH, STRATEGIC_MERGE_PATCH, JSON_PATCH, APPLY_PATCH)

# Bodies that are no object of any kind, each wrong in a way of its own.
BODIES: tuple[bytes, ...] = (
    b"", b"null", b"true", b"0", b'""', b"[]", b"{", b"}", b'{"a"', b'{"a":1,}', b"{'a':1}", b"\xff\xfe{\x00}\x00",
    b"\x00", b'\xef\xbb\xbf{"kind":"Pod"}', b'{"metadata":{"name":"\xff"}}', b'{"metadata":{"name":"\\ud800"}}',
    b"{}{}", b'{"a":NaN}', b'{"metadata":null,"spec":null,"status":null}',
    b'{"metadata":{"name":null,"labels":{"a":null},"finalizers":[null]}}',
    b'{"metadata":{"name":"w"},"spec":Infinity}', b'{"metadata":{"generation":1e999}}',
    b'{"metadata":{"generation":1e400}}', b'{"metadata":{"generation":' + b"9" * 5000 + b"}}",
    b'{"metadata":{"deletionGracePeriodSeconds":-0.0}}', b'{"metadata":{"name":"a","name":"b"}}',
    b'{"apiVersion":1,"kind":{}}', b'{"spec":' * 5000 + b"1" + b"}" * 5000, b"[" * 100_000, b'{"a":' * 100_000,
    b'{"metadata":{"labels":' + b'{"a":' * 99 + b"1" + b"}" * 101, b"a: &a [*a]",
    b"a: &a [x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]", b"--- \na: 1\n---\nb: 2\n", b"a: b: c", b"!!python/x {}",
    b"\t", b"? [a]\n: b", b"<<: {a: 1}", b"a: 2026-01-01", b"1: 2", b"a: .nan", b"- a",
)  # fmt: skip


def anything(random: Random, depth: int = 0) -> Any:
    """Any JSON value, not deep."""
    sort = random.randrange(8 if depth < 3 else 6)
    if sort == 6:
        return [anything(random, depth + 1) for _ in range(random.randrange(3))]
    if sort == 7:
        keys = [random.choice((*_KEYS, "name", "metadata", "spec")) for _ in range(random.randrange(3))]
        return {key: anything(random, depth + 1) for key in keys}
    choices: tuple[Any, ...] = (None, random.random() < 0.5, _HUGE, _INTEGERS, WORDS, NAMES)
    chosen = choices[sort]
    return random.choice(chosen) if isinstance(chosen, tuple) else chosen


class Author:
    """Writes documents. `fullness` is the share of fields that a struct is given, `wildness` that of wrong values."""

    def __init__(self, random: Random, fullness: float = 0.3, wildness: float = 0.02) -> None:
        self._random = random
        self._fullness = fullness
        self._wildness = wildness

    def document(self, resource: Resource) -> Document:
        """An object of a kind, with a name that most often is that of one there is."""
        random = self._random
        document = self.struct(resource.type, 0)
        document["metadata"] = self.metadata(document.get("metadata"))
        if random.random() < 0.8:
            document |= {"apiVersion": resource.api_version, "kind": resource.kind}
        return document

    def metadata(self, drawn: Any) -> Any:
        random = self._random
        if random.random() < self._wildness:
            return anything(random)
        metadata = drawn if isinstance(drawn, dict) else {}
        metadata["name"] = random.choice(NAMES)
        # Which namespace and which state is meant decides early, and so must most often be right.
        for key, right in (("namespace", 0.9), ("resourceVersion", 0.9), ("uid", 0.8), ("managedFields", 0.7)):
            if random.random() < right:
                metadata.pop(key, None)
        return metadata

    def struct(self, kind: type[Object], depth: int) -> Document:
        random = self._random
        shapes = shape_of(kind)
        share = self._fullness / (1 + depth / 3)
        drawn = {name: self.field(shape, depth) for name, shape in shapes.items() if random.random() < share}
        if random.random() < self._wildness / 2:
            drawn[random.choice(("nme", "$patch", "", "x" * 300))] = anything(random)
        return drawn

    def field(self, shape: FieldShape, depth: int) -> Any:
        """A value for a field."""
        random = self._random
        if random.random() < self._wildness:
            return anything(random)
        if shape.container == "list":
            return [self.value(shape, depth) for _ in range(random.choice((0, 1, 1, 2, 2, 3)))]
        if shape.container == "map":
            return {random.choice(_KEYS): self.value(shape, depth) for _ in range(random.choice((0, 1, 2)))}
        return self.value(shape, depth)

    def value(self, shape: FieldShape, depth: int) -> Any:
        random = self._random
        if random.random() < self._wildness:
            return anything(random)
        scalars = sorted(shape.scalars, key=lambda scalar: scalar.__name__)
        if shape.struct is not None and (not scalars or random.random() < 0.5):
            return self.struct(shape.struct, depth + 1) if depth < 9 else {}
        if not scalars:
            return anything(random, 2)
        return self.scalar(random.choice(scalars))

    def scalar(self, kind: type) -> Any:
        random = self._random
        if kind is bool:
            return random.random() < 0.5
        if kind is str:
            return random.choice(WORDS)
        return random.choice(_INTEGERS)

    def disturbed(self, kind: type[Object], document: Document) -> Document:
        """The document with some of its values replaced, by ones of their type or by any, some gone and some new."""
        changed = cast(Document, msgspec.json.decode(msgspec.json.encode(document)))
        for _ in range(self._random.choice((1, 1, 2, 3, 5))):
            self._disturb(kind, changed)
        return changed

    def _disturb(self, kind: type[Object], place: Document) -> None:
        random = self._random
        for depth in range(12):
            shapes = shape_of(kind)
            inner = [(name, s) for name, s in shapes.items() if s.struct is not None and place.get(name)]
            if inner and random.random() < 0.75:
                name, shape = random.choice(inner)
                found = place[name]
                if isinstance(found, list):
                    found = random.choice(found)
                elif shape.container == "map" and isinstance(found, dict):
                    found = random.choice(list(found.values()))
                if isinstance(found, dict) and shape.struct is not None:
                    kind, place = shape.struct, found
                    continue
            name = random.choice(sorted(shapes))
            if random.random() < 0.15:
                place.pop(name, None)
            elif random.random() < 0.15:
                place[name] = anything(random)
            else:
                place[name] = self.field(shapes[name], depth)
            return

    def patch(self, content_type: str, resource: Resource, stored: Document) -> Any:
        """A patch of some type that has something to do with the object."""
        random = self._random
        if content_type == JSON_PATCH:
            return [self._operation(stored) for _ in range(random.choice((1, 1, 2, 4)))]
        patch = self.document(resource) if random.random() < 0.6 else self.disturbed(resource.type, stored)
        if content_type == STRATEGIC_MERGE_PATCH:
            self._direct(patch)
        if content_type == MERGE_PATCH:
            patch |= {name: None for name in patch if random.random() < 0.1}
        return patch

    def _operation(self, stored: Document) -> Any:
        random = self._random
        if random.random() < self._wildness:
            return anything(random)
        words = ("add", "remove", "replace", "move", "copy", "test", "shake")
        operation = {"op": random.choice(words), "path": self._pointer(stored), "value": anything(random)}
        if random.random() < 0.5:
            operation["from"] = self._pointer(stored)
        if random.random() < 0.2:
            del operation[random.choice(sorted(operation))]
        return operation

    def _pointer(self, place: Any) -> Any:
        random = self._random
        pointer = ""
        while random.random() < 0.85:
            if isinstance(place, dict) and place and random.random() < 0.9:
                key = random.choice(sorted(place))
                place = place[key]
            elif isinstance(place, list) and place and random.random() < 0.9:
                index = random.randrange(len(place))
                key, place = str(index), place[index]
            else:
                key, place = random.choice(("-", "0", "01", "1", "-1", "9" * 30, "new", "", "~", "~1", "ä")), None
            pointer += "/" + key.replace("~", "~0").replace("/", "~1") if random.random() < 0.95 else key
        return pointer if random.random() < 0.97 else anything(random)

    def _direct(self, patch: Any) -> None:
        """Put directives of a strategic merge at some places."""
        if isinstance(patch, dict):
            for value in list(patch.values()):
                self._direct(value)
            if self._random.random() < 0.08:
                name, value = self._random.choice(_DIRECTIVES)
                patch[name] = value
        elif isinstance(patch, list):
            for value in patch:
                self._direct(value)
            if self._random.random() < 0.08:
                patch.append({"$patch": self._random.choice(("replace", "delete", "merge", "x", None))})

    def delete_options(self) -> Any:
        """metav1.DeleteOptions."""
        random = self._random
        options: dict[str, Any] = {
            "gracePeriodSeconds": random.choice((*_INTEGERS, *_HUGE)),
            "propagationPolicy": random.choice(("Orphan", "Foreground", "Background", "Sideways", "")),
            "orphanDependents": random.choice((True, False, None)),
            "preconditions": random.choice(({}, {"uid": "x"}, {"resourceVersion": random.choice(WORDS)}, None, 1)),
            "dryRun": random.choice((["All"], [], ["Some"], ["All", "All"], "All", None)),
            "kind": random.choice(("DeleteOptions", "Pod")),
            "apiVersion": random.choice(("v1", "v2")),
            "ignoreStoreReadErrorWithClusterBreakingPotential": random.choice((True, False)),
        }
        return {name: value for name, value in options.items() if random.random() < 0.3}

    def target(self, resource: Resource) -> Target:
        random = self._random
        namespace = random.choice(_NAMESPACES)
        if not resource.namespaced and random.random() < 0.95:
            namespace = ""
        absent = random.random() < 0.05
        subresource = random.choice(_SUBRESOURCES if absent else ("", "", "", *resource.subresources))
        return Target(resource, namespace, random.choice(NAMES), subresource)

    def options(self) -> WriteOptions:
        random = self._random
        manager = random.choice(("", "me", "me", "me", "you", "x" * 200, "a\nb", "ä"))
        validation = random.choice(("", "Ignore", "Warn", "Strict", "Ignore", "Loose"))
        force = random.random() < 0.2
        return WriteOptions(random.random() < 0.2, manager, cast(Any, validation), force)

    def selection(self) -> Selection:
        random = self._random
        return Selection(random.choice(_LABEL_SELECTORS), random.choice(_FIELD_SELECTORS))

    def page(self, newest: int) -> Page:
        """`newest` is a revision that has been reached; none after it is asked for, for that would be waited for."""
        random = self._random
        versions = ("", "", "", "0", "1", str(newest), str(max(newest - 1, 1)), "-1", "01", "x", "²", "9" * 40, " 1")
        tokens = ("", "", "", "x", "é", "=" * 5, "AAAA", self._token(newest), self._token(newest))
        match = cast(Literal["", "Exact", "NotOlderThan"], random.choice(("", "", "Exact", "NotOlderThan", "Nearly")))
        limit = random.choice((0, 1, 2, 500, -1, 2**63 - 1, -(2**63)))
        return Page(limit, random.choice(tokens), random.choice(versions), match)

    def _token(self, newest: int) -> str:
        random = self._random
        token: Any = {
            "v": random.choice(("meta.k8s.io/v1", "meta.k8s.io/v1", "meta.k8s.io/v2", 1)),
            "rv": random.choice((-1, 0, 1, newest, newest, -2, 2**63, 10**30, "1")),
            "start": random.choice(("default/web", "web", "default/", "/web", "a/b/c", "../x", "", 1, "\0")),
        }
        if random.random() < 0.2:
            del token[random.choice(sorted(token))]
        return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode().rstrip(random.choice(("=", "")))

    def include(self) -> Any:
        return self._random.choice(("Metadata", "Object", "None", "Everything", ""))


class Sent(NamedTuple):
    """A request as it would be sent; its text says all that is needed to send it again."""

    verb: str
    target: Target
    body: bytes = b""
    content_type: str = ""
    options: WriteOptions = WriteOptions()
    selection: Selection = Selection()
    page: Page = Page()
    include: str = ""

    def __repr__(self) -> str:
        resource, *where = self.target
        rest = ", ".join(repr(part) for part in self[2:])
        return f"{self.verb} {resource.group_resource} {where}: {rest}"


VERBS = (
    *("create", "update", "patch") * 3, "patch", "delete", "deletecollection", "get", "list", "table", "watch",
)  # fmt: skip


def a_request(random: Random, stored: dict[str, bytes], newest: int) -> Sent:
    """Any request. `stored` has an object of each resource (by `group_resource`), which many requests begin from."""
    author = Author(random, random.choice((0.15, 0.3, 0.6)), random.choice((0.0, 0.02, 0.1)))
    resource = random.choice(RESOURCES)
    verb, target = random.choice(VERBS), author.target(resource)
    sent = Sent(verb, target, selection=author.selection(), page=author.page(newest), include=author.include())
    known: Document = msgspec.json.decode(stored[resource.group_resource])
    match verb:
        case "create" | "update":
            body: Any = author.document(resource) if random.random() < 0.5 else author.disturbed(resource.type, known)
            if target.subresource == "scale":
                body = {**author.struct(Scale, 0), "metadata": author.metadata(None)}
            if target.subresource == "binding":
                body = {"metadata": body.get("metadata"), "target": anything(random)}
            if random.random() < 0.5:
                target = target._replace(namespace="default" if resource.namespaced else "", name="web")
            if verb == "create" and not target.subresource:
                target = target._replace(name="")
        case "patch":
            kind = random.choice(_TYPES) if random.random() < 0.95 else random.choice(("", "text/plain"))
            sent = sent._replace(content_type=kind)
            body = author.patch(kind, resource, known)
            if random.random() < 0.8:
                target = target._replace(namespace="default" if resource.namespaced else "", name="web")
        case "delete" | "deletecollection":
            body = author.delete_options()
        case _:
            body = None
    data = b"" if body is None else msgspec.json.encode(body)
    if body is not None and random.random() < 0.05:
        data = random.choice(BODIES)
    return sent._replace(target=target, body=data, options=author.options())
