"""CertificateSigningRequests on the leader: which are approved of themselves, which are signed, which are cleared away.

In: an informer of the requests, the cluster's CA. Out: conditions by the subresource approval, certificates and
failures by status, deletions. Follows Kubernetes' csrapproving, csrsigning and csrcleaner controllers. Serving
certificates of nodes are never approved here: only a person knows which names and addresses are a node's.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Sequence

from cryptography import x509

from barque.api import certificate_requests, codec, timestamps
from barque.api.certificate_requests import (
    API_SERVER_CLIENT,
    APPROVED,
    DENIED,
    FAILED,
    KUBELET_CLIENT,
    KUBELET_SERVING,
    Names,
    has,
)
from barque.api.errors import ApiError
from barque.api.types.authorization_v1 import ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec
from barque.api.types.certificates_v1 import CertificateSigningRequest, CertificateSigningRequestCondition
from barque.client import certificate_signing
from barque.client.client import Client, target_of_object
from barque.client.clock import Clock
from barque.client.informer import Informer
from barque.client.informers import Informers
from barque.client.pki import MASTER_HOST, NODE_PREFIX, Authority, PkiError, node_host
from barque.client.queue import WorkQueue

_GROUP, _PLURAL = "certificates.k8s.io", "certificatesigningrequests"
_SIGNERS = (API_SERVER_CLIENT, KUBELET_CLIENT, KUBELET_SERVING)
# Names that clients of this cluster find its masters under; nobody else may serve as them.
_MASTERS_NAMES = (MASTER_HOST, "localhost", "kubernetes")
_NODE_DOMAIN = ".node.barque"
# How long requests are kept, in seconds.
_DECIDED_KEPT_S = 3600.0
_PENDING_KEPT_S = 24 * 3600.0
# A request that nobody may have approved of itself now may be allowed later on.
_ASK_AGAIN_S = 60.0


class CertificateSigning:
    """Signs what has been approved, for Kubernetes' own signers."""

    name = "csrsigning"

    def __init__(self, client: Client, informers: Informers, clock: Clock, authority: Authority) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._clock = clock
        self._authority = authority
        self._requests = informers.of(CertificateSigningRequest)
        _follow(self._requests, self.queue)

    async def reconcile(self, key: str) -> float | None:
        request = self._requests.get(key)
        if request is None or not _awaits_signing(request):
            return None
        changed = _copy(request)
        try:
            changed.status.certificate = self._sign(request)
        except (ValueError, PkiError) as error:
            changed.status.conditions.append(
                CertificateSigningRequestCondition(
                    type=FAILED, status="True", reason="SignerValidationFailed", message=str(error)
                )
            )
        await self._client.update_status(changed)
        return None

    def _sign(self, request: CertificateSigningRequest) -> str:
        """The certificate, base64 of PEM. Raises `ValueError` or `PkiError` saying why there is none."""
        spec = request.spec
        csr = certificate_requests.parse(spec.request)
        names = certificate_requests.names_in(csr)
        refusal = certificate_requests.signer_refusal(spec.signerName, names, spec.usages)
        if not refusal and spec.signerName == KUBELET_SERVING:
            refusal = serving_refusal(names)
        if refusal:
            raise ValueError(refusal)
        life = certificate_signing.life(spec.expirationSeconds)
        pem = certificate_signing.sign(self._authority, csr, spec.usages, self._clock.wall(), life)
        return base64.b64encode(pem).decode()


class CertificateApproving:
    """Approves a node's request for its own client certificate, where that is allowed to whoever asks."""

    name = "csrapproving"

    def __init__(self, client: Client, informers: Informers, clock: Clock) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._requests = informers.of(CertificateSigningRequest)
        _follow(self._requests, self.queue)

    async def reconcile(self, key: str) -> float | None:
        request = self._requests.get(key)
        if request is None or has(request, APPROVED) or has(request, DENIED) or request.status.certificate:
            return None
        recognized = recognizers(request)
        for subresource, message in recognized:
            if await self._allowed(request, subresource):
                changed = _copy(request)
                changed.status.conditions.append(
                    CertificateSigningRequestCondition(
                        type=APPROVED, status="True", reason="AutoApproved", message=message
                    )
                )
                await self._client.verbs.update(target_of_object(changed, "approval"), codec.encode(changed))
                return None
        return _ASK_AGAIN_S if recognized else None

    async def _allowed(self, request: CertificateSigningRequest, subresource: str) -> bool:
        """Whether who asks may create requests of this sort."""
        spec = request.spec
        wanted = ResourceAttributes(group=_GROUP, version="*", resource=_PLURAL, subresource=subresource, verb="create")
        review = SubjectAccessReview(
            spec=SubjectAccessReviewSpec(
                user=spec.username, uid=spec.uid, groups=spec.groups, extra=spec.extra, resourceAttributes=wanted
            )
        )
        return bool((await self._client.create(review)).status.allowed)


