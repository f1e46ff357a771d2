"""A certificate renews itself before half of its life is over, and outlives failures to do so."""

import asyncio
import datetime
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from barque.api.errors import unavailable
from barque.client import pki
from barque.client.pki import ADMIN, Identity, PkiError
from barque.client.renewal import LATEST, RenewingIdentity, renewed
from tests.support.clock import FakeClock, settle

DAY_S = 24 * 3600.0


class Issuer:
    """A CA that may be away."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.authority = pki.create_authority(clock.wall())
        self.away = False
        self.asked = 0

    async def renew(self, csr_pem: bytes) -> bytes:
        self.asked += 1
        if self.away:
            raise unavailable("no master is reachable")
        return self.authority.sign(pki.read_request(csr_pem).key, ADMIN, self.clock.wall())


@asynccontextmanager
async def running(issuer: Issuer, saved: list[Identity]) -> AsyncIterator[RenewingIdentity]:
    identity = issuer.authority.identity(ADMIN, issuer.clock.wall())
    renewing = RenewingIdentity(identity, issuer.renew, saved.append, issuer.clock, random.Random(1))
    task = asyncio.create_task(renewing.run())
    try:
        yield renewing
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def days_pass(clock: FakeClock, days: int) -> None:
    for _ in range(days * 24):
        await clock.advance(3600)


async def test_it_renews_before_half_of_its_life_and_saves_before_use() -> None:
    clock = FakeClock()
    issuer, saved = Issuer(clock), []
    async with running(issuer, saved) as renewing:
        first = renewing.current
        await days_pass(clock, 145)
        assert renewing.current is first
        await days_pass(clock, 38)
        assert clock.wall() <= first.past(LATEST) + datetime.timedelta(days=1)
        assert saved == [renewing.current]
        assert renewing.current.expires > first.expires
        assert renewing.current.key_pem != first.key_pem


async def test_who_must_know_is_told_once() -> None:
    clock = FakeClock()
    told: list[Identity] = []

    async def hear(identity: Identity) -> None:
        told.append(identity)

    async with running(Issuer(clock), []) as renewing:
        renewing.on_change(hear)
        await days_pass(clock, 183)
        assert told == [renewing.current]


async def test_a_failed_renewal_is_tried_again_until_it_succeeds() -> None:
    clock = FakeClock()
    issuer = Issuer(clock)
    issuer.away = True
    async with running(issuer, []) as renewing:
        first = renewing.current
        await days_pass(clock, 184)
        assert issuer.asked > 5
        assert renewing.current is first
        issuer.away = False
        await clock.advance(3600)
        await settle()
        assert renewing.current is not first


def test_an_answer_for_someone_else_is_refused() -> None:
    clock = FakeClock()
    authority = pki.create_authority(clock.wall())
    old = authority.identity(ADMIN, clock.wall() - datetime.timedelta(days=9))
    request = pki.create_request(ADMIN)
    key = pki.read_request(request.csr_pem).key
    with pytest.raises(PkiError, match="is for system:node:n1"):
        renewed(old, request, authority.sign(key, pki.node_subject("n1"), clock.wall()))
    with pytest.raises(PkiError, match="key does not belong"):
        renewed(old, request, authority.identity(ADMIN, clock.wall()).cert_pem)
    with pytest.raises(PkiError, match="does not last longer"):
        renewed(old, request, authority.sign(key, ADMIN, clock.wall() - datetime.timedelta(days=10)))


async def test_servers_hear_of_an_identity_once_and_only_when_it_has_changed() -> None:
    clock = FakeClock()
    issuer, saved = Issuer(clock), []
    async with running(issuer, saved) as renewing:
        changes, others = renewing.server_changes(), renewing.server_changes()
        assert [changes(), changes()] == [None, None]
        await clock.advance(1)
        await renewing.renew_now()
        assert changes() is not None
        assert changes() is None
        assert others() is not None


async def test_a_context_that_cannot_be_given_the_new_identity_gets_it_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its server would show the old one until that has expired: with a new one, no renewal is due."""
    clock = FakeClock()
    installed: list[Identity] = []
    full = [True]

    def install(identity: Identity, context: ssl.SSLContext) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")
        installed.append(identity)

    async with running(Issuer(clock), []) as renewing:
        first = renewing.current
        context = renewing.server_context()
        monkeypatch.setattr(Identity, "install", install)
        await clock.advance(1)
        with pytest.raises(OSError, match="No space"):
            await renewing.renew_now()
        assert (renewing.current, installed) == (first, [])
        full[0] = False
        await renewing.renew_now()
        assert (installed, renewing.current.expires > first.expires) == ([renewing.current], True)
        assert context is not None
