"""The official Python client, unmodified, against one master: objects, pages, an informer's watch, leader election."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import kubernetes
import pytest
from kubernetes import watch
from kubernetes.client.exceptions import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

from tests.support.expecting import expect_soon
from tests.support.rest_master import RestMaster

SOON_S = 30.0
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def core(rest_master: RestMaster) -> kubernetes.client.CoreV1Api:
    return kubernetes.client.CoreV1Api(rest_master.api())


@pytest.fixture
def namespace(core: kubernetes.client.CoreV1Api) -> str:
    """One of the test's own."""
    name = f"py-{next(NUMBERS)}"
    core.create_namespace({"metadata": {"name": name}})
    return name


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"of": "test"}}, "data": data}


def test_objects_come_and_go(core: kubernetes.client.CoreV1Api, namespace: str) -> None:
    created = core.create_namespaced_config_map(namespace, configmap("c", one="1"))
    assert created.metadata.uid
    created.data["two"] = "2"
    replaced = core.replace_namespaced_config_map("c", namespace, created)
    assert replaced.data == {"one": "1", "two": "2"}
    with pytest.raises(ApiException) as conflict:
        core.replace_namespaced_config_map("c", namespace, created)
    assert conflict.value.status == 409
    assert "the object has been modified" in str(conflict.value.body)
    patched = core.patch_namespaced_config_map("c", namespace, {"data": {"one": None}})
    assert patched.data == {"two": "2"}
    core.delete_namespaced_config_map("c", namespace)
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_config_map("c", namespace)
    assert gone.value.status == 404


def test_lists_come_in_pages(core: kubernetes.client.CoreV1Api, namespace: str) -> None:
    for n in range(5):
        core.create_namespaced_config_map(namespace, configmap(f"c{n}"))
    first = core.list_namespaced_config_map(namespace, limit=2, label_selector="of=test")
    assert [item.metadata.name for item in first.items] == ["c0", "c1"]
    token = first.metadata._continue
    second = core.list_namespaced_config_map(namespace, limit=10, label_selector="of=test", _continue=token)
    assert [item.metadata.name for item in second.items] == ["c2", "c3", "c4"]
    assert second.metadata.resource_version == first.metadata.resource_version
    core.delete_collection_namespaced_config_map(namespace, label_selector="of=test")
    assert core.list_namespaced_config_map(namespace, label_selector="of=test").items == []


def test_workloads_scale_and_are_patched(rest_master: RestMaster, namespace: str) -> None:
    apps = kubernetes.client.AppsV1Api(rest_master.api())
    pod = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "busybox"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": pod}
    apps.create_namespaced_deployment(namespace, {"metadata": {"name": "web"}, "spec": spec})
    scaled = apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 3}})
    assert scaled.spec.replicas == 3
    assert apps.read_namespaced_deployment("web", namespace).spec.replicas == 3
    core = kubernetes.client.CoreV1Api(rest_master.api())
    expect_soon(lambda: len(core.list_namespaced_pod(namespace).items) == 3, SOON_S, "three pods")


def changes(core: kubernetes.client.CoreV1Api, namespace: str, since: str, count: int) -> list[tuple[str, str, str]]:
    """So many changes of the test's ConfigMaps after a revision: what, of which, and the new revision."""
    stream = watch.Watch().stream(
        core.list_namespaced_config_map, namespace, resource_version=since, timeout_seconds=60, label_selector="of=test"
    )
    events = itertools.islice(stream, count)
    return [(e["type"], e["object"].metadata.name, e["object"].metadata.resource_version) for e in events]


def test_a_watch_resumes_where_it_ended(core: kubernetes.client.CoreV1Api, namespace: str) -> None:
    since = core.list_namespaced_config_map(namespace).metadata.resource_version
    core.create_namespaced_config_map(namespace, configmap("first"))
    ((kind, name, version),) = changes(core, namespace, since, 1)
    assert (kind, name) == ("ADDED", "first")
    core.patch_namespaced_config_map("first", namespace, {"data": {"a": "b"}})
    core.delete_namespaced_config_map("first", namespace)
    seen = changes(core, namespace, version, 2)
    assert [(kind, name) for kind, name, _ in seen] == [("MODIFIED", "first"), ("DELETED", "first")]


