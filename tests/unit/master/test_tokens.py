"""Join tokens: stored before they are told, hashed, refused when wrong or old, and not to be guessed."""

import itertools
import re

import pytest

from barque.api.errors import ApiError
from barque.api.types.core_v1 import Secret
from barque.master.auth.tokens import JoinTokens, Tries
from tests.support.clock import FakeClock
from tests.support.fake_verbs import FakeVerbs

HERE = "10.0.0.7"


class Office:
    """A token office on a cluster in memory, with predictable letters."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.verbs = FakeVerbs(self.clock)
        self.client = self.verbs.client
        letters = itertools.cycle("abcdefghijklmnopqrstuvwxyz0123456789")
        self.tokens = JoinTokens(self.client, self.clock, lambda _: next(letters))

    async def refusal(self, token: str, address: str = HERE) -> ApiError:
        with pytest.raises(ApiError) as refused:
            await self.tokens.check(token, address)
        return refused.value


async def test_a_fresh_token_is_good_for_many_workers_for_a_day() -> None:
    office = Office()
    issued = await office.tokens.create()
    assert re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", issued.token)
    assert (issued.expires - office.clock.wall()).total_seconds() == 86400
    await office.clock.advance(86399)
    await office.tokens.check(issued.token, HERE)
    await office.tokens.check(issued.token, HERE)
    await office.clock.advance(2)
    assert (await office.refusal(issued.token)).code == 401


async def test_every_master_accepts_what_one_issued() -> None:
    office = Office()
    issued = await office.tokens.create()
    await JoinTokens(office.client, office.clock).check(issued.token, HERE)


async def test_the_secret_itself_is_stored_nowhere() -> None:
    office = Office()
    issued = await office.tokens.create()
    (stored,) = (await office.client.list(Secret)).items
    assert (stored.metadata.namespace, stored.type) == ("kube-system", "bootstrap.kubernetes.io/token")
    assert stored.metadata.name == f"bootstrap-token-{issued.token[:6]}"
    secret = issued.token.partition(".")[2]
    assert secret not in repr(office.verbs.objects)
    assert "token-secret" not in stored.data


@pytest.mark.parametrize(
    "spoil", [str.upper, lambda t: t[:-1] + "!", lambda t: t[:-1] + "0", lambda t: "zzzzzz" + t[6:]]
)
async def test_a_wrong_token_is_refused(spoil) -> None:  # type: ignore[no-untyped-def]
    office = Office()
    issued = await office.tokens.create()
    refused = await office.refusal(spoil(issued.token))
    assert (refused.code, refused.message) == (
        401,
        "the join token is wrong or has expired: make a new one with `barque token create`",
    )


@pytest.mark.parametrize("token", ["", "nonsense", "a.b", "../../../..", "abcdef.ghijklmnopqrstuv\n"])
async def test_what_is_no_token_is_refused_alike(token: str) -> None:
    assert (await Office().refusal(token)).code == 401


async def test_guessing_is_slowed_down_for_the_guesser_alone() -> None:
    office = Office()
    issued = await office.tokens.create()
    codes = [(await office.refusal(f"abcdef.{n:016d}")).code for n in range(12)]
    assert codes == [401] * 10 + [429] * 2
    assert (await office.refusal(issued.token)).code == 429
    await office.tokens.check(issued.token, "10.0.0.8")
    await office.clock.advance(6)
    await office.tokens.check(issued.token, HERE)


async def test_a_secret_of_another_type_or_without_an_end_is_no_token() -> None:
    office = Office()
    issued = await office.tokens.create()
    (stored,) = office.verbs.objects.values()
    stored.type = "Opaque"
    assert (await office.refusal(issued.token)).code == 401
    stored.type = "bootstrap.kubernetes.io/token"
    await office.tokens.check(issued.token, HERE)
    del stored.data["expiration"]
    assert (await office.refusal(issued.token)).code == 401


async def test_old_tokens_are_swept_when_a_new_one_is_made() -> None:
    office = Office()
    await office.tokens.create(ttl_s=60)
    kept = await office.tokens.create(ttl_s=600)
    await office.clock.advance(61)
    newest = await office.tokens.create()
    names = sorted(name for _, _, name in office.verbs.objects)
    assert names == sorted(f"bootstrap-token-{t.token[:6]}" for t in (kept, newest))


@pytest.mark.parametrize("ttl_s", [-1, 31 * 86400])
async def test_a_life_out_of_bounds_is_refused(ttl_s: int) -> None:
    with pytest.raises(ApiError, match="life must be between"):
        await Office().tokens.create(ttl_s)


def test_the_memory_of_guessers_is_bounded() -> None:
    tries = Tries(FakeClock())
    for n in range(5000):
        tries.failed(f"10.0.{n // 256}.{n % 256}")
    assert len(tries._buckets) == 4096
