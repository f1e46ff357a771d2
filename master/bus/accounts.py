"""The accounts of nats-server and who is in which, as that part of its configuration. Pure.

| account | who | how known |
|---|---|---|
| `BARQUE` | the present masters; all streams | the server's own from the configuration, the others through it |
| `ADMINS` | administrators: readers of everything | by certificate, through a master (`callout`) |
| `WATCHERS` | readers of some resources | the same |
| `SYS` | the supervisor of the server | by the subject of its certificate, from the configuration |

So nothing here changes when masters come and go: nats-server cannot reload whom it asks about and whom not.

Nothing passes between accounts but what is exported here. What readers ask of JetStream they ask under a prefix of
ours: below `$JS.API` each account has the server's own answer, that it has no JetStream.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from barque.client.subjects import token
from barque.master.bus.permissions import ADMINS_ACCOUNT, MASTERS_ACCOUNT, WATCHERS_ACCOUNT, api_prefix
from barque.master.bus.subjects import CHANGE_STREAM

SYSTEM_ACCOUNT = "SYS"
# Of each account of readers on one server; a fraction of what the server bears, so that masters always get in.
READERS_CONNECTIONS = 128
# Of one connection; whoever asks for more is cut off.
READERS_SUBSCRIPTIONS = 256
# Readers send requests only.
READERS_PAYLOAD_BYTES = 64 * 1024
# How long a server waits for a master's word about a newcomer; then it refuses.
AUTH_TIMEOUT_S = 2


def render_accounts(cluster: str, masters: Sequence[str], supervisor: str, issuer: str) -> str:
    """The blocks `accounts` and `authorization`.

    `masters` and `supervisor` are users as nats-server names the owners of certificates: whom it lets in by itself.
    `issuer` is the name of the masters' common key, whose word about everybody else it takes; with "" there is nobody
    else.
    """
    users = ", ".join(f"{{ user: {json.dumps(user)} }}" for user in masters)
    known = ", ".join(json.dumps(user) for user in (*masters, supervisor))
    asked = f"auth_callout {{ issuer: {issuer}, account: {MASTERS_ACCOUNT}, auth_users: [ {known} ] }}"
    return f"""\
accounts {{
  {MASTERS_ACCOUNT} {{
    jetstream: enabled
    users: [ {users} ]
    exports: [
{_exports(cluster)}
    ]
  }}
{_readers(ADMINS_ACCOUNT, cluster, ("change", "event", "usage"), ("STREAM.INFO",))}
{_readers(WATCHERS_ACCOUNT, cluster, ("change",))}
  {SYSTEM_ACCOUNT} {{ users: [ {{ user: {json.dumps(supervisor)} }} ] }}
}}
system_account: {SYSTEM_ACCOUNT}
authorization {{
  timeout: {AUTH_TIMEOUT_S}
  {asked if issuer else ""}
}}
"""


def create_prefix(cluster: str) -> str:
    """Where the masters are asked for consumers: what follows is the consumer's name, and its filter."""
    return f"barque.{token(cluster)}.consumer"


def _exports(cluster: str) -> str:
    both = f"[ {ADMINS_ACCOUNT}, {WATCHERS_ACCOUNT} ]"
    streams = [("change", both), ("event", f"[ {ADMINS_ACCOUNT} ]"), ("usage", f"[ {ADMINS_ACCOUNT} ]")]
    exported = [f'{{ stream: "barque.{token(cluster)}.{kind}.>", accounts: {to} }}' for kind, to in streams]
    exported += [
        f'{{ service: "{create_prefix(cluster)}.>", accounts: {both} }}',
        f'{{ service: "$JS.API.STREAM.INFO.{CHANGE_STREAM}", accounts: [ {ADMINS_ACCOUNT} ] }}',
        *(f'{{ service: "$JS.API.{verb}.{CHANGE_STREAM}.*", accounts: {both} }}' for verb in _CONSUMER_VERBS),
        # One request is answered by many messages.
        f'{{ service: "$JS.API.CONSUMER.MSG.NEXT.{CHANGE_STREAM}.*", accounts: {both}, response_type: stream }}',
    ]
    return "\n".join(f"      {line}" for line in exported)


_CONSUMER_VERBS = ("CONSUMER.INFO", "CONSUMER.DELETE")


def _readers(account: str, cluster: str, kinds: Sequence[str], stream_verbs: Sequence[str] = ()) -> str:
    """An account of readers: only imports, and bounds for each connection and all of them."""
    api = api_prefix(cluster)
    asked = [(f"$JS.API.{verb}.{CHANGE_STREAM}", f"{api}.{verb}.{CHANGE_STREAM}") for verb in stream_verbs]
    asked += [
        (f"$JS.API.{verb}.{CHANGE_STREAM}.*", f"{api}.{verb}.{CHANGE_STREAM}.*")
        for verb in (*_CONSUMER_VERBS, "CONSUMER.MSG.NEXT")
    ]
    asked.append((f"{create_prefix(cluster)}.>", f"{api}.CONSUMER.CREATE.{CHANGE_STREAM}.>"))
    imports = [
        f'{{ stream: {{ account: {MASTERS_ACCOUNT}, subject: "barque.{token(cluster)}.{kind}.>" }} }}' for kind in kinds
    ]
    imports += [f'{{ service: {{ account: {MASTERS_ACCOUNT}, subject: "{of}" }}, to: "{to}" }}' for of, to in asked]
    lines = "\n".join(f"      {line}" for line in imports)
    return f"""\
  {account} {{
    limits {{
      max_connections: {READERS_CONNECTIONS}
      max_subscriptions: {READERS_SUBSCRIPTIONS}
      max_payload: {READERS_PAYLOAD_BYTES}
    }}
    imports: [
{lines}
    ]
  }}"""
