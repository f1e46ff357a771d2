"""The pod network of one host: a routed veth per pod, a durable address book, ports of the host, no bridge.

Start reading at `network`. In: the node's pod CIDR, pods' network namespaces, their host ports; out: an address per
pod, the same until it goes. `plan` and `rules` decide (pure), `driver` carries out, `book` remembers on disk, and
`host_ports` says who has which port. Guarantees: every call may be made again and completes what is missing.
Decision record 0003 has the reasons.
"""
