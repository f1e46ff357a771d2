"""Cluster DNS: a resolver on every node, at the cluster's DNS address, for the pods of that node.

    datagram ─▶ server ─▶ answers (by raw question) ─▶ resolver ─┬▶ zone ◀─ records ◀─ Services, EndpointSlices
                                                                └▶ forwarder ─▶ upstreams of the host, stub domains

`records` and `zone` decide what a name means (Kubernetes' DNS specification 1.1), `reply` turns that into a message,
`forwarder` asks others about the rest; all of these are pure or take their sockets as arguments. `server` and `address`
touch the host. Start reading at `zone`.
"""
