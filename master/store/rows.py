"""Objects in order of their names, and cheap pictures of them that later writes leave alone.

`SortedRows` keeps them in chunks of some hundred. A picture (`Rows`) takes the chunks as they are, so that a list of
fifty thousand objects, or a snapshot's view of them, costs microseconds; the next write to a chunk copies that chunk
first. Not thread-safe; the chunks of a picture never change.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from operator import attrgetter
from typing import overload

from barque.master.store.port import Stored

# A write copies a chunk at most; a picture costs the number of chunks.
_CHUNK = 512


# Namespace and name; in C, because old pictures ask for tens of thousands.
_place = attrgetter("key.namespace", "key.name")


class Rows(Sequence[Stored]):
    """A list that is never changed, of chunks that others may hold, too."""

    __slots__ = ("_chunks", "_ends")

    def __init__(self, chunks: Iterable[list[Stored]]) -> None:
        """`chunks` are not empty, and nobody changes them any more."""
        self._chunks = tuple(chunks)
        self._ends = list(accumulate(map(len, self._chunks)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Stored: ...

    @overload
    def __getitem__(self, index: slice) -> list[Stored]: ...

    def __getitem__(self, index: int | slice) -> Stored | list[Stored]:
        if isinstance(index, slice):
            return self._slice(index)
        at = range(len(self))[index]
        number = bisect_right(self._ends, at)
        return self._chunks[number][at - self._ends[number]]

    def __iter__(self) -> Iterator[Stored]:
        return chain.from_iterable(self._chunks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_equal, self, other))

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __repr__(self) -> str:
        return repr(list(self))

    @property
    def chunks(self) -> tuple[list[Stored], ...]:
        """Read only."""
        return self._chunks

    def at(self, revision: int, superseded: Iterable[Stored]) -> Rows:
        """What a picture at an older revision showed: `superseded` stood then and does no longer. Of one resource,
        ordered by namespace and name.
        """
        lasts = [_place(chunk[-1]) for chunk in self._chunks[:-1]]
        back: dict[int, list[Stored]] = {}
        for stored in superseded:
            back.setdefault(bisect_left(lasts, _place(stored)), []).append(stored)
        chunks: list[list[Stored]] = []
        for number, now in enumerate(self._chunks or ([],)):
            chunk = [stored for stored in now if stored.revision <= revision]
            if number in back:
                chunk += back[number]
                chunk.sort(key=_place)
            if chunk:
                chunks.append(chunk)
        return Rows(chunks)

    def _slice(self, wanted: slice) -> list[Stored]:
        start, stop, step = wanted.indices(len(self))
        if step != 1:
            return [self[at] for at in range(start, stop, step)]
        found: list[Stored] = []
        number = bisect_right(self._ends, start)
        while start < stop:
            chunk = self._chunks[number]
            begins = self._ends[number] - len(chunk)
            found += chunk[start - begins : stop - begins]
            start = self._ends[number]
            number += 1
        return found


class _Chunk:
    """Neighbours; `names` are those of `rows`. `shared`: a picture holds `rows`."""

    __slots__ = ("names", "rows", "shared")

    def __init__(self, names: list[str], rows: list[Stored]) -> None:
        self.names = names
        self.rows = rows
        self.shared = False

    def own(self) -> list[Stored]:
        """`rows`, to be changed."""
        if self.shared:
            self.rows = self.rows.copy()
            self.shared = False
        return self.rows


class SortedRows:
    """Objects of one resource and namespace, each name once."""

    __slots__ = ("_chunks", "_lasts")

    def __init__(self) -> None:
        self._chunks: list[_Chunk] = []
        # The last name of each chunk.
        self._lasts: list[str] = []

    def insert(self, stored: Stored) -> None:
        """A name that is not there yet."""
        name = stored.key.name
        if not self._lasts or name > self._lasts[-1]:
            self._append(name, stored)
            return
        number = bisect_left(self._lasts, name)
        chunk = self._chunks[number]
        at = bisect_left(chunk.names, name)
        chunk.names.insert(at, name)
        chunk.own().insert(at, stored)
        if len(chunk.names) > _CHUNK:
            half = _CHUNK // 2
            self._put(number, [chunk.names[:half], chunk.names[half:]], [chunk.rows[:half], chunk.rows[half:]])

    def replace(self, stored: Stored) -> None:
        """Another state of a name that is there."""
        chunk, at, _ = self._find(stored.key.name)
        chunk.own()[at] = stored

    def remove(self, name: str) -> None:
        """A name that is there."""
        chunk, at, number = self._find(name)
        del chunk.names[at]
        del chunk.own()[at]
        if not chunk.names:
            del self._chunks[number], self._lasts[number]
            return
        self._lasts[number] = chunk.names[-1]
        if len(chunk.names) < _CHUNK // 4:
            self._merge(number)

    def picture(self) -> list[list[Stored]]:
        """The chunks as they are now, for a `Rows`."""
        for chunk in self._chunks:
            chunk.shared = True
        return [chunk.rows for chunk in self._chunks]

    def _append(self, name: str, stored: Stored) -> None:
        """A name after all others: names often come in order, and then chunks are filled to the end."""
        if not self._chunks or len(self._chunks[-1].names) >= _CHUNK:
            self._chunks.append(_Chunk([name], [stored]))
            self._lasts.append(name)
            return
        chunk = self._chunks[-1]
        chunk.names.append(name)
        chunk.own().append(stored)
        self._lasts[-1] = name

    def _find(self, name: str) -> tuple[_Chunk, int, int]:
        number = bisect_left(self._lasts, name)
        chunk = self._chunks[number]
        return chunk, bisect_left(chunk.names, name), number

    def _merge(self, number: int) -> None:
        """Make one chunk of this and a neighbour, if both are small."""
        for left in (number - 1, number):
            if not 0 <= left < len(self._chunks) - 1:
                continue
            one, other = self._chunks[left : left + 2]
            if len(one.names) + len(other.names) <= _CHUNK // 2:
                del self._chunks[left + 1], self._lasts[left + 1]
                self._put(left, [one.names + other.names], [one.rows + other.rows])
                return

    def _put(self, number: int, names: list[list[str]], rows: list[list[Stored]]) -> None:
        """Chunks of these in the place of chunk `number`."""
        self._chunks[number : number + 1] = [_Chunk(*pair) for pair in zip(names, rows, strict=True)]
        self._lasts[number : number + 1] = [of_chunk[-1] for of_chunk in names]


def _equal(one: Stored, other: Stored) -> bool:
    return one == other
