"""What stands in configMap, secret, downwardAPI and projected volumes, and what is said where something is missing."""

from __future__ import annotations

from typing import Any

import pytest

from barque.api.types import core_v1
from barque.worker.pods.env import ConfigError, Sources
from barque.worker.volumes import payloads
from barque.worker.volumes.payloads import Held, TokenKey
from barque.worker.volumes.publish import FileContent
from tests.support.worker_world import a_container, a_pod

CONFIG_MAP = core_v1.ConfigMap(data={"a": "1", "b": "2"}, binaryData={"c": "AAE="})
SECRET = core_v1.Secret(data={"password": "czNjcjN0"})
HELD = Held(Sources({"s": CONFIG_MAP}, {"s": SECRET}, allocatable={"memory": "8Gi"}))
EMPTY = Held(Sources({"s": None}, {"s": None}))


def files(held: Held = HELD, pod: core_v1.Pod | None = None, **source: Any) -> dict[str, FileContent]:
    return payloads.files_of(pod or a_pod(), core_v1.Volume(name="v", **source), held)


def from_config_map(**fields: Any) -> dict[str, Any]:
    return {"configMap": core_v1.ConfigMapVolumeSource(name="s", **fields)}


def projected(*parts: core_v1.VolumeProjection, mode: int | None = None) -> dict[str, Any]:
    return {"projected": core_v1.ProjectedVolumeSource(sources=list(parts), defaultMode=mode)}


def a_field(path: str, field: str, mode: int | None = None) -> core_v1.DownwardAPIVolumeFile:
    return core_v1.DownwardAPIVolumeFile(path=path, fieldRef=core_v1.ObjectFieldSelector(fieldPath=field), mode=mode)


def a_token(**fields: Any) -> core_v1.VolumeProjection:
    return core_v1.VolumeProjection(serviceAccountToken=core_v1.ServiceAccountTokenProjection(path="token", **fields))


def test_items_choose_keys_paths_and_modes() -> None:
    items = [core_v1.KeyToPath(key="a", path="x/y", mode=0o400), core_v1.KeyToPath(key="c", path="bin")]
    found = files(**from_config_map(items=items, defaultMode=0o600))
    assert found == {"x/y": FileContent(b"1", 0o400), "bin": FileContent(b"\0\1", 0o600)}


def test_missing_sources_and_keys_are_named_unless_optional() -> None:
    with pytest.raises(ConfigError, match=r'^configmap "s" not found$'):
        files(EMPTY, **from_config_map())
    assert files(EMPTY, **from_config_map(optional=True)) == {}
    with pytest.raises(ConfigError, match=r'^secret "s" not found$'):
        files(EMPTY, secret=core_v1.SecretVolumeSource(secretName="s"))
    gone = [core_v1.KeyToPath(key="z", path="z")]
    with pytest.raises(ConfigError, match=r"^references non-existent secret key: z$"):
        files(secret=core_v1.SecretVolumeSource(secretName="s", items=gone))
    with pytest.raises(ConfigError, match=r"^configmap references non-existent config key: z$"):
        files(**from_config_map(items=gone))
    assert files(**from_config_map(items=gone, optional=True)) == {}


def test_downward_files_show_the_pod_and_its_amounts() -> None:
    pod = a_pod("p", a_container(resources=core_v1.ResourceRequirements(requests={"memory": "64Mi"})))
    pod.metadata.labels = {"b": 'two "words"\n', "a": "é\x01"}
    ask = core_v1.ResourceFieldSelector(containerName="web", resource="requests.memory", divisor="1Mi")
    items = [
        a_field("labels", "metadata.labels"),
        a_field("name", "metadata.name", mode=0o400),
        core_v1.DownwardAPIVolumeFile(path="ask", resourceFieldRef=ask),
    ]
    found = files(pod=pod, downwardAPI=core_v1.DownwardAPIVolumeSource(items=items, defaultMode=0o640))
    assert found["labels"] == FileContent('a="é\\x01"\nb="two \\"words\\"\\n"'.encode(), 0o640)
    assert found["name"] == FileContent(b"p", 0o400)
    assert found["ask"].data == b"64"


def test_a_projected_volume_gathers_its_sources() -> None:
    found = files(
        Held(HELD.sources, {TokenKey("", 3600): "secret-token"}),
        **projected(
            core_v1.VolumeProjection(configMap=core_v1.ConfigMapProjection(name="s")),
            core_v1.VolumeProjection(secret=core_v1.SecretProjection(name="s")),
            core_v1.VolumeProjection(downwardAPI=core_v1.DownwardAPIProjection(items=[a_field("b", "metadata.name")])),
            a_token(),
            mode=0o444,
        ),
    )
    assert found["a"] == FileContent(b"1", 0o444)
    assert found["password"].data == b"s3cr3t"
    assert found["b"].data == b"p"
    assert found["token"] == FileContent(b"secret-token", 0o444)


@pytest.mark.parametrize(
    ("context", "user", "mode"),
    [
        (core_v1.PodSecurityContext(runAsUser=1000), 1000, 0o600),
        (core_v1.PodSecurityContext(fsGroup=2000), None, 0o600),
        (None, None, 0o644),
    ],
)
def test_a_token_is_for_the_pods_own_user_or_group(
    context: core_v1.PodSecurityContext | None, user: int | None, mode: int
) -> None:
    held = Held(HELD.sources, {TokenKey("vault", 600): "t"})
    found = files(held, a_pod(securityContext=context), **projected(a_token(audience="vault", expirationSeconds=600)))
    assert found["token"] == FileContent(b"t", mode, user)


def test_users_that_differ_share_no_file() -> None:
    own = a_container("a", securityContext=core_v1.SecurityContext(runAsUser=1))
    pod = a_pod("p", own, a_container("b"), securityContext=core_v1.PodSecurityContext(runAsUser=2))
    assert payloads.file_user(pod) is None


def test_what_cannot_be_projected_is_refused() -> None:
    bundle = core_v1.VolumeProjection(clusterTrustBundle=core_v1.ClusterTrustBundleProjection(path="ca"))
    with pytest.raises(ConfigError, match="does not support this kind of projected volume"):
        files(**projected(bundle))


def test_all_that_volumes_name_is_found() -> None:
    parts = projected(
        core_v1.VolumeProjection(configMap=core_v1.ConfigMapProjection(name="c2")),
        core_v1.VolumeProjection(secret=core_v1.SecretProjection(name="s2")),
        a_token(audience="x"),
        a_token(audience="x"),
    )
    pod = a_pod(
        volumes=[
            core_v1.Volume(name="1", configMap=core_v1.ConfigMapVolumeSource(name="c1")),
            core_v1.Volume(name="2", secret=core_v1.SecretVolumeSource(secretName="s1")),
            core_v1.Volume(name="3", **parts),
        ]
    )
    assert payloads.references(pod) == (frozenset({"c1", "c2"}), frozenset({"s1", "s2"}))
    assert payloads.tokens(pod) == [TokenKey("x", 3600)]
