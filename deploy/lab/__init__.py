"""The lab: a cluster of several hosts on one Linux machine, without virtual machines.

A host is a network, mount, pid, UTS and IPC namespace, held by a first process of its own; all hosts hang on one bridge
in a namespace of its own, the switch. Each has its own disk (a folder), dockerd, master or worker, name and address.

Start reading at `lab.Lab`. `plan` says who is where and renders what the switch is told, purely; `host` makes and ends
hosts; `state` is what is remembered of a lab, in one directory; `command` is `barque lab`.
Guarantees: nothing of the machine's own network is touched; when a host's first process ends, the kernel ends all its
processes, mounts and links with it, so `down` leaves nothing however `up` ended, and may be run twice.
"""
