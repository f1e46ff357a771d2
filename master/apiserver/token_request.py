"""The `token` subresource of service accounts: a token for an account, bound to a pod, secret or node that is named.

Nothing is written: a token is good because it is signed, and as long as its account and that object are there. A worker
gets tokens for the pods that are bound to its node alone, each bound to that very pod (Kubernetes' NodeRestriction).
"""

from __future__ import annotations

from typing import Any

from barque.api import codec
from barque.api.decode import decode_object
from barque.api.errors import ApiError, FieldError, bad_request, conflict, invalid, invalid_object, not_found
from barque.api.resources import Resource
from barque.api.types.authentication_v1 import BoundObjectReference, TokenRequest
from barque.api.types.core_v1 import Node, Pod, Secret, ServiceAccount
from barque.client.clock import timestamp
from barque.master.apiserver import metadata
from barque.master.apiserver.environment import Call, Environment, ExistingObject
from barque.master.apiserver.proposals import Plan
from barque.master.auth.account_tokens import Bound, Ref
from barque.master.auth.authorizer import denied
from barque.master.store.port import Key, Refused

TOKEN_REQUEST = Resource("authentication.k8s.io", "v1", "TokenRequest", "tokenrequests", "tokenrequest")
DEFAULT_LIFE_S = 3600
SHORTEST_LIFE_S = 600
LONGEST_LIFE_S = 1 << 32


class TokenIssue(ExistingObject):
    """The `Writer` of a create at `serviceaccounts/token`."""

    def __init__(self, environment: Environment, call: Call, body: bytes) -> None:
        super().__init__(environment, call)
        request, warnings = decode_object(body, TOKEN_REQUEST, call.options.field_validation)
        assert isinstance(request, TokenRequest)
        call.warn(warnings)
        self._request = request
        metadata.match_namespace(request.metadata, call.target)
        metadata.match_name(request.metadata, call.target)

    async def plan(self) -> Plan:
        request = codec.decode(TokenRequest, codec.encode(self._request))
        spec = request.spec
        faults = _faults(request)
        if faults:
            raise invalid_object("TokenRequest", "authentication.k8s.io", request.metadata.name, faults)
        account = await self._find(ServiceAccount, self._key)
        bound = Bound(self._key.namespace, Ref(account.metadata.name, account.metadata.uid))
        await self._bind(bound, spec.boundObjectRef)
        tokens = self._environment.tokens
        spec.expirationSeconds = spec.expirationSeconds or DEFAULT_LIFE_S
        spec.audiences = spec.audiences or [tokens.issuer]
        issued = tokens.issue(bound, spec.audiences, spec.expirationSeconds)
        request.status.token = issued.token
        request.status.expirationTimestamp = timestamp(issued.expires)
        request.metadata.creationTimestamp = timestamp(self._environment.clock.wall())
        answer = codec.encode(request)
        # Of an account or object that has gone meanwhile, a token is refused wherever it is shown.
        return Plan(lambda _: answer, stands=True)

    def handle_refusal(self, plan: Plan, refusal: Refused) -> None:
        raise AssertionError("a token request writes nothing that could be refused")

    def give_up(self) -> ApiError:
        raise AssertionError("a token request writes nothing that could be refused")

    async def _bind(self, bound: Bound, reference: BoundObjectReference | None) -> None:
        """Name in `bound` what is asked for; of a pod its node too. Raises 400, 403, 404 and 409."""
        node = self._call.user.node
        if node and (reference is None or (reference.apiVersion, reference.kind) != ("v1", "Pod")):
            raise self._denied(f"node '{node}' requested a token that is not bound to a pod")
        if reference is None:
            return
        if node and not reference.uid:
            raise self._denied(f"node '{node}' requested a token with a pod binding without a uid")
        match (reference.apiVersion, reference.kind):
            case ("v1", "Pod"):
                await self._bind_pod(bound, reference)
            case ("v1", "Secret"):
                secret = await self._referenced(Secret, Key("secrets", self._key.namespace, reference.name), reference)
                bound.secret = Ref(secret.metadata.name, secret.metadata.uid)
            case ("v1", "Node"):
                machine = await self._referenced(Node, Key("nodes", "", reference.name), reference)
                bound.node = Ref(machine.metadata.name, machine.metadata.uid)
            case (version, kind):
                group, _, version = version.rpartition("/")
                raise bad_request(f"cannot bind token to object of type {group}/{version}, Kind={kind}")

    async def _bind_pod(self, bound: Bound, reference: BoundObjectReference) -> None:
        node, account = self._call.user.node, bound.serviceaccount.name
        pod = await self._referenced(Pod, Key("pods", self._key.namespace, reference.name), reference)
        if node and pod.spec.nodeName != node:
            raise self._denied(f"node '{node}' requested a token bound to a pod scheduled on a different node")
        if pod.spec.serviceAccountName != account:
            raise bad_request(
                f'cannot bind token for serviceaccount "{account}" to pod running with different serviceaccount name.'
            )
        bound.pod = Ref(pod.metadata.name, pod.metadata.uid)
        if pod.spec.nodeName:
            # A node that is being registered anew has no uid to be named by; the pod's own end is enough.
            stored = await self._environment.objects.get(Key("nodes", "", pod.spec.nodeName))
            if stored is not None:
                bound.node = Ref(pod.spec.nodeName, codec.decode(Node, stored.json).metadata.uid)

    async def _referenced(self, kind: Any, key: Key, reference: BoundObjectReference) -> Any:
        """The object that the token is to end with, which must be the very one that is meant."""
        found = await self._find(kind, key)
        if reference.uid and reference.uid != found.metadata.uid:
            why = (
                f"the UID in the bound object reference ({reference.uid}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise conflict(key.resource, "", reference.name, why)
        return found

    async def _find(self, kind: Any, key: Key) -> Any:
        stored = await self._environment.objects.get(key)
        if stored is None:
            raise not_found(key.resource, "", key.name)
        return codec.decode(kind, stored.json)

    def _denied(self, why: str) -> ApiError:
        return denied(self._call.user, "create", self._call.target, why)


def _faults(request: TokenRequest) -> list[FieldError]:
    life_s = request.spec.expirationSeconds
    if life_s is not None and life_s < SHORTEST_LIFE_S:
        return [invalid("spec.expirationSeconds", life_s, "may not specify a duration less than 10 minutes")]
    if life_s is not None and life_s > LONGEST_LIFE_S:
        return [invalid("spec.expirationSeconds", life_s, "may not specify a duration larger than 2^32 seconds")]
    return []
