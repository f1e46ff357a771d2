"""The volumes of pods: directories on this node, written atomically, removed with their pod.

Start reading at `volumes`, which lays out and fills a pod's directories. In: the pod's definition and what `contents`
fetched of the cluster (objects through `references`, tokens through `tokens`). `payloads` makes files of it (pure),
`publish` shows a whole new version at once, `subpaths` mounts a part that cannot lead out of its volume, `host_paths`
and `ownership` check and hand over. Guarantees: a reader sees the old files or the new ones; everything may be done
again after a crash; nothing is ever deleted through a mount.
"""
