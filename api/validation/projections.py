"""Validation of volumes made of the cluster's own objects: secrets, config maps, fields of the pod, tokens, trust."""

from __future__ import annotations

from collections.abc import Iterable

from barque.api import names
from barque.api.errors import FieldError, forbidden, invalid, not_supported, required, too_long
from barque.api.types.core_v1 import (
    ClusterTrustBundleProjection,
    ConfigMapVolumeSource,
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    KeyToPath,
    PodCertificateProjection,
    ProjectedVolumeSource,
    SecretVolumeSource,
    ServiceAccountTokenProjection,
    VolumeProjection,
)
from barque.api.validation.checks import spelt
from barque.api.validation.choices import file_mode, own_file
from barque.api.validation.environment import FILE_FIELDS, check_field, check_resource
from barque.api.validation.metadata import check_selector

_SOURCES = ("secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate")
_MIN_TOKEN_S = 600
_MAX_TOKEN_S = 2**32
_KEY_TYPES = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
_MIN_CERTIFICATE_S = 3600
_MAX_CERTIFICATE_S = 91 * 24 * 3600
# Signers of Kubernetes' own give a day at most.
_MAX_KUBERNETES_CERTIFICATE_S = 24 * 3600
_MAX_DOMAIN = 253
_MAX_SIGNER = 571
_MAX_ANNOTATIONS_BYTES = 256 * 1024


def check_secret(source: SecretVolumeSource, path: str) -> list[FieldError]:
    faults = [] if source.secretName else [required(f"{path}.secretName")]
    return [*faults, *file_mode(f"{path}.defaultMode", source.defaultMode), *_check_items(source.items, path)]


def check_config_map(source: ConfigMapVolumeSource, path: str) -> list[FieldError]:
    faults = [] if source.name else [required(f"{path}.name")]
    return [*faults, *file_mode(f"{path}.defaultMode", source.defaultMode), *_check_items(source.items, path)]


def check_downward_api(source: DownwardAPIVolumeSource, path: str) -> list[FieldError]:
    return [*file_mode(f"{path}.defaultMode", source.defaultMode), *_check_fields(source.items, path)]


def check_projected(source: ProjectedVolumeSource, path: str) -> list[FieldError]:
    faults = file_mode(f"{path}.defaultMode", source.defaultMode)
    taken: set[str] = set()
    for index, projection in enumerate(source.sources):
        below = f"{path}.sources[{index}]"
        faults += _check_projection(projection, below)
        for file in _files_of(projection):
            if file in taken:
                faults.append(invalid(path, file, "conflicting duplicate paths"))
            taken.add(file)
        if sum(getattr(projection, name) is not None for name in _SOURCES) > 1:
            faults.append(forbidden(below, "may not specify more than 1 volume type per source"))
    return faults


