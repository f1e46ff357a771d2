"""The bus: NATS beside the master, for what is told rather than kept.

Start reading at `bus`, which puts the parts together.

* `server`, `binary` – the nats-server process: found, configured, supervised, never left behind.
* `link` – the connection that comes back, and the streams' primitives.
* `events`, `cache` – Event records in a stream, and the registry's reads of them.
* `feed` – every change of the store, in order and exactly once, for consumers outside.
* `subjects` – the names on the wire.

In: the store's changes, Events from the registry, the master's certificate. Out: the `Backend` of kind Event, the
change feed, one line of health. Guarantees: truth lives in the store alone, so with NATS down everything but Events and
the feed works, and these catch up; memory is bounded; only masters and administrators may connect.
"""
