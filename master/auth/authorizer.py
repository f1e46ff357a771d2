"""Who may do what: a chain of authorisers, each of which allows or has no opinion; what none allows is forbidden.

masters and administrators (everything) → workers (`node_authorizer`) → roles and bindings (`rbac`), in Kubernetes'
order and words.

A refusal is only spoken on the current state: where what this master has at hand says no, it first catches up with
what any master has acknowledged. `check_write` is the second half for writes, with the object before and after: what a
worker may change, and that nobody hands out rights that he has not.
"""

from __future__ import annotations

from typing import Any

from barque.api import selectors
from barque.api.errors import ApiError
from barque.api.policyrules import Rule
from barque.api.resources import Resource
from barque.api.types.meta_v1 import StatusDetails
from barque.client.verbs import Selection, Target
from barque.master.apiserver.backend import Backend
from barque.master.auth.attributes import ALLOW, Attributes, Decision
from barque.master.auth.identity import User
from barque.master.auth.node_authorizer import NodeAuthorizer, check_node_write
from barque.master.auth.rbac.escalation import check_escalation
from barque.master.auth.rbac.rbac_authorizer import RbacAuthorizer
from barque.master.store.port import Key, Store

_NAMED = "metadata.name"
# By these a pod is told what to do, by whatever method the stream is asked for.
_ACTING = ("exec", "attach", "portforward")


class Authorizer:
    """Decides every request. `objects` is where the pods are kept, `store` where roles and bindings are."""

    def __init__(self, objects: Backend, store: Store) -> None:
        self.rbac = RbacAuthorizer(store)
        self._objects = objects
        self._nodes = NodeAuthorizer(objects)

    @property
    def generation(self) -> int:
        """A number that changes whenever a right may have been given or taken; cheap to look at. What a watch was
        allowed at one of these, it is allowed until the next.
        """
        return self.rbac.generation

    async def decide(self, asked: Attributes) -> Decision:
        """The decision on what this master has at hand."""
        user = asked.user
        if user.is_master:
            return ALLOW
        of_node = await self._nodes.decide(user.node, asked) if user.node else None
        if of_node is not None and of_node.allowed:
            return of_node
        decision = self.rbac.decide(asked)
        if of_node is None or decision.allowed or not of_node.reason:
            return decision
        return Decision(reason=", ".join(filter(None, (of_node.reason, decision.reason))))

    async def decide_current(self, asked: Attributes) -> Decision:
        """As `decide`; a no is said on what any master has acknowledged. Raises 503 where that cannot be known."""
        decision = await self.decide(asked)
        if decision.allowed:
            return decision
        await self._objects.current()
        return await self.decide(asked)

    async def authorize(self, user: User, verb: str, target: Target, selection: Selection = Selection()) -> Decision:
        """The decision, with its reason, if the user may; raise 403 in Kubernetes' words if not."""
        if user.is_master:
            return ALLOW
        return await self.authorize_request(attributes_of(user, verb, target, selection))

    async def authorize_path(self, user: User, verb: str, path: str) -> Decision:
        """The same for a path that is about no resource; `verb` is the lower-cased method."""
        if user.is_master:
            return ALLOW
        return await self.authorize_request(Attributes(user, verb, path=path))

    async def authorize_connect(self, user: User, verb: str, target: Target) -> Decision:
        """The same for a stream to a pod or node: what acts there asks for `create` too, however it is asked for, so
        that whoever may only read runs no commands.
        """
        decision = await self.authorize(user, verb, target)
        if target.subresource in _ACTING and verb != "create":
            return await self.authorize(user, "create", target)
        return decision

    async def authorize_request(self, asked: Attributes) -> Decision:
        """The decision if it is allowed, raise 403 in Kubernetes' words if not."""
        decision = await self.decide_current(asked)
        if not decision.allowed:
            raise forbidden(asked, decision.reason)
        return decision

    def check_write(self, user: User, verb: str, target: Target, before: Any, after: Any) -> None:
        """The second half for writes, on the object before and after. Raises 403, and 404 for a role of a binding."""
        if user.is_master:
            return
        if user.node:
            why = check_node_write(user.node, target, before, after)
            if why:
                raise denied(user, verb, target, why)
        check_escalation(self.rbac, user, target, before, after)

    def rules(self, user: User, namespace: str) -> tuple[list[Rule], list[str], bool]:
        """What the user may do in a namespace as rules, what is wrong with them, and whether there is more that no rule
        tells.
        """
        rules, faults = self.rbac.rules(user, namespace)
        if user.node:
            return rules, ["node authorizer does not support user rule resolution", *faults], True
        return rules, faults, False


def attributes_of(user: User, verb: str, target: Target, selection: Selection = Selection()) -> Attributes:
    """The attributes of a request about a served resource. Who lists or watches one name by a selector asks for that
    name, and a namespace is in itself, so that a role there may let it be read.
    """
    asked = Attributes.of(user, verb, target, selection)
    if target.name:
        return asked._replace(namespace=target.name) if target.resource.group_resource == "namespaces" else asked
    if _NAMED not in selection.fields or verb not in ("list", "watch"):
        return asked
    return asked._replace(name=_selected_name(selection, target.resource))


def _selected_name(selection: Selection, resource: Resource) -> str:
    try:
        return selectors.parse_fields(selection.fields, resource).equal(_NAMED) or ""
    except ApiError:
        return ""  # whoever serves the request says what is wrong with it


def key_of(target: Target) -> Key:
    """The store key of a target."""
    return Key(target.resource.stored.group_resource, target.namespace, target.name)


def denied(user: User, verb: str, target: Target, why: str = "") -> ApiError:
    """403 exactly as Kubernetes words it."""
    return forbidden(Attributes.of(user, verb, target), why)


def forbidden(asked: Attributes, why: str = "") -> ApiError:
    """403 exactly as Kubernetes words it, for a resource or a path."""
    because = f": {why}" if why else ""
    name = asked.user.name
    if asked.path:
        message = f'forbidden: User "{name}" cannot {asked.verb} path "{asked.path}"{because}'
        return ApiError(403, "Forbidden", message, StatusDetails())
    group_resource = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
    subject = group_resource + (f' "{asked.name}"' if asked.name else "")
    plural = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    scope = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    message = (
        f'{subject} is forbidden: User "{name}" cannot {asked.verb} resource "{plural}" '
        f'in API group "{asked.group}" {scope}{because}'
    )
    details = StatusDetails(name=asked.name, group=asked.group, kind=asked.resource)
    return ApiError(403, "Forbidden", message, details)
