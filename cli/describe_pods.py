"""The `describe` pages of pods and of pod templates, in kubectl's layout. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from barque.cli.description import Page, annotation_field, moment


def describe_pod(page: Page, pod: Any, _: Sequence[Any] = ()) -> None:
    """A pod: what was asked for and how each container is."""
    meta, spec, status = pod.metadata, pod.spec, pod.status
    page.field(0, "Name", meta.name)
    page.field(0, "Namespace", meta.namespace)
    page.field(0, "Priority", spec.priority or 0)
    if spec.priorityClassName:
        page.field(0, "Priority Class Name", spec.priorityClassName)
    page.field(0, "Service Account", spec.serviceAccountName or "<none>")
    page.field(0, "Node", f"{spec.nodeName}/{status.hostIP}".rstrip("/") or "<none>")
    if status.startTime:
        page.field(0, "Start Time", moment(status.startTime))
    page.pairs(0, "Labels", meta.labels)
    annotation_field(page, meta.annotations)
    if meta.deletionTimestamp:
        page.field(0, "Status", f"Terminating (since {moment(meta.deletionTimestamp)})")
        page.field(0, "Termination Grace Period", f"{meta.deletionGracePeriodSeconds or 0}s")
    else:
        page.field(0, "Status", status.phase)
    if status.reason:
        page.field(0, "Reason", status.reason)
    if status.message:
        page.field(0, "Message", status.message)
    if status.nominatedNodeName:
        page.field(0, "NominatedNodeName", status.nominatedNodeName)
    page.field(0, "IP", status.podIP)
    page.line(0, "IPs:", *([] if status.podIPs else ["<none>"]))
    for address in status.podIPs:
        page.field(1, "IP", address.ip)
    controller = next((o for o in meta.ownerReferences if o.controller), None)
    if controller is not None:
        page.field(0, "Controlled By", f"{controller.kind}/{controller.name}")
    containers(page, 0, "Init Containers", spec.initContainers, status.initContainerStatuses)
    containers(page, 0, "Containers", spec.containers, status.containerStatuses, always=True)
    containers(page, 0, "Ephemeral Containers", spec.ephemeralContainers, status.ephemeralContainerStatuses)
    if spec.readinessGates:
        verdicts = {condition.type: condition.status for condition in status.conditions}
        gates = [[gate.conditionType, verdicts.get(gate.conditionType, "<none>")] for gate in spec.readinessGates]
        page.table(0, "Readiness Gates", ("Type", "Status"), gates, ruled=False)
    if status.conditions:
        rows = [[condition.type, condition.status] for condition in status.conditions]
        page.table(0, "Conditions", ("Type", "Status"), rows, ruled=False)
    volumes(page, 0, spec.volumes)
    if status.qosClass:
        page.field(0, "QoS Class", status.qosClass)
    page.pairs(0, "Node-Selectors", spec.nodeSelector)
    page.several(0, "Tolerations", [_toleration(t) for t in spec.tolerations])


def template(page: Page, pod_template: Any) -> None:
    """The pod template of a workload."""
    page.line(0, "Pod Template:")
    if pod_template is None:
        page.line(1, "<unset>")
        return
    meta, spec = pod_template.metadata, pod_template.spec
    page.pairs(1, "Labels", meta.labels if meta is not None else {})
    if meta is not None and meta.annotations:
        page.pairs(1, "Annotations", meta.annotations, ": ")
    if spec is None:
        return
    if spec.serviceAccountName:
        page.field(1, "Service Account", spec.serviceAccountName)
    containers(page, 1, "Init Containers", spec.initContainers, [])
    containers(page, 1, "Containers", spec.containers, [], always=True)
    volumes(page, 1, spec.volumes)
    page.pairs(1, "Node-Selectors", spec.nodeSelector)
    page.several(1, "Tolerations", [_toleration(t) for t in spec.tolerations])


def containers(
    page: Page, level: int, name: str, specs: Sequence[Any], statuses: Sequence[Any], *, always: bool = False
) -> None:
    """What each container is and, where it runs, how it is."""
    if not specs and not always:
        return
    by_name = {status.name: status for status in statuses}
    page.line(level, f"{name}:")
    for spec in specs:
        page.line(level + 1, f"{spec.name}:")
        _container(page, level + 2, spec, by_name.get(spec.name))


def _container(page: Page, level: int, spec: Any, status: Any) -> None:
    if status is not None:
        page.field(level, "Container ID", status.containerID)
    page.field(level, "Image", spec.image)
    if status is not None:
        page.field(level, "Image ID", status.imageID)
    many = "s" if len(spec.ports) > 1 else ""
    page.field(
        level, f"Port{many}", ", ".join(f"{p.containerPort}/{p.protocol or 'TCP'}" for p in spec.ports) or "<none>"
    )
    hosts = ", ".join(f"{p.hostPort or 0}/{p.protocol or 'TCP'}" for p in spec.ports)
    page.field(level, f"Host Port{many}", hosts or "<none>")
    _words(page, level, "Command", spec.command)
    _words(page, level, "Args", spec.args)
    if status is not None:
        _state(page, level, "State", status.state)
        if status.lastState is not None and status.lastState.terminated is not None:
            _state(page, level, "Last State", status.lastState)
        page.field(level, "Ready", "True" if status.ready else "False")
        page.field(level, "Restart Count", status.restartCount)
    if spec.resources is not None:
        _amounts(page, level, "Limits", spec.resources.limits)
        _amounts(page, level, "Requests", spec.resources.requests)
    for name, probe in (
        ("Liveness", spec.livenessProbe),
        ("Readiness", spec.readinessProbe),
        ("Startup", spec.startupProbe),
    ):
        if probe is not None:
            page.field(level, name, _probe(probe))
    _environment(page, level, spec)
    _mounts(page, level, spec.volumeMounts)


def _words(page: Page, level: int, name: str, words: Sequence[str]) -> None:
    if words:
        page.line(level, f"{name}:")
        for word in words:
            for line in word.splitlines() or [""]:
                page.line(level + 1, line)


def _state(page: Page, level: int, name: str, state: Any) -> None:
    if state is not None and state.running is not None:
        page.field(level, name, "Running")
        page.field(level + 1, "Started", moment(state.running.startedAt))
    elif state is not None and state.terminated is not None:
        ended = state.terminated
        page.field(level, name, "Terminated")
        if ended.reason:
            page.field(level + 1, "Reason", ended.reason)
        if ended.message:
            page.field(level + 1, "Message", ended.message.strip())
        page.field(level + 1, "Exit Code", ended.exitCode)
        if ended.signal:
            page.field(level + 1, "Signal", ended.signal)
        page.field(level + 1, "Started", moment(ended.startedAt))
        page.field(level + 1, "Finished", moment(ended.finishedAt))
    else:
        page.field(level, name, "Waiting")
        waiting = state.waiting if state is not None else None
        if waiting is not None and waiting.reason:
            page.field(level + 1, "Reason", waiting.reason)
        if waiting is not None and waiting.message:
            page.field(level + 1, "Message", waiting.message.strip())


def _amounts(page: Page, level: int, name: str, amounts: Mapping[str, Any]) -> None:
    if amounts:
        page.line(level, f"{name}:")
        for resource, amount in sorted(amounts.items()):
            page.field(level + 1, resource, amount)


def _probe(probe: Any) -> str:
    figures = (
        f"delay={probe.initialDelaySeconds or 0}s timeout={probe.timeoutSeconds or 1}s "
        f"period={probe.periodSeconds or 10}s "
        f"#success={probe.successThreshold or 1} #failure={probe.failureThreshold or 3}"
    )
    if probe.exec is not None:
        return f"exec [{' '.join(probe.exec.command)}] {figures}"
    if probe.httpGet is not None:
        get = probe.httpGet
        path = get.path if get.path.startswith("/") else f"/{get.path}"
        return f"http-get {(get.scheme or 'HTTP').lower()}://{get.host}:{get.port}{path} {figures}"
    if probe.tcpSocket is not None:
        return f"tcp-socket {probe.tcpSocket.host}:{probe.tcpSocket.port} {figures}"
    if probe.grpc is not None:
        return f"grpc <pod>:{probe.grpc.port} {probe.grpc.service or ''} {figures}"
    return f"unknown {figures}"


def _environment(page: Page, level: int, spec: Any) -> None:
    if spec.envFrom:
        page.line(level, "Environment Variables from:")
        for source in spec.envFrom:
            kind, reference = (
                ("ConfigMap", source.configMapRef) if source.configMapRef else ("Secret", source.secretRef)
            )
            prefix = f" with prefix '{source.prefix}'" if source.prefix else ""
            optional = "true" if reference is not None and reference.optional else "false"
            name = reference.name if reference is not None else ""
            page.line(level + 1, name, f"{kind}{prefix}", f"Optional: {optional}")
    if not spec.env:
        page.field(level, "Environment", "<none>")
        return
    page.line(level, "Environment:")
    for variable in spec.env:
        lines = _variable(variable).splitlines() or [""]
        page.field(level + 1, variable.name, lines[0])
        for line in lines[1:]:
            page.line(level + 1, "", line)


def _variable(variable: Any) -> str:
    source = variable.valueFrom
    if source is None:
        return str(variable.value)
    if source.fieldRef is not None:
        return f" ({source.fieldRef.apiVersion or 'v1'}:{source.fieldRef.fieldPath})"
    if source.resourceFieldRef is not None:
        return f"{source.resourceFieldRef.containerName} ({source.resourceFieldRef.resource})".strip()
    kind, key = ("config map", source.configMapKeyRef) if source.configMapKeyRef else ("secret", source.secretKeyRef)
    if key is None:
        return ""
    return f"<set to the key '{key.key}' in {kind} '{key.name}'>  Optional: {'true' if key.optional else 'false'}"


def _mounts(page: Page, level: int, mounts: Sequence[Any]) -> None:
    if not mounts:
        page.field(level, "Mounts", "<none>")
        return
    page.line(level, "Mounts:")
    for mount in sorted(mounts, key=lambda m: str(m.mountPath)):
        flags = ["ro" if mount.readOnly else "rw"]
        if mount.subPath or mount.subPathExpr:
            flags.append(f'path="{mount.subPath or mount.subPathExpr}"')
        page.line(level + 1, f"{mount.mountPath} from {mount.name} ({','.join(flags)})")


def volumes(page: Page, level: int, found: Sequence[Any]) -> None:
    """The pod's volumes, each with what it is made from."""
    if not found:
        page.field(level, "Volumes", "<none>")
        return
    page.line(level, "Volumes:")
    for volume in found:
        page.line(level + 1, f"{volume.name}:")
        _volume(page, level + 2, volume)


