"""What a sweep's figures draw: ladders with their laws, training curves, recipes side by side, and all of it at once.

As in `plot`, each draws on the axes (or figure) it is given and returns them, and none saves or shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.runs import Run
from scaling_lib.show import plot
from scaling_lib.show.changes import Change
from scaling_lib.show.ladders import Ladder, find_ladders, recipe_name, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_fit(
    ladder: Ladder,
    axes: Axes | None = None,
    *,
    extrapolate: float = plot.BEYOND,
    bands: Sequence[str] = ("new_run", "mean"),
) -> Axes:
    """Draw a ladder's losses in its recipe's colour and, where there is one, its law; see `plot_law`."""
    axes = axes or plot.new_axes()
    name, (colour, marker) = recipe_name(ladder.recipe), plot.look_of(ladder.recipe)
    if ladder.fit is not None:
        label = plot.law_label(ladder.fit, name)
        plot.plot_law(ladder.fit, axes, beyond=extrapolate, label=label, look=(colour, marker), bands=bands)
    else:
        axes.plot(ladder.x, ladder.loss, marker, color=colour, label=f"{name}: no fit", zorder=3)
        plot.count_axis(axes)
        axes.set_ylabel(plot.LOSS)
        plot.keep_in_view(axes, np.array([]))
    axes.set_xlabel(plot.AXIS[ladder.variable])
    return axes


def plot_training_curves(ladder: Ladder, axes: Axes | None = None) -> Axes:
    """Draw the training loss of a ladder's runs against tokens, one line a rung, dark for the largest.

    Of several seeds the first is drawn. A point is the mean since the point before it.
    """
    first = {float(x): run for x, run in reversed(list(zip(ladder.x, ladder.runs, strict=True)))}
    curves = {}
    for x in sorted(first):
        history = [p for p in first[x].history if p.train_loss is not None and p.step > 0]
        curves[short(x)] = [(p.n_tokens, p.train_loss) for p in history]
    axes = plot.plot_curves(curves, axes, title="parameters" if ladder.variable == "N" else "tokens")
    plot.count_axis(axes)
    axes.set_xlabel("training tokens seen")
    axes.set_ylabel("training loss (nats per token)")
    by = "size" if ladder.variable == "N" else "length"
    axes.set_title(f"Training curves by {by}, {recipe_name(ladder.recipe)}")
    return axes


def plot_overview(runs: Sequence[Run], figure: Figure | None = None) -> Figure:
    """Draw a sweep in 2 x 2 panels: L(N) and L(D) with their laws; training curves by size and by length.

    Parameters
    ----------
    runs : the records of one sweep.
    figure : an empty figure to draw on; a new one of the current style when None.

    Returns
    -------
    The figure, with panels named ``N``, ``D``, ``curves N`` and ``curves D`` by ``Axes.get_label``.
    """
    import matplotlib.pyplot as plt

    figure = figure or plt.figure()
    ladders = find_ladders(runs)
    panels = [figure.add_subplot(2, 2, k + 1, label=n) for k, n in enumerate(("N", "D", "curves N", "curves D"))]
    for above, below, variable in zip(panels, panels[2:], "ND", strict=False):
        own = [x for x in ladders if x.variable == variable]
        plot_ladders(own, variable, above, plot.BEYOND if len(own) == 1 else 3.0)
        above.set_title("Parameter scaling" if variable == "N" else "Data scaling")
        if own:
            plot.legend_above(above)
            plot_training_curves(own[-1], below)  # the last recipe: V2 after V1
        else:
            plot.say_instead(below, f"no ladder in {variable}")
    return figure


def plot_ladders(ladders: Sequence[Ladder], variable: str, axes: Axes, beyond: float) -> None:
    """Draw ladders in N (or in D) with their laws, to ``beyond`` times the runs; far off several hide each other."""
    for ladder in ladders:
        plot_fit(ladder, axes, extrapolate=beyond, bands=("mean",))
    if not ladders:
        rungs = "sizes" if variable == "N" else "lengths"
        plot.say_instead(axes, f"no ladder in {variable}: at least three {rungs} are needed")


def plot_recipes(runs: dict[str, Run], figure: Figure) -> None:
    """Draw the validation loss along one run of each recipe, all of it and its end, where curves lie close."""
    curves = {
        recipe_name(recipe): [(p.n_tokens, p.val_loss) for p in run.history if p.val_loss is not None]
        for recipe, run in runs.items()
    }
    whole, end = figure.subplots(1, 2, width_ratios=(1.6, 1))
    for axes in (whole, end):
        plot.plot_curves(curves, axes, colours=[plot.look_of(name)[0] for name in runs])
        axes.set_xlabel("training tokens seen")
        axes.xaxis.set_major_formatter(lambda value, _: short(value) if value else "0")
    vocab = next(iter(runs.values())).config.model.vocab_size
    nothing = float(np.log(vocab))
    whole.axhline(nothing, color=plot.FAINT, linestyle=":", linewidth=1.2)
    whole.annotate(f"ln {vocab:,} = {nothing:.2f}: knowing nothing", (0.98, nothing), (0, 2), ha="right", va="bottom",
                   xycoords=("axes fraction", "data"), textcoords="offset points", fontsize="small",
                   color=plot.GREY)  # fmt: skip
    whole.set_ylabel(plot.LOSS)
    end.get_legend().remove()
    points = np.array([point for curve in curves.values() for point in curve])
    start, last = np.unique(points[:, 0])[[-2, -1]]
    near = points[points[:, 0] >= start, 1]
    pad = 0.05 * max(float(np.ptp(near)), 0.01)
    end.set(xlim=(start, last + 0.02 * (last - start)), ylim=(near.min() - pad, near.max() + pad))
    end.locator_params(axis="x", nbins=4)
    end.set_title("The end, enlarged")


def plot_gaps(gaps: dict[str, list[Change]], last: Ladder, axes: Axes) -> None:
    """Draw what recipes' losses are above those of ``last``: side by side, and stretched about 0, where most lie."""
    for i, (recipe, rows) in enumerate(gaps.items()):
        colour, marker = plot.look_of(recipe)
        x, y, low, high = np.array([(c.cell[0], c.change, c.low, c.high) for c in rows]).T
        whiskers = None if np.isnan(low).any() else np.array([y - low, high - y])
        axes.errorbar(x * 1.12 ** (i - (len(gaps) - 1) / 2), y, yerr=whiskers, fmt=marker, color=colour, capsize=3,
                      linewidth=1.5)  # fmt: skip
    axes.axhline(0, color=plot.look_of(last.recipe)[0])
    axes.set_yscale("asinh", linear_width=0.03)
    ticks = np.array([-1, -0.3, -0.1, -0.03, 0, 0.03, 0.1, 0.3, 1])
    low, high = axes.get_ylim()
    axes.set_yticks(ticks[(low <= ticks) & (ticks <= high)], minor=False)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")
    axes.minorticks_off()
    plot.count_axis(axes)
    axes.set_xlabel(plot.AXIS[last.variable])
    axes.set_ylabel("difference (nats)")
