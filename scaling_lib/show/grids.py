"""A sweep over sizes and token counts at once: the joint law L(N, D), and what it says of its own largest cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.backtests import BacktestResult, backtest
from scaling_lib.fit.estimate import fit_joint
from scaling_lib.fit.isoflops import IsoFlopResult, isoflop
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.table import RunTable, table_from_arrays
from scaling_lib.runs import Run, check_poolable
from scaling_lib.show.ladders import short
from scaling_lib.show.plot import AXIS, FAINT, LOSS, count_axis, look, new_axes, plot_law, shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_SIZES, LEAST_LENGTHS = 4, 3
BUDGETS = 5  # of IsoFLOP curves
LEAST_CELLS = 12  # the five parameters of Chinchilla's law want more than a ladder each way


@dataclass(frozen=True)
class Grid:
    """The finished runs of one recipe that vary in N and in D independently; N without embeddings.

    runs : by size, then tokens.
    """

    recipe: str
    runs: tuple[Run, ...]

    @cached_property
    def table(self) -> RunTable:
        """The runs as `run_table` gives them."""
        return run_table(self.runs, f"{self.recipe} grid")

    @cached_property
    def fit(self) -> FitResult:
        """Chinchilla's law on all runs."""
        t = self.table
        assert t.labels is not None
        return fit_joint(t.n_params, t.n_tokens, t.loss, groups=t.groups, labels=t.labels.tolist())

    @cached_property
    def held_out(self) -> BacktestResult:
        """``hold_out`` with several forms pooled."""
        return self.hold_out()

    def hold_out(self, law: str = "auto") -> BacktestResult:
        """Predict the largest size and the longest runs from the others: by pooled forms, or by one by its name."""
        t = self.table
        assert t.n_params is not None
        assert t.n_tokens is not None
        hidden = (t.n_params == t.n_params.max()) | (t.n_tokens == t.n_tokens.max())
        return backtest(t, hide=hidden, law=law)


def run_table(runs: Sequence[Run], source: str) -> RunTable:
    """Finished runs as arrays, N without embeddings.

    Where several sizes meet several lengths, runs of one model and seed form a group: they share a trunk, or the first
    weights and the order of the text, hence their noise.
    """
    both = len({r.config.model for r in runs}) > 1 and len({r.config.n_tokens for r in runs}) > 1
    return table_from_arrays(
        np.array([r.val_loss for r in runs], dtype=float),
        n_params=[r.counts["n_params_non_embedding"] for r in runs],
        n_tokens=[r.counts["n_tokens"] for r in runs],
        flops=[r.counts["flops"] for r in runs],
        groups=[f"{r.config.model.name}-r{r.config.train.seed}" for r in runs] if both else None,
        labels=[f"{r.config.model.name} {short(r.counts['n_tokens'])}" for r in runs],
        source=source,
    )


def find_grids(runs: Sequence[Run]) -> list[Grid]:
    """The grids among the records: recipes with four sizes, three token counts and twelve cells, or more.

    Raises InputError when the runs read different texts or use different vocabularies.
    """
    check_poolable(runs)
    found = []
    for recipe in sorted({r.config.train.recipe for r in runs}):
        own = [r for r in runs if r.config.train.recipe == recipe and r.finished]
        sizes, lengths = {r.config.model for r in own}, {r.config.n_tokens for r in own}
        cells = {(r.config.model, r.config.n_tokens) for r in own}
        rates = {(r.config.model, r.config.train.lr) for r in own}
        full = len(sizes) >= LEAST_SIZES and len(lengths) >= LEAST_LENGTHS and len(cells) >= LEAST_CELLS
        if full and len(rates) == len(sizes):
            order = sorted(own, key=lambda r: (r.counts["n_params_non_embedding"], r.counts["n_tokens"], r.run_id))
            found.append(Grid(recipe, tuple(order)))
    return found


def the_grid(runs: Sequence[Run]) -> Grid:
    """The one grid among the records; raises InputError where there is none, or more than one."""
    found = find_grids(runs)
    if len(found) != 1:
        have = f"{len(found)} of them, of recipes {', '.join(g.recipe for g in found)}" if found else "none"
        raise InputError(
            f"a grid of at least {LEAST_SIZES} sizes x {LEAST_LENGTHS} token counts of one recipe is wanted, there is "
            f"{have}; --mode laptop trains one"
        )
    return found[0]


