"""Tokens of service accounts that stand in Secrets, for those who cannot ask for one whenever they need it.

In: Secrets of type kubernetes.io/service-account-token that users make, each naming its account by an annotation;
informers of those alone and of ServiceAccounts. Out: what such a Secret lacks: `token`, `ca.crt`, `namespace` and the
account's uid. A token is issued by the account's own TokenRequest, bound to its Secret: deleting that revokes it. A
Secret whose account is gone is deleted. Follows Kubernetes' tokens controller.
"""

from __future__ import annotations

import base64
import copy

from barque.api import codec
from barque.api.errors import ApiError
from barque.api.types.authentication_v1 import BoundObjectReference, TokenRequest, TokenRequestSpec
from barque.api.types.core_v1 import Secret, ServiceAccount
from barque.client.client import Client, target_of
from barque.client.clock import Clock
from barque.client.informer import Informer
from barque.client.informers import Informers
from barque.client.queue import WorkQueue
from barque.master.controllers.owners import key_of, split_key

TYPE = "kubernetes.io/service-account-token"
NAME, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
# The longest that is issued: such a token lives as long as its Secret.
_LIFE_S = 1 << 32


class AccountTokenController:
    """Reconciles those Secrets by key. `follow()` keeps the cache of them: no others are held."""

    name = "serviceaccount-tokens"

    def __init__(self, client: Client, informers: Informers, clock: Clock, ca_pem: str) -> None:
        self.queue = WorkQueue(clock)
        self._client = client
        self._ca = ca_pem
        self._accounts = informers.of(ServiceAccount)
        self._secrets = Informer(client, Secret, fields=f"type={TYPE}", clock=clock)
        self._accounts.add_handler(self._handle_account)
        self._secrets.add_handler(self._handle_secret)

    async def follow(self) -> None:
        await self._secrets.run()

    async def wait_synced(self) -> None:
        await self._secrets.wait_synced()

    def _handle_secret(self, old: Secret | None, new: Secret | None) -> None:
        if new is not None:
            self.queue.add(key_of(new))

    def _handle_account(self, old: ServiceAccount | None, new: ServiceAccount | None) -> None:
        account = new or old
        if account is None or (old is not None and new is not None and old.metadata.uid == new.metadata.uid):
            return
        for secret in self._secrets.list():
            meta = secret.metadata
            if (meta.namespace, meta.annotations.get(NAME)) == (account.metadata.namespace, account.metadata.name):
                self.queue.add(key_of(secret))

    async def reconcile(self, key: str) -> float | None:
        namespace, name = split_key(key)
        secret = self._secrets.get(name, namespace)
        if secret is None or secret.metadata.deletionTimestamp:
            return None
        try:
            await self._mend(secret)
        except ApiError as error:
            # It, or its account, has gone or changed meanwhile; the watch tells.
            if error.code not in (404, 409):
                raise
        return None

    async def _mend(self, secret: Secret) -> None:
        meta = secret.metadata
        account, uid = await self._account(secret), meta.annotations.get(UID, "")
        if account is None or (uid and uid != account.metadata.uid):
            await self._client.delete(Secret, meta.name, meta.namespace, uid=meta.uid)
            return
        wanted = {"ca.crt": _encoded(self._ca), "namespace": _encoded(meta.namespace)}
        whole = uid and secret.data.get("token") and all(secret.data.get(k) == v for k, v in wanted.items())
        if whole:
            return
        mended = copy.copy(secret)
        mended.metadata = copy.copy(meta)
        mended.metadata.annotations = {**meta.annotations, UID: account.metadata.uid}
        token = secret.data.get("token") or _encoded(await self._token(secret, account.metadata.name))
        mended.data = {**secret.data, **wanted, "token": token}
        await self._client.update(mended)

    async def _account(self, secret: Secret) -> ServiceAccount | None:
        """Its account; that there is none is only believed of the masters, as the cache may be behind."""
        name, namespace = secret.metadata.annotations.get(NAME, ""), secret.metadata.namespace
        held = self._accounts.get(name, namespace)
        if held is not None or not name:
            return held
        try:
            return await self._client.get(ServiceAccount, name, namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            return None

    async def _token(self, secret: Secret, account: str) -> str:
        meta = secret.metadata
        reference = BoundObjectReference(apiVersion="v1", kind="Secret", name=meta.name, uid=meta.uid)
        request = TokenRequest(spec=TokenRequestSpec(boundObjectRef=reference, expirationSeconds=_LIFE_S))
        target = target_of(ServiceAccount, account, meta.namespace, "token")
        answer = await self._client.verbs.create(target, codec.encode(request))
        return codec.decode(TokenRequest, answer).status.token


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
