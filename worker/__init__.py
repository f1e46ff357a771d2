"""The worker daemon: runs on every node and makes it hold the pods that are bound to it.

Start reading at `pods.plan`, the pure heart: pods wished and containers observed in, instructions out; then at
`daemon`, which wires the parts.

In: watches of the node's own pods and of what they reference, Docker's containers and their events. Out: containers,
volumes, probes, the pod network and service rules (through `network`), status patches, heartbeats; logs and exec served
to the masters. Guarantees: level-triggered and crash-only: a daemon killed at any instruction adopts what runs by its
labels and restarts nothing; with every master away pods run on, probed and restarted; nothing is removed before the
first complete sync with the same cluster.
"""
