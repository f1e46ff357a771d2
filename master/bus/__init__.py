"""The bus: NATS beside the master, for what is told rather than kept.

Start reading at `bus`, which puts the parts together.

* `server`, `binary`, `process` – the nats-server process: found, supervised, followed as the masters change, healed.
* `topology`, `config`, `roster`, `vitals` – which servers there are, their configuration, the keys by which they know
  one another, how one of them is; `peers` and `survey` look after them all.
* `access` – where the bus is: the masters' own servers, or a NATS that the user runs.
* `link` – the connection that comes back, and the streams' primitives; `streams` – how the streams are to be, and
  whose they are.
* `events` – Event records in a stream, as the registry's backend: `records` and `cache` follow it, `event_writer`
  writes, `replies` hears what came of it, `stream_keeper` is the leader's part, `seeding` fills a stream made anew.
* `feed` – every change of the store, in order and exactly once, for consumers outside.
* `subjects` – the names on the wire.

In: the store's changes, Events from the registry, the master's certificate. Out: the `Backend` of kind Event, the
change feed, one line of health. Guarantees: truth lives in the store alone, so with NATS down everything but Events and
the feed works, and these catch up; memory is bounded; only masters and administrators may connect.
"""
