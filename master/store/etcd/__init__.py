"""The parts of the external etcd engine; see `barque.master.store.engine_etcd`.

`client` speaks to etcd. `layout` says which keys hold what, and `mirror` decides what a write does: both are pure.
`reader` keeps the mirror equal to etcd, `writer` brings ops to it, `election` says which master leads, `upkeep` does
what concerns the whole state, and `shared_ring` keeps the keys of Secrets.
"""
