"""What the nodes and pods use, as every master knows it from the workers' newest samples; kept in memory only.

* `samples` – what of a sample is believed. Pure.
* `rendering` – the bytes of metrics.k8s.io's objects, made when a sample is taken. Pure.
* `table` – the newest sample of every node, joined with the pods and nodes that there are.
* `view` – the table as the registry's backend of metrics.k8s.io.
* `usage` – table, view and the exchange with other masters (`master.bus.usage`), put together.

In: samples that workers send with their heartbeats, here or to another master. Out:
NodeMetrics and PodMetrics. Guarantees: a worker speaks for its own node and the pods bound to it alone; nothing older
than a minute is shown; no clock but this master's own counts; memory is bounded, and every request is answered without
asking another process.
"""
