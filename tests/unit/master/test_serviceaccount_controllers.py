"""Every namespace has its default account and the cluster's CA, and gets them back."""

from __future__ import annotations

from barque.api.types.core_v1 import ConfigMap, Namespace, ServiceAccount
from barque.api.types.meta_v1 import ObjectMeta
from barque.master.controllers.settings import ControllerSettings
from tests.support.control_plane import ControlPlane

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
