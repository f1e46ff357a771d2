"""The overlay: how pods of different hosts reach each other, over VXLAN or by plain routes on one network.

Start reading at `overlay`. In: the cluster's Nodes and this host's links; out: one device, and for each other node a
route, a neighbour and a forwarding entry. `peers` and `plan` decide (pure), `underlay` finds the link and address that
carry it, `driver` and `offload` read the kernel and carry out, `events` hears who changes it. Guarantees: only the
device `barque.<vni>` and routes with our protocol number are touched; what others delete is back within seconds; what
is wrong is said in one sentence and heals when its cause is gone.
"""
