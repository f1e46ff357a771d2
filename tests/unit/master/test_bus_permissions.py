"""What readers of the bus may do: subjects, accounts, consumers."""

from __future__ import annotations

import msgspec
import pytest

from barque.client import pki
from barque.client.subjects import EVERYTHING, Pattern
from barque.master.auth.identity import User
from barque.master.bus.accounts import render_accounts
from barque.master.bus.consumers import NotForReadersError, render_consumer
from barque.master.bus.permissions import (
    MOST_PATTERNS,
    Permissions,
    TooManyPatternsError,
    permissions_of,
    watchable_by,
)

ADMIN = User(*pki.ADMIN)
JANE = User("jane", ("dev",))
API = "barque.lab.jetstream"
PODS = "barque.lab.change.core.pods.default.>"


def test_administrators_watch_everything_others_nothing() -> None:
    assert watchable_by(ADMIN) == (EVERYTHING,)
    for user in (JANE, User(*pki.node_subject("n1")), User(*pki.master_subject("m1")), User("")):
        assert watchable_by(user) == ()
    assert watchable_by(User("x", (pki.ADMINS_GROUP, pki.MASTERS_GROUP))) == ()
    assert permissions_of(JANE, (), "lab") is None


def test_who_watches_everything() -> None:
    assert permissions_of(ADMIN, (EVERYTHING,), "lab") == Permissions(
        "ADMINS",
        (
            f"{API}.STREAM.INFO.BARQUE_CHANGES",
            f"{API}.CONSUMER.CREATE.BARQUE_CHANGES.>",
            f"{API}.CONSUMER.INFO.BARQUE_CHANGES.*",
            f"{API}.CONSUMER.DELETE.BARQUE_CHANGES.*",
            f"{API}.CONSUMER.MSG.NEXT.BARQUE_CHANGES.*",
        ),
        ("barque.lab.change.>", "barque.lab.event.>", "barque.lab.usage.>", "_INBOX_barque-admin.>"),
    )


def test_who_watches_one_place() -> None:
    permissions = permissions_of(User("jane.doe"), (Pattern("core", "pods", "default"),), "lab")
    assert permissions is not None
    assert permissions.account == "WATCHERS"
    assert permissions.subscribe == (PODS, "barque.lab.change.RESYNC", "_INBOX_jane%2Edoe.>")
    assert permissions.publish[:2] == (
        f"{API}.CONSUMER.CREATE.BARQUE_CHANGES.jane%2Edoe-1.{PODS}",
        f"{API}.CONSUMER.CREATE.BARQUE_CHANGES.jane%2Edoe-1.barque.lab.change.RESYNC",
    )
    assert permissions.publish[-3:] == (
        f"{API}.CONSUMER.INFO.BARQUE_CHANGES.jane%2Edoe-4",
        f"{API}.CONSUMER.DELETE.BARQUE_CHANGES.jane%2Edoe-4",
        f"{API}.CONSUMER.MSG.NEXT.BARQUE_CHANGES.jane%2Edoe-4",
    )
    assert len(permissions.publish) == 4 * 2 + 4 * 3


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [
        (Pattern("apps"), "apps.>"),
        (Pattern("apps", "deployments"), "apps.deployments.>"),
        (Pattern(None, None, "default"), "*.*.default.>"),
        (Pattern("core", "pods", None, "web"), "core.pods.*.web"),
        (Pattern("core", "nodes", "_", "n1"), "core.nodes._.n1"),
    ],
)
def test_a_pattern_as_a_subject(pattern: Pattern, subject: str) -> None:
    permissions = permissions_of(JANE, (pattern,), "lab")
    assert permissions is not None
    assert permissions.subscribe[0] == f"barque.lab.change.{subject}"


def test_rights_are_bounded() -> None:
    patterns = tuple(Pattern("core", "pods", f"n{number}") for number in range(MOST_PATTERNS + 1))
    assert permissions_of(JANE, patterns[1:], "lab") is not None
    with pytest.raises(TooManyPatternsError):
        permissions_of(JANE, patterns, "lab")


def test_a_readers_consumer_is_what_the_masters_make_of_it() -> None:
    asked = {"name": "c", "filter_subject": PODS, "deliver_policy": "by_start_sequence", "opt_start_seq": 7}
    dear = {"num_replicas": 3, "mem_storage": False, "inactive_threshold": 10**18, "max_waiting": 10**6}
    made = msgspec.json.decode(render_consumer("c", PODS, a_request(**asked, **dear)))
    assert made == {
        "stream_name": "BARQUE_CHANGES",
        "config": {
            **asked,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "max_waiting": 16,
            "max_batch": 4096,
            "max_expires": 60 * 10**9,
            "inactive_threshold": 300 * 10**9,
        },
    }
    short = msgspec.json.decode(render_consumer("c", "", a_request(inactive_threshold=10**9)))
    assert (short["config"]["inactive_threshold"], short["config"]["name"]) == (10**9, "c")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"deliver_subject": "barque.lab.event.x"}, "pull consumers"),
        ({"durable_name": "c"}, "durable"),
        ({"ack_policy": "explicit"}, "ack_policy"),
        ({"name": "d"}, "name"),
        ({"filter_subject": "barque.lab.change.>"}, "filter"),
        ({"filter_subject": ""}, "filter"),
        ({"filter_subjects": [PODS, "barque.lab.change.core.secrets.>"]}, "filter"),
        ({"deliver_policy": "backwards"}, "cannot be read"),
        ({"inactive_threshold": "1h"}, "cannot be read"),
    ],
)
def test_consumers_that_no_reader_gets(config: dict[str, object], why: str) -> None:
    with pytest.raises(NotForReadersError, match=why):
        render_consumer("c", PODS, a_request(**({"filter_subject": PODS} | config)))


