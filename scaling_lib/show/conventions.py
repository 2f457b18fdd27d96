"""A ladder in N looked at closely: by each way of counting parameters, its residuals, and its largest runs held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.backtests import BacktestResult
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.table import RunTable, table_from_arrays
from scaling_lib.runs import Run, check_poolable
from scaling_lib.show.plot import count_axis, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Three counts of one model, all in use; see scaling_lib.counting for the formulas and who counts so.
CONVENTIONS = {
    "non-embedding": "n_params_non_embedding",
    "with head": "n_params_with_head",
    "total": "n_params",
}
LOOKS = (("#0072B2", "o"), ("#009E73", "D"), ("#D55E00", "s"), ("#CC79A7", "^"))


def tables_by_convention(runs: Sequence[Run]) -> dict[str, RunTable]:
    """One ladder in N as a table for each convention of ``CONVENTIONS``: the same losses at other N.

    Parameters
    ----------
    runs : finished runs of several sizes, all trained on equally many tokens.

    Raises
    ------
    InputError
        When runs read different texts, differ in their number of tokens, or did not finish.
    """
    check_poolable(runs)
    lengths = sorted({r.config.n_tokens for r in runs})
    if len(lengths) != 1:
        raise InputError(
            f"a ladder in N has one number of training tokens, these {len(runs)} runs have {len(lengths)}; "
            "select one, such as the runs with config.n_tokens == 15_998_976"
        )
    unfinished = [r.run_id for r in runs if not r.finished]
    if unfinished:
        raise InputError(f"run {unfinished[0]} did not finish, so it has no final loss; leave it out")
    ordered = sorted(runs, key=lambda r: (r.counts["n_params_non_embedding"], r.config.train.seed))
    return {
        name: table_from_arrays(
            np.array([r.val_loss for r in ordered], dtype=float),
            n_params=[r.counts[column] for r in ordered],
            labels=[r.config.model.name for r in ordered],
            source=f"{name} N",
        )
        for name, column in CONVENTIONS.items()
    }


def plot_laws(fits: Mapping[str, FitResult], axes: Axes | None = None, *, extrapolate: float = 30.0) -> Axes:
    """Draw several laws of one variable with their runs and the 90% bands of the laws' means, dashed beyond the runs.

    fits : name -> a fit of ``L = E + A / N^alpha`` or of its like in D. The legend gives each exponent with its
    90% interval. ``extrapolate``: up to how many times the largest run.
    """
    axes = axes or new_axes()
    for (name, fit), (colour, marker) in zip(fits.items(), LOOKS, strict=False):
        variable, exponent = fit.law.variables[0], fit.law.param_names[-1]
        greek = {"alpha": "α", "beta": "β"}.get(exponent, exponent)
        low, high = fit.parameter_interval(exponent)
        label = f"{name}: {greek} = {fit.params[exponent]:.2f} [{low:.2f}, {high:.2f}]"
        x, (least, most) = fit.data[variable], fit.fit_range[variable]
        axes.plot(x, fit.data["loss"], marker, color=colour, label=label, zorder=3)
        for ends, style in (((least, most), "-"), ((most, most * extrapolate), "--")):
            line = np.geomspace(*ends, 60)
            axes.plot(line, fit.predict(line), color=colour, linestyle=style)
            axes.fill_between(line, *fit.interval(line), color=colour, alpha=0.15, linewidth=0)
    _finish(axes, variable, "validation loss (nats per token)")
    axes.legend()
    return axes


def plot_residuals(fits: Mapping[str, FitResult], axes: Axes | None = None, *, noise: float | None = None) -> Axes:
    """Draw what fits of one variable leave over, in percent of the loss.

    noise : relative standard deviation of runs that differ in their seed alone; a grey band of twice that.
    """
    axes = axes or new_axes()
    if noise is not None:
        axes.axhspan(-200 * noise, 200 * noise, color="#000000", alpha=0.10, linewidth=0, label="± 2 sd of seeds")
    axes.axhline(0, color="#888888", linewidth=1)
    for (name, fit), (colour, marker) in zip(fits.items(), LOOKS, strict=False):
        variable = fit.law.variables[0]
        # log(observed / predicted) is stored; readers think in percent
        axes.plot(fit.data[variable], 100 * np.expm1(fit.residuals), marker, color=colour, label=name)
    _finish(axes, variable, "observed over predicted, less 1 (%)")
    axes.legend()
    return axes


def plot_held_out_runs(
    table: RunTable, result: BacktestResult, axes: Axes | None = None, *, reveal: bool = True, look: int = 0
) -> Axes:
    """Draw a ladder with its largest runs held out: the law of the others, and the band where new runs would lie.

    Parameters
    ----------
    table, result : what was given to ``backtest``, and what came of it; a law of one variable.
    reveal : whether to draw the hidden runs.
    look : which colour and marker, 0 to 3, for several ladders on the same axes.
    """
    axes = axes or new_axes()
    colour, marker = LOOKS[look]
    fit = result.fit
    variable = fit.law.variables[0]
    x, known = table.get(variable), ~result.hidden
    line = np.geomspace(x.min(), x.max() * 1.15, 100)
    axes.plot(x[known], table.loss[known], marker, color=colour, zorder=3, label=f"{table.source}: fitted")
    axes.plot(line, fit.predict(line), color=colour)
    axes.fill_between(
        line, *fit.interval(line, level=result.level, kind="new_run"), color=colour, alpha=0.15, linewidth=0
    )
    if reveal:
        axes.plot(
            x[~known], table.loss[~known], marker, color=colour, markerfacecolor="white", markersize=9,
            markeredgewidth=1.8, zorder=4, label=f"{table.source}: held out",
        )  # fmt: skip
    _finish(axes, variable, "loss (nats per token)")
    axes.legend()
    return axes


def _finish(axes: Axes, variable: str, y_label: str) -> None:
    count_axis(axes)
    axes.set_xlabel("parameters N" if variable == "N" else "training tokens D")
    axes.set_ylabel(y_label)