def test_a_watch_of_no_revision_is_refused(core: kubernetes.client.CoreV1Api, namespace: str) -> None:
    with pytest.raises(ApiException) as refused:
        changes(core, namespace, "x", 1)
    assert refused.value.status == 400


class Informer:
    """What client-go's reflector does, on the official client: list, then watch from there, and again."""

    def __init__(self, core: kubernetes.client.CoreV1Api, namespace: str) -> None:
        self._core = core
        self._namespace = namespace
        self._stream = watch.Watch()
        self.cache: dict[str, dict[str, str]] = {}
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._ended = False

    def stop(self) -> None:
        self._ended = True
        self._stream.stop()
        self.thread.join(SOON_S)

    def _run(self) -> None:
        listed = self._core.list_namespaced_config_map(self._namespace)
        self.cache = {item.metadata.name: item.data or {} for item in listed.items}
        version = listed.metadata.resource_version
        while not self._ended:
            # Short ones, so that it resumes several times while the test writes.
            for event in self._stream.stream(
                self._core.list_namespaced_config_map, self._namespace, resource_version=version, timeout_seconds=1,
                allow_watch_bookmarks=True,
            ):  # fmt: skip
                kind, item = event["type"], event["object"]
                version = event["raw_object"]["metadata"]["resourceVersion"]
                if kind == "DELETED":
                    del self.cache[item.metadata.name]
                elif kind != "BOOKMARK":
                    self.cache[item.metadata.name] = item.data or {}


def test_an_informer_follows_everything(rest_master: RestMaster, namespace: str) -> None:
    core = kubernetes.client.CoreV1Api(rest_master.api())
    informer = Informer(kubernetes.client.CoreV1Api(rest_master.api()), namespace)
    informer.thread.start()
    expected: dict[str, dict[str, str]] = {}
    until = time.monotonic() + 1.6
    for n in itertools.count():
        name = f"c{n % 7}"
        if name not in expected:
            core.create_namespaced_config_map(namespace, configmap(name, n=str(n)))
            expected[name] = {"n": str(n)}
        elif n % 3:
            core.patch_namespaced_config_map(name, namespace, {"data": {"n": str(n)}})
            expected[name] = {"n": str(n)}
        else:
            core.delete_namespaced_config_map(name, namespace)
            del expected[name]
        if time.monotonic() > until:
            break
    # A controller puts it into each namespace, in its own time.
    root = expect_soon(lambda: core.read_namespaced_config_map("kube-root-ca.crt", namespace), SOON_S, "the root's CA")
    expected["kube-root-ca.crt"] = root.data
    expect_soon(lambda: informer.cache == expected, SOON_S, "the informer to know what is there")
    informer.stop()


def test_leaders_are_elected_one_at_a_time(rest_master: RestMaster, namespace: str) -> None:
    kubernetes.config.load_kube_config(str(rest_master.kubeconfig))
    said: list[str] = []
    ends = {name: threading.Event() for name in ("a", "b")}

    def candidate(name: str) -> threading.Thread:
        def lead() -> None:
            said.append(f"{name} leads")
            ends[name].wait(SOON_S)
            raise RuntimeError("its work has failed, so it must not lead any more")

        config = electionconfig.Config(
            LeaseLock("lock", namespace, name), lease_duration=10, renew_deadline=8, retry_period=1,
            onstarted_leading=lead, onstopped_leading=lambda: said.append(f"{name} ended"),
        )  # fmt: skip
        return threading.Thread(target=leaderelection.LeaderElection(config).run, daemon=True)

    candidates = [candidate("a"), candidate("b")]
    candidates[0].start()
    expect_soon(lambda: said == ["a leads"], SOON_S, "the first to lead")
    locks = kubernetes.client.CoordinationV1Api(rest_master.api())

    def renewals() -> object:
        return locks.read_namespaced_lease("lock", namespace).spec.renew_time

    candidates[1].start()
    # The first one renews its lease, and the second looks on.
    for _ in range(3):
        last = renewals()
        expect_soon(lambda last=last: renewals() != last, SOON_S, "the first to renew")  # type: ignore[misc]
    assert said == ["a leads"]
    ends["a"].set()
    expect_soon(lambda: said[1:] == ["a ended", "b leads"], SOON_S, "the second to lead")
    ends["b"].set()
    for thread in candidates:
        thread.join(SOON_S)
    assert said[-1] == "b ended"
