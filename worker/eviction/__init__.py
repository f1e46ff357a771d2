"""What happens when a node runs out of memory, disk or process ids: conditions, clearing up, ending pods in fair order.

Start reading at `evictor`. In: what the host has left (`signals`, by Kubernetes' hard thresholds) and what pods take
(`stats.gauges`, and the volumes' own count). Out: the Node's pressure conditions, unused images removed, and pods ended
as Failed with reason Evicted: one at a time for the node's sake, in the order of `ranking`, and any that fills a volume
beyond its limit. Guarantees: static and critical pods are not ended for the node's sake; nothing is ended for a
shortage that removing images has mended. Follows Kubernetes' node-pressure eviction.
"""
