"""Ways to run Barque: on this machine (`barque up`), as systemd services, and the demo.

Start reading at `local`. In: a machine with Docker or dockerd; out: a master and a worker as processes of their own
(`processes`), a Docker that knows the worker's runtime (`dockerd`), images built without a registry (`images`), or a
cluster of several hosts (`lab`).
Guarantees: `up` may be run again and mends what stopped; what `up` itself started, `down` ends without a trace.
"""
