"""Every rule of volumes: a volume right but for one planted fault has that fault alone, in Kubernetes' words."""

from __future__ import annotations

from typing import Any

import pytest

from barque.api.shapes import shape_of
from barque.api.types.core_v1 import Volume
from barque.api.validation import pods
from barque.api.validation.volumes import _SOURCES
from tests.support.full_pod import REMOVED, build, planted
from tests.support.name_words import LABEL, SUBDOMAIN

MODE = "must be a number between 0 and 0777 (octal), both inclusive"
ONE_SOURCE = "Forbidden: may not specify more than 1 volume type"
V = "spec.volumes[15]"

# A right source of every kind, and what each must have.
SOURCES: dict[str, dict[str, Any]] = {
    "awsElasticBlockStore": {"volumeID": "v"},
    "azureDisk": {"diskName": "d", "diskURI": "https://d"},
    "azureFile": {"secretName": "s", "shareName": "s"},
    "cephfs": {"monitors": ["m"]},
    "cinder": {"volumeID": "v"},
    "configMap": {"name": "c"},
    "csi": {"driver": "example.com"},
    "downwardAPI": {},
    "emptyDir": {},
    "ephemeral": {
        "volumeClaimTemplate": {
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        }
    },
    "fc": {"wwids": ["w"]},
    "flexVolume": {"driver": "d"},
    "flocker": {"datasetName": "d"},
    "gcePersistentDisk": {"pdName": "d"},
    "gitRepo": {"repository": "r"},
    "glusterfs": {"endpoints": "e", "path": "p"},
    "hostPath": {"path": "/"},
    "image": {"reference": "data:1"},
    "iscsi": {"targetPortal": "10.0.0.1", "iqn": "iqn.2001-04.com.example:a", "lun": 0},
    "nfs": {"server": "s", "path": "/"},
    "persistentVolumeClaim": {"claimName": "c"},
    "photonPersistentDisk": {"pdID": "p"},
    "portworxVolume": {"volumeID": "v"},
    "projected": {},
    "quobyte": {"registry": "r:1", "volume": "v"},
    "rbd": {"monitors": ["m"], "image": "i"},
    "scaleIO": {"gateway": "g", "system": "s", "volumeName": "v"},
    "secret": {"secretName": "s"},
    "storageos": {"volumeName": "v"},
    "vsphereVolume": {"volumePath": "p"},
}
OPTIONAL = ("hostPath", "lun", "wwids", "datasetName")

Plant = tuple[str, Any, str | list[str]]

