"""`barque explain`: pages in kubectl's layout, and the facts in them checked against the schema and the defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from barque.api import resources
from barque.api.defaults import apply_defaults
from barque.api.defaults.networking import default_address
from barque.api.shapes import shape_of
from barque.api.types import apps_v1, base, core_v1, metrics_v1beta1
from barque.api.types.generate import load_definitions, split_name
from barque.api.validation.support import SUPPORTED
from barque.cli.explaining import Field, fields_of
from barque.cli.explanations import EXPLANATIONS, REQUIRED
from barque.cli.main import cli
from tests.support.builders import PodBuilder


def explain(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["explain", *arguments], prog_name="barque")


def test_a_kind_and_its_fields() -> None:
    assert explain("rs").stdout == (
        "GROUP:      apps\n"
        "KIND:       ReplicaSet\n"
        "VERSION:    v1\n"
        "\n"
        "DESCRIPTION:\n"
        "    Keeps a number of equal pods running.\n"
        "    \n"
        "FIELDS:\n"
        "  apiVersion\t<string>\n"
        "    The group and version of the object's kind, as in apps/v1.\n"
        "\n"
        "  kind\t<string>\n"
        "    The object's kind, as in Pod.\n"
        "\n"
        "  metadata\t<ObjectMeta>\n"
        "    The object's name, labels and whatever else every object has.\n"
        "\n"
        "  spec\t<ReplicaSetSpec>\n"
        "    What is wanted.\n"
        "\n"
        "  status\t<ReplicaSetStatus>\n"
        "    What is so; the system writes it.\n"
    )


def test_a_field_with_its_values_and_default() -> None:
    assert explain("pod.spec.containers.ports.protocol").stdout == (
        "KIND:       Pod\n"
        "VERSION:    v1\n"
        "\n"
        "FIELD: protocol <string>\n"
        "ENUM: TCP, UDP, SCTP\n"
        "DEFAULT: TCP\n"
        "\n"
        "DESCRIPTION:\n"
        "    The protocol.\n"
    )


def test_type_words_are_kubectls() -> None:
    def word(path: str) -> str:
        return next(line for line in explain(path).stdout.splitlines() if line.startswith("FIELD:")).split(" ", 2)[2]

    assert word("pod.spec.containers") == "<[]Container> -required-"
    assert word("pod.metadata.labels") == "<map[string]string>"
    assert word("pod.spec.containers.resources.limits") == "<map[string]Quantity>"
    assert word("svc.spec.ports.targetPort") == "<IntOrString>"
    assert word("deploy.spec.template") == "<PodTemplateSpec> -required-"
    assert word("pod.spec.volumes.csi.volumeAttributes") == "<map[string]string>"
    assert word("pod.metadata.managedFields.fieldsV1") == "<Object>"
    assert word("pod.spec.containers.args") == "<[]string>"
    assert word("pod.spec.terminationGracePeriodSeconds") == "<integer>"


def test_recursively() -> None:
    lines = explain("deployment", "--recursive").stdout.splitlines()
    assert "  spec\t<DeploymentSpec>" in lines
    assert "    selector\t<LabelSelector> -required-" in lines
    assert "      matchLabels\t<map[string]string>" in lines
    assert not any("Keeps" in line for line in lines[7:])


def test_what_does_not_exist() -> None:
    def error(*arguments: str) -> str:
        result = explain(*arguments)
        assert (result.stdout, result.exit_code) == ("", 1)
        return result.stderr

    assert error("pod.spec.contaners") == 'error: field "contaners" does not exist; did you mean containers?\n'.replace(
        "containers?", "containers or initContainers?"
    )
    assert error("pod.spec.nodeName.x") == 'error: field "x" does not exist\n'
    assert error("svc", "--api-version=v2") == "error: services are not served in v2, but in v1\n"
    assert "did you mean pod" in error("poood")


def test_another_version_of_a_kind() -> None:
    def fields(*arguments: str) -> list[str]:
        return [line.split()[0] for line in explain(*arguments).stdout.splitlines() if "\t<" in line]

    newer = fields("events", "--api-version=events.k8s.io/v1")
    assert {"note", "regarding", "deprecatedCount"} <= set(newer)
    assert {"message", "involvedObject", "count"} <= set(fields("ev")) == set(fields("events", "--api-version=v1"))
    head = explain("ev.note", "--api-version=events.k8s.io/v1").stdout.splitlines()
    assert (head[0], head[4]) == ("GROUP:      events.k8s.io", "FIELD: note <string>")


def served_structs() -> list[type[base.Object]]:
    found: dict[type[base.Object], None] = {}

    def walk(struct: type[base.Object]) -> None:
        if struct not in found:
            found[struct] = None
            for shape in shape_of(struct).values():
                if shape.struct is not None:
                    walk(shape.struct)

    for resource in resources.RESOURCES:
        walk(resource.type)
    return list(found)


def test_required_is_what_the_schema_says() -> None:
    modules = {
        (f"{package.split('.')[-2]}_{package.split('.')[-1]}", name): definition
        for full, definition in load_definitions().items()
        for package, name in [split_name(full)]
    }
    for struct in served_structs():
        if struct.__module__ == metrics_v1beta1.__name__:
            continue  # The schema data have nothing of this group.
        definition = modules[struct.__module__.rpartition(".")[2], struct.__name__]
        required = {field.name for field in fields_of(struct) if field.required}
        assert required == set(definition.get("required", ())), struct


def test_only_fields_that_exist_are_explained_and_every_served_kind_is() -> None:
    by_name: dict[str, type[base.Object]] = {}
    for struct in served_structs():
        by_name.setdefault(struct.__name__, struct)
        by_name[f"{struct.__module__.rpartition('.')[2]}.{struct.__name__}"] = struct
    for name, text in EXPLANATIONS.items():
        if name in by_name:
            told = [line.split(" ")[0].rstrip(":") for line in text.strip().splitlines()]
            assert set(told) - {""} <= set(shape_of(by_name[name])), name
            assert len(told) == len(set(told)), name
            assert told[told[0] == "" :] == sorted(told[told[0] == "" :]), name
    assert {name for name, _ in REQUIRED} <= set(by_name)
    for resource in resources.RESOURCES:
        assert "<no description>" not in explain(resource.singular).stdout, resource


def test_every_supported_field_of_a_pod_is_explained() -> None:
    for struct, names in SUPPORTED.items():
        missing = {field.name for field in fields_of(struct) if field.name in names and not field.known.text}
        assert not missing, struct


def rich_objects() -> list[Any]:
    pod = (
        PodBuilder("web", "default")
        .container(
            "main",
            "web:1",
            ports=[core_v1.ContainerPort(containerPort=80)],
            env=[core_v1.EnvVar(name="A", valueFrom=core_v1.EnvVarSource(fieldRef=core_v1.ObjectFieldSelector()))],
            livenessProbe=core_v1.Probe(httpGet=core_v1.HTTPGetAction(port=80)),
        )
        .volume("a", configMap=core_v1.ConfigMapVolumeSource(name="a"))
        .volume("b", secret=core_v1.SecretVolumeSource(secretName="b"))
        .build()
    )
    service = core_v1.Service(spec=core_v1.ServiceSpec(ports=[core_v1.ServicePort(port=80)], selector={"a": "b"}))
    template = core_v1.PodTemplateSpec(spec=core_v1.PodSpec())
    return [
        msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, restartPolicy="", schedulerName="")),
        service,
        core_v1.Secret(),
        apps_v1.Deployment(spec=apps_v1.DeploymentSpec(template=template)),
        apps_v1.ReplicaSet(spec=apps_v1.ReplicaSetSpec(template=template)),
    ]


def with_values(obj: Any) -> Iterator[tuple[Field, Any]]:
    """Every field with a known default, and what stands in it."""
    for field in fields_of(type(obj)):
        value = getattr(obj, field.shape.attribute)
        if field.known.default:
            yield field, value
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, base.Object):
                yield from with_values(each)


def test_defaults_are_those_that_are_filled_in() -> None:
    checked = set()
    for obj in rich_objects():
        apply_defaults(obj)
        if isinstance(obj, core_v1.Service):
            default_address(obj)
        for field, value in with_values(obj):
            if field.name == "enableServiceLinks" and obj.kind != "Pod":
                continue  # filled in where a pod is made, not in its template
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            assert shown == field.known.default, (type(obj), field.name)
            checked.add(field.name)
    assert len(checked) >= 25


@pytest.mark.parametrize("word", ["pod.spec.", "pod.sp", "deployment.spec.str", "po"])
def test_completion_knows_the_fields(word: str) -> None:
    from barque.cli.commands.explain import _complete

    found = _complete(None, None, word)  # type: ignore[arg-type]
    assert found
    assert all(item.value.startswith(word) for item in found)
