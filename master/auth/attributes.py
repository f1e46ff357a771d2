"""What a request is, to those who decide about it: Kubernetes' `authorizer.Attributes`, as plain words.

Of a request about resources or about a path of the door that is none (`path` is "" for the first). The words need not
be those of anything served: access reviews ask about whatever a user thinks of.
"""

from __future__ import annotations

from typing import NamedTuple

from barque.client.verbs import Selection, Target
from barque.master.auth.identity import User


class Attributes(NamedTuple):
    """Who wants to do what. `verb` is the API's (`get`, `list`, `create`, …), or the lower-cased method for a path."""

    user: User
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    selection: Selection = Selection()

    @classmethod
    def of(cls, user: User, verb: str, target: Target, selection: Selection = Selection()) -> Attributes:
        """Those of a request about a served resource."""
        resource = target.resource
        return cls(
            user, verb, resource.group, resource.version, resource.plural, target.subresource, target.namespace,
            target.name, selection=selection,
        )  # fmt: skip


class Decision(NamedTuple):
    """An authoriser's word. Neither allowed nor denied is no opinion: the next one is asked."""

    allowed: bool = False
    denied: bool = False
    reason: str = ""


ALLOW, NO_OPINION = Decision(allowed=True), Decision()