SOURCE_FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("emptyDir", {"sizeLimit": "-1"}, "sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"),
    (
        "emptyDir",
        {"sizeLimit": "big"},
        'sizeLimit: Invalid value: "big": quantities must match the regular expression '
        "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
    ("hostPath", {"path": "/a/../b"}, "path: Invalid value: \"/a/../b\": must not contain '..'"),
    (
        "hostPath",
        {"type": "Folder"},
        'type: Unsupported value: "Folder": supported values: "", "BlockDevice", "CharDevice", "Directory", '
        '"DirectoryOrCreate", "File", "FileOrCreate", "Socket"',
    ),
    ("gitRepo", {"directory": "/x"}, 'directory: Invalid value: "/x": must be a relative path'),
    (
        "gcePersistentDisk",
        {"partition": 256},
        "partition: Invalid value: 256: must be between 1 and 255, inclusive",
    ),
    (
        "awsElasticBlockStore",
        {"partition": -1},
        "partition: Invalid value: -1: must be between 1 and 255, inclusive",
    ),
    ("nfs", {"path": "data"}, 'path: Invalid value: "data": must be an absolute path'),
    ("iscsi", {"iqn": "iqn.2001"}, 'iqn: Invalid value: "iqn.2001": must be valid format'),
    (
        "iscsi",
        {"iqn": "abc"},
        'iqn: Invalid value: "abc": must be valid format starting with iqn, eui, or naa',
    ),
    ("iscsi", {"lun": 256}, "lun: Invalid value: 256: must be between 0 and 255, inclusive"),
    ("iscsi", {"chapAuthSession": True}, "secretRef: Required value"),
    (
        "iscsi",
        {"initiatorName": "naa.1"},
        'initiatorName: Invalid value: "naa.1": must be valid format',
    ),
    (
        "flocker",
        {"datasetUUID": "u"},
        ': Invalid value: "resource": datasetName and datasetUUID can not be specified simultaneously',
    ),
    ("flocker", {"datasetName": ""}, ": Required value: one of datasetName and datasetUUID is required"),
    ("flocker", {"datasetName": "a/b"}, "datasetName: Invalid value: \"a/b\": must not contain '/'"),
    ("cinder", {"secretRef": {}}, "secretRef.name: Required value"),
    (
        "quobyte",
        {"registry": "r"},
        'registry: Invalid value: "r": must be a host:port pair or multiple pairs separated by commas',
    ),
    (
        "quobyte",
        {"tenant": "t" * 65},
        "tenant: Required value: must be a UUID and may not exceed a length of 64 characters",
    ),
    ("fc", {"wwids": []}, "targetWWNs: Required value: must specify either targetWWNs or wwids, but not both"),
    (
        "fc",
        {"targetWWNs": ["t"], "lun": 1},
        'targetWWNs: Invalid value: ["t"]: targetWWNs and wwids can not be specified simultaneously',
    ),
    (
        "fc",
        {"targetWWNs": ["t"], "wwids": []},
        "lun: Required value: lun is required if targetWWNs is specified",
    ),
    (
        "flexVolume",
        {"options": {"k8s.io/x": "1"}},
        'options[k8s.io/x]: Invalid value: "k8s.io/x": kubernetes.io and k8s.io namespaces are reserved',
    ),
    (
        "azureDisk",
        {"kind": "Managed"},
        'diskURI: Unsupported value: "https://d": supported values: '
        '"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"',
    ),
    (
        "azureDisk",
        {"cachingMode": "Some"},
        'cachingMode: Unsupported value: "Some": supported values: "None", "ReadOnly", "ReadWrite"',
    ),
    ("storageos", {"volumeName": "V"}, f'volumeName: Invalid value: "V": {LABEL}'),
    ("csi", {"driver": "d" * 64}, "driver: Too long: may not be more than 63 bytes"),
    ("csi", {"driver": "-"}, f'driver: Invalid value: "-": {SUBDOMAIN}'),
    ("csi", {"nodePublishSecretRef": {}}, "nodePublishSecretRef.name: Required value"),
    (
        "image",
        {"pullPolicy": "Often"},
        'pullPolicy: Unsupported value: "Often": supported values: "Always", "IfNotPresent", "Never"',
    ),
    ("secret", {"defaultMode": 0o1000}, f"defaultMode: Invalid value: 512: {MODE}"),
    ("secret", {"items": [{"path": "p"}]}, "items[0].key: Required value"),
    ("secret", {"items": [{"key": "k"}]}, "items[0].path: Required value"),
    (
        "secret",
        {"items": [{"key": "k", "path": "/p"}]},
        'items[0].path: Invalid value: "/p": must be a relative path',
    ),
    (
        "configMap",
        {"items": [{"key": "k", "path": "a/../b"}]},
        "items[0].path: Invalid value: \"a/../b\": must not contain '..'",
    ),
    (
        "configMap",
        {"items": [{"key": "k", "path": "..data"}]},
        "items[0].path: Invalid value: \"..data\": must not start with '..'",
    ),
    (
        "configMap",
        {"items": [{"key": "k", "path": "p", "mode": -1}]},
        f"items[0].mode: Invalid value: -1: {MODE}",
    ),
    (
        "downwardAPI",
        {"items": [{"path": "p"}]},
        "items[0]: Required value: one of fieldRef and resourceFieldRef is required",
    ),
    (
        "downwardAPI",
        {"items": [{"path": "p", "fieldRef": {"fieldPath": "status.podIP"}}]},
        'items[0].fieldRef.fieldPath: Unsupported value: "status.podIP": supported values: "metadata.annotations", '
        '"metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"',
    ),
    (
        "downwardAPI",
        {"items": [{"path": "p", "resourceFieldRef": {"resource": "limits.cpu"}}]},
        "items[0].resourceFieldRef.containerName: Required value",
    ),
]

