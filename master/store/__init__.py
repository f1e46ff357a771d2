"""The store: every object of the cluster at a revision, durable, with watches. Its contract is `port`; docs/store.md.

* `port` – what every engine promises; the words all others speak (`Op`, `Stored`, `Change`, `Filter`).
* `fsm`, `objects`, `rows`, `results` – the state machine and its state in memory. Pure: no I/O, no clock.
* `hub`, `history` – watches, and what they resume from.
* `engine_raft`, `engine` – the door of the Raft engine, and the engine: what one member of the group does.
* `engine_etcd`, `etcd/` – the engine over an etcd that the user runs. `epoch` – the mark of a leader's term.
* `proposals` – a commit's way from the call to the answer. `records`, `replica` – what entries carry, and what every
  member makes of them. `group`, `group_changes`, `membership`, `introductions`, `quorum_loss` – who the members are.
* `inspection`, `state_hash` – members compare their states. `letters` – what members tell each other directly.
* `snapshot`, `snapshot_transfer`, `restoring`, `upkeep`, `recovery` – snapshots: their bytes, between members, brought
  back; what is kept up beside the writes; from files to state at a start. The log itself is `master.raft`'s.
* `keyring` – the keys that seal Secrets on disk. `directory` – the lock, and whose data it is.

Nothing here knows of HTTP, gRPC, validation or users.
"""
