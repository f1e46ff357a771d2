"""Bootstrap tokens: those of joining machines, `id.secret`, as what a request is authenticated by.

A token is a Secret of type bootstrap.kubernetes.io/token in kube-system, `bootstrap-token-<id>`: one made for kubeadm's
ways holds the secret itself, one of ours its hash (`tokens`). Whoever shows it is `system:bootstrap:<id>` in
`system:bootstrappers` and the groups that the Secret names besides, until it expires or is deleted. Follows
Kubernetes' bootstrap token authenticator: a token that may only sign is none here.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

from barque.api import codec
from barque.api.types.core_v1 import Secret
from barque.client.clock import Clock
from barque.master.apiserver.backend import Backend
from barque.master.auth.identity import User, authenticated
from barque.master.auth.tokens import NAMESPACE, SECRET_TYPE, TOKEN, decoded_data, hashed, is_live, secret_name
from barque.master.store.port import Key

USER_PREFIX = "system:bootstrap:"
GROUP = "system:bootstrappers"
_EXTRA_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


class BootstrapTokens:
    """Reviews tokens. `objects` is where the Secrets are kept."""

    def __init__(self, objects: Backend, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock

    async def review(self, token: str) -> User | None:
        """Whom the token stands for, None where it is not good. Raises `ApiError` where that cannot be looked up."""
        form = TOKEN.fullmatch(token)
        if form is None:
            return None
        identifier, secret = form.groups()
        key = Key("secrets", NAMESPACE, secret_name(identifier))
        stored = await self._objects.get(key)
        if stored is None:
            await self._objects.current()
            stored = await self._objects.get(key)
        return None if stored is None else self._user(codec.decode(Secret, stored.json), identifier, secret)

    def _user(self, kept: Secret, identifier: str, secret: str) -> User | None:
        data = decoded_data(kept)
        right = (
            kept.type == SECRET_TYPE
            and not kept.metadata.deletionTimestamp
            and data.get("token-id") == identifier
            and _is_secret(data, identifier, secret)
            and is_live(data, self._clock.wall())
            and data.get("usage-bootstrap-authentication") == "true"
        )
        extra = sorted(set(filter(None, data.get("auth-extra-groups", "").split(","))))
        # One group that must not be given spoils the token, so that the mistake is found.
        if not right or not all(_EXTRA_GROUP.fullmatch(group) for group in extra):
            return None
        return User(USER_PREFIX + identifier, authenticated((GROUP, *extra)))


def _is_secret(data: Mapping[str, str], identifier: str, secret: str) -> bool:
    """Whether this is the token's secret, however that is kept."""
    if kept := data.get("token-secret", ""):
        return hmac.compare_digest(kept.encode(), secret.encode())
    return hmac.compare_digest(data.get("token-secret-sha256", "").encode(), hashed(identifier, secret).encode())
