"""The audit log: who asked for what, when, and what came of it; for both doors of a master.

In: each request of a door, as `Attributes` and where it came from. Out: events of audit.k8s.io/v1, one JSON text a
line, in a file that is rotated or on standard output. Guarantees: policy decides what is written and how much of it; a
request never waits for the log; what a slow or full disk costs is bounded in memory, counted and said in the
daemon's own log. What masters do in process goes through no door and is not written.

Start reading at `audit`; `policy` decides (pure), `events` words, `log_file` writes and rotates, `writer` keeps the two
apart.
"""
