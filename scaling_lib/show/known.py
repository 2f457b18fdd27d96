"""Fitted floors beside the truth: a grid trained on a language whose entropy is known exactly.

A ladder in N at one token count has a floor of its own: what endless parameters would reach with *that much data*. Only
a law of N and D at once, E + A / N^alpha + B / D^beta, has a floor that means the language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.estimate import fit_power_law
from scaling_lib.fit.result import FitResult, Verdict
from scaling_lib.runs import Run
from scaling_lib.show.grids import the_grid
from scaling_lib.show.ladders import short
from scaling_lib.show.plot import Row, plot_intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Floor:
    """One fit's floor E, nats per token. n_tokens : of the slice L(N) it comes from; 0 for the joint law.

    truth : the entropy rate of the language. low, high : E's 90% interval by profile. lowest : the least loss fitted.
    """

    n_tokens: float
    truth: float
    fit: FitResult
    verdict: Verdict
    low: float
    high: float
    lowest: float

    @property
    def name(self) -> str:
        return f"L(N) at {short(self.n_tokens)} tokens" if self.n_tokens else "joint law L(N, D)"

    @property
    def holds(self) -> bool:
        """Whether the interval contains the truth."""
        return self.low <= self.truth <= self.high

    @property
    def width(self) -> float:
        """Of E's interval, nats."""
        return self.high - self.low


def known_floors(runs: Sequence[Run]) -> list[Floor]:
    """The floor of L(N) at every token count of a grid, shortest first, and last that of the joint law.

    Raises
    ------
    InputError
        When the text has no known entropy, or the records hold no grid.
    """
    truth = runs[0].corpus.get("entropy_rate") if runs else None
    if truth is None:
        raise InputError(
            "the entropy of this text is not known; train on random-walk or hierarchy (--mode known-entropy)"
        )
    grid = the_grid(runs)
    n, d = np.asarray(grid.table.n_params), np.asarray(grid.table.n_tokens)
    fits = [(float(x), fit_power_law(n[d == x], grid.table.loss[d == x])) for x in np.unique(d)]
    return [_floor(x, float(truth), fit) for x, fit in [*fits, (0.0, grid.fit)]]


def _floor(n_tokens: float, truth: float, fit: FitResult) -> Floor:
    low, high = fit.parameter_interval("E")
    return Floor(n_tokens, truth, fit, fit.verdict(), low, high, float(np.min(fit.data["loss"])))


def floor_report(floors: Sequence[Floor]) -> str:
    """A line for each fit. Plain text."""
    lines = [f"true E = {floors[0].truth:.3f} nats per token", f"{'fit':>24} {'E':>6} {'90% interval':>15} "
             f"{'holds':>6} {'lowest loss':>12}  verdict"]  # fmt: skip
    lines += [
        f"{f.name:>24} {f.fit.params['E']:>6.3f} {f'{f.low:.3f} to {f.high:.3f}':>15} "
        f"{'yes' if f.holds else 'no':>6} {f.lowest:>12.3f}  {f.verdict.level}"
        for f in floors
    ]
    return "\n".join(lines)


def plot_floors(floors: Sequence[Floor], axes: Axes | None = None) -> Axes:
    """Draw every fitted floor with its 90% interval, and the truth."""
    rows = [
        Row(f.name, None if f.verdict.refused else f.fit.params["E"], f.low, f.high, f.verdict.level) for f in floors
    ]
    axes = plot_intervals(rows, axes, truth=floors[0].truth)
    axes.set_xlabel("floor E (nats per token), with its 90% interval")
    return axes
