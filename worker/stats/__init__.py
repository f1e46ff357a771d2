"""What the node and its pods use: measured every ten seconds for the masters, and read whenever somebody asks.

Start reading at `sampler`, whose samples travel with the heartbeat; `meter` answers `Stats` at once. Both, and the
evictor, read through `gauges`: CPU time, memory and traffic from the kernel, by the process ids of running containers.
`disks` walks over what the containers wrote, at its own pace. `cgroups` knows both versions of control groups and
`proc` the host's own files; their parsers are pure. Guarantees: no rate depends on the time of day, none is told across
a restart, and what cannot be read is left out.
"""
