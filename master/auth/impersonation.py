"""Impersonation: the user that a caller wants to be, by `Impersonate-*` headers, where he may be that one.

Each thing that is asked for (a name, each group, the uid, each value of an extra) is a request of its own to the
authoriser, verb `impersonate`. What is not asked for the caller does not keep: groups and extras of his own are gone.
Follows Kubernetes' impersonation filter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol
from urllib.parse import unquote

from barque.api.errors import bad_request
from barque.api.names import dns1123_label, dns1123_subdomain
from barque.master.auth.account_tokens import USER_PREFIX, account_groups
from barque.master.auth.attributes import Attributes
from barque.master.auth.identity import ANONYMOUS_NAME, AUTHENTICATED, UNAUTHENTICATED, User

_PREFIX = "impersonate-"
_EXTRA_PREFIX = "impersonate-extra-"
_GROUP = "authentication.k8s.io"
# A caller of many groups has hundreds; each of these is one question to the authoriser.
MOST_ASKED = 512


class RequestAuthorizer(Protocol):
    """The part of the authoriser that is asked."""

    async def authorize_request(self, asked: Attributes) -> object: ...


class Wanted(NamedTuple):
    """What the headers ask for."""

    name: str
    groups: tuple[str, ...]
    uid: str
    extra: tuple[tuple[str, str], ...]

    def attributes(self, user: User) -> list[Attributes]:
        """All that `user` must be allowed."""
        asked = []
        if account := account_of(self.name):
            namespace, name = account
            asked.append(Attributes(user, "impersonate", resource="serviceaccounts", namespace=namespace, name=name))
        else:
            asked.append(Attributes(user, "impersonate", resource="users", name=self.name))
        asked += [Attributes(user, "impersonate", resource="groups", name=group) for group in self.groups]
        asked += [
            Attributes(user, "impersonate", _GROUP, "v1", "userextras", subresource=key, name=value)
            for key, value in self.extra
        ]
        if self.uid:
            asked.append(Attributes(user, "impersonate", _GROUP, "v1", "uids", name=self.uid))
        return asked

    def user(self) -> User:
        groups = self.groups
        account = account_of(self.name)
        if account and not groups:
            groups = account_groups(account[0])
        implied = UNAUTHENTICATED if self.name == ANONYMOUS_NAME else AUTHENTICATED
        if not {AUTHENTICATED, UNAUTHENTICATED} & set(groups) or (implied == UNAUTHENTICATED and implied not in groups):
            groups = (*groups, implied)
        extra: dict[str, tuple[str, ...]] = {}
        for key, value in self.extra:
            extra[key] = (*extra.get(key, ()), value)
        return User(self.name, groups, self.uid, tuple(extra.items()))


async def impersonated(user: User, headers: Mapping[str, str], authorizer: RequestAuthorizer) -> User:
    """Whom `user` acts as by the headers of the request (all values of a name that stands there several times are in
    `items()`): himself, where they ask for nobody. Raises 400 and 403.
    """
    wanted = _wanted(headers)
    if wanted is None:
        return user
    asked = wanted.attributes(user)
    if len(asked) > MOST_ASKED:
        raise bad_request(f"at most {MOST_ASKED} groups and extras may be impersonated at once, not {len(asked)}")
    for attributes in asked:
        await authorizer.authorize_request(attributes)
    return wanted.user()


def _wanted(headers: Mapping[str, str]) -> Wanted | None:
    """What the headers ask for, None where nothing. Raises 400 for more without a user."""
    named = [(key.lower(), value) for key, value in headers.items() if key[:12].lower() == _PREFIX]
    if not named:
        return None
    name = next((value for key, value in named if key == "impersonate-user"), "")
    uid = next((value for key, value in named if key == "impersonate-uid"), "")
    groups = tuple(value for key, value in named if key == "impersonate-group")
    extra = tuple(
        (unquote(key.removeprefix(_EXTRA_PREFIX)), value) for key, value in named if key.startswith(_EXTRA_PREFIX)
    )
    if name:
        return Wanted(name, groups, uid, extra)
    if not (groups or extra or uid):
        return None
    words = [f"{word}: {list(values)}" for word, values in (("groups", groups), ("extra", extra)) if values]
    words += [f"uid: {uid}"] if uid else []
    raise bad_request(f"requested {', '.join(words)} without impersonating a user")


def account_of(username: str) -> tuple[str, str] | None:
    """Namespace and name of the service account that is called so, None for other users."""
    namespace, colon, name = username.removeprefix(USER_PREFIX).partition(":")
    if not username.startswith(USER_PREFIX) or not colon or dns1123_label(namespace) or dns1123_subdomain(name):
        return None
    return namespace, name
