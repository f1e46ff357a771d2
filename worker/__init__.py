"""The worker daemon: runs on every node and makes it hold the pods that are bound to it.

Start reading at `pods.plan`, the pure heart: pods wished and containers observed in, instructions out; then at
`daemon`, which wires the parts. docs/pods.md tells a pod's life from end to end.

In: watches of the node's own pods and of what they reference, the node's folder of static pods, Docker's containers and
their events, what the host has left. Out: containers, volumes, probes, the pod network and service rules (through
`network`), status patches, heartbeats with samples of use, images pulled and removed, pods evicted; logs, commands,
ports and usage served to the masters. Guarantees: level-triggered and crash-only: a daemon killed at any instruction
adopts what runs by its labels and restarts nothing; with every master away pods run on, probed and restarted; nothing
is removed before the first complete sync with the same cluster.
"""
