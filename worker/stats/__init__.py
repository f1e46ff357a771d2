"""What the node and its pods use, read from the kernel when somebody asks.

Start reading at `meter`. In: process ids of running containers; out: CPU time, memory, traffic and disk use. `cgroups`
reads both versions of control groups and `proc` the host's own files; their parsers are pure. Nothing is sampled in the
background.
"""
