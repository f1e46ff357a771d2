"""Service ports as exact rule text."""

from barque.network.iptables.chains import ChainId
from barque.network.proxy.render import render_base, render_dispatch, render_doors, render_service_port
from barque.network.proxy.state import Backend, ServicePort

PODS = "10.244.0.0/16"
WEB = ServicePort(
    "default/web:http", "tcp", "10.96.0.10", 80, 30080, (Backend("10.244.1.5", 8080), Backend("10.244.2.6", 8080))
)
SVC, SVL, EXT = (f"BARQUE-{kind}-FrOKzshMl3bhiZXV" for kind in ("SVC", "SVL", "EXT"))
FAR = WEB._replace(backends=tuple(backend._replace(near=False) for backend in WEB.backends))


def names(chains: dict[ChainId, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {f"{chain.table} {chain.name}": rules for chain, rules in chains.items()}


def test_a_port_chooses_among_its_endpoints_with_equal_chance() -> None:
    chains = names(render_service_port(WEB, PODS))
    first, second = (name for name in chains if "-SEP-" in name)
    assert chains == {
        first: (
            "-s 10.244.1.5/32 -j BARQUE-MARK-MASQ",
            "-p tcp -m tcp -j DNAT --to-destination 10.244.1.5:8080",
        ),
        second: (
            "-s 10.244.2.6/32 -j BARQUE-MARK-MASQ",
            "-p tcp -m tcp -j DNAT --to-destination 10.244.2.6:8080",
        ),
        f"nat {EXT}": ("-j BARQUE-MARK-MASQ", f"-j {SVC}"),
        f"nat {SVC}": (
            "! -s 10.244.0.0/16 -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j BARQUE-MARK-MASQ",
            f"-m statistic --mode random --probability 0.50000000000 -j {first.split()[1]}",
            f"-j {second.split()[1]}",
        ),
    }


def test_chain_names_fit_the_kernel_and_outlast_a_change_of_endpoints() -> None:
    fewer = WEB._replace(backends=WEB.backends[:1])
    assert set(render_service_port(fewer, PODS)) < set(render_service_port(WEB, PODS))
    deepest = ServicePort("n/s", "udp", "255.255.255.240", 53, 0, WEB.backends)
    many = [deepest._replace(name=f"n/s{i}", cluster_ip=f"255.255.255.{i}") for i in range(256)]
    assert all(
        len(chain.name) <= 28
        for chain in (render_dispatch(door for p in many for door in render_doors(p)) | render_service_port(WEB, PODS))
    )


def test_a_port_without_endpoints_has_no_chain() -> None:
    assert render_service_port(WEB._replace(backends=()), PODS) == {}


def test_dispatch_leads_to_the_port_or_refuses() -> None:
    idle = ServicePort("default/idle", "udp", "10.96.0.11", 53, 30053, ())
    assert names(render_dispatch([*render_doors(WEB), *render_doors(idle)])) == {
        "nat BARQUE-SERVICES": (
            f'-d 10.96.0.10/32 -p tcp -m tcp --dport 80 -m comment --comment "default/web:http" -j {SVC}',
            "-m addrtype --dst-type LOCAL -j BARQUE-NODEPORTS",
        ),
        "nat BARQUE-NODEPORTS": (f'-p tcp -m tcp --dport 30080 -m comment --comment "default/web:http" -j {EXT}',),
        "filter BARQUE-SERVICES": (
            "-d 10.96.0.11/32 -p udp -m udp --dport 53 "
            '-m comment --comment "default/idle has no endpoints" -j REJECT --reject-with icmp-port-unreachable',
        ),
        "filter BARQUE-NODEPORTS": (
            "-p udp -m udp --dport 30053 "
            '-m comment --comment "default/idle has no endpoints" -j REJECT --reject-with icmp-port-unreachable',
        ),
    }


def test_an_endpoint_of_another_node_needs_no_chain() -> None:
    assert names(render_service_port(FAR, PODS))[f"nat {SVC}"][1:] == (
        "-p tcp -m tcp -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.244.1.5:8080",
        "-p tcp -m tcp -j DNAT --to-destination 10.244.2.6:8080",
    )
    assert not any("-SEP-" in name for name in names(render_service_port(FAR, PODS)))


def test_a_client_of_a_service_with_affinity_goes_where_it_went_before() -> None:
    chains = names(render_service_port(FAR._replace(affinity_s=600), PODS))
    first, second = (name.split()[1] for name in chains if "-SEP-" in name)
    assert chains[f"nat {SVC}"][1:] == (
        f"-m recent --rcheck --seconds 600 --reap --name {first} -j {first}",
        f"-m recent --rcheck --seconds 600 --reap --name {second} -j {second}",
        f"-m statistic --mode random --probability 0.50000000000 -j {first}",
        f"-j {second}",
    )
    sent = f"-p tcp -m tcp -m recent --set --name {first} -j DNAT --to-destination 10.244.1.5:8080"
    assert chains[f"nat {first}"][1] == sent


def test_from_outside_a_local_policy_wants_endpoints_here_and_inside_any() -> None:
    port = WEB._replace(local=WEB.backends[:1], external_local=True, external_ips=("203.0.113.9",))
    chains = names(render_service_port(port, PODS))
    assert chains[f"nat {EXT}"] == (
        f"-s 10.244.0.0/16 -j {SVC}",
        "-m addrtype --src-type LOCAL -j BARQUE-MARK-MASQ",
        f"-m addrtype --src-type LOCAL -j {SVC}",
        f"-j {SVL}",
    )
    assert len(chains[f"nat {SVL}"]) == 1
    assert len(chains[f"nat {SVC}"]) == 3
    doors = names(render_dispatch(render_doors(port)))
    assert (
        f'-d 203.0.113.9/32 -p tcp -m tcp --dport 80 -m comment --comment "default/web:http" -j {EXT}'
        in (doors["nat BARQUE-SERVICES"])
    )
    away = names(render_dispatch(render_doors(port._replace(local=()))))
    dropped = '-m comment --comment "default/web:http has no local endpoints" -j DROP'
    assert away["filter BARQUE-NODEPORTS"] == (f"-p tcp -m tcp --dport 30080 {dropped}",)
    assert away["filter BARQUE-SERVICES"] == (f"-d 203.0.113.9/32 -p tcp -m tcp --dport 80 {dropped}",)
    assert away["nat BARQUE-NODEPORTS"] == doors["nat BARQUE-NODEPORTS"]


def test_inside_a_local_policy_drops_where_none_is_here() -> None:
    port = WEB._replace(node_port=0, internal_local=True, local=WEB.backends[:1])
    assert f"nat {SVC}" not in names(render_service_port(port, PODS))
    assert len(names(render_service_port(port, PODS))[f"nat {SVL}"]) == 2
    away = names(render_dispatch(render_doors(port._replace(local=()))))
    assert "has no local endpoints" in away["filter BARQUE-SERVICES"][0]
    assert len(away["nat BARQUE-SERVICES"]) == 1, "only the way to node ports is left"


def test_what_is_marked_is_masqueraded_once_and_forwarded_and_the_loopback_is_guarded() -> None:
    assert names(render_base()) == {
        "nat BARQUE-MARK-MASQ": ("-j MARK --or-mark 0x1000",),
        "nat BARQUE-POSTROUTING": (
            "-m mark ! --mark 0x1000/0x1000 -j RETURN",
            "-j MARK --xor-mark 0x1000",
            "-j MASQUERADE --random-fully",
        ),
        "filter BARQUE-PROXIED": (
            "-m mark --mark 0x1000/0x1000 -j ACCEPT",
            "-m conntrack --ctstate RELATED,ESTABLISHED -m conntrack --ctstate DNAT -j ACCEPT",
        ),
        "filter BARQUE-LOCALNET": ("! -i lo -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",),
    }
