"""How any process talks to the masters, and what every daemon needs besides.

* `verbs` – the interface, on bytes: start reading there. `remote` (with `channels` and `wire`) is it over gRPC, the
  master's registry is it in process; `client` puts typed objects on either; `patches` makes the smallest patch.
* `reflector`, `informer`, `informers` – list and watch kept as a cache; `queue` – keys to work on, with back-off.
* `pki`, `renewal`, `profile`, `joining` – certificates, their renewal, `~/.barque/config`, joining a cluster;
  `kubeconfig` – the same way in for kubectl.
* `recorder` – Events, made of the parts in `recording`; `supervise` – tasks that have an owner; `clock` – time as an
  argument; `cycles` – the garbage collector kept from holding the event loop; `address` – this host's.

In: a profile or an identity. Out: objects, changes, `ApiError`s. Guarantees: every call is bounded in time; a write is
repeated only where it was provably not sent, else it is 504 "outcome unknown"; an informer misses no change that it
does not make up for, and forgets nothing while the masters are away.
"""
