"""A service account's token: what it says, who issues it to whom, and when it is no longer believed."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from barque.api.errors import ApiError
from barque.api.types.core_v1 import Pod
from barque.client.client import Client
from barque.client.pki import PkiError
from barque.master.apiserver.registry import UserVerbs
from barque.master.auth.account_keys import AccountKey, TokenError
from barque.master.auth.account_tokens import AccountTokens
from barque.worker.volumes.payloads import TokenKey
from barque.worker.volumes.tokens import RequestedTokens
from tests.support.memory_store import Bench, a_bench, refusal, target

ISSUER = "https://kubernetes.default.svc.cluster.local"


def a_pod(name: str = "web", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "bb:1"}]
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"containers": containers, **spec}}


@pytest.fixture
async def bench() -> Bench:
    """A pod `web` of the account `robot` on node n1, one of the account `default` on n2."""
    bench = await a_bench()
    await bench.create("serviceaccounts", {"metadata": {"name": "robot"}})
    for name in ("n1", "n2"):
        await bench.create("nodes", {"metadata": {"name": name}}, "")
    await bench.create("pods", a_pod("web", serviceAccountName="robot"))
    await bench.create("pods", a_pod("other"))
    await bench.bind("web", "n1")
    await bench.bind("other", "n2")
    return bench


def tokens(bench: Bench) -> AccountTokens:
    return bench.registry.environment.tokens


async def ask(
    bench: Bench, account: str = "robot", *, verbs: UserVerbs | None = None, pod: str = "", uid: str = "", **spec: Any
) -> dict[str, Any]:
    """The TokenRequest's answer; with `pod` bound to it, with its own uid unless another is given."""
    if pod:
        uid = uid or (await bench.get("pods", pod))["metadata"]["uid"]
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
    body = msgspec.json.encode({"spec": spec})
    answer = await (verbs or bench.admin).create(target("serviceaccounts", account, "default", "token"), body)
    return msgspec.json.decode(answer, type=dict[str, Any])


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    return msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=dict[str, Any])


async def verdict(bench: Bench, token: str, *audiences: str) -> str:
    """Whom the token stands for, or why it is refused."""
    try:
        return (await tokens(bench).review(token, audiences)).user.name
    except TokenError as why:
        return str(why)


# --- what it says


async def test_a_bound_token_says_what_kubernetes_says(bench: Bench) -> None:
    answer = await ask(bench, pod="web", expirationSeconds=3607)
    claims = claims_of(answer["status"]["token"])
    born = int(bench.clock.wall().timestamp())
    assert (claims["iat"], claims["nbf"], claims["exp"]) == (born, born, born + 3607)
    assert (claims["iss"], claims["aud"]) == (ISSUER, [ISSUER])
    assert claims["sub"] == "system:serviceaccount:default:robot"
    assert len(claims["jti"]) == 36
    uids = {plural: (await bench.get(plural, name))["metadata"]["uid"] for plural, name in
            (("serviceaccounts", "robot"), ("pods", "web"), ("nodes", "n1"))}  # fmt: skip
    assert claims["kubernetes.io"] == {
        "namespace": "default",
        "node": {"name": "n1", "uid": uids["nodes"]},
        "pod": {"name": "web", "uid": uids["pods"]},
        "serviceaccount": {"name": "robot", "uid": uids["serviceaccounts"]},
    }
    assert answer["kind"] == "TokenRequest"
    assert answer["metadata"]["name"] == "robot"
    assert answer["spec"]["audiences"] == [ISSUER]
    assert answer["status"]["expirationTimestamp"] == "2026-01-01T01:00:07Z"


async def test_a_good_token_stands_for_its_account(bench: Bench) -> None:
    token = (await ask(bench, pod="web"))["status"]["token"]
    reviewed = await tokens(bench).review(token)
    assert reviewed.user.name == "system:serviceaccount:default:robot"
    assert reviewed.user.groups == (
        "system:serviceaccounts",
        "system:serviceaccounts:default",
        "system:authenticated",
    )
    assert not reviewed.user.is_master
    assert reviewed.user.node == ""
    extra = dict(reviewed.user.extra)
    assert extra["authentication.kubernetes.io/pod-name"] == ("web",)
    assert extra["authentication.kubernetes.io/node-name"] == ("n1",)
    assert extra["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")
    assert reviewed.user.uid == (await bench.get("serviceaccounts", "robot"))["metadata"]["uid"]


