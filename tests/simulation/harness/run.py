"""`make sim`: many seeds on all cores, one seed with its trace, or the planted faults.

    python -m tests.simulation.harness.run --seeds 300       # prints how often each fault fired; fails if one never did
    python -m tests.simulation.harness.run --seed 1234       # that one again, with every message
    python -m tests.simulation.harness.run --planted         # the first of 200 seeds that catches each planted fault

Ends with 1 where an invariant broke, a fault never fired or a planted one was not caught.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import TypeVar

from tests.simulation.harness.planted import PLANTED
from tests.simulation.harness.simulation import MUST_FIRE, Outcome, simulate

T = TypeVar("T")

# Seeds that one worker runs before it answers, and after which its garbage is collected.
_LOT = 4
# How far the search for a planted fault goes.
_PLANTED_SEEDS = 200
# Fewer seeds cannot be expected to see every kind of fault.
_ENOUGH_SEEDS = 100


def run_lot(seeds: Sequence[int]) -> list[Outcome]:
    outcomes = [simulate(seed) for seed in seeds]
    gc.collect()
    return [outcome if outcome.failure else outcome._replace(trace=[]) for outcome in outcomes]


def run_seeds(seeds: Sequence[int], workers: int) -> Iterator[Outcome]:
    """The outcomes as they come, at most a few lots of seeds ahead."""
    lots = (seeds[at : at + _LOT] for at in range(0, len(seeds), _LOT))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        under_way = {pool.submit(run_lot, lot) for lot in itertools.islice(lots, 2 * workers)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for lot in done:
                yield from lot.result()
            under_way |= {pool.submit(run_lot, lot) for lot in itertools.islice(lots, len(done))}


def first_catch(name: str, seeds: Iterable[int]) -> Outcome | None:
    """The first of these seeds that catches the planted fault."""
    for number, seed in enumerate(seeds):
        outcome = simulate(seed, planted=PLANTED[name])
        if number % _LOT == _LOT - 1:
            gc.collect()
        if outcome.failure:
            return outcome
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=300, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one, with its trace")
    parser.add_argument("--plant", choices=sorted(PLANTED), help="with --seed: with this fault")
    parser.add_argument("--planted", action="store_true", help="search for the planted faults")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.seed is not None:
        return _show(options.seed, options.plant)
    if options.planted:
        return _search_planted(options.workers)
    return _run(range(options.first, options.first + options.seeds), options.workers)


def _show(seed: int, plant: str | None) -> int:
    outcome = simulate(seed, verbose=True, planted=PLANTED[plant]) if plant else simulate(seed, verbose=True)
    print("\n".join(outcome.trace))
    print(f"seed {seed}: {outcome.failure or 'all is right'}")
    return 1 if outcome.failure else 0


def _run(seeds: Sequence[int], workers: int) -> int:
    began = time.monotonic()
    fired: Counter[str] = Counter()
    failed: list[Outcome] = []
    done = calls = acknowledged = events = messages = 0
    virtual_s = 0.0
    for outcome in run_seeds(seeds, workers):
        done += 1
        fired.update(outcome.fired)
        virtual_s += outcome.virtual_s
        calls, acknowledged = calls + outcome.calls, acknowledged + outcome.acknowledged
        events, messages = events + outcome.events, messages + outcome.messages
        if outcome.failure:
            failed.append(outcome)
            print(f"\nseed {outcome.seed}: {outcome.failure}\n  (again, with its trace: make sim SEED={outcome.seed})")
        if sys.stdout.isatty():
            print(f"\r{done} of {len(seeds)} seeds", end="", flush=True)
    took = time.monotonic() - began
    print(
        f"\n{done} seeds in {took:.0f} s, {virtual_s / 3600:.1f} h of virtual time: {calls} calls ({acknowledged} "
        f"writes acknowledged), {events} watch events, {messages} messages"
    )
    for kind, times in sorted(fired.items()):
        print(f"  {times:8} {kind}")
    missing = [kind for kind in MUST_FIRE if not fired[kind]] if done >= _ENOUGH_SEEDS else []
    if missing:
        print(f"never fired: {', '.join(missing)}")
    if failed:
        print(f"failed: {' '.join(str(outcome.seed) for outcome in sorted(failed))}")
    return 1 if failed or missing else 0


def _search_planted(workers: int) -> int:
    missed = 0
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        searches = {name: pool.submit(first_catch, name, range(_PLANTED_SEEDS)) for name in PLANTED}
        for name, search in searches.items():
            outcome = search.result()
            if outcome is None:
                missed += 1
                print(f"{name}: NOT caught in {_PLANTED_SEEDS} seeds", flush=True)
            else:
                print(f"{name}: caught at seed {outcome.seed}: {outcome.failure.splitlines()[0][:160]}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
