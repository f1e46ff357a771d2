"""Who sends a request: certificate, bearer token, bootstrap token, nobody; and whom he asks to act as."""

from __future__ import annotations

import base64
import datetime
from collections import Counter
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from multidict import CIMultiDict

from barque.api.errors import ApiError
from barque.client import pki
from barque.client.clock import timestamp
from barque.client.pki import Subject, create_authority
from barque.master.auth.attributes import Attributes
from barque.master.auth.authentication import Authenticator, socket_token
from barque.master.auth.identity import ANONYMOUS, User
from barque.master.auth.impersonation import impersonated
from barque.master.auth.tokens import JoinTokens
from tests.support.memory_store import Bench, a_bench, refusal, target

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
AUTHORITY = create_authority(NOW)
ALICE = User("alice", ("crew", "system:authenticated"))


def der(subject: Subject) -> bytes:
    pem = AUTHORITY.identity(subject, NOW).cert_pem
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


@pytest.fixture
async def bench() -> Bench:
    bench = await a_bench()
    await bench.create("serviceaccounts", {"metadata": {"name": "robot"}})
    return bench


def authenticator(bench: Bench) -> Authenticator:
    environment = bench.registry.environment
    return Authenticator(environment.tokens, environment.objects, bench.clock)


async def who(bench: Bench, authorization: str = "", certificate: bytes | None = None) -> User:
    return await authenticator(bench).authenticate(certificate, authorization)


async def account_token(bench: Bench, **spec: Any) -> str:
    where = target("serviceaccounts", "robot", "default", "token")
    answer = await bench.admin.create(where, msgspec.json.encode({"spec": spec}))
    return str(msgspec.json.decode(answer)["status"]["token"])


async def is_refused(bench: Bench, authorization: str) -> bool:
    try:
        await who(bench, authorization)
    except ApiError as error:
        return (error.code, error.reason, error.message) == (401, "Unauthorized", "Unauthorized")
    return False


# --- certificates and nobody


async def test_a_certificate_names_user_and_groups(bench: Bench) -> None:
    user = await who(bench, certificate=der(Subject("alice", ("crew",))))
    assert (user.name, user.groups) == ("alice", ("crew", "system:authenticated"))
    ((key, (value,)),) = user.extra
    assert key == "authentication.kubernetes.io/credential-id"
    assert value.startswith("X509SHA256=")


async def test_the_certificate_counts_first_even_beside_a_bad_token(bench: Bench) -> None:
    certificate = der(pki.ADMIN)
    assert (await who(bench, "Bearer nonsense", certificate)).is_master
    assert (await who(bench, f"Bearer {await account_token(bench)}", certificate)).name == "barque-admin"


async def test_a_certificate_that_names_nobody_is_passed_over(bench: Bench) -> None:
    assert await who(bench, certificate=b"no certificate") == ANONYMOUS
    robot = await who(bench, f"Bearer {await account_token(bench)}", b"no certificate")
    assert robot.name == "system:serviceaccount:default:robot"


async def test_a_certificate_that_has_run_out_since_the_handshake_is_none(bench: Bench) -> None:
    certificate = der(pki.ADMIN)
    assert (await who(bench, certificate=certificate)).is_master
    await bench.clock.advance(pki.LEAF_LIFE.total_seconds() + 1)
    with pytest.raises(ApiError) as refused:
        await who(bench, certificate=certificate)
    assert (refused.value.code, refused.value.message) == (401, "Unauthorized")
    assert (await who(bench, f"Bearer {await account_token(bench)}", certificate)).name.endswith(":robot")


@pytest.mark.parametrize("nothing", ["", "   ", "Basic YTpi", "Bearer", "Bearer ", "Bearer  a.b.c", "nonsense"])
async def test_who_shows_nothing_is_anonymous(bench: Bench, nothing: str) -> None:
    assert await who(bench, nothing) == User("system:anonymous", ("system:unauthenticated",))


# --- tokens


async def test_an_accounts_token(bench: Bench) -> None:
    user = await who(bench, f"bEaReR {await account_token(bench)}")
    assert user.name == "system:serviceaccount:default:robot"
    assert user.groups[-1] == "system:authenticated"


async def test_bad_tokens_are_refused(bench: Bench) -> None:
    foreign = await account_token(bench, audiences=["vault"])
    for token in ("nonsense", "a.b.c", "abcdef.0123456789abcdef", foreign, "x" * 20_000, "ä"):
        assert await is_refused(bench, f"Bearer {token}"), token
    good = await account_token(bench, expirationSeconds=600)
    assert not await is_refused(bench, f"Bearer {good}")
    await bench.clock.advance(600)
    assert await is_refused(bench, f"Bearer {good}")
    assert await is_refused(bench, f"Bearer {await account_token(await a_bench_with_account())}")


