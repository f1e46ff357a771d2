"""Figures of a benchmark: printed as a table and written to `build/bench/<name>.json`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parents[2] / "build" / "bench"


class Figure(NamedTuple):
    """One measured value.

    `against` is the peer or floor measured in the same run, `ratio` this value over its; `goal` what is to be reached,
    such as "<= 60" or "ratio <= 1.3"; `remark` what a reader must know to judge the value.
    """

    figure: str
    value: float
    unit: str
    against: str | None = None
    ratio: float | None = None
    goal: str = ""
    remark: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the goal is; None where there is none."""
        if not self.goal:
            return None
        *of, sign, bound = self.goal.split()
        judged = self.ratio if of and self.ratio is not None else self.value
        return judged <= float(bound) if sign == "<=" else judged >= float(bound)


class Bench:
    """The figures so far, each printed as soon as it is known; `goals` are what is to be reached, by figure."""

    def __init__(self, goals: Mapping[str, str]) -> None:
        self._goals = goals
        self.figures: list[Figure] = []

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        remark: str = "",
        *,
        against: str | None = None,
        floor: float = 0.0,
        ratio: float | None = None,
    ) -> None:
        """Note a figure. `floor` is what the peer `against` reached; a `ratio` that is not of these two is given."""
        if against and ratio is None:
            ratio = value / floor
        figure = Figure(name, value, unit, against, ratio, self._goals.get(name, ""), remark)
        self.figures.append(figure)
        print(line(figure), flush=True)


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def spread(samples: Sequence[float]) -> str:
    """The runs themselves, for whoever wants to judge the median."""
    return " ".join(f"{sample:.2f}" for sample in sorted(samples))


def publish(name: str, figures: Sequence[Figure]) -> None:
    """Write the JSON file and print the table."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps([figure._asdict() for figure in figures], indent=2) + "\n")
    for figure in figures:
        print(line(figure))
    print(f"written to {path.relative_to(FOLDER.parents[1])}")


def line(figure: Figure) -> str:
    """One figure as a row of the table."""
    said = f"{figure.figure:32} {figure.value:10.3f} {figure.unit}"
    if figure.ratio is not None:
        said += f"  {figure.ratio:.2f} x {figure.against}"
    if figure.goal:
        said += f"  [{figure.goal}{'' if figure.reached else ', missed'}]"
    return said + (f"  ({figure.remark})" if figure.remark else "")
