"""The scheduler: finds a node for each pod that has none.

Start reading at `scheduler`, the loop: it takes pods from `queue` (active, backing off, unschedulable), asks `ranking`
for the best node of each, and binds a whole round in one batch. `snapshot` holds the nodes as columns and what is
placed on them; `demand` is what a pod asks for, `filters` whether a node can give it, and in Kubernetes' words why not;
`suitability` keeps what depends on a node alone, for all nodes and all pods of one template at once; `groups` says
whose pods are spread. All but the loop is pure.

In: informers of Pods, Nodes and Services, through `client` alone. Out: bindings; for a pod that no node can take, its
condition PodScheduled=False and an Event. Guarantees: a pod counts where it was placed before the watch shows it there,
so no node is promised twice; a choice takes logarithmic time in the number of nodes; a refused pod waits for a change
that helps it, with back-off, and one that is waiting costs nothing.
"""
