"""The Service that `barque expose` makes for an object, and that `run --expose` makes for its pod. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from barque.cli.output import CliError

TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
EXPOSABLE = ("pods", "services", "deployments", "replicasets", "replicationcontrollers")


class Wish(NamedTuple):
    """What the user says of the service; "" and empty mean: as the object has it, or as is usual."""

    name: str = ""
    port: str = ""
    target_port: str = ""
    protocol: str = ""
    type: str = ""
    selector: str = ""
    labels: str = ""
    cluster_ip: str = ""
    external_ips: Sequence[str] = ()
    session_affinity: str = ""


def service_for(obj: Mapping[str, Any], plural: str, wish: Wish) -> dict[str, Any]:
    """Raises `CliError` where the object does not tell enough and the user does not either."""
    labels = parse_pairs(wish.labels, "--labels") if wish.labels else dict(obj["metadata"].get("labels") or {})
    spec: dict[str, Any] = {
        "selector": parse_pairs(wish.selector, "--selector") if wish.selector else _selector(obj, plural),
        "ports": _ports(obj, plural, wish),
    }
    if wish.type:
        spec["type"] = wish.type
    if wish.cluster_ip:
        spec["clusterIP"] = wish.cluster_ip
    if wish.external_ips:
        spec["externalIPs"] = list(wish.external_ips)
    if wish.session_affinity:
        spec["sessionAffinity"] = wish.session_affinity
    metadata: dict[str, Any] = {"name": wish.name or obj["metadata"]["name"]}
    if obj["metadata"].get("namespace"):
        metadata["namespace"] = obj["metadata"]["namespace"]
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def parse_pairs(text: str, option: str) -> dict[str, str]:
    """`a=1,b=2`. Raises `CliError`."""
    pairs: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise CliError(f"{option} takes KEY=VALUE, several of them with commas between, not {part!r}")
        pairs[key.strip()] = value.strip()
    return pairs


def _selector(obj: Mapping[str, Any], plural: str) -> dict[str, str]:
    if plural == "pods":
        labels = dict(obj["metadata"].get("labels") or {})
        if not labels:
            raise CliError("the pod has no labels and cannot be exposed")
        return labels
    selector = obj["spec"].get("selector") or {}
    if plural in ("services", "replicationcontrollers"):
        if not selector:
            raise CliError(f"{plural} without a selector cannot be exposed; give --selector")
        return dict(selector)
    if selector.get("matchExpressions"):
        raise CliError("a selector with expressions has no form that a service knows; give --selector")
    return dict(selector.get("matchLabels") or {})


def _ports(obj: Mapping[str, Any], plural: str, wish: Wish) -> list[dict[str, Any]]:
    known = _known_ports(obj, plural)
    if wish.port:
        protocols = dict(known)
        numbers = [_number(part) for part in wish.port.split(",")]
        wanted = [(number, wish.protocol.upper() or protocols.get(number, "TCP")) for number in numbers]
    elif known:
        wanted = [(number, wish.protocol.upper() or protocol) for number, protocol in known]
    else:
        raise CliError("couldn't find port via --port flag or introspection")
    ports: list[dict[str, Any]] = []
    for position, (number, protocol) in enumerate(wanted, 1):
        target = wish.target_port or str(number)
        port: dict[str, Any] = {"port": number, "protocol": protocol}
        port["targetPort"] = int(target) if target.isdecimal() else target
        if len(wanted) > 1:
            port = {"name": f"port-{position}", **port}
        ports.append(port)
    return ports


def _known_ports(obj: Mapping[str, Any], plural: str) -> list[tuple[int, str]]:
    """The ports the object itself tells, with their protocols."""
    spec = obj["spec"]
    if plural == "services":
        return [(port["port"], port.get("protocol") or "TCP") for port in spec.get("ports", ())]
    template = spec if plural == "pods" else spec["template"]["spec"]
    ports = (port for container in template.get("containers", ()) for port in container.get("ports", ()))
    return list(dict.fromkeys((port["containerPort"], port.get("protocol") or "TCP") for port in ports))


def _number(text: str) -> int:
    if not text.strip().isdecimal() or not 0 < int(text) < 65536:
        raise CliError(f"{text!r} is not a port")
    return int(text)
