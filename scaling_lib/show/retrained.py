"""Do intervals hold on real models? Ladders trained again and again, each with another seed, each fitted on its own.

Simulated runs follow the law that is fitted to them; trained ones follow whatever they follow. Every seed's ladder is
one trial: its largest sizes are hidden, a law is fitted to the others, and the largest is compared with its interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.coverage import Share
from scaling_lib.fit.estimate import fit_power_law
from scaling_lib.runs import Run, check_poolable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_LADDERS = 10
LEAST_FITTED = 5  # three parameters and two more


@dataclass(frozen=True)
class Retrained:
    """Trials of one kind: the ``hidden`` largest sizes left out, the largest of them predicted.

    span : how many times the largest fitted size the predicted one has. observed, predicted, low, high : float
        (trials,), losses in nats per token, and the interval of a new run at ``level``. refused : trials whose verdict
        allowed no prediction; they are not among the arrays.
    """

    hidden: int
    span: float
    level: float
    observed: np.ndarray
    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    refused: int

    @property
    def covered(self) -> np.ndarray:
        """bool (trials,)."""
        return (self.low <= self.observed) & (self.observed <= self.high)

    @property
    def share(self) -> Share | None:
        """How many held; None where every trial was refused."""
        return Share(int(self.covered.sum()), len(self.covered)) if len(self.covered) else None

    @property
    def error(self) -> np.ndarray:
        """Predicted over observed, less one; float (trials,)."""
        return self.predicted / self.observed - 1

    @property
    def half_width(self) -> float:
        """Median half-width of the intervals, as a share of the loss; NaN where every trial was refused."""
        return float(np.median((self.high - self.low) / 2 / self.observed)) if len(self.observed) else math.nan


def whole_ladders(runs: Sequence[Run]) -> tuple[list[float], list[np.ndarray]]:
    """Sizes, and the losses at all of them (n,) of every seed that finished them all."""
    by_seed: dict[int, dict[float, float]] = {}
    for r in runs:
        if r.val_loss is not None:
            by_seed.setdefault(r.config.train.seed, {})[r.counts["n_params_non_embedding"]] = r.val_loss
    sizes = sorted({n for ladder in by_seed.values() for n in ladder})
    whole = [by_seed[s] for s in sorted(by_seed) if len(by_seed[s]) == len(sizes)]
    return sizes, [np.array([ladder[n] for n in sizes]) for ladder in whole]


def retrained_coverage(runs: Sequence[Run], hide: int = 1, level: float = 0.9) -> Retrained:
    """Fit every seed's ladder without its ``hide`` largest sizes and compare the largest with its interval.

    Parameters
    ----------
    runs : one recipe, one length, the same five or more sizes (after hiding) with ten or more seeds.

    Raises
    ------
    InputError
        Fewer sizes or seeds than that, or more than one recipe or length.
    """
    check_poolable(runs)
    kinds = {(r.config.train.recipe, r.config.n_tokens) for r in runs}
    if len(kinds) != 1:
        raise InputError(f"the runs are of {len(kinds)} recipes or lengths; retrained ladders must be of one")
    sizes, ladders = whole_ladders(runs)
    if hide < 1 or len(sizes) - hide < LEAST_FITTED or len(ladders) < LEAST_LADDERS:
        raise InputError(
            f"{len(ladders)} whole ladders of {len(sizes)} sizes with {hide} hidden: at least {LEAST_LADDERS} ladders "
            f"and {LEAST_FITTED} fitted sizes are needed; --mode coverage trains such a sweep"
        )
    fitted, target = np.array(sizes[:-hide]), sizes[-1]
    rows, refused = [], 0
    for losses in ladders:
        fit = fit_power_law(fitted, losses[:-hide])
        if fit.verdict(target).refused:
            refused += 1
            continue
        rows.append((losses[-1], fit.predict(target), *fit.interval(target, level=level, kind="new_run")))
    observed, predicted, low, high = np.array(rows, dtype=float).reshape(-1, 4).T
    return Retrained(hide, target / fitted[-1], level, observed, predicted, low, high, refused)


def coverage_report(found: Sequence[Retrained]) -> str:
    """A line for each kind of trial. Plain text."""
    lines = [f"{'hidden':>6} {'beyond':>7} {'held':>34} {'refused':>8} {'median half-width':>18} {'mean error':>11}"]
    for r in found:
        said = f"{r.hidden:>6} {r.span:>6.1f}x {r.share or 'none predicted'!s:>34} {r.refused:>8}"
        if r.share:
            said += f" {100 * r.half_width:>17.2f}% {100 * float(np.mean(r.error)):>+10.2f}%"
        lines.append(said)
    return "\n".join(lines)


def plot_retrained(found: Retrained, axes: Axes | None = None) -> Axes:
    """Draw every trial: the interval of a new run less the loss that was trained, in order of the error."""
    import matplotlib.pyplot as plt

    if axes is None:
        axes = plt.subplots()[1]
    order = np.argsort(found.predicted - found.observed)
    place = np.arange(len(order))
    for held, colour, word in ((True, "#0072B2", "held"), (False, "#D55E00", "missed")):
        own = found.covered[order] == held
        if own.any():
            which = order[own]
            zero = found.observed[which]
            axes.vlines(place[own], found.low[which] - zero, found.high[which] - zero, color=colour, linewidth=2,
                        label=f"{word}: {own.sum()} of {len(order)}")  # fmt: skip
            axes.plot(place[own], found.predicted[which] - zero, "o", color=colour, markersize=4)
    axes.axhline(0, color="#444444", linewidth=1)
    axes.set_xlabel(f"ladders, each trained with its own seed; the largest {found.span:.1f}x beyond the fit")
    axes.set_ylabel("predicted less trained loss (nats)")
    if len(order):
        axes.legend()
    return axes