async def test_a_token_for_another_audience_is_good_there_alone(bench: Bench) -> None:
    token = (await ask(bench, audiences=["vault", "bank"]))["status"]["token"]
    assert await verdict(bench, token) == f"it is for vault, bank and not for {ISSUER}"
    assert (await tokens(bench).review(token, ["bank", "mint"])).audiences == ["bank"]


async def test_nothing_is_written(bench: Bench) -> None:
    commits = bench.store.commits
    await ask(bench, pod="web")
    assert bench.store.commits == commits


# --- when it is no longer believed


async def test_a_token_ends(bench: Bench) -> None:
    token = (await ask(bench, expirationSeconds=600))["status"]["token"]
    await bench.clock.advance(599)
    assert await verdict(bench, token) == "system:serviceaccount:default:robot"
    await bench.clock.advance(1)
    assert await verdict(bench, token) == "service account token has expired"


async def test_a_token_dies_with_its_pod(bench: Bench) -> None:
    token = (await ask(bench, pod="web"))["status"]["token"]
    await bench.delete("pods", "web", gracePeriodSeconds=30)
    await bench.clock.advance(80)
    assert await verdict(bench, token) == "system:serviceaccount:default:robot"
    await bench.clock.advance(20)
    assert await verdict(bench, token) == "the pod it is bound to is gone"
    await bench.delete("pods", "web", gracePeriodSeconds=0)
    assert await verdict(bench, token) == "the pod it is bound to is gone"
    await bench.create("pods", a_pod("web", serviceAccountName="robot"))
    assert await verdict(bench, token) == "the pod it is bound to is gone"


async def test_a_token_dies_with_its_account_also_if_that_is_made_anew(bench: Bench) -> None:
    token = (await ask(bench))["status"]["token"]
    await bench.delete("serviceaccounts", "robot")
    assert await verdict(bench, token) == "service account is gone"
    await bench.create("serviceaccounts", {"metadata": {"name": "robot"}})
    assert await verdict(bench, token) == "service account is gone"


@pytest.mark.parametrize(("kind", "plural"), [("Secret", "secrets"), ("Node", "nodes")])
async def test_a_token_dies_with_the_secret_or_node_it_is_bound_to(bench: Bench, kind: str, plural: str) -> None:
    await bench.create(plural, {"metadata": {"name": "s"}}, "default" if kind == "Secret" else "")
    token = (await ask(bench, boundObjectRef={"apiVersion": "v1", "kind": kind, "name": "s"}))["status"]["token"]
    assert await verdict(bench, token) == "system:serviceaccount:default:robot"
    await bench.delete(plural, "s", "default" if kind == "Secret" else "")
    assert await verdict(bench, token) == f"the {kind.lower()} it is bound to is gone"


async def test_a_token_that_was_good_is_looked_at_again(bench: Bench) -> None:
    """Its signature is remembered, nothing else is."""
    token = (await ask(bench, pod="web", expirationSeconds=600))["status"]["token"]
    believed = tokens(bench)
    verify, checked = believed.key.verify, []
    believed.key.verify = lambda text: checked.append(text) or verify(text)  # type: ignore[method-assign, func-returns-value]
    for _ in range(3):
        assert (await believed.review(token)).user.name == "system:serviceaccount:default:robot"
    assert checked == [token]
    await bench.clock.advance(601)
    assert await verdict(bench, token) == "service account token has expired"


async def test_forged_tokens_are_refused(bench: Bench) -> None:
    header, body, signature = (await ask(bench))["status"]["token"].split(".")
    claims = claims_of(f"{header}.{body}.{signature}") | {"sub": "system:serviceaccount:kube-system:root"}
    forged = base64.urlsafe_b64encode(msgspec.json.encode(claims)).rstrip(b"=").decode()
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    assert await verdict(bench, f"{header}.{forged}.{signature}") == "its signature is wrong"
    assert await verdict(bench, f"{none}.{forged}.") == "it is no token of this cluster's key"
    assert await verdict(bench, AccountKey.generate().sign(claims)) == "it is no token of this cluster's key"
    assert await verdict(bench, f"{header}.{body}.") == "its signature has the wrong length"
    assert (await verdict(bench, f"{header}.{body}.ä")).startswith("it is no base64url")
    assert (await verdict(bench, f"{header}.{body}.{signature}=")).startswith("it is no base64url")
    assert await verdict(bench, "") == "it is no token of this cluster's key"


