"""The master daemon: the cluster's state, the doors to it, and the loops that make it come true.

* `store` – every object at a revision, durable, with watches. `apiserver` – the registry of verbs over it, gRPC and
  Kubernetes' REST; `admission` and `auth` – what the cluster adds to an object, and who may do what; `audit` – who
  asked for what; `metrics` – the figures of `/metrics`.
* `controllers`, `scheduler` – see the cluster through `client` alone, never the store and never each other.
* `bus` – NATS: Event records and the change feed.

`daemon` is the composition root, with `front` for the REST door: nothing else wires these together. Start reading
there. `command` is `barque master init|run`, `foundation` what a cluster stands on before its first start (CA,
certificates, directories, the administrator's profile and kubeconfig). `stalls` measures how long the event loop was
held; `allocator` gives back memory without holding it.

In: a directory, addresses, ranges. Out: a running master until it is told to stop. Guarantees: a write is answered
after its fsync and never before; an unexpected error ends the daemon with one line that says which; what was answered
is there after a SIGKILL at any moment.
"""