async def a_bench_with_account() -> Bench:
    bench = await a_bench()
    await bench.create("serviceaccounts", {"metadata": {"name": "robot"}})
    return bench


def test_a_browsers_socket_brings_its_token_among_the_protocols() -> None:
    hidden = base64.urlsafe_b64encode(b"to.ken-?>").rstrip(b"=").decode()
    protocol = f"base64url.bearer.authorization.k8s.io.{hidden}"
    assert socket_token(f"{protocol}, v5.channel.k8s.io") == ("Bearer to.ken-?>", "v5.channel.k8s.io")
    assert socket_token("v5.channel.k8s.io, v4.channel.k8s.io") == ("", "v5.channel.k8s.io, v4.channel.k8s.io")
    for wrong in (protocol, f"{protocol},{protocol},a", "base64url.bearer.authorization.k8s.io.%%, a"):
        with pytest.raises(ApiError, match="Unauthorized"):
            socket_token(wrong)


# --- bootstrap tokens


async def put_bootstrap(bench: Bench, **changes: str) -> None:
    data = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true",
        "expiration": timestamp(bench.clock.wall() + datetime.timedelta(hours=1)),
    } | changes
    secret = {
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": changes.get("type", "bootstrap.kubernetes.io/token"),
        "stringData": {key: value for key, value in data.items() if value},
    }
    await bench.create("secrets", secret, "kube-system")


async def test_a_bootstrap_token_as_kubeadm_keeps_it(bench: Bench) -> None:
    await put_bootstrap(bench, **{"auth-extra-groups": "system:bootstrappers:workers,system:bootstrappers:a:b"})
    user = await who(bench, "Bearer abcdef.0123456789abcdef")
    groups = ("system:bootstrappers", "system:bootstrappers:a:b", "system:bootstrappers:workers")
    assert user == User("system:bootstrap:abcdef", (*groups, "system:authenticated"))
    assert await is_refused(bench, "Bearer abcdef.0123456789abcdeX".lower())
    await bench.clock.advance(3600)
    assert await is_refused(bench, "Bearer abcdef.0123456789abcdef")


@pytest.mark.parametrize(
    "wrong",
    [
        {"usage-bootstrap-authentication": "false"},
        {"usage-bootstrap-authentication": ""},
        {"token-id": "zzzzzz"},
        {"token-secret": ""},
        {"expiration": "soon"},
        {"auth-extra-groups": "system:masters"},
        {"type": "Opaque"},
    ],
)
async def test_a_bootstrap_token_that_is_not_for_this(bench: Bench, wrong: dict[str, str]) -> None:
    await put_bootstrap(bench, **wrong)
    assert await is_refused(bench, "Bearer abcdef.0123456789abcdef")


async def test_kubeadms_token_may_be_good_for_ever_and_is_not_swept_away(bench: Bench) -> None:
    await put_bootstrap(bench, expiration="")
    await JoinTokens(bench.client, bench.clock).create()
    assert not await is_refused(bench, "Bearer abcdef.0123456789abcdef")


async def test_a_workers_join_token_is_one_a_masters_is_not(bench: Bench) -> None:
    tokens = JoinTokens(bench.client, bench.clock)
    worker, master = await tokens.create(), await tokens.create(joins="master")
    assert (await who(bench, f"Bearer {worker.token}")).name == f"system:bootstrap:{worker.token[:6]}"
    assert await is_refused(bench, f"Bearer {master.token}")


# --- reviews


async def review(bench: Bench, plural: str, **spec: Any) -> dict[str, Any]:
    kind = {"tokenreviews": "TokenReview", "selfsubjectreviews": "SelfSubjectReview"}[plural]
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": kind} | ({"spec": spec} if spec else {})
    return dict((await bench.create(plural, body, ""))["status"])


async def test_a_token_review_tells_whose_it_is(bench: Bench) -> None:
    token = await account_token(bench, audiences=["vault"])
    status = await review(bench, "tokenreviews", token=token, audiences=["vault", "bank"])
    assert (status["authenticated"], status["audiences"]) == (True, ["vault"])
    assert status["user"]["username"] == "system:serviceaccount:default:robot"
    assert status["user"]["uid"] == (await bench.get("serviceaccounts", "robot"))["metadata"]["uid"]
    assert status["user"]["groups"] == [
        "system:serviceaccounts",
        "system:serviceaccounts:default",
        "system:authenticated",
    ]
    assert status["user"]["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")


async def test_a_token_review_of_a_bad_token_says_why(bench: Bench) -> None:
    token = await account_token(bench, audiences=["vault"])
    status = await review(bench, "tokenreviews", token=token)
    assert list(status) == ["error"]
    assert status["error"].startswith("[invalid bearer token, it is for vault and not for https://")
    empty = await refusal(review(bench, "tokenreviews", token=""))
    assert (empty.code, empty.message) == (400, "token is required for TokenReview in authentication")


