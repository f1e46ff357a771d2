"""The controllers: each watches what is, compares it with what is wished, and writes the difference.

They see the cluster through `client.Client` and shared informers alone, never the store, so they could run as a process
of their own. `manager` wires and runs them; start reading there, then at `replicaset`, which shows the pattern:
handlers put keys on a queue, `reconcile(key)` reads the caches anew and writes. Decisions are pure and stand beside the
loops that carry them out.

* `deployment` – with `rollout`, `rollout_sizes`, `rollout_status` and `revisions`, its decisions.
* `replicaset` – with `replicas`, its decisions, and `expectations`, what the cache does not show yet.
* `endpointslice` – with `endpoints`, its decisions.
* `garbage` – owners and dependants of every kind, held in the graph of `ownership`.
* `namespace` – empties a namespace that is being deleted.
* `node` – nodes that fall silent; `nodetaints` says on them what is wrong, `tainteviction` moves their pods away, as
  `disruption` does it; `podgc` removes pods that nobody is left to remove; `nodelease` keeps leases for others to read.
* `serviceaccounts` – the default account of every namespace, and the cluster's CA for its pods; `accounttokens` – the
  tokens of accounts that stand in Secrets.
* `owners`, `shared`, `settings` – claiming by controllers, the informers' indexes, what an operator may set.

In: watches, heartbeats, a clock. Out: writes through the registry, Events. Guarantees: level-triggered, so a missed
event costs latency and never correctness; writes are refused where the object is not as it was seen; an error of the
cluster is retried with back-off, one of the program ends the master and names the controller; work on many objects is
sliced, so that no callback holds the loop for more than 20 ms.
"""
