"""`Results`: the first result of each op, by boot id and sequence, so that an op sent again is not applied again.

Bounded: a master's process (one boot id) keeps its newest results, and the boot ids used last are kept. An op older
than what its boot id keeps is answered `Unknown` and not applied, because it may have been. Part of the replicated
state: every member forgets the same results at the same entry.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from barque.master.store.port import Committed, Refused, Result, Unknown

# A resent op is at most one leader change old; thousands of others may have passed it by then, not more.
RESULTS_PER_BOOT = 4096
# Three masters, each restarted a few times in quick succession.
BOOTS = 16

# Nearly every result is a change at some revision: kept as the bare number (negative: Committed without a change).
Kept = int | Refused


class _Window:
    __slots__ = ("floor", "kept", "order")

    def __init__(self) -> None:
        self.kept: dict[int, Kept] = {}
        self.order: list[int] = []
        self.floor = -1


class Results:
    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}
        self._newest = ""

    def find(self, boot_id: str, sequence: int) -> Result | None:
        """The first result of this op; None where it has not been applied."""
        window = self._windows.get(boot_id)
        if window is None:
            return None
        kept = window.kept.get(sequence)
        if kept is not None:
            return _result(kept)
        if sequence <= window.floor:
            return Unknown("the op is older than the results kept; it may have been applied: read before trying again")
        return None

    def keep(self, boot_id: str, sequence: int, result: Committed | Refused) -> None:
        window = self._windows.get(boot_id)
        if window is None:
            window = self._windows[boot_id] = _Window()
            self._newest = boot_id
            if len(self._windows) > BOOTS:
                del self._windows[next(iter(self._windows))]
        elif boot_id != self._newest:
            self._windows[boot_id] = self._windows.pop(boot_id)
            self._newest = boot_id
        window.kept[sequence] = _kept(result)
        if len(window.kept) > RESULTS_PER_BOOT:
            # The smallest goes, not the first come: numbers arrive slightly out of order.
            forgotten = heapq.heappushpop(window.order, sequence)
            del window.kept[forgotten]
            window.floor = max(window.floor, forgotten)
        else:
            heapq.heappush(window.order, sequence)

    def all(self) -> list[tuple[str, int, dict[int, Kept]]]:
        """Boot id, floor and results of each window, least recently used first; copies, for a snapshot."""
        return [(boot_id, w.floor, w.kept.copy()) for boot_id, w in self._windows.items()]

    def load(self, boot_id: str, floor: int, kept: Iterable[tuple[int, Kept]]) -> None:
        """Add to the window of `boot_id` what `all` gave; windows come in the order of `all`."""
        window = self._windows.setdefault(boot_id, _Window())
        window.floor = floor
        window.kept.update(kept)
        window.order = sorted(window.kept)
        self._newest = boot_id


def _kept(result: Committed | Refused) -> Kept:
    if type(result) is Committed:
        return result.revision if result.changed else -result.revision - 1
    assert isinstance(result, Refused)
    return result


def _result(kept: Kept) -> Result:
    if not isinstance(kept, int):
        return kept
    return Committed(kept) if kept >= 0 else Committed(-kept - 1, changed=False)
