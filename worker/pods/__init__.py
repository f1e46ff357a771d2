"""Pods on this node: what is there, what to do next, what to report.

Start reading at `plan`, which is pure: `Desired` and `Observed` in, instructions out. Around it, pure too: `members`
(whose turn it is among init, sidecar, app and ephemeral containers), `config`, `env`, `names` and `resources` (how a
container is created), `backoff`, `verdict` (why the node itself ends a pod), `choosing` (which container a caller
means) and `status` (what is reported). The shell: `manager` hands what the cluster wants and the runtime tells to one
`runner` per pod; a runner plans, has `steps` carried out side by side, and reports. `static` brings the pods of the
node's own folder.

Guarantees: level-triggered, one instruction per subject at a time; what is known is read from containers' labels, so
that a worker killed at any instruction goes on; one pod's failure stays its own.
"""
