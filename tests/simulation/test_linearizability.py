"""The checker itself: it refuses histories that cannot have happened and accepts those that can, however tangled."""

from __future__ import annotations

import random
import time

import pytest

from tests.simulation.harness.linearizability import Call, Kind, check


def history(text: str) -> list[Call]:
    """One call a line: `client invoked answered what [value] -> answer`, e.g. `a 1 2 swap 0 7 -> ok`; an answer is a
    value (of a read), `ok`, `none` (a delete that found nothing), `refused [what stood there]` or `?`.
    """
    calls = []
    for line in filter(None, map(str.strip, text.splitlines())):
        left, _, right = line.partition(" -> ")
        client, invoked, answered, what, *numbers = left.split()
        kind = Kind(what)
        answer, *seen = right.split()
        ok = None if answer == "?" else answer != "refused"
        saw: int | bool | None = int(seen[0]) if seen else None
        if kind is Kind.READ and ok:
            saw = int(answer)
        elif kind is Kind.DELETE and ok:
            saw = answer != "none"
        values = [*map(int, numbers)]
        value = values[-1] if kind in (Kind.WRITE, Kind.SWAP) else 0
        expected = values[0] if kind in (Kind.SWAP, Kind.REMOVE) else 0
        calls.append(Call(client, "k", kind, float(invoked), float(answered), value, expected, ok, saw))
    return calls


BAD = {
    "a stale read": """
        a 0 1 write 1 -> ok
        a 2 3 write 2 -> ok
        b 4 5 read -> 1
    """,
    "a lost update": """
        a 0 1 write 1 -> ok
        a 2 4 swap 1 2 -> ok
        b 5 6 read -> 1
    """,
    "a write applied twice": """
        a 0 1 write 1 -> ok
        b 2 3 write 2 -> ok
        c 4 5 read -> 2
        c 6 7 read -> 1
    """,
    "a read of the future": """
        b 0 1 read -> 1
        a 2 3 write 1 -> ok
    """,
    "reads that go back": """
        a 0 1 write 1 -> ok
        a 2 9 write 2 -> ok
        b 3 4 read -> 2
        c 5 6 read -> 1
    """,
    "a phantom after a delete": """
        a 0 1 write 1 -> ok
        a 2 3 delete -> ok
        b 4 5 read -> 1
    """,
    "two swaps of one value": """
        a 0 1 write 1 -> ok
        b 2 5 swap 1 2 -> ok
        c 2 5 swap 1 3 -> ok
    """,
    "two creates": """
        a 0 4 swap 0 1 -> ok
        b 0 4 swap 0 2 -> ok
    """,
    "an unknown write that takes effect twice": """
        a 0 9 write 1 -> ?
        b 1 2 read -> 1
        b 3 4 write 2 -> ok
        b 5 6 read -> 2
        b 7 8 read -> 1
    """,
    "an unknown write that takes effect before it was called": """
        b 0 1 read -> 1
        a 2 9 write 1 -> ?
    """,
    "a value that nobody wrote": """
        a 0 1 write 1 -> ok
        b 2 3 read -> 7
    """,
    "a refused swap that took effect": """
        a 0 1 write 1 -> ok
        b 2 3 swap 5 2 -> refused 1
        b 4 5 read -> 2
    """,
    "a swap refused although its value stood there": """
        a 0 1 write 1 -> ok
        b 2 3 swap 1 2 -> refused 1
    """,
    "a refusal that names what never stood there": """
        a 0 1 write 1 -> ok
        b 2 3 swap 0 2 -> refused 9
    """,
    "a delete that found nothing after a write": """
        a 0 1 write 1 -> ok
        b 2 3 delete -> none
    """,
    "an acknowledged write that is gone": """
        a 0 1 write 1 -> ok
        b 2 3 read -> 0
    """,
    "an unknown swap with an effect it could not have": """
        a 0 1 write 1 -> ok
        b 2 3 swap 5 6 -> ?
        a 4 5 read -> 6
    """,
}

