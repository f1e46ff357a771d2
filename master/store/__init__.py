"""The store: every object of the cluster at a revision, durable, with watches. Its contract is `port`; docs/store.md.

* `port` – what every engine promises; the words all others speak (`Op`, `Stored`, `Change`, `Filter`).
* `fsm`, `objects`, `rows`, `results` – the state machine and its state in memory. Pure: no I/O, no clock.
* `hub`, `history` – watches, and what they resume from.
* `log_single` – the engine of one master: group commit on a log of its own. What Raft will replace, and nothing else.
* `wal`, `segment`, `records`, `log_writer` – the write-ahead log, from files to ops, and the thread that appends.
* `snapshot`, `upkeep`, `recovery` – snapshots, saving, restoring, new keys; from files to state at a start.
* `keyring` – the keys that seal Secrets on disk. `directory`, `disk` – the lock, the identity, every file operation.

`errors` says why a store does not start. Nothing here knows of HTTP, gRPC, validation or users.
"""