def _volume(page: Page, level: int, volume: Any) -> None:
    if volume.emptyDir is not None:
        page.field(level, "Type", "EmptyDir (a temporary directory that shares a pod's lifetime)")
        page.field(level, "Medium", volume.emptyDir.medium)
        limit = volume.emptyDir.sizeLimit
        page.field(level, "SizeLimit", "<unset>" if limit is None else limit)
    elif volume.configMap is not None:
        page.field(level, "Type", "ConfigMap (a volume populated by a ConfigMap)")
        _keys(page, level, "Name", volume.configMap.name, volume.configMap)
    elif volume.secret is not None:
        page.field(level, "Type", "Secret (a volume populated by a Secret)")
        _keys(page, level, "SecretName", volume.secret.secretName, volume.secret)
    elif volume.hostPath is not None:
        page.field(level, "Type", "HostPath (bare host directory volume)")
        page.field(level, "Path", volume.hostPath.path)
        page.field(level, "HostPathType", volume.hostPath.type or "")
    elif volume.persistentVolumeClaim is not None:
        claim = volume.persistentVolumeClaim
        page.field(
            level, "Type", "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)"
        )
        page.field(level, "ClaimName", claim.claimName)
        page.field(level, "ReadOnly", "true" if claim.readOnly else "false")
    elif volume.downwardAPI is not None:
        page.field(level, "Type", "DownwardAPI (a volume populated by information about the pod)")
        _fields_as_files(page, level, volume.downwardAPI.items)
    elif volume.projected is not None:
        page.field(level, "Type", "Projected (a volume that contains injected data from multiple sources)")
        for source in volume.projected.sources:
            _source(page, level, source)
    else:
        kinds = [f for f in volume.__struct_fields__ if f != "name" and getattr(volume, f) is not None]
        page.field(level, "Type", kinds[0] if kinds else "<unknown>")


