"""The worker's own gRPC door, for masters only: logs, commands, forwarded ports, usage, and images.

Start reading at `service`. In: streams of the `Node` and `NodeImages` services over mTLS; out: what Docker and the
kernel say, at the caller's pace. `calls` is the frame of every call (who may, how many at once, how a refusal is told);
`commands`, `forwarding`, `logs` and `images` are what the calls do; `door` opens the port. Guarantees: nobody without
a master's certificate gets further than the frame; neither side buffers without bound; a caller that goes away leaves
nothing running but its command.
"""
