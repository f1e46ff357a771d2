"""The container runtime: the port, Docker behind it, and a fake for tests and simulated nodes.

Start reading at `port`, the whole of what the rest of the worker knows of an engine. `docker_runtime` is that port on
Docker's API; `docker_*` are its parts, of which `docker_records` translates (pure) and `docker_streams` talks.
`sandboxes` makes pod sandboxes of namespaces alone, `docker_sandboxes` brings Docker's containers into them,
`registration` makes the runtime for it known to dockerd, and `pause` is the sandbox image where that cannot be.

Guarantees: methods may be called again; errors are the tree under `RuntimeFault`, in the engine's words; only the
containers of this worker are listed or watched.
"""