def _check_projection(projection: VolumeProjection, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    for name, source in (("secret", projection.secret), ("configMap", projection.configMap)):
        if source is not None:
            faults += [] if source.name else [required(f"{path}.{name}.name")]
            faults += _check_items(source.items, f"{path}.{name}")
    if projection.downwardAPI is not None:
        faults += _check_fields(projection.downwardAPI.items, f"{path}.downwardAPI")
    if projection.serviceAccountToken is not None:
        faults += _check_token(projection.serviceAccountToken, f"{path}.serviceAccountToken")
    if projection.clusterTrustBundle is not None:
        faults += _check_trust(projection.clusterTrustBundle, f"{path}.clusterTrustBundle")
    if projection.podCertificate is not None:
        faults += _check_certificate(projection.podCertificate, f"{path}.podCertificate")
    return faults


def _files_of(projection: VolumeProjection) -> Iterable[str]:
    """Where a projection puts its files, as far as it says so."""
    for keyed in (projection.secret, projection.configMap):
        yield from (item.path for item in (keyed.items if keyed is not None else ()) if item.path)
    if projection.downwardAPI is not None:
        yield from (item.path for item in projection.downwardAPI.items if item.path)
    if projection.clusterTrustBundle is not None and projection.clusterTrustBundle.path:
        yield projection.clusterTrustBundle.path
    if projection.podCertificate is not None:
        certificate = projection.podCertificate
        given = (certificate.credentialBundlePath, certificate.keyPath, certificate.certificateChainPath)
        yield from filter(None, given)


def _check_items(items: list[KeyToPath], path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    for index, item in enumerate(items):
        below = f"{path}.items[{index}]"
        faults += [] if item.key else [required(f"{below}.key")]
        faults += own_file(f"{below}.path", item.path) if item.path else [required(f"{below}.path")]
        faults += file_mode(f"{below}.mode", item.mode)
    return faults


def _check_fields(items: list[DownwardAPIVolumeFile], path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    for index, item in enumerate(items):
        below = f"{path}.items[{index}]"
        faults += own_file(f"{below}.path", item.path) if item.path else [required(f"{below}.path")]
        if item.fieldRef is not None:
            faults += check_field(item.fieldRef, f"{below}.fieldRef", FILE_FIELDS)
            if item.resourceFieldRef is not None:
                why = "fieldRef and resourceFieldRef can not be specified simultaneously"
                faults.append(invalid(below, "resource", why))
        elif item.resourceFieldRef is not None:
            faults += check_resource(item.resourceFieldRef, f"{below}.resourceFieldRef", named=True)
        else:
            faults.append(required(below, "one of fieldRef and resourceFieldRef is required"))
        faults += file_mode(f"{below}.mode", item.mode)
    return faults


def _check_token(token: ServiceAccountTokenProjection, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    lifetime_s = token.expirationSeconds
    if lifetime_s is not None and lifetime_s < _MIN_TOKEN_S:
        why = "may not specify a duration less than 10 minutes"
        faults.append(invalid(f"{path}.expirationSeconds", lifetime_s, why))
    elif lifetime_s is not None and lifetime_s > _MAX_TOKEN_S:
        why = "may not specify a duration larger than 2^32 seconds"
        faults.append(invalid(f"{path}.expirationSeconds", lifetime_s, why))
    if not token.path:
        return [*faults, required(f"{path}.path")]
    return [*faults, *own_file(f"{path}.path", token.path)]


def _check_trust(bundle: ClusterTrustBundleProjection, path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    if bundle.name and bundle.signerName:
        faults.append(invalid(path, bundle, "only one of name and signerName may be used"))
    elif bundle.name:
        wrong = _judge_bundle_name(bundle.name)
        faults += [invalid(f"{path}.name", bundle.name, f"not a valid clustertrustbundlename: {w}") for w in wrong]
        if bundle.labelSelector is not None:
            why = "labelSelector must be unset if name is specified"
            faults.append(invalid(f"{path}.labelSelector", bundle.labelSelector, why))
    elif bundle.signerName:
        faults += _check_signer(bundle.signerName, f"{path}.signerName")
        if bundle.labelSelector is not None:
            faults += check_selector(bundle.labelSelector, f"{path}.labelSelector")
    else:
        faults.append(required(path, "either name or signerName must be specified"))
    if not bundle.path:
        return [*faults, required(f"{path}.path")]
    return [*faults, *own_file(f"{path}.path", bundle.path)]


def _judge_bundle_name(name: str) -> list[str]:
    """A bundle's name is its own, or begins with its signer's, each slash of that written as a colon."""
    return names.dns1123_subdomain(name.rpartition(":")[2])


def _check_certificate(certificate: PodCertificateProjection, path: str) -> list[FieldError]:
    faults = _check_signer(certificate.signerName, f"{path}.signerName")
    faults += _check_user_annotations(certificate.userAnnotations, f"{path}.userAnnotations")
    if certificate.keyType not in _KEY_TYPES:
        faults.append(not_supported(f"{path}.keyType", certificate.keyType, list(_KEY_TYPES)))
    lifetime_s = certificate.maxExpirationSeconds
    if lifetime_s is not None:
        owner = certificate.signerName.partition("/")[0]
        of_kubernetes = owner == "kubernetes.io" or owner.endswith(".kubernetes.io")
        most = _MAX_KUBERNETES_CERTIFICATE_S if of_kubernetes else _MAX_CERTIFICATE_S
        if lifetime_s < _MIN_CERTIFICATE_S:
            why = f"if provided, maxExpirationSeconds must be >= {_MIN_CERTIFICATE_S}"
            faults.append(invalid(f"{path}.maxExpirationSeconds", lifetime_s, why))
        elif lifetime_s > most:
            why = f"if provided, maxExpirationSeconds must be <= {most}"
            faults.append(invalid(f"{path}.maxExpirationSeconds", lifetime_s, why))
    given = [n for n in ("credentialBundlePath", "keyPath", "certificateChainPath") if getattr(certificate, n)]
    for name in given:
        faults += own_file(f"{path}.{name}", getattr(certificate, name))
    if not given:
        why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
        faults.append(required(path, why))
    return faults


def _check_user_annotations(annotations: dict[str, str], path: str) -> list[FieldError]:
    faults: list[FieldError] = []
    for key in annotations:
        if not key:
            faults.append(required(path))
            continue
        wrong = spelt(path, key.lower(), names.qualified_name)
        if not wrong and "/" not in key:
            why = 'must be a domain-prefixed key (such as "acme.io/foo")'
            wrong = [invalid(path, key.lower(), why)]
        faults += wrong
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _MAX_ANNOTATIONS_BYTES:
        faults.append(too_long(path, _MAX_ANNOTATIONS_BYTES))
    return faults


def _check_signer(signer: str, path: str) -> list[FieldError]:
    """`domain.com/name`: who signs certificates, by a domain of at least two labels."""
    if not signer:
        return [required(path)]
    parts = signer.split("/")
    if len(parts) != 2:
        why = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid(path, signer, why)]
    domain, name = parts
    faults = [too_long(path, _MAX_DOMAIN)] if len(domain) > _MAX_DOMAIN else []
    for label in domain.split("."):
        if wrong := names.dns1123_label(label):
            faults += [invalid(path, domain, f'validating label "{label}": {why}') for why in wrong]
            break
    if "." not in domain:
        faults.append(invalid(path, domain, "should be a domain with at least two segments separated by dots"))
    for label in name.split("."):
        if wrong := names.dns1123_subdomain(label):
            faults += [invalid(path, name, f'validating label "{label}": {why}') for why in wrong]
            break
    return [*faults, too_long(path, _MAX_SIGNER)] if len(signer) > _MAX_SIGNER else faults
