"""Objects in order, and pictures that later writes leave alone."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from barque.master.store import rows
from barque.master.store.port import Stored
from barque.master.store.rows import Rows, SortedRows
from tests.support.store import a_pod


def stored(name: str, revision: int, namespace: str = "default") -> Stored:
    return Stored(a_pod(name, namespace).key, b"{}", revision, {}, {})


class Both:
    """A `SortedRows` and the dictionary that it should equal, and every picture taken with what it showed then."""

    def __init__(self) -> None:
        self.rows = SortedRows()
        self.model: dict[str, Stored] = {}
        self.revision = 0
        self.pictures: list[tuple[Rows, list[Stored]]] = []

    def toggle(self, name: str, *, replace: bool) -> None:
        self.revision += 1
        one = stored(name, self.revision)
        if name not in self.model:
            self.rows.insert(one)
        elif replace:
            self.rows.replace(one)
        else:
            self.rows.remove(name)
            del self.model[name]
            return
        self.model[name] = one

    def picture(self) -> Rows:
        taken = Rows(self.rows.picture())
        self.pictures.append((taken, [self.model[name] for name in sorted(self.model)]))
        return taken

    def check(self) -> None:
        self.picture()
        for taken, shown in self.pictures:
            assert list(taken) == shown
            assert taken == shown
            assert len(taken) == len(shown)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_CHUNK", 8)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("seed", range(20))
def test_a_picture_shows_what_was_there_whatever_comes_later(seed: int) -> None:
    dice = random.Random(seed)
    both = Both()
    for step in range(600):
        # At first it grows, then it shrinks away.
        names = 120 if step < 300 else 60
        both.toggle(f"{dice.randrange(names):03}", replace=dice.random() < (0.8 if step < 300 else 0.1))
        if dice.random() < 0.05:
            both.picture()
    both.check()
    for name in list(both.model):
        both.toggle(name, replace=False)
    both.check()
    assert both.rows.picture() == []


@pytest.mark.usefixtures("small_chunks")
def test_names_in_order_fill_their_chunks_and_few_leave_few() -> None:
    both = Both()
    for n in range(800):
        both.toggle(f"{n:03}", replace=False)
    assert len(both.rows.picture()) == 100
    for n in range(800):
        if n % 20:
            both.toggle(f"{n:03}", replace=False)
    both.check()
    assert len(both.rows.picture()) <= 30


@pytest.mark.usefixtures("small_chunks")
@given(st.integers(0, 40), st.slices(40), st.integers(-45, 45))
def test_a_picture_is_read_like_a_list(size: int, wanted: slice, index: int) -> None:
    both = Both()
    for n in range(size):
        both.toggle(f"{n:02}", replace=False)
    taken, plain = both.picture(), [both.model[name] for name in sorted(both.model)]
    assert taken[wanted] == plain[wanted]
    if -size <= index < size:
        assert taken[index] == plain[index]
    else:
        with pytest.raises(IndexError):
            taken[index]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("seed", range(10))
def test_an_older_picture_goes_across_namespaces(seed: int) -> None:
    dice = random.Random(seed)
    spaces = {namespace: SortedRows() for namespace in "abc"}
    state: dict[tuple[str, str], Stored] = {}
    superseded: list[Stored] = []
    then: list[Stored] = []
    for revision in range(1, 300):
        name, namespace = f"{dice.randrange(60):02}", dice.choice("abc")
        before = state.pop((namespace, name), None)
        if before is None:
            spaces[namespace].insert(stored(name, revision, namespace))
        elif dice.random() < 0.5:
            spaces[namespace].replace(stored(name, revision, namespace))
        else:
            spaces[namespace].remove(name)
        if before is not None and revision > 150 and before.revision <= 150:
            superseded.append(before)
        if before is None or any(s.revision == revision for s in Rows(spaces[namespace].picture())):
            state[namespace, name] = stored(name, revision, namespace)
        if revision == 150:
            then = [state[place] for place in sorted(state)]
    now = Rows(chunk for namespace in "abc" for chunk in spaces[namespace].picture())
    assert list(now) == [state[place] for place in sorted(state)]
    assert list(now.at(150, superseded)) == then
    assert list(Rows([]).at(150, superseded)) == sorted(superseded, key=lambda s: s.key)