def _keys(page: Page, level: int, name: str, value: str, source: Any) -> None:
    """A config map or a secret, which of its keys are taken, and whether it may be missing."""
    page.field(level, name, value)
    if source.items:
        page.line(level, "Items:")
        for item in source.items:
            page.line(level + 1, f"{item.key} -> {item.path}")
    page.field(level, "Optional", "true" if source.optional else "false")


def _fields_as_files(page: Page, level: int, items: Sequence[Any]) -> None:
    page.line(level, "Items:")
    for item in items:
        if item.fieldRef is not None:
            page.line(level + 1, f"{item.fieldRef.fieldPath} -> {item.path}")
        elif item.resourceFieldRef is not None:
            page.line(level + 1, f"{item.resourceFieldRef.resource} -> {item.path}")


def _source(page: Page, level: int, source: Any) -> None:
    """One of the sources of a projected volume."""
    if source.configMap is not None:
        _keys(page, level, "ConfigMapName", source.configMap.name, source.configMap)
    elif source.secret is not None:
        _keys(page, level, "SecretName", source.secret.name, source.secret)
    elif source.downwardAPI is not None:
        page.field(level, "DownwardAPI", "true")
        _fields_as_files(page, level, source.downwardAPI.items)
    elif source.serviceAccountToken is not None:
        page.field(level, "TokenExpirationSeconds", source.serviceAccountToken.expirationSeconds or 3600)


def _toleration(toleration: Any) -> str:
    text = str(toleration.key)
    if toleration.value:
        text += f"={toleration.value}"
    if toleration.effect:
        text += f":{toleration.effect}"
    if toleration.operator == "Exists" and not toleration.value:
        text += " op=Exists"
    if toleration.tolerationSeconds is not None:
        text += f" for {toleration.tolerationSeconds}s"
    return text
