"""CertificateSigningRequests: who asks is who is authenticated, and who decides must be allowed to.

Kubernetes' strategies and its admission plugins CertificateSubjectRestriction, CertificateApproval and
CertificateSigning. Pure, but for the authoriser that is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from barque.api import certificate_requests
from barque.api.certificate_requests import API_SERVER_CLIENT
from barque.api.errors import refused
from barque.api.types.certificates_v1 import CertificateSigningRequest, CertificateSigningRequestStatus
from barque.client.pki import ADMINS_GROUP, MASTER_PREFIX, MASTERS_GROUP
from barque.master.auth.attributes import Attributes, Decision
from barque.master.auth.identity import User

PLURAL, GROUP = "certificatesigningrequests", "certificates.k8s.io"
Decide = Callable[[Attributes], Awaitable[Decision]]


def note_requester(request: CertificateSigningRequest, user: User) -> None:
    """Write into a new request who asks, whatever the request says itself."""
    spec = request.spec
    spec.username, spec.uid, spec.groups = user.name, user.uid, list(user.groups)
    spec.extra = {name: list(values) for name, values in user.extra}


def check_subject(request: CertificateSigningRequest) -> None:
    """Raise 403 for a request, valid in itself, of a certificate that would rule over the cluster.

    Beyond Kubernetes' rule for administrators this holds for the masters, whose names and group are Barque's.
    """
    names = certificate_requests.names_in(certificate_requests.parse(request.spec.request))
    why = ""
    if request.spec.signerName == API_SERVER_CLIENT and ADMINS_GROUP in names.organizations:
        why = f"use of {API_SERVER_CLIENT} signer with {ADMINS_GROUP} group is not allowed"
    elif MASTERS_GROUP in names.organizations:
        why = f"use of {request.spec.signerName} signer with {MASTERS_GROUP} group is not allowed"
    elif names.common_name.startswith(MASTER_PREFIX):
        why = f"use of {request.spec.signerName} signer with a master's name is not allowed"
    if why:
        raise refused(PLURAL, GROUP, request.metadata.name, why)


def with_approval(old: CertificateSigningRequest, new: CertificateSigningRequest) -> CertificateSigningRequest:
    """`old` with the conditions of `new` and nothing else changed."""
    status = CertificateSigningRequestStatus(certificate=old.status.certificate, conditions=new.status.conditions)
    return msgspec.structs.replace(old, metadata=msgspec.structs.replace(old.metadata), status=status)


def stamp_conditions(new: CertificateSigningRequest, old: CertificateSigningRequest, now: str) -> None:
    """Give new conditions their times, and those that have not changed the ones they had."""
    known = {condition.type: condition for condition in old.status.conditions}
    for condition in new.status.conditions:
        before = known.get(condition.type)
        condition.lastUpdateTime = condition.lastUpdateTime or (before.lastUpdateTime if before else "") or now
        if not condition.lastTransitionTime:
            same = before is not None and before.status == condition.status
            condition.lastTransitionTime = (before.lastTransitionTime if before and same else "") or now


async def check_decider(
    subresource: str, new: CertificateSigningRequest, old: CertificateSigningRequest, user: User, decide: Decide
) -> None:
    """Raise 403 where this user may not decide for the signer that the request is for."""
    signer = old.spec.signerName
    if subresource == "approval":
        verb = "approve"
    elif subresource == "status" and new.status != old.status:
        verb = "sign"
    else:
        return
    domain = signer.partition("/")[0]
    for name in (signer, f"{domain}/*"):
        asked = Attributes(user, verb, GROUP, "*", "signers", name=name)
        if (await decide(asked)).allowed:
            return
    why = f'user not permitted to {verb} requests with signerName "{signer}"'
    raise refused(PLURAL, GROUP, old.metadata.name, why)