async def test_a_review_or_a_token_is_planned_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    count: Counter[str] = Counter()

    def counting(owner: object, name: str) -> None:
        wrapped = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            count[name] += 1
            return wrapped(*args, **options)

        monkeypatch.setattr(owner, name, call)

    environment = bench.registry.environment
    counting(environment.tokens, "issue")
    counting(environment.tokens, "review")
    counting(environment.authorizer, "decide_current")
    counting(environment.objects, "current")
    token = await account_token(bench)
    await review(bench, "tokenreviews", token=token)
    await review(bench, "selfsubjectreviews")
    access = {"resourceAttributes": {"verb": "get", "resource": "pods"}}
    await bench.create("selfsubjectaccessreviews", {"spec": access}, "")
    assert count == {"issue": 1, "review": 1, "decide_current": 1}
    await bench.create("subjectaccessreviews", {"spec": access | {"user": "nobody"}}, "")
    # A no is one for all masters, so the authoriser looked it up again.
    assert count == {"issue": 1, "review": 1, "decide_current": 2, "current": 1}


async def test_who_am_i(bench: Bench) -> None:
    before = bench.store.commits
    status = await review(bench, "selfsubjectreviews")
    admin = status["userInfo"]
    assert (admin["username"], admin["groups"]) == ("barque-admin", ["system:masters"])
    assert bench.store.commits == before


# --- impersonation


class Asked:
    """Allows all but what is named here."""

    def __init__(self, *refused: str) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._refused = refused

    async def authorize_request(self, attributes: Attributes) -> None:
        assert (attributes.user, attributes.verb) == (ALICE, "impersonate")
        a = attributes
        self.asked.append(("/".join(filter(None, (a.group, a.resource, a.subresource))), a.namespace, a.name))
        if a.name in self._refused:
            raise ApiError(403, "Forbidden", a.name)


async def act_as(asked: Asked, *headers: tuple[str, str]) -> User:
    return await impersonated(ALICE, CIMultiDict(headers), asked)


async def test_whoever_asks_for_nobody_stays_himself() -> None:
    asked = Asked()
    assert await act_as(asked, ("Accept", "*/*"), ("Impersonate-User", "")) is ALICE
    assert asked.asked == []


async def test_each_part_of_an_impersonated_user_is_asked_for() -> None:
    asked, extra = Asked(), "Impersonate-Extra-Acme.com%2f"
    user = await act_as(
        asked, ("impersonate-user", "bob"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b"),
        ("Impersonate-Uid", "u1"), (f"{extra}Scope", "x"), (f"{extra.lower()}scope", "y"),
    )  # fmt: skip
    assert user == User("bob", ("a", "b", "system:authenticated"), "u1", (("acme.com/scope", ("x", "y")),))
    assert asked.asked == [
        ("users", "", "bob"), ("groups", "", "a"), ("groups", "", "b"),
        ("authentication.k8s.io/userextras/acme.com/scope", "", "x"),
        ("authentication.k8s.io/userextras/acme.com/scope", "", "y"),
        ("authentication.k8s.io/uids", "", "u1"),
    ]  # fmt: skip


async def test_an_impersonated_account_has_its_groups() -> None:
    asked = Asked()
    user = await act_as(asked, ("Impersonate-User", "system:serviceaccount:shop:robot"))
    assert asked.asked == [("serviceaccounts", "shop", "robot")]
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated")
    chosen = ("Impersonate-User", "system:serviceaccount:shop:robot"), ("Impersonate-Group", "crew")
    assert (await act_as(asked, *chosen)).groups == ("crew", "system:authenticated")
    await act_as(asked, ("Impersonate-User", "system:serviceaccount:Shop:robot"))
    assert asked.asked[-1] == ("users", "", "system:serviceaccount:Shop:robot")


async def test_whoever_acts_as_nobody_is_not_authenticated() -> None:
    assert await act_as(Asked(), ("Impersonate-User", "system:anonymous")) == ANONYMOUS


@pytest.mark.parametrize("refused", ["bob", "system:masters"])
async def test_no_part_may_be_refused(refused: str) -> None:
    error = await refusal(act_as(Asked(refused), ("Impersonate-User", "bob"), ("Impersonate-Group", "system:masters")))
    assert (error.code, error.message) == (403, refused)


async def test_groups_without_a_user_are_a_mistake() -> None:
    error = await refusal(act_as(Asked(), ("Impersonate-Group", "system:masters")))
    assert (error.code, "without impersonating a user" in error.message) == (400, True)
    many = [("Impersonate-Group", str(number)) for number in range(600)]
    assert (await refusal(act_as(Asked(), ("Impersonate-User", "bob"), *many))).code == 400