def test_a_request_that_is_none() -> None:
    """A reader may send anything; what it leads to must not end the masters who hear it."""
    no_text, deep = b'{"config":{"name":"\xff"}}', b'{"config":{},"x":%b' % (b"[" * 30_000)
    for asked in (b"", b"{", b"[]", b"{}", b"\xff", no_text, deep):
        with pytest.raises(NotForReadersError):
            render_consumer("c", PODS, asked)


def a_request(**config: object) -> bytes:
    return msgspec.json.encode({"stream_name": "BARQUE_CHANGES", "config": config, "action": "create"})


def test_the_accounts_of_the_server() -> None:
    assert (
        render_accounts("lab", ["CN=barque:master:m1,O=barque:masters"], "CN=supervisor", "AKEY")
        == """\
accounts {
  BARQUE {
    jetstream: enabled
    users: [ { user: "CN=barque:master:m1,O=barque:masters" } ]
    exports: [
      { stream: "barque.lab.change.>", accounts: [ ADMINS, WATCHERS ] }
      { stream: "barque.lab.event.>", accounts: [ ADMINS ] }
      { stream: "barque.lab.usage.>", accounts: [ ADMINS ] }
      { service: "barque.lab.consumer.>", accounts: [ ADMINS, WATCHERS ] }
      { service: "$JS.API.STREAM.INFO.BARQUE_CHANGES", accounts: [ ADMINS ] }
      { service: "$JS.API.CONSUMER.INFO.BARQUE_CHANGES.*", accounts: [ ADMINS, WATCHERS ] }
      { service: "$JS.API.CONSUMER.DELETE.BARQUE_CHANGES.*", accounts: [ ADMINS, WATCHERS ] }
      { service: "$JS.API.CONSUMER.MSG.NEXT.BARQUE_CHANGES.*", accounts: [ ADMINS, WATCHERS ], response_type: stream }
    ]
  }
  ADMINS {
    limits {
      max_connections: 128
      max_subscriptions: 256
      max_payload: 65536
    }
    imports: [
      { stream: { account: BARQUE, subject: "barque.lab.change.>" } }
      { stream: { account: BARQUE, subject: "barque.lab.event.>" } }
      { stream: { account: BARQUE, subject: "barque.lab.usage.>" } }
      { service: { account: BARQUE, subject: "$JS.API.STREAM.INFO.BARQUE_CHANGES" }, \
to: "barque.lab.jetstream.STREAM.INFO.BARQUE_CHANGES" }
      { service: { account: BARQUE, subject: "$JS.API.CONSUMER.INFO.BARQUE_CHANGES.*" }, \
to: "barque.lab.jetstream.CONSUMER.INFO.BARQUE_CHANGES.*" }
      { service: { account: BARQUE, subject: "$JS.API.CONSUMER.DELETE.BARQUE_CHANGES.*" }, \
to: "barque.lab.jetstream.CONSUMER.DELETE.BARQUE_CHANGES.*" }
      { service: { account: BARQUE, subject: "$JS.API.CONSUMER.MSG.NEXT.BARQUE_CHANGES.*" }, \
to: "barque.lab.jetstream.CONSUMER.MSG.NEXT.BARQUE_CHANGES.*" }
      { service: { account: BARQUE, subject: "barque.lab.consumer.>" }, \
to: "barque.lab.jetstream.CONSUMER.CREATE.BARQUE_CHANGES.>" }
    ]
  }
  WATCHERS {
    limits {
      max_connections: 128
      max_subscriptions: 256
      max_payload: 65536
    }
    imports: [
      { stream: { account: BARQUE, subject: "barque.lab.change.>" } }
      { service: { account: BARQUE, subject: "$JS.API.CONSUMER.INFO.BARQUE_CHANGES.*" }, \
to: "barque.lab.jetstream.CONSUMER.INFO.BARQUE_CHANGES.*" }
      { service: { account: BARQUE, subject: "$JS.API.CONSUMER.DELETE.BARQUE_CHANGES.*" }, \
to: "barque.lab.jetstream.CONSUMER.DELETE.BARQUE_CHANGES.*" }
      { service: { account: BARQUE, subject: "$JS.API.CONSUMER.MSG.NEXT.BARQUE_CHANGES.*" }, \
to: "barque.lab.jetstream.CONSUMER.MSG.NEXT.BARQUE_CHANGES.*" }
      { service: { account: BARQUE, subject: "barque.lab.consumer.>" }, \
to: "barque.lab.jetstream.CONSUMER.CREATE.BARQUE_CHANGES.>" }
    ]
  }
  SYS { users: [ { user: "CN=supervisor" } ] }
}
system_account: SYS
authorization {
  timeout: 2
  auth_callout { issuer: AKEY, account: BARQUE, \
auth_users: [ "CN=barque:master:m1,O=barque:masters", "CN=supervisor" ] }
}
"""
    )
