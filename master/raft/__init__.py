"""Raft: a log that several members agree on. `core` decides without I/O, `member` is the shell that owns log, timers
and peers; what is replicated is bytes, and who applies them is behind `ports.Application`. See docs/raft.md.
"""