# --- what is refused


@pytest.mark.parametrize(
    ("seconds", "why"),
    [
        (599, "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"),
        (2**32 + 1, "may not specify a duration larger than 2^32 seconds"),
    ],
)
async def test_a_life_too_short_or_too_long_is_refused(bench: Bench, seconds: int, why: str) -> None:
    error = await refusal(ask(bench, expirationSeconds=seconds))
    assert error.code == 422
    assert why in error.message


async def test_what_cannot_be_bound_is_refused(bench: Bench) -> None:
    assert (await refusal(ask(bench, "nobody"))).message == 'serviceaccounts "nobody" not found'
    assert (await refusal(ask(bench, pod="absent", uid="u"))).message == 'pods "absent" not found'
    stale = await refusal(ask(bench, pod="web", uid="u"))
    assert (stale.code, "does not match the UID in record" in stale.message) == (409, True)
    another = await refusal(ask(bench, pod="other"))
    assert another.code == 400
    assert "to pod running with different serviceaccount name" in another.message
    secret = {"apiVersion": "v1", "kind": "Secret", "name": "s"}
    assert (await refusal(ask(bench, boundObjectRef=secret))).message == 'secrets "s" not found'
    service = {"apiVersion": "v1", "kind": "Service", "name": "s"}
    assert (await refusal(ask(bench, boundObjectRef=service))).message == (
        "cannot bind token to object of type /v1, Kind=Service"
    )


async def test_a_worker_gets_tokens_of_its_own_pods_alone(bench: Bench) -> None:
    own = bench.as_node("n1")
    assert (await ask(bench, verbs=own, pod="web"))["status"]["token"]

    async def why(call: Any) -> str:
        error: ApiError = await refusal(call)
        assert error.code == 403
        return error.message

    assert "is not bound to a pod" in await why(ask(bench, verbs=own))
    assert "no relationship found" in await why(ask(bench, "default", verbs=own, pod="other"))
    assert "no relationship found" in await why(ask(bench, verbs=bench.as_node("n2"), pod="web"))
    # One of its own pods runs as this account, but this is not that pod.
    await bench.create("pods", a_pod("third", serviceAccountName="robot"))
    await bench.bind("third", "n2")
    assert "scheduled on a different node" in await why(ask(bench, verbs=own, pod="third"))
    ref = {"apiVersion": "v1", "kind": "Pod", "name": "web"}
    assert "without a uid" in await why(ask(bench, verbs=own, boundObjectRef=ref))


async def test_the_workers_own_request_is_answered(bench: Bench) -> None:
    client = Client(bench.as_node("n1"))
    issued = await RequestedTokens(client).request(await client.get(Pod, "web", "default"), TokenKey("", 3607))
    assert issued.life_s == 3607
    extra = dict((await tokens(bench).review(issued.token)).user.extra)
    assert extra["authentication.kubernetes.io/node-name"] == ("n1",)


# --- the key


@pytest.mark.parametrize("claims", ["\udcff", "ä", "a=", ""])
def test_what_is_no_text_is_no_token(claims: str, tmp_path: Path) -> None:
    """As a header may bring it, from anybody who knows a token's beginning."""
    key = AccountKey.open(tmp_path)
    header, _, signature = key.sign({"a": 1}).split(".")
    with pytest.raises(TokenError):
        key.verify(f"{header}.{claims}.{signature}")


def test_the_key_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    token = AccountKey.open(tmp_path).sign({"a": 1})
    file = tmp_path / "service-account.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert AccountKey.open(tmp_path).verify(token) == b'{"a":1}'
    file.write_bytes(b"nonsense")
    with pytest.raises(PkiError, match="not a usable key"):
        AccountKey.open(tmp_path)
