"""What a controller has done that its cache does not show yet.

A controller that counts pods in a cache behind its own writes would create or delete them twice. So it notes the name
of each pod it is about to create and the uid of each it is about to delete, and counts again only when the watch has
shown them all. After five minutes it stops waiting, as Kubernetes does: by then the note, not the cache, is the
likelier fault.
"""

from __future__ import annotations

from collections.abc import Iterable

from barque.client.clock import Clock

TIMEOUT_S = 300.0


class Expectations:
    """Expected items per key; an item is any string that names one change and is expected by one key at a time."""

    def __init__(self, clock: Clock, timeout_s: float = TIMEOUT_S) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._items: dict[str, dict[str, float]] = {}
        self._keys: dict[str, str] = {}

    def expect(self, key: str, items: Iterable[str]) -> None:
        held = self._items.setdefault(key, {})
        for item in items:
            held[item] = self._clock.monotonic() + self._timeout_s
            self._keys[item] = key

    def observe(self, item: str) -> None:
        """The watch has shown it, or it will never happen."""
        key = self._keys.pop(item, None)
        if key is not None:
            held = self._items[key]
            del held[item]
            if not held:
                del self._items[key]

    def satisfied(self, key: str) -> bool:
        """Whether all that is expected for `key` has been seen, or is overdue."""
        now = self._clock.monotonic()
        for item, deadline in list(self._items.get(key, {}).items()):
            if deadline > now:
                return False
            self.observe(item)
        return True

    def forget(self, key: str) -> None:
        """The object of this key is gone."""
        for item in list(self._items.get(key, {})):
            self.observe(item)