GOOD = {
    "one after the other": """
        a 0 1 write 1 -> ok
        a 2 3 read -> 1
        a 4 5 delete -> ok
        a 6 7 read -> 0
    """,
    "a read beside a write sees either": """
        a 0 1 write 1 -> ok
        a 2 9 write 2 -> ok
        b 3 4 read -> 1
        c 5 6 read -> 2
    """,
    "two writes at once, in either order": """
        a 0 5 write 1 -> ok
        b 0 5 write 2 -> ok
        c 6 7 read -> 1
    """,
    "of two swaps at once one is refused": """
        a 0 1 write 1 -> ok
        b 2 5 swap 1 2 -> ok
        c 2 5 swap 1 3 -> refused 2
        a 6 7 read -> 2
    """,
    "an unknown write that never happened": """
        a 0 1 write 1 -> ok
        b 2 3 write 2 -> ?
        a 4 5 read -> 1
    """,
    "an unknown write that happened late": """
        a 0 1 write 1 -> ok
        b 2 3 write 2 -> ?
        a 4 5 read -> 1
        a 6 7 read -> 2
    """,
    "an unknown swap that explains another's refusal": """
        a 0 1 write 1 -> ok
        b 2 9 swap 1 2 -> ?
        c 3 4 swap 1 3 -> refused 2
        c 5 6 read -> 2
    """,
    "an unknown delete that explains a create": """
        a 0 1 write 1 -> ok
        b 2 3 delete -> ?
        c 4 5 swap 0 3 -> ok
    """,
    "a chain of swaps in the only order": """
        a 0 9 swap 2 3 -> ok
        b 0 9 swap 0 1 -> ok
        c 0 9 swap 1 2 -> ok
        a 10 11 read -> 3
    """,
    "a delete beside a write finds nothing": """
        a 0 9 write 1 -> ok
        b 1 3 delete -> none
        c 4 5 read -> 1
    """,
    "an unanswered read": """
        a 0 1 write 1 -> ok
        b 0 9 read -> ?
        a 2 3 write 2 -> ok
    """,
    "calls that touch at one moment are at once": """
        a 0 2 write 1 -> ok
        b 2 3 read -> 0
    """,
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_have_happened_is_refused(name: str) -> None:
    verdict = check(history(BAD[name]))
    assert not verdict.ok
    assert "is not linearisable" in str(verdict)


@pytest.mark.parametrize("name", GOOD)
def test_what_can_have_happened_is_accepted(name: str) -> None:
    assert check(history(GOOD[name])).ok


def test_keys_are_judged_apart() -> None:
    bad = [call._replace(key="bad") for call in history(BAD["a stale read"])]
    verdict = check([*history(GOOD["one after the other"]), *bad])
    assert (verdict.ok, verdict.key) == (False, "bad")


def a_run(seed: int, calls: int = 500, keys: int = 8, clients: int = 8) -> list[Call]:
    """A history of a true register: each call takes effect at one moment between its ends; some are never answered."""
    choice = random.Random(seed)
    registers = dict.fromkeys(range(keys), 0)
    pending = []
    free = dict.fromkeys(range(clients), 0.0)
    for number in range(1, calls + 1):
        client = min(free, key=lambda c: free[c])
        invoked = free[client] + choice.uniform(0.001, 0.1)
        effect = invoked + choice.uniform(0.001, 0.3)
        answered = effect + choice.uniform(0.001, 0.3)
        free[client] = answered
        pending.append((effect, number, client, invoked, answered))
    history = []
    for effect, number, client, invoked, answered in sorted(pending):
        key = choice.randrange(keys)
        kind = choice.choice(list(Kind))
        stands = registers[key]
        expected = stands if choice.random() < 0.7 else choice.randrange(number)
        unknown, happens = choice.random() < 0.05, choice.random() < 0.5
        ok, saw = True, None
        if kind is Kind.READ:
            saw = stands
        elif kind is Kind.DELETE:
            saw = stands != 0
        elif kind is not Kind.WRITE and expected != stands:
            ok, saw = False, stands
        if ok and kind is not Kind.READ and not (unknown and not happens):
            registers[key] = number if kind in (Kind.WRITE, Kind.SWAP) else 0
        told = None if unknown else ok
        history.append(
            Call(f"c{client}", f"k{key}", kind, invoked, answered, number, expected, told, None if unknown else saw)
        )
        assert invoked < effect < answered
    return history


def test_long_runs_of_a_true_register_are_accepted_quickly() -> None:
    took = []
    for seed in range(10):
        run = a_run(seed)
        began = time.process_time()
        assert check(run).ok, seed
        took.append(time.process_time() - began)
    # Fifty times what it takes; a search that goes astray takes minutes.
    assert sorted(took)[len(took) // 2] < 0.5, took


def test_one_wrong_answer_in_a_long_run_is_found() -> None:
    """Each read in turn is made to say what was overwritten long before."""
    found = 0
    for seed in range(10):
        run = a_run(seed)
        for number in range(len(run) - 1, 0, -1):
            call = run[number]
            old = [
                c for c in run if c.key == call.key and c.kind is Kind.WRITE and c.answered < call.invoked - 5 and c.ok
            ]
            if call.kind is Kind.READ and call.ok and old:
                wrong = [*run[:number], call._replace(saw=old[0].value), *run[number + 1 :]]
                assert not check(wrong).ok, seed
                found += 1
                break
    assert found >= 8
