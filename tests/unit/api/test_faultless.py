"""Pods that say the same are judged once, and only the parts that were judged are taken as good."""

from __future__ import annotations

import pytest

from barque.api.defaults import apply_defaults
from barque.api.types.core_v1 import Container, EphemeralVolumeSource, Pod, PodResourceClaim, PodSpec, Volume
from barque.api.types.meta_v1 import ObjectMeta
from barque.api.validation import validate
from barque.api.validation.faultless import Faultless, sayings


def a_pod(name: str = "web", image: str = "nginx", **metadata: dict[str, str]) -> Pod:
    pod = Pod(
        metadata=ObjectMeta(name=name, namespace="default", **metadata),
        spec=PodSpec(containers=[Container(name="app", image=image)]),
    )
    apply_defaults(pod)
    return pod


def test_what_is_wrong_beside_a_spec_that_was_good_is_still_found() -> None:
    assert validate(a_pod()) == []
    assert [fault.path for fault in validate(a_pod("Web"))] == ["metadata.name"]
    assert [fault.path for fault in validate(a_pod(labels={"a b": "c"}))] == ["metadata.labels"]
    profile = {"container.apparmor.security.beta.kubernetes.io/nobody": "unconfined"}
    assert [fault.path.partition("[")[0] for fault in validate(a_pod(annotations=profile))] == ["metadata.annotations"]
    assert validate(a_pod("other")) == []


def test_what_was_wrong_stays_wrong() -> None:
    twice = [[str(fault) for fault in validate(a_pod(image=""))] for _ in range(2)]
    assert twice == [["spec.containers[0].image: Required value"]] * 2


@pytest.mark.parametrize(
    "more",
    [
        {"volumes": [Volume(name="scratch", ephemeral=EphemeralVolumeSource())]},
        {"resourceClaims": [PodResourceClaim(name="gpu", resourceClaimName="one")]},
    ],
)
def test_a_pod_whose_name_matters_is_judged_each_time(more: dict[str, object]) -> None:
    pod = a_pod()
    for field, value in more.items():
        setattr(pod.spec, field, value)
    assert sayings(pod) is None


def test_only_the_newest_and_the_short_are_remembered() -> None:
    faultless = Faultless()
    for number in range(300):
        faultless.remember(b"%d" % number)
    assert [said in faultless for said in (b"0", b"43", b"44", b"299")] == [False, False, True, True]
    long = b"x" * 10_000
    faultless.remember(long)
    assert long not in faultless
