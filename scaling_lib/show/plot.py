"""Figures. Each function draws on the axes it is given (or on new ones), returns them, and saves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.runs import Run
from scaling_lib.show.ladders import Ladder, find_ladders, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe-Ito, a colour and a marker for each recipe, so that they are told apart without colour too.
LOOKS = {
    "v1": ("#D55E00", "s"),
    "v2": ("#0072B2", "o"),
    "wsd": ("#009E73", "D"),
    "v1-long": ("#E69F00", "^"),
    "v1-warmup": ("#CC79A7", "v"),
    "v1-cosine": ("#56B4E9", "P"),
}
AXIS = {"N": "non-embedding parameters N", "D": "training tokens D"}
EXTRAPOLATE = 30.0  # how far beyond the runs a law is drawn


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
    for axes, variable in zip(panels, ("N", "D"), strict=False):
        _ladder_panel([x for x in ladders if x.variable == variable], variable, axes)
    last = {x.variable: x for x in ladders}  # the last recipe: V2 after V1
    for axes, variable in zip(panels[2:], ("N", "D"), strict=True):
        if variable in last:
            plot_training_curves(last[variable], axes)
        else:
            _say(axes, f"no ladder in {variable}")
    return figure


def _ladder_panel(ladders: Sequence[Ladder], variable: str, axes: Axes) -> None:
    for ladder in ladders:
        plot_fit(ladder, axes)
    axes.set_title("Parameter scaling" if variable == "N" else "Data scaling")
    if ladders:
        axes.legend(loc="best")
    else:
        rungs = "sizes" if variable == "N" else "lengths"
        _say(axes, f"no ladder in {variable}: at least three {rungs} are needed")


def plot_fit(ladder: Ladder, axes: Axes | None = None, *, extrapolate: float = EXTRAPOLATE) -> Axes:
    """Draw a ladder's losses and, where there is one, its law with 90% bands, dashed beyond the data.

    ``extrapolate``: up to how many times the largest x the law is drawn.

    The dark band holds the law's mean, the light one a new run. A law whose verdict refuses it within the
    data ("no trend", "not identifiable") is not drawn: the points stand alone and the legend says so.
    """
    axes = axes or new_axes()
    colour, marker = LOOKS.get(ladder.recipe, ("#000000", "o"))
    name = ladder.recipe.upper()
    fit = ladder.fit
    verdict = fit.verdict() if fit else None
    label = f"{name}: {verdict.level if verdict else 'no fit'}"
    if fit is not None and verdict is not None and not verdict.refused:
        symbol = "alpha" if ladder.variable == "N" else "beta"
        if np.isfinite(fit.stderr[symbol]):
            greek = "α" if symbol == "alpha" else "β"
            label = f"{name}: {greek} = {fit.params[symbol]:.2f} ± {fit.stderr[symbol]:.2f} ({verdict.level})"
        inside = np.geomspace(ladder.x.min(), ladder.x.max(), 60)
        outside = np.geomspace(ladder.x.max(), ladder.x.max() * extrapolate, 60)
        axes.plot(inside, fit.predict(inside), color=colour)
        axes.plot(outside, fit.predict(outside), color=colour, linestyle="--")
        everywhere = np.concatenate([inside, outside[1:]])
        for kind, alpha in (("new_run", 0.10), ("mean", 0.18)):
            low, high = fit.interval(everywhere, level=0.9, kind=kind)
            # An interval without an end is drawn to the frame's edge rather than not at all.
            axes.fill_between(
                everywhere,
                np.maximum(low, 0.0),
                np.minimum(high, 20.0),
                color=colour,
                alpha=alpha,
                linewidth=0,
            )
    axes.plot(ladder.x, ladder.loss, marker, color=colour, label=label, zorder=3)
    count_axis(axes)
    axes.set_xlabel(f"{AXIS[ladder.variable]}")
    axes.set_ylabel("validation loss (nats per token)")
    _keep_in_view(axes)
    return axes


def plot_training_curves(ladder: Ladder, axes: Axes | None = None) -> Axes:
    """Draw the training loss of a ladder's runs against tokens, one line a rung, dark for the largest.

    Of several seeds the first is drawn. A point is the mean since the point before it.
    """
    axes = axes or new_axes()
    rungs: dict[float, Run] = {}
    for x, run in zip(ladder.x.tolist(), ladder.runs, strict=True):
        rungs.setdefault(x, run)
    for run, shade in zip(rungs.values(), shades(len(rungs)), strict=True):
        points = [(p.n_tokens, p.train_loss) for p in run.history if p.train_loss is not None and p.step > 0]
        label = short(run.counts["n_params_non_embedding" if ladder.variable == "N" else "n_tokens"])
        axes.plot(*zip(*points, strict=True), color=shade, label=label)
    what = "size" if ladder.variable == "N" else "length"
    unit = "parameters" if ladder.variable == "N" else "tokens"
    count_axis(axes)
    axes.set_xlabel("training tokens seen")
    axes.set_ylabel("training loss (nats per token)")
    axes.set_title(f"Training curves by {what}, {ladder.recipe.upper()}")
    axes.legend(title=unit, loc="lower left")
    return axes


def count_axis(axes: Axes) -> None:
    """A logarithmic x axis of counts, with ticks as people say them: 300k, 1M, 10B."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    # Few decades want more ticks than one each; the margins of later artists change little.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high / low < 10**3.2 else (1.0,), numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def shades(n: int) -> list[str]:
    """Light to dark blue, n of them; none so light that it vanishes on white."""
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    return [to_hex(mpl.colormaps["viridis_r"](v)) for v in np.linspace(0.15, 1.0, n)]


def _keep_in_view(axes: Axes) -> None:
    """Let the points set the limits, with room below for a law that goes on: a band without end must not."""
    losses = np.concatenate([line.get_ydata() for line in axes.lines if line.get_linestyle() == "None"])
    span = max(float(np.ptp(losses)), 0.05)
    axes.set_ylim(max(0.0, float(losses.min()) - 1.0 * span), float(losses.max()) + 0.35 * span)


def new_axes() -> Axes:
    """A figure of its own, for a plot that was given no axes."""
    import matplotlib.pyplot as plt

    return plt.subplots()[1]


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#666666")
    axes.set_xticks([])
    axes.set_yticks([])
