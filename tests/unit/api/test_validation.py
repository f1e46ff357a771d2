"""Validation of metadata, configuration, nodes, services, endpoint slices and events: every fault, with its path."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from barque.api import resources
from barque.api.types import events_v1
from barque.api.types.core_v1 import (
    EventSource,
    LoadBalancerIngress,
    LoadBalancerStatus,
    ObjectReference,
    Service,
    Taint,
)
from barque.api.types.meta_v1 import ObjectMeta, OwnerReference
from barque.api.validation import RULES, validate, validate_status_update, validate_update
from tests.support.builders import (
    a_config_map,
    a_deployment,
    a_namespace,
    a_node,
    a_pod,
    a_replica_set,
    a_secret,
    a_service,
    an_endpoint_slice,
    an_event,
)

UNSUPPORTED = "Forbidden: barque does not support this field yet"


def faults(obj: Any) -> list[str]:
    return [str(fault) for fault in validate(obj)]


def update_faults(new: Any, old: Any) -> list[str]:
    return [str(fault) for fault in validate_update(new, old)]


def paths(obj: Any) -> list[str]:
    return [fault.path for fault in validate(obj)]


@pytest.mark.parametrize(
    "builder",
    [
        a_pod("web").on("n1").ready().requesting(cpu="100m").port(80, "http"),
        a_node("n1").ready().pod_cidr("10.244.1.0/24").address("10.0.0.1").unschedulable(),
        a_deployment("web").replicas(3),
        a_replica_set("web"),
        a_service("web").port(80, 8080).cluster_ip("10.96.0.7"),
        a_service("web").port(80, node_port=30080),
        a_service("web").headless(),
        a_service("web").type("LoadBalancer").port(80, "http"),
        a_config_map("c", **{"app.conf": "x"}),
        a_secret("s", password="x"),
        a_namespace("lab"),
        an_endpoint_slice().port(80).endpoint("10.244.1.2", node="n1", pod="web"),
        an_event(a_pod().build()),
        an_event(a_node().build()),
    ],
    ids=lambda builder: type(builder).__name__,
)
def test_what_is_right_passes_and_may_be_written_again(builder: Any) -> None:
    assert faults(builder.build()) == []
    assert update_faults(builder.build(), builder.build()) == []
    assert validate_status_update(builder.build(), builder.build()) == []


def test_every_served_kind_that_can_be_written_is_validated() -> None:
    for resource in resources.RESOURCES:
        if "create" not in resource.verbs or resource.storage in ("review", "binding"):
            continue
        assert "metadata.name: Required value: name or generateName is required" in faults(resource.type())


def test_the_kinds_of_the_next_versions_are_validated_already() -> None:
    found = {kind.__name__ for kind in RULES} - {resource.kind for resource in resources.RESOURCES}
    assert found == {
        "CronJob",
        "DaemonSet",
        "Job",
        "PriorityClass",
        "ReplicationController",
        "StatefulSet",
    }
    assert events_v1.Event in RULES


# --- metadata


def test_names_follow_the_rules_of_their_kind() -> None:
    assert paths(a_pod("a.b").build()) == []
    assert paths(a_namespace("a.b").build()) == ["metadata.name"]
    assert paths(a_service("1a").port(80).build()) == ["metadata.name"]
    assert paths(a_config_map("A_b").build()) == ["metadata.name"]
    assert paths(a_config_map("c", "not.a.label").build()) == ["metadata.namespace"]
    assert faults(a_pod("Web").build()) == [
        'metadata.name: Invalid value: "Web": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric '
        "characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
        r"for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    ]


def test_a_namespace_belongs_to_namespaced_kinds_alone() -> None:
    assert faults(a_pod().in_namespace("").build()) == ["metadata.namespace: Required value"]
    assert faults(a_node().in_namespace("lab").build()) == ["metadata.namespace: Forbidden: not allowed on this type"]


def test_a_generate_name_may_end_in_a_dash() -> None:
    assert paths(a_pod("web-x1").with_metadata(generateName="web-").build()) == []
    assert paths(a_pod("web-x1").with_metadata(generateName="Web-").build()) == ["metadata.generateName"]


def test_labels_annotations_owners_and_finalizers() -> None:
    bad = a_config_map("c").labelled({"a b": "ok", "ok": "not ok"}).annotated({"x/y/z": ""}).finalizers("-")
    assert paths(bad.build()) == [
        "metadata.labels",
        "metadata.labels",
        "metadata.annotations",
        "metadata.finalizers[0]",
        "metadata.finalizers[0]",
    ]
    large = a_config_map("c").annotated({"a": "x" * 300_000}).build()
    assert faults(large) == ["metadata.annotations: Too long: may not be more than 262144 bytes"]
    nameless = a_config_map("c").with_metadata(ownerReferences=[OwnerReference(apiVersion="v1", kind="Pod")]).build()
    assert paths(nameless) == ["metadata.ownerReferences[0].name", "metadata.ownerReferences[0].uid"]
    both = a_config_map("c").finalizers("orphan", "foregroundDeletion").build()
    assert paths(both) == ["metadata.finalizers"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"apiVersion": ""}, '[0].apiVersion: Invalid value: "": version must not be empty'),
        ({"apiVersion": "apps/"}, '[0].apiVersion: Invalid value: "apps/": version must not be empty'),
        ({"apiVersion": "a/b/v1"}, '[0].apiVersion: Invalid value: "a/b/v1": version must not be empty'),
        ({"kind": ""}, '[0].kind: Invalid value: "": must not be empty'),
        (
            {"kind": "Event"},
            '[0]: Invalid value: {"apiVersion":"v1","kind":"Event","controller":true,"name":"a","uid":"u"}: '
            "/v1, Kind=Event is disallowed from being an owner",
        ),
    ],
)
def test_an_owner_is_named_in_full(changes: dict[str, str], complaint: str) -> None:
    owner = msgspec.structs.replace(
        OwnerReference(apiVersion="v1", kind="Pod", name="a", uid="u", controller=True), **changes
    )
    owned = a_config_map("c").with_metadata(ownerReferences=[owner]).build()
    assert faults(owned) == [f"metadata.ownerReferences{complaint}"]


def test_one_owner_alone_controls() -> None:
    owners = [OwnerReference(apiVersion="v1", kind="Pod", name=n, uid=n, controller=True) for n in "ab"]
    (fault,) = faults(a_config_map("c").with_metadata(ownerReferences=owners).build())
    assert fault.startswith(
        'metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","kind":"Pod","controller":true'
    )
    assert fault.endswith('Only one reference can have Controller set to true. Found "true" in references for a and b')
    owners[1].controller = False
    assert faults(a_config_map("c").with_metadata(ownerReferences=owners).build()) == []


def test_a_finalizer_is_kubernetes_own_or_named_with_a_domain() -> None:
    known = a_config_map("c").finalizers("orphan", "kubernetes", "example.com/wait").build()
    assert faults(known) == []
    assert faults(a_config_map("c").finalizers("wait").build()) == [
        'metadata.finalizers[0]: Invalid value: "wait": '
        "name is neither a standard finalizer name nor is it fully qualified"
    ]
    namespace = a_namespace("lab").build()
    namespace.spec.finalizers = ["kubernetes", "wait"]
    assert faults(namespace) == [
        'spec.finalizers[1]: Invalid value: "wait": name is neither a standard finalizer name nor is it fully qualified'
    ]


def test_an_objects_identity_never_changes() -> None:
    old = a_config_map("c").build()
    new = a_config_map("d", "lab").uid("other").created("2026-02-02T00:00:00Z").build()
    assert [fault.split(":")[0] for fault in update_faults(new, old)] == [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "metadata.creationTimestamp",
    ]
    assert update_faults(new, old)[0] == 'metadata.name: Invalid value: "d": field is immutable'
    assert [str(fault) for fault in validate_status_update(new, old)] == update_faults(new, old)[:4]


def test_an_object_that_is_going_takes_no_new_finalizer() -> None:
    old = a_config_map("c").deleting().finalizers("a.b/x", "a.b/y")
    new = a_config_map("c").deleting()
    assert update_faults(new.finalizers("a.b/x").build(), old.build()) == []
    assert update_faults(a_config_map("c").finalizers("a.b/z").build(), a_config_map("c").build()) == []
    assert update_faults(new.finalizers("a.b/z").build(), old.build()) == [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"a.b/z"}'
    ]


def test_a_generation_never_goes_back() -> None:
    assert update_faults(a_deployment().generation(1).build(), a_deployment().generation(2).build()) == [
        "metadata.generation: Invalid value: 1: must not be decremented"
    ]


# --- configuration


def test_config_maps() -> None:
    bad = a_config_map("c", **{"a/b": "x", "both": "y"}).build()
    bad.binaryData = {"both": "YQ=="}
    assert faults(bad)[1:3] == [
        'data[both]: Invalid value: "both": duplicate of key present in binaryData',
        'binaryData[both]: Invalid value: "both": duplicate of key present in data',
    ]
    assert paths(bad) == ["data[a/b]", "data[both]", "binaryData[both]"]
    assert faults(a_config_map("c", big="x" * (1024 * 1024 + 1)).build()) == [
        "Too long: may not be more than 1048576 bytes"
    ]


def test_an_immutable_config_map_stays() -> None:
    old = a_config_map("c", a="1").immutable().build()
    assert update_faults(a_config_map("c", a="1").immutable().labelled(x="y").build(), old) == []
    assert update_faults(a_config_map("c", a="2").build(), old) == [
        "immutable: Forbidden: field is immutable when `immutable` is set",
        "data: Forbidden: field is immutable when `immutable` is set",
    ]


def test_secrets() -> None:
    bad = a_secret("s").build()
    bad.data = {"a b": "YQ=="}
    assert paths(bad) == ["data[a b]"]
    assert faults(a_secret("s").type("kubernetes.io/tls").build()) == [
        "data[tls.crt]: Required value",
        "data[tls.key]: Required value",
    ]
    assert faults(a_secret("s", username="u").type("kubernetes.io/basic-auth").build()) == []
    assert len(faults(a_secret("s").type("kubernetes.io/basic-auth").build())) == 2


def test_a_secret_keeps_its_type_and_if_immutable_its_data() -> None:
    assert update_faults(a_secret("s").type("example.com/x").build(), a_secret("s").build()) == [
        'type: Invalid value: "example.com/x": field is immutable'
    ]
    old = a_secret("s", a="1").with_metadata().build()
    old.immutable = True
    assert [fault.split(":")[0] for fault in update_faults(a_secret("s", a="2").build(), old)] == ["immutable", "data"]


def test_a_secret_of_a_type_holds_what_the_type_promises() -> None:
    odd = a_secret("s").type("kubernetes.io/dockerconfigjson").build()
    odd.data[".dockerconfigjson"] = "bm90IGpzb24="
    assert faults(odd) == [
        'data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": must be a JSON object'
    ]
    odd.data[".dockerconfigjson"] = "e30="
    assert faults(odd) == []
    assert faults(a_secret("s").type("kubernetes.io/ssh-auth").build()) == ["data[ssh-privatekey]: Required value"]
    token = a_secret("s").type("kubernetes.io/service-account-token")
    assert faults(token.build()) == ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]
    assert faults(token.annotated({"kubernetes.io/service-account.name": "default"}).build()) == []


def test_a_namespaces_phase_follows_its_deletion() -> None:
    old = a_namespace("lab").build()
    going = a_namespace("lab").build()
    going.status.phase = "Terminating"
    assert [str(fault) for fault in validate_status_update(going, old)] == [
        "status.phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
    ]
    gone = a_namespace("lab").terminating().build()
    assert validate_status_update(gone, gone) == []


# --- nodes


def test_taints() -> None:
    taints = [Taint(key="a", effect="NoSchedule"), Taint(key="a", effect="NoSchedule"), Taint(key="b c", effect="Odd")]
    found = [fault for fault in faults(a_node().with_spec(taints=taints).build()) if UNSUPPORTED not in fault]
    assert found[0] == (
        'spec.taints[1]: Duplicate value: {"effect":"NoSchedule","key":"a"}: '
        "taints must be unique by key and effect pair"
    )
    assert [fault.split(":")[0] for fault in found[1:]] == ["spec.taints[2].key", "spec.taints[2].effect"]


def test_nodes() -> None:
    assert faults(a_node().with_spec(taints=[Taint(key="k", effect="NoSchedule")]).build()) == []
    assert paths(a_node().pod_cidr("10.244.1.1/24").build()) == ["spec.podCIDRs[0]"]
    assert paths(a_node().capacity(cpu="lots", memory="-1").build()) == [
        "status.capacity[cpu]",
        "status.capacity[memory]",
        "status.allocatable[cpu]",
        "status.allocatable[memory]",
    ]
    assert faults(a_node().capacity(cpu="1500m", pods="1500m", **{"example.com/gpu": "1.5"}).build())[:2] == [
        'status.capacity[pods]: Invalid value: "1500m": must be an integer',
        'status.capacity[example.com/gpu]: Invalid value: "1500m": must be an integer',
    ]
    bad = a_node().capacity(cpu="lots").build()
    assert [fault.path for fault in validate_status_update(bad, a_node().build())] == [
        "status.capacity[cpu]",
        "status.allocatable[cpu]",
    ]


def test_a_nodes_range_is_given_once() -> None:
    given = a_node().pod_cidr("10.244.1.0/24").build()
    assert update_faults(given, a_node().build()) == []
    assert update_faults(a_node().pod_cidr("10.244.2.0/24").build(), given) == [
        'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid'
    ]


# --- services


def service(**spec: Any) -> Service:
    return a_service("web").port(80).with_spec(**spec).build()


def test_service_ports() -> None:
    assert faults(a_service().build()) == ["spec.ports: Required value"]
    several = a_service().port(80, name="a").port(81, name="a").port(0).port(80, "Bad Name", name="c", protocol="TCP")
    assert sorted(paths(several.build())) == [
        "spec.ports[1].name",
        "spec.ports[2].name",
        "spec.ports[2].port",
        "spec.ports[2].targetPort",
        "spec.ports[3]",
        "spec.ports[3].targetPort",
    ]
    assert faults(a_service().port(53, name="t").port(53, name="u", protocol="UDP").build()) == []
    assert faults(a_service().type("ClusterIP").port(80, node_port=30080).build()) == [
        "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"
    ]
    twice = a_service().port(80, name="a", node_port=30080).port(81, name="b", node_port=30080).build()
    assert faults(twice) == ["spec.ports[1].nodePort: Duplicate value: 30080"]
    assert paths(a_service().headless().port(80, 8080).build()) == []


def test_service_addresses() -> None:
    assert faults(service(clusterIP="10.96.0", clusterIPs=["10.96.0"])) == [
        'spec.clusterIPs[0]: Invalid value: "10.96.0": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
    ]
    assert faults(service(clusterIP="10.96.0.1", clusterIPs=["10.96.0.2"])) == [
        'spec.clusterIPs: Invalid value: ["10.96.0.2"]: first value must match `clusterIP`'
    ]
    assert faults(service(clusterIP="fd00::1", clusterIPs=["fd00::1"])) == [
        'spec.clusterIPs[0]: Invalid value: "fd00::1": expected an IPv4 value as indicated by `ipFamilies[0]`'
    ]
    assert faults(service(clusterIP="10.96.0.1", clusterIPs=["10.96.0.1", "fd00::1"])) == [
        "spec.clusterIPs[1]: Forbidden: barque supports only one address here yet"
    ]
    assert faults(service(clusterIP="None", clusterIPs=["None"], type="NodePort", externalTrafficPolicy="Cluster")) == [
        "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"
    ]


def test_a_service_keeps_its_address() -> None:
    old = a_service().port(80).cluster_ip("10.96.0.1").build()
    assert update_faults(a_service().port(80).cluster_ip("10.96.0.2").build(), old) == [
        'spec.clusterIPs[0]: Invalid value: ["10.96.0.2"]: may not change once set'
    ]
    assert update_faults(a_service().port(80).build(), old) == [
        'spec.clusterIPs[0]: Invalid value: "": primary clusterIP can not be unset'
    ]
    assert update_faults(old, a_service().port(80).build()) == []


def test_what_only_some_services_have() -> None:
    balanced = "Forbidden: may only be used when `type` is 'LoadBalancer'"
    assert faults(service(allocateLoadBalancerNodePorts=True)) == [f"spec.allocateLoadBalancerNodePorts: {balanced}"]
    assert f"spec.loadBalancerClass: {balanced}" in faults(service(loadBalancerClass="example.com/x"))
    assert f"spec.loadBalancerSourceRanges: {balanced}" in faults(service(loadBalancerSourceRanges=["10.0.0.0/8"]))
    assert faults(service(externalTrafficPolicy="Cluster")) == [
        'spec.externalTrafficPolicy: Invalid value: "Cluster": may only be set for externally-accessible services'
    ]
    assert "spec.healthCheckNodePort" in paths(service(healthCheckNodePort=30000))
    named = service(type="ExternalName", externalName="", clusterIPs=["10.96.0.1"], ipFamilies=[], ipFamilyPolicy="")
    assert faults(named)[:2] == [
        "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
        "spec.externalName: Required value",
    ]
    assert (
        'spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)'
        in (faults(service(externalIPs=["127.0.0.1"], externalTrafficPolicy="Cluster")))
    )


def test_no_load_balancer_exposes_the_kubelets_port() -> None:
    why = "may not expose port 10250 externally since it is used by kubelet"
    assert faults(a_service().type("LoadBalancer").port(80).port(10250).build()) == [
        "spec.ports[0].name: Required value",
        "spec.ports[1].name: Required value",
        f"spec.ports[1]: Invalid value: 10250: {why}",
    ]
    assert faults(a_service().port(10250).build()) == []


def test_only_load_balancers_have_addresses_in_their_status() -> None:
    old = a_service().port(80).build()
    new = a_service().port(80).build()
    new.status.loadBalancer = LoadBalancerStatus(ingress=[LoadBalancerIngress(ip="192.0.2.1")])
    assert [str(fault) for fault in validate_status_update(new, old)] == [
        "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
    ]
    new.spec.type = "LoadBalancer"
    assert validate_status_update(new, old) == []
    new.status.loadBalancer.ingress[0] = LoadBalancerIngress(hostname="example.com", ipMode="VIP")
    assert [fault.path for fault in validate_status_update(new, old)] == ["status.loadBalancer.ingress[0].ipMode"]


def test_services_barque_cannot_serve_yet() -> None:
    assert faults(service(type="LoadBalancer", loadBalancerSourceRanges=["192.0.2.0/24"])) == [
        f"spec.loadBalancerSourceRanges: {UNSUPPORTED}"
    ]
    assert faults(service(type="Magic")) == [
        'spec.type: Unsupported value: "Magic": supported values: '
        '"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'
    ]
    near = service(trafficDistribution="PreferClose", internalTrafficPolicy="Local", sessionAffinity="ClientIP")
    assert paths(near) == []
    assert faults(service(ipFamilies=["IPv6"])) == ["spec.ipFamilies[0]: Forbidden: barque supports only IPv4 here yet"]


def test_endpoint_slices() -> None:
    bad = (
        an_endpoint_slice()
        .port(0)
        .port(80, "a")
        .port(81, "a", protocol="X")
        .endpoint("10.244.1")
        .endpoint("fd00::1")
        .build()
    )
    bad.endpoints[0].addresses.append("10.244.1.1")
    assert paths(bad) == [
        "ports[0].port",
        "ports[2].name",
        "ports[2].protocol",
        "endpoints[0].addresses[0]",
        "endpoints[1].addresses[0]",
    ]
    empty = an_endpoint_slice().endpoint("10.244.1.1").build()
    empty.endpoints[0].addresses = []
    assert faults(empty) == ["endpoints[0].addresses: Required value: must contain at least 1 address"]
    other = an_endpoint_slice().build()
    other.addressType = "IPv6"
    assert faults(other) == ["addressType: Forbidden: barque supports only IPv4 here yet"]
    assert (
        update_faults(other, an_endpoint_slice().build())[-1]
        == 'addressType: Invalid value: "IPv6": field is immutable'
    )


def test_an_event_lives_with_what_it_is_about() -> None:
    event = an_event(a_pod().build()).in_namespace("lab").build()
    assert faults(event) == ['involvedObject.namespace: Invalid value: "default": does not match event.namespace']
    event.involvedObject = ObjectReference(kind="Node", name="n1")
    assert faults(event) == ['involvedObject.namespace: Invalid value: "": does not match event.namespace']
    event.metadata.namespace = "default"
    assert faults(event) == []
    event.involvedObject = None
    assert faults(event) == ["involvedObject: Required value"]


def test_an_event_with_its_own_time_says_who_reports_what() -> None:
    event = an_event(a_pod().build()).build()
    event.eventTime = "2026-01-01T00:00:00.000000Z"
    event.reason = "x" * 129
    assert faults(event) == [
        "reportingComponent: Required value",
        *(f"reportingComponent: Invalid value: {fault}" for fault in ['"": name part must be non-empty']),
        "reportingInstance: Required value",
        "action: Required value",
        'reason: Invalid value: "": can have at most 128 characters',
    ]


def a_newer_event() -> events_v1.Event:
    return events_v1.Event(
        metadata=ObjectMeta(name="e", namespace="default"),
        regarding=ObjectReference(kind="Pod", name="web", namespace="default"),
        eventTime="2026-01-01T00:00:00.000000Z",
        type="Normal",
        reason="Started",
        action="Start",
        reportingController="barque.io/worker",
        reportingInstance="n1",
    )


def test_newer_events_are_judged_more_strictly() -> None:
    assert faults(a_newer_event()) == []
    event = a_newer_event()
    event.type, event.deprecatedCount = "Odd", 2
    event.series = events_v1.EventSeries(count=1)
    assert faults(event) == [
        'series.count: Invalid value: "": should be at least 2',
        "series.lastObservedTime: Required value",
        'type: Invalid value: "": has invalid value: Odd',
        'deprecatedCount: Invalid value: "": needs to be unset',
    ]
    timeless = a_newer_event()
    timeless.eventTime = None
    assert faults(timeless) == ["eventTime: Required value"]
    again = a_newer_event()
    again.series = events_v1.EventSeries(count=2, lastObservedTime="2026-01-01T00:01:00.000000Z")
    assert update_faults(again, a_newer_event()) == []
    again.note = "changed"
    assert update_faults(again, a_newer_event()) == ['note: Invalid value: "changed": field is immutable']


def test_an_older_event_seen_through_the_newer_group_stays_as_it_is() -> None:
    def older(**changed: Any) -> events_v1.Event:
        event = a_newer_event()
        event.eventTime, event.type, event.deprecatedCount = None, "", 2
        event.deprecatedSource = EventSource(component="worker")
        for name, value in changed.items():
            setattr(event, name, value)
        return event

    assert update_faults(older(), older()) == []
    assert update_faults(older(deprecatedCount=3), older()) == ["deprecatedCount: Invalid value: 3: field is immutable"]
    late = older(eventTime="2026-01-01T00:00:00.000000Z")
    assert update_faults(late, older()) == [
        'eventTime: Invalid value: "2026-01-01T00:00:00.000000Z": field is immutable'
    ]


def test_what_clients_write_for_nothing_and_how_finely_they_write_times_is_no_change() -> None:
    old, new = a_newer_event(), a_newer_event()
    new.deprecatedSource, new.deprecatedCount, new.eventTime = EventSource(), 0, "2026-01-01T01:00:00+01:00"
    assert update_faults(new, old) == []
    old.series = events_v1.EventSeries(count=1)
    new.series = events_v1.EventSeries(count=1)
    assert update_faults(new, old) == []  # only a series that is written is judged
    new.series = events_v1.EventSeries(count=1, lastObservedTime="2026-01-01T00:01:00.000000Z")
    assert update_faults(new, old) == ['series.count: Invalid value: "": should be at least 2']
