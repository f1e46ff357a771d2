"""Whatever decodes to a Pod can be defaulted and judged: faults come back as field errors, never as exceptions."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from barque.api import codec
from barque.api.decode import convert
from barque.api.defaults import apply_defaults
from barque.api.errors import ApiError, FieldError
from barque.api.shapes import FieldShape, shape_of
from barque.api.types.base import Object
from barque.api.types.core_v1 import Pod, PodSpec, PodStatus
from barque.api.validation import pods, validate, validate_status_update, validate_update
from tests.support.full_pod import PODS, build, full_document

PATH = re.compile(r"(metadata|spec|status)\b")
REASON = re.compile(
    r"FieldValue(Required|Invalid|Forbidden|Duplicate|NotSupported|TooLong|TooMany|NotFound)|FieldTypeInvalid"
)

# Strings near every rule's edge: empty, names, paths, amounts, addresses, fields, patterns, and what is none of them.
EDGES = """
    main web a A a.b a/b -a a- .. ../x a/../b / /a /a: C:\\x \\ . : , = $ $(A) $( 0 1 -1 1e3 1e999 1e-999 100m 1Gi
    .5 1. 1.5 0x10 010.1.1.1 10.0.0.1 10.0.0.0/8 ::1 fe80::1%eth0 ::ffff:10.0.0.1 300.1.1.1 metadata.name
    metadata.labels metadata.labels['a'] metadata.annotations['kubernetes.io/x'] status.podIP limits.cpu
    requests.hugepages-2Mi hugepages-2Mi hugepages-x cpu memory ephemeral-storage example.com/gpu kubernetes.io/x
    container.apparmor.x Always Never OnFailure None In NotIn Exists DoesNotExist Equal Gt Lt NoExecute NoSchedule
    TCP SCTP http TERM SIGTERM linux windows Localhost localhost/x RuntimeDefault Unconfined Disabled Enabled
    Bidirectional Unmasked iqn.2001-04.com.a:b eui.02004567A425678D naa.6000 web@sha256:0 :latest a:80:b https://x
    2026-01-01T00:00:00Z not-a-time ä ☃ ٣ ² Ⅷ ß net.core.x kernel/shm_rmid_forced node.kubernetes.io/not-ready
    Pending Running Succeeded Failed
"""
STRINGS = st.sampled_from(
    [*EDGES.split(), "", " ", "a b", "\n", "\x00", "a\n", "x" * 64, "x" * 254, "a/" * 2100, "9" * 5000]
)
INTEGERS = st.sampled_from(
    [-(2**63), -(2**31) - 1, -1, 0, 1, 2, 80, 420, 512, 65535, 65536, 2**31 - 1, 2**31, 2**63 - 1]
)
SCALARS: dict[type, st.SearchStrategy[Any]] = {
    str: STRINGS,
    int: INTEGERS,
    float: st.sampled_from([0.0, -0.5, 1e300, 1e-300]),
    bool: st.booleans(),
}


@st.composite
def values(draw: st.DrawFn, shape: FieldShape, depth: int) -> Any:
    """Anything that can stand in a field of this shape; structs in it have few fields each, `depth` levels deep."""

    def one() -> Any:
        if shape.struct is not None:
            return draw(structs(shape.struct, depth - 1))
        return draw(st.one_of([SCALARS[scalar] for scalar in sorted(shape.scalars, key=str)]))

    if shape.container == "list":
        return [one() for _ in range(draw(st.integers(0, 2)))]
    if shape.container == "map":
        return {draw(STRINGS): one() for _ in range(draw(st.integers(0, 2)))}
    return one()


@st.composite
def structs(draw: st.DrawFn, kind: type[Object], depth: int) -> dict[str, Any]:
    fields = {name: shape for name, shape in shape_of(kind).items() if shape.struct or shape.scalars}
    if depth < 0:
        return {}
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True)) if fields else []
    return {name: draw(values(fields[name], depth)) for name in chosen}


@st.composite
def sparse_pods(draw: st.DrawFn) -> dict[str, Any]:
    """Pods with a few fields each, of which nothing is right but by chance."""
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": draw(structs(PodSpec, 7)),
        "status": draw(structs(PodStatus, 4)),
    }


def slots(kind: type[Object], document: dict[str, Any], path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every field that the structs in `document` could have, with its shape last: (key, key, …, shape)."""
    found: list[tuple[Any, ...]] = []
    for name, shape in shape_of(kind).items():
        if shape.struct is None and not shape.scalars:
            continue
        found.append((*path, name, shape))
        below = document.get(name)
        if shape.struct is None or not below:
            continue
        if shape.container == "":
            found += slots(shape.struct, below, (*path, name))
        elif shape.container == "list":
            for index, item in enumerate(below):
                found += slots(shape.struct, item, (*path, name, index))
    return found


SLOTS = slots(PodSpec, full_document()["spec"])


@st.composite
def spoilt_pods(draw: st.DrawFn) -> dict[str, Any]:
    """The full pod, right in every part, with up to three of its fields spoilt or added."""
    document = full_document()
    for *above, last, shape in draw(st.lists(st.sampled_from(SLOTS), min_size=1, max_size=3)):
        holder: Any = document["spec"]
        try:
            for key in above:
                holder = holder[key]
        except (KeyError, IndexError):
            continue  # an earlier change took the part away
        holder[last] = draw(values(shape, 3))
    return document


def decoded(document: dict[str, Any]) -> Pod | None:
    """The pod, or None where Kubernetes, too, would refuse the document before it judges the pod in it."""
    try:
        pod = convert(document, PODS)
    except ApiError:
        return None
    assert isinstance(pod, Pod)
    return pod


def assert_told(faults: list[FieldError]) -> None:
    for fault in faults:
        assert PATH.match(fault.path), fault
        assert REASON.fullmatch(fault.reason), fault
        assert fault.message
        str(fault).encode()


def judge(document: dict[str, Any]) -> None:
    pod = decoded(document)
    if pod is None:
        return
    apply_defaults(pod)
    once = codec.encode(pod)
    apply_defaults(pod)
    assert codec.encode(pod) == once
    assert_told(validate(pod))
    assert codec.encode(pod) == once  # judging changes nothing
    right = build(full_document())
    for new, old in ((pod, right), (right, pod), (pod, msgspec.json.decode(once, type=Pod))):
        assert_told(validate_update(new, old))
        assert_told(validate_status_update(new, old))
        assert_told(pods.check_ephemeral_update(new, old))


@given(sparse_pods())
def test_a_pod_of_anything_is_judged(document: dict[str, Any]) -> None:
    judge(document)


@given(spoilt_pods())
def test_a_spoilt_pod_is_judged(document: dict[str, Any]) -> None:
    judge(document)


def test_the_full_pod_is_right_before_it_is_spoilt() -> None:
    assert pods.check(build(full_document())) == []
    assert len(SLOTS) > 500