PROJECTIONS: list[tuple[list[dict[str, Any]], str | list[str]]] = [
    ([{"secret": {}}], "sources[0].secret.name: Required value"),
    (
        [{"secret": {"name": "s"}, "configMap": {"name": "c"}}],
        "sources[0]: Forbidden: may not specify more than 1 volume type per source",
    ),
    (
        [
            {"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}},
            {"configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}},
        ],
        ': Invalid value: "p": conflicting duplicate paths',
    ),
    ([{"serviceAccountToken": {}}], "sources[0].serviceAccountToken.path: Required value"),
    (
        [{"serviceAccountToken": {"path": "t", "expirationSeconds": 599}}],
        "sources[0].serviceAccountToken.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 "
        "minutes",
    ),
    (
        [{"serviceAccountToken": {"path": "t", "expirationSeconds": 2**32 + 1}}],
        "sources[0].serviceAccountToken.expirationSeconds: Invalid value: 4294967297: may not specify a duration "
        "larger than 2^32 seconds",
    ),
    (
        [{"clusterTrustBundle": {"path": "p"}}],
        "sources[0].clusterTrustBundle: Required value: either name or signerName must be specified",
    ),
    (
        [{"clusterTrustBundle": {"path": "p", "name": "example.com:ca:B"}}],
        'sources[0].clusterTrustBundle.name: Invalid value: "example.com:ca:B": not a valid clustertrustbundlename: '
        f"{SUBDOMAIN}",
    ),
    (
        [{"clusterTrustBundle": {"path": "p", "signerName": "ca"}}],
        'sources[0].clusterTrustBundle.signerName: Invalid value: "ca": must be a fully qualified domain and path of '
        "the form 'example.com/signer-name'",
    ),
    (
        [{"clusterTrustBundle": {"path": "p", "signerName": "local/ca"}}],
        'sources[0].clusterTrustBundle.signerName: Invalid value: "local": should be a domain with at least two '
        "segments separated by dots",
    ),
    (
        [{"podCertificate": {"signerName": "example.com/x", "keyType": "ED25519"}}],
        "sources[0].podCertificate: Required value: specify at least one of credentialBundlePath, keyPath, and "
        "certificateChainPath",
    ),
    (
        [{"podCertificate": {"signerName": "example.com/x", "keyType": "DSA", "keyPath": "k"}}],
        'sources[0].podCertificate.keyType: Unsupported value: "DSA": supported values: "RSA3072", "RSA4096", '
        '"ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"',
    ),
    (
        [
            {
                "podCertificate": {
                    "signerName": "kubernetes.io/x",
                    "keyType": "ED25519",
                    "keyPath": "k",
                    "maxExpirationSeconds": 86401,
                }
            }
        ],
        "sources[0].podCertificate.maxExpirationSeconds: Invalid value: 86401: if provided, maxExpirationSeconds must "
        "be <= 86400",
    ),
]

CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({"accessModes": []}, "accessModes: Required value: at least 1 access mode is required"),
    (
        {"accessModes": ["ReadNever"]},
        'accessModes: Unsupported value: "ReadNever": supported values: "ReadOnlyMany", "ReadWriteMany", '
        '"ReadWriteOnce", "ReadWriteOncePod"',
    ),
    (
        {"accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]},
        "accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
    ),
    ({"resources": {}}, "resources[storage]: Required value"),
    (
        {"resources": {"requests": {"storage": "0"}}},
        'resources[storage]: Invalid value: "0": must be greater than zero',
    ),
    ({"storageClassName": "Fast"}, f'storageClassName: Invalid value: "Fast": {SUBDOMAIN}'),
    ({"volumeMode": "Tape"}, 'volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"'),
    (
        {"dataSource": {"kind": "Snapshot", "name": "s"}},
        "dataSource: Invalid value: \"Snapshot\": must be 'PersistentVolumeClaim' when referencing the default "
        "apiGroup",
    ),
    (
        {
            "dataSource": {"kind": "PersistentVolumeClaim", "name": "a"},
            "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "b"},
        },
        ': Invalid value: "spec.volumes[15].ephemeral.volumeClaimTemplate.spec.dataSource": must match dataSourceRef',
    ),
]


def said(volume: dict[str, Any]) -> list[str]:
    return [str(fault) for fault in pods.check(planted({"volumes/15": volume}))]


def below(path: str, fault: str) -> str:
    return f"{path}{fault}" if fault.startswith(":") else f"{path}.{fault}"


def test_every_source_that_a_volume_can_have_is_judged() -> None:
    sources = set(shape_of(Volume)) - {"name"}
    assert set(_SOURCES) == sources
    assert set(SOURCES) == sources


@pytest.mark.parametrize("source", SOURCES)
def test_a_right_source_passes(source: str) -> None:
    assert said({"name": "v", source: SOURCES[source]}) == []


@pytest.mark.parametrize(
    ("source", "field"),
    [
        (source, field)
        for source, fields in SOURCES.items()
        for field, value in fields.items()
        if field not in OPTIONAL and not isinstance(value, dict)
    ],
)
def test_what_a_source_must_have(source: str, field: str) -> None:
    given = {name: value for name, value in SOURCES[source].items() if name != field}
    assert [fault.split(":")[:2] for fault in said({"name": "v", source: given})] == [
        [f"{V}.{source}.{field}", " Required value"]
    ]


@pytest.mark.parametrize(("source", "change", "fault"), SOURCE_FAULTS)
def test_one_fault_of_a_source(source: str, change: dict[str, Any], fault: str) -> None:
    assert said({"name": "v", source: {**SOURCES[source], **change}}) == [below(f"{V}.{source}", fault)]


@pytest.mark.parametrize(("sources", "fault"), PROJECTIONS)
def test_one_fault_of_a_projection(sources: list[dict[str, Any]], fault: str) -> None:
    assert said({"name": "v", "projected": {"sources": sources}}) == [below(f"{V}.projected", fault)]


@pytest.mark.parametrize(("change", "fault"), CLAIMS)
def test_one_fault_of_a_claim(change: dict[str, Any], fault: str) -> None:
    spec = {**SOURCES["ephemeral"]["volumeClaimTemplate"]["spec"], **change}
    path = f"{V}.ephemeral.volumeClaimTemplate.spec"
    assert said({"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}) == [below(path, fault)]


def test_names_of_volumes() -> None:
    assert said({"emptyDir": {}}) == [f"{V}.name: Required value"]
    assert said({"name": "V", "emptyDir": {}}) == [f'{V}.name: Invalid value: "V": {LABEL}']
    assert said({"name": "scratch", "emptyDir": {}}) == [f'{V}.name: Duplicate value: "scratch"']


def test_a_volume_has_one_source() -> None:
    assert said({"name": "v", "secret": {"secretName": "s"}, "emptyDir": {}, "nfs": {}}) == [
        f"{V}.secret: {ONE_SOURCE}",
        f"{V}.nfs: {ONE_SOURCE}",
    ]


def test_a_claim_of_the_pods_own_is_named_after_both() -> None:
    assert said({"name": "v", "persistentVolumeClaim": {"claimName": "web-own"}}) == [
        f'{V}.persistentVolumeClaim.claimName: Invalid value: "web-own": must not reference a PVC that gets created '
        "for an ephemeral volume"
    ]
    named = {"metadata": {"name": "w" * 250}, "spec": {"containers": [{"name": "c", "image": "w:1"}]}}
    named["spec"]["volumes"] = [{"name": "own", "ephemeral": SOURCES["ephemeral"]}]
    assert [str(fault) for fault in pods.check(build(named))] == [
        f'spec.volumes[0].name: Invalid value: "own": PVC name "{"w" * 250}-own": must be no more than 253 characters'
    ]


def test_a_claims_metadata_is_labels_and_annotations() -> None:
    template = {**SOURCES["ephemeral"]["volumeClaimTemplate"], "metadata": {"name": "x", "labels": {"a b": "c"}}}
    found = said({"name": "v", "ephemeral": {"volumeClaimTemplate": template}})
    assert [fault.split(": ")[0] for fault in found] == [
        f"{V}.ephemeral.volumeClaimTemplate.metadata.labels",
        f"{V}.ephemeral.volumeClaimTemplate.metadata.name",
    ]
    assert said({"name": "v", "ephemeral": {}}) == [f"{V}.ephemeral.volumeClaimTemplate: Required value"]


def test_a_long_iscsi_name() -> None:
    source = {**SOURCES["iscsi"], "targetPortal": "t" * 63, "initiatorName": SOURCES["iscsi"]["iqn"]}
    assert said({"name": "v", "iscsi": source}) == [
        f'{V}.name: Invalid value: "v": Total length of <volume name>:<iscsi.targetPortal> must be under 64 '
        "characters if iscsi.initiatorName is specified."
    ]


def test_a_token_is_some_accounts() -> None:
    assert [str(fault) for fault in pods.check(planted({"serviceAccountName": REMOVED}))] == [
        "spec.volumes[8].projected.sources[3].serviceAccountToken: Forbidden: must not be specified when "
        "serviceAccountName is not set"
    ]
