"""The service proxy: Services and EndpointSlices become nat chains on every node, in the manner of kube-proxy.

Start reading at `render`, which draws the way of a packet. `state` (what the cluster says), `program` (what changed),
`render` and `dispatch` are pure; `proxy` writes the kernel's rules and keeps them, `health` answers load balancers'
checks. Guarantees: a change writes the chains that changed; what somebody else broke is noticed and put right; answers
to UDP clients follow at once, by deleting stale flows.
"""
