"""Who the masters are, as clients and the cluster's own services are told."""

from __future__ import annotations

import ipaddress
from types import SimpleNamespace
from typing import Any

from barque.master.controllers.kubernetesservice import Doors, wanted_endpoints, wanted_service
from barque.master.masters import Masters
from barque.master.raft.messages import Configuration, MemberInfo

M1 = MemberInfo("a1", "m1", "10.0.0.1")
M2 = MemberInfo("b2", "m2", "10.0.0.2")
M3 = MemberInfo("c3", "m3", "10.0.0.3")


def the_masters(configuration: Configuration, leader: str, *, leads: bool = False) -> Masters:
    store: Any = SimpleNamespace(leads=leads)
    group: Any = SimpleNamespace(configuration=configuration, group_figures=lambda: SimpleNamespace(leader=leader))
    return Masters(M1, store, group)


def test_voters_are_told_of_in_the_order_of_their_names() -> None:
    configuration = Configuration(voters=("c3", "a1"), learners=("b2",), members=(M3, M2, M1))
    masters = the_masters(configuration, "c3")
    assert masters.doors() == ["10.0.0.1:7443", "10.0.0.3:7443"]
    assert masters.addresses() == ["10.0.0.1", "10.0.0.3"]
    assert masters.leader() == M3
    assert masters.door_of_leader() == "10.0.0.3:7443"


def test_the_leader_passes_heartbeats_to_nobody() -> None:
    configuration = Configuration(voters=("a1", "b2"), members=(M1, M2))
    assert the_masters(configuration, "a1", leads=True).door_of_leader() == ""
    assert the_masters(configuration, "").door_of_leader() == ""


def test_one_that_knows_no_group_tells_of_itself() -> None:
    assert the_masters(Configuration(), "").all() == [M1]
    alone: Any = SimpleNamespace(leads=True)
    assert Masters(M1, alone).leader() == M1
    assert Masters(M1, SimpleNamespace(leads=False)).leader() is None  # type: ignore[arg-type]  # of a store


def test_the_clusters_own_services_lead_to_every_master() -> None:
    masters = the_masters(Configuration(voters=("a1", "b2", "c3"), members=(M1, M2, M3)), "b2")
    doors = Doors(masters.addresses, lambda: 6443, 7443, ipaddress.IPv4Network("10.96.0.0/12"))
    endpoints = wanted_endpoints(wanted_service("default/kubernetes", doors), doors.addresses())
    assert [address.ip for address in endpoints.subsets[0].addresses] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