class CertificateCleaning:
    """Deletes requests that are settled for an hour, waited a day, or whose certificate is over."""

    name = "csrcleaner"

    def __init__(self, client: Client, informers: Informers, clock: Clock) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._clock = clock
        self._requests = informers.of(CertificateSigningRequest)
        _follow(self._requests, self.queue)

    async def reconcile(self, key: str) -> float | None:
        request = self._requests.get(key)
        if request is None or request.metadata.deletionTimestamp:
            return None
        left = self._left_s(request)
        if left > 0:
            return left
        try:
            await self._client.delete(CertificateSigningRequest, key, uid=request.metadata.uid)
        except ApiError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise
        return None

    def _left_s(self, request: CertificateSigningRequest) -> float:
        """How long it is kept still."""
        now = self._clock.wall()
        kept = {APPROVED: bool(request.status.certificate), DENIED: True, FAILED: True}
        # Differences first: whoever decides says when, and it may be the last second that there is a date for.
        left = [
            _seconds_to(condition.lastUpdateTime, now) + _DECIDED_KEPT_S
            for condition in request.status.conditions
            if kept.get(condition.type)
        ]
        if not request.status.conditions:
            left.append(_seconds_to(request.metadata.creationTimestamp, now) + _PENDING_KEPT_S)
        if request.status.certificate:
            left.append((_end_of(request.status.certificate, now) - now).total_seconds())
        return min(left, default=_PENDING_KEPT_S)


def serving_refusal(names: Names) -> str:
    """Why a node may not serve under these names, "" if it may: the same CA vouches for the masters and other nodes."""
    node = names.common_name.removeprefix(NODE_PREFIX)
    for name in names.dns:
        plain = name.lower().rstrip(".")
        is_masters = plain in _MASTERS_NAMES or plain.startswith(("kubernetes.default", "*"))
        if is_masters or (plain.endswith(_NODE_DOMAIN) and plain != node_host(node)):
            return f'DNS subjectAltName "{name}" is not the node\'s own'
    return ""


def recognizers(request: CertificateSigningRequest) -> Sequence[tuple[str, str]]:
    """By which subresources the request may be approved of itself, and what is said then."""
    spec = request.spec
    if spec.signerName != KUBELET_CLIENT:
        return ()
    try:
        names = certificate_requests.names_in(certificate_requests.parse(spec.request))
    except ValueError:
        return ()
    if certificate_requests.kubelet_client_refusal(names, spec.usages):
        return ()
    anyone = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.")
    if spec.username != names.common_name:
        return (anyone,)
    return (
        ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."),
        anyone,
    )


def _awaits_signing(request: CertificateSigningRequest) -> bool:
    if request.spec.signerName not in _SIGNERS or request.status.certificate:
        return False
    return has(request, APPROVED) and not has(request, DENIED) and not has(request, FAILED)


def _follow(informer: Informer[CertificateSigningRequest], queue: WorkQueue) -> None:
    def handle(old: CertificateSigningRequest | None, new: CertificateSigningRequest | None) -> None:
        if new is not None:
            queue.add(new.metadata.name)

    informer.add_handler(handle)


def _copy(request: CertificateSigningRequest) -> CertificateSigningRequest:
    """A copy to change: the cache's own object stays as it is."""
    return codec.decode(CertificateSigningRequest, codec.encode(request))


def _seconds_to(text: str, now: datetime.datetime) -> float:
    """Until the moment of a timestamp, below zero where it has passed; 0 where it names none."""
    return ((timestamps.parse(text) or now) - now).total_seconds()


def _end_of(certificate: str, now: datetime.datetime) -> datetime.datetime:
    """When an issued certificate is over; for one that cannot be read, a day from now."""
    try:
        return x509.load_pem_x509_certificate(base64.b64decode(certificate)).not_valid_after_utc
    except ValueError:
        return now + datetime.timedelta(seconds=_PENDING_KEPT_S)
