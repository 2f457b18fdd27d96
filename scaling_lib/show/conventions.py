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
from scaling_lib.show.plot import law_label, legend_above, new_axes, plot_law, plot_residuals
from scaling_lib.show.plot import look as nth_look

__all__ = ["CONVENTIONS", "plot_held_out_runs", "plot_laws", "plot_residuals", "tables_by_convention"]

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Three counts of one model, all in use; see scaling_lib.counting for the formulas and who counts so.
CONVENTIONS = {
    "non-embedding": "n_params_non_embedding",
    "with head": "n_params_with_head",
    "total": "n_params",
}


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
    """Draw several laws of one variable with their runs and the 90% bands of the laws' means: see `plot.plot_law`.

    fits : name -> a fit of ``L = E + A / N^alpha`` or of its like in D. ``extrapolate``: up to how many times the
    largest run.
    """
    axes = axes or new_axes()
    for i, (name, fit) in enumerate(fits.items()):
        plot_law(fit, axes, beyond=extrapolate, label=law_label(fit, name), look=nth_look(i), bands=("mean",))
    legend_above(axes)
    return axes


def plot_held_out_runs(
    table: RunTable, result: BacktestResult, axes: Axes | None = None, *, reveal: bool = True, look: int = 0
) -> Axes:
    """Draw a ladder with its largest runs held out: the law of the others, and the band where new runs would lie.

    Parameters
    ----------
    table, result : what was given to ``backtest``, and what came of it; a law of one variable.
    reveal : whether to draw the hidden runs.
    look : which colour and marker, for several ladders on the same axes.
    """
    x = table.get(result.fit.law.variables[0])
    hidden = (x[result.hidden], table.loss[result.hidden]) if reveal else None
    axes = plot_law(
        result.fit, axes, hidden=hidden, beyond=1.15 * x.max() / x[~result.hidden].max(),
        label=f"{table.source}: fitted", look=nth_look(look), bands=("new_run",),
    )  # fmt: skip
    axes.legend()
    return axes
