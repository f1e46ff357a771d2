"""Every namespace has its default account and the cluster's CA, and gets them back."""

from __future__ import annotations

import asyncio
import base64

import pytest

from barque.api.types.core_v1 import ConfigMap, Namespace, ServiceAccount
from barque.api.types.meta_v1 import ObjectMeta
from barque.client.informers import Informers
from barque.client.supervise import run_all
from barque.master.auth.account_keys import TokenError
from barque.master.controllers.manager import ControllerManager
from barque.master.controllers.settings import ControllerSettings
from tests.support.clock import settle
from tests.support.control_plane import ControlPlane
from tests.support.memory_store import Bench, a_bench

CA = "-----BEGIN CERTIFICATE-----\n"


def a_namespace(name: str) -> Namespace:
    namespace = Namespace(metadata=ObjectMeta(name=name))
    namespace.spec.finalizers = ["kubernetes"]
    namespace.status.phase = "Active"
    return namespace


async def test_each_namespace_gets_both_at_once_and_again() -> None:
    plane = ControlPlane(ControllerSettings(root_ca=CA))
    plane.verbs.put(a_namespace("shop"))
    plane.verbs.put(ConfigMap(metadata=ObjectMeta(name="other", namespace="shop"), data={"a": "b"}))
    async with plane.running():
        plane.verbs.put(a_namespace("late"))
        await plane.settle()
        assert {a.metadata.namespace for a in plane.verbs.all(ServiceAccount)} == {"shop", "late"}
        published = [m for m in plane.verbs.all(ConfigMap) if m.metadata.name == "kube-root-ca.crt"]
        assert {(m.metadata.namespace, m.data["ca.crt"]) for m in published} == {("shop", CA), ("late", CA)}
        plane.verbs.remove(plane.verbs.find(ServiceAccount, "default", "shop"))
        plane.verbs.remove(plane.verbs.find(ConfigMap, "kube-root-ca.crt", "late"))
        spoilt = plane.verbs.find(ConfigMap, "kube-root-ca.crt", "shop")
        spoilt.data = {"ca.crt": "another"}
        plane.verbs.put(spoilt)
        await plane.settle()
        assert plane.verbs.find(ServiceAccount, "default", "shop")
        assert plane.verbs.find(ConfigMap, "kube-root-ca.crt", "late").data == {"ca.crt": CA}
        assert plane.verbs.find(ConfigMap, "kube-root-ca.crt", "shop").data == {"ca.crt": CA}
        assert plane.verbs.find(ConfigMap, "other", "shop").data == {"a": "b"}


async def test_a_namespace_that_ends_gets_nothing_more() -> None:
    plane = ControlPlane(ControllerSettings(root_ca=CA))
    ending = a_namespace("ending")
    ending.metadata.deletionTimestamp = "2026-01-01T00:00:00Z"
    ending.metadata.finalizers = ["example.org/wait"]
    plane.verbs.put(ending)
    async with plane.running():
        await plane.clock.advance(5)
        assert plane.verbs.all(ServiceAccount) == []
        assert plane.verbs.all(ConfigMap) == []


async def test_without_a_ca_none_is_published() -> None:
    plane = ControlPlane()
    plane.verbs.put(a_namespace("shop"))
    async with plane.running():
        await plane.settle()
        assert plane.verbs.all(ConfigMap) == []
        assert len(plane.verbs.all(ServiceAccount)) == 1


async def test_a_secret_of_an_account_gets_its_token() -> None:
    bench = await a_bench()
    informers = Informers(bench.client, bench.clock)
    manager = ControllerManager(bench.client, informers, lambda _: None, bench.clock, ControllerSettings(root_ca=CA))
    task = asyncio.create_task(run_all({"informers": informers.run(), "controllers": manager.run()}))
    account = await bench.create("serviceaccounts", {"metadata": {"name": "robot"}})
    meta = {"name": "key", "annotations": {"kubernetes.io/service-account.name": "robot"}}
    await bench.create("secrets", {"metadata": meta, "type": "kubernetes.io/service-account-token"})
    orphan = meta | {"name": "orphan", "annotations": {"kubernetes.io/service-account.name": "nobody"}}
    await bench.create("secrets", {"metadata": orphan, "type": "kubernetes.io/service-account-token"})
    await settled(bench)
    secret = await bench.get("secrets", "key")
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert (data["ca.crt"], data["namespace"]) == (CA, "default")
    assert secret["metadata"]["annotations"]["kubernetes.io/service-account.uid"] == account["metadata"]["uid"]
    tokens = bench.registry.environment.tokens
    assert (await tokens.review(data["token"])).user.name == "system:serviceaccount:default:robot"
    assert await bench.names("secrets", "default") == ["key"]
    await bench.delete("serviceaccounts", "robot")
    await settled(bench)
    assert await bench.names("secrets", "default") == []
    with pytest.raises(TokenError):
        await tokens.review(data["token"])
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def settled(bench: Bench) -> None:
    for _ in range(12):
        await settle()
        await bench.clock.advance(0.02)
