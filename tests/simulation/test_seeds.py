"""The real masters under many seeds of faults; `make sim SEEDS=10000` is the same, longer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.harness.planted import CAUGHT_BY, PLANTED
from tests.simulation.harness.run import first_catch

_SEEDS = int(os.environ.get("BARQUE_SIM_SEEDS", "300"))
# A planted fault must be caught within so many.
_MOST = 200
_RUN = (sys.executable, "-m", "tests.simulation.harness.run")


def run(*arguments: str, hash_seed: str = "random") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run([*_RUN, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.timeout(1100)
def test_every_seed_is_right_and_every_fault_has_fired() -> None:
    ran = run("--seeds", str(_SEEDS))
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.timeout(600)
def test_a_seed_replays_exactly() -> None:
    """The same trace, to the last message, whatever the order of hashes."""
    one, other = run("--seed", "3", hash_seed="1"), run("--seed", "3", hash_seed="2")
    assert len(one.stdout.splitlines()) > 1000
    assert one.stdout == other.stdout


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.timeout(600)
def test_a_planted_fault_is_caught(name: str) -> None:
    outcome = first_catch(name, [*CAUGHT_BY[name], *range(_MOST)])
    assert outcome is not None, f"{name}: not caught by {_MOST} seeds"
