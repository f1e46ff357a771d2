"""What `explain` says of requests for certificates; see `explanations`."""

from __future__ import annotations

CERTIFICATES: dict[str, str] = {
    "CertificateSigningRequest": """
: A request for a certificate of the cluster; someone approves it, then its signer issues the certificate.
spec: Who asks for what; it never changes.
status: What was decided, and the certificate.
""",
    "CertificateSigningRequestSpec": """
expirationSeconds: How long the certificate is to be good for, 600 at least; the signer may make it shorter.
extra: More that was known of who asks; the system sets it.
groups: The groups of who asks; the system sets it.
request: The signing request itself, PEM in base64; its subject is the user and the groups of the certificate.
signerName: Who is to sign it, as in kubernetes.io/kube-apiserver-client.
uid: The uid of who asks; the system sets it.
usages: What the certificate is for, as in client auth.
username: Who asks; the system sets it.
""",
    "CertificateSigningRequestStatus": """
certificate: The issued certificate, PEM in base64.
conditions: Approved, Denied or Failed, with the reason; none is ever taken back.
""",
    "CertificateSigningRequestCondition": """
lastTransitionTime: When the status last changed.
lastUpdateTime: When the condition was last written.
message: The reason, for people to read.
reason: The reason, in one word.
status {True False Unknown}: Whether it is so; of the three built-in conditions always True.
type: Which condition, as in Approved, Denied or Failed.
""",
}
