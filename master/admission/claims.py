"""`Claims`: the reservation keys an object's own op takes and gives back.

A reservation is what makes an address or a port unique: the op that writes the object holds the key or is refused, so
any master may choose and none gives the same twice. The choice itself is only a guess from what is held at the
moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from barque.master.store.port import Key


class Claims(NamedTuple):
    """`chosen` are those of `reserve` that we picked: on a collision another is picked. The rest the user asked for."""

    reserve: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    chosen: frozenset[str] = frozenset()


NO_CLAIMS = Claims()


class Held(NamedTuple):
    """Who holds which reservation, as far as this master knows, seen by the object at `owner`."""

    by: Mapping[str, Key]
    owner: Key

    def by_another(self, reservation: str) -> bool:
        holder = self.by.get(reservation)
        return holder is not None and holder != self.owner
