"""Role-based access control (RBAC), as Kubernetes has it: who may do what by the roles that are bound to them.

* `barque.api.policyrules` – one rule: what it allows, and what it covers of another. Start reading there.
* `grants` – the bindings of the store by whom they give rights to, and the rules of the roles.
* `rbac_authorizer` – decisions by these, and a memory of them.
* `escalation` – nobody hands out by roles and bindings what they have not themselves.
* `policy` with `policy_controllers` – the roles and bindings that every cluster has; `bootstrap` makes and mends them,
  by the rules of `barque.api.reconciliation`.

In: the four kinds of rbac.authorization.k8s.io as this master's store has them, so a write that this master has
acknowledged counts from that moment. Out: `Decision`s, which only ever allow. No I/O and no clock.
"""
