"""`History`: the newest changes, so that a watch can resume from a revision it saw before. Bounded by count and by
bytes.

`floor` is the revision from which on nothing is missing: every change after it is here.
"""

from __future__ import annotations

from collections import deque

from barque.master.store.port import Change, Stored

# A change costs the state that it superseded (the newer one is in memory anyway), and this much for the tuples around
# it.
_OVERHEAD_BYTES = 400


class History:
    def __init__(self, *, max_changes: int, max_bytes: int) -> None:
        self.floor = 0
        self._max_changes = max_changes
        self._max_bytes = max_bytes
        self._bytes = 0
        self._all: deque[Change] = deque()
        self._resources: dict[str, deque[Change]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def reset(self, revision: int) -> None:
        """Forget everything; nothing up to `revision` is known."""
        self._all.clear()
        self._resources.clear()
        self._bytes = 0
        self.floor = revision

    def append(self, change: Change, resource: str) -> None:
        of_resource = self._resources.get(resource)
        if of_resource is None:
            of_resource = self._resources[resource] = deque()
        of_resource.append(change)
        self._all.append(change)
        self._bytes += _cost(change)
        while len(self._all) > self._max_changes or self._bytes > self._max_bytes:
            self._forget()

    def since(self, revision: int, resource: str = "") -> list[Change]:
        """The changes of `resource` ("": of all) after `revision`, which is at least `floor`; costs what it returns."""
        newer: list[Change] = []
        for change in reversed(self._resources.get(resource, ()) if resource else self._all):
            if change.revision <= revision:
                break
            newer.append(change)
        newer.reverse()
        return newer

    def superseded(self, revision: int, resource: str) -> list[Stored]:
        """The objects of `resource` that stood at `revision`, at least `floor`, and have changed or gone since."""
        found: list[Stored] = []
        for change in reversed(self._resources.get(resource, ())):
            if change.revision <= revision:
                break
            before = change.before
            # Of the changes of one object only the first after `revision` superseded a state from before it.
            if before is not None and before.revision <= revision:
                found.append(before)
        return found

    def _forget(self) -> None:
        oldest = self._all.popleft()
        self._bytes -= _cost(oldest)
        self.floor = oldest.revision
        resource = oldest.key.resource
        of_resource = self._resources[resource]
        of_resource.popleft()
        if not of_resource:
            del self._resources[resource]


def _cost(change: Change) -> int:
    return _OVERHEAD_BYTES + (len(change.before.json) if change.before else 0)
