"""Who calls, and what they may: identities, permissions, the cluster's CA, and joining it.

* `identity` – the user a connection's certificate names. Start reading there.
* `authorizer` – who may do what: masters and administrators all, a worker what its own pods need (`node_authorizer`),
  anyone else what roles and bindings give (`rbac`).
* `authentication` – the same at the REST door, where one may show a token instead, with `bootstrap_tokens`; whom a
  caller asks to act as is `impersonation`.
* `ca` – the CA and the certificates of this master and its administrator; signs requests and renewals.
* `account_keys`, `account_tokens` – the tokens of service accounts: signed, and believed while account and pod live.
* `tokens`, `joining` – the tokens a machine joins with, kept as Secrets, and the exchange of one for a certificate.
* `member_joining`, `key_wrapping` – the same for one more master, which gets the cluster's keys, wrapped for it alone.

In: certificates, tokens, signing requests, a clock. Out: a `User`, or an `ApiError`: 401 where nobody knows who calls,
403 where one may not. Guarantees: a certificate is an identity and not a permission; an identity is renewed for itself
alone; a token is compared in constant time, and expires; private keys are readable by their owner only, and never in
the log.
"""