def plot_grid(grid: Grid, variable: str = "D", axes: Axes | None = None) -> Axes:
    """Draw the losses against D, a line for each size (or against N, a line for each length), over the joint law."""
    axes = axes or new_axes()
    levels = np.unique(grid.table.get("N" if variable == "D" else "D"))
    for level, colour in zip(levels, shades(len(levels)), strict=True):
        plot_law(grid.fit, axes, along=variable, held=level, beyond=4.0, label=short(level), look=(colour, "o"),
                 bands=())  # fmt: skip
    axes.set_xlabel(AXIS[variable])
    axes.legend(title="parameters" if variable == "D" else "tokens", fontsize="small")
    return axes


def plot_held_out(grid: Grid, axes: Axes | None = None) -> Axes:
    """Draw the held-out cells: predicted against observed loss, with a new run's 90% interval."""
    axes, b = axes or new_axes(), grid.held_out
    low, high = b.predicted - b.low, b.high - b.predicted
    for held, word, (colour, marker) in ((True, "held", look(0)), (False, "missed", look(1))):
        which = b.covered == held
        if which.any():
            axes.errorbar(
                b.observed[which], b.predicted[which], yerr=np.array([low[which], high[which]]), fmt=marker,
                color=colour, capsize=3, linewidth=1.2, label=f"90% interval {word}: {which.sum()} of {which.size}",
            )  # fmt: skip
    ends = [min(b.observed.min(), b.predicted.min()), max(b.observed.max(), b.predicted.max())]
    axes.plot(ends, ends, color=FAINT, linewidth=1, linestyle=":")
    axes.set_xlabel("observed loss (nats per token)")
    axes.set_ylabel("predicted from smaller runs")
    axes.legend()
    return axes


def isoflop_points(grid: Grid) -> np.ndarray:
    """Size, budget and loss, float (m, 3): each size's losses interpolated in ln D to where it spends the budget.

    Five budgets are spread evenly in ln C = ln 6ND where at least four sizes can spend them within the tokens
    that they were trained on.
    """
    t = grid.table
    n, d = np.asarray(t.n_params), np.asarray(t.n_tokens)
    sizes = np.unique(n)
    lows = np.sort([6 * s * d[n == s].min() for s in sizes])
    highs = np.sort([6 * s * d[n == s].max() for s in sizes])[::-1]
    c = np.geomspace(lows[min(3, len(lows) - 1)], highs[min(3, len(highs) - 1)], BUDGETS)
    rows = []
    for budget in c:
        for size in sizes:
            own_d, own_loss = d[n == size], t.loss[n == size]
            lengths = np.unique(own_d)
            means = np.array([own_loss[own_d == x].mean() for x in lengths])
            want = budget / (6 * size)
            if lengths[0] <= want <= lengths[-1]:  # between two lengths a power of D, as losses fall
                loss = np.exp(np.interp(np.log(want), np.log(lengths), np.log(means)))
                rows.append((size, budget, float(loss)))
    return np.array(rows)


def grid_isoflop(grid: Grid) -> IsoFlopResult:
    """IsoFLOP parabolas through `isoflop_points`; raises InputError when no two budgets have a minimum inside."""
    return isoflop(*isoflop_points(grid).T)


def plot_isoflop(found: IsoFlopResult, points: np.ndarray, axes: Axes) -> Axes:
    """Draw the points of each budget, its parabola over the sizes tried, and the minimum if it lies inside."""
    for i, colour in enumerate(shades(len(found.budgets))):
        at = np.geomspace(found.n_range[i, 0], found.n_range[i, 1], 60)
        u = np.log(at) - found.centre[i]
        axes.plot(at, found.coefficients[i] @ np.stack([np.ones_like(u), u, u * u]), color=colour,
                  label=f"{found.budgets[i]:.1e} FLOP".replace("e+", "e"))  # fmt: skip
        own = points[np.isclose(points[:, 1], found.budgets[i])]
        axes.plot(own[:, 0], own[:, 2], "o", color=colour)
        if found.used[i]:
            axes.plot(found.n_opt[i], found.loss_opt[i], "*", color=colour, markersize=18, markeredgecolor="black")
    count_axis(axes)
    axes.set_xlabel(AXIS["N"])
    axes.set_ylabel(LOSS)
    axes.legend()
    return axes
