"""Five primitives draw nearly every figure: a law, intervals, residuals, curves, and an axis of counts.

Each draws on the axes it is given (or on new ones) and returns them; none saves or shows. Colours are those of the
style sheet in force. Bands and brackets hold 90%. A law stops where its verdict refuses, and "no prediction" stands
there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from scaling_lib.fit.result import FitResult
from scaling_lib.show.ladders import ORDER, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXIS = {"N": "non-embedding parameters N", "D": "training tokens D"}
PLAIN = {"N": "parameters N", "D": "training tokens D"}  # where it is open how N is counted
LOSS = "validation loss (nats per token)"
GREEK = {"alpha": "α", "beta": "β"}
BEYOND = 30.0  # how far beyond the largest run a law is drawn, where its verdict lets it
LEVEL = 0.9
NO_PREDICTION = "no prediction"
MARKERS = "osD^vPX*"
STYLES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (4, 1.5, 1, 1.5)), (0, (2, 2)))
GREY, FAINT = "0.45", "0.6"
ON_WHITE = {"facecolor": "white", "alpha": 0.6, "pad": 1, "edgecolor": "none"}  # words that lines may cross
POINTS = 40  # of a line: a band takes one profile for each
HALVINGS = 9  # of the decades between the runs and the end of the axis: finer than the eye asks for

Look = tuple[str, str]


class Row(NamedTuple):
    """One line of `plot_intervals`. Without a ``value``, ``note`` stands in its place; otherwise above it.

    ``recipe`` : whose look it has.
    """

    label: str
    value: float | None
    low: float = np.nan
    high: float = np.nan
    note: str = ""
    recipe: str = ""


# ---- the five primitives ---------------------------------------------------------


def plot_law(
    fit: FitResult,
    axes: Axes | None = None,
    *,
    hidden: tuple[ArrayLike, ArrayLike] | None = None,
    beyond: float = BEYOND,
    along: str = "",
    held: float = np.nan,
    label: str | None = None,
    look: Look | None = None,
    bands: Sequence[str] = ("new_run", "mean"),
) -> Axes:
    """Draw the runs of a fit and its law, solid within the runs, dashed beyond, with 90% bands.

    Parameters
    ----------
    fit : a law of one variable; or a joint law, along ``along`` ("N" or "D") where the other variable is ``held``.
    hidden : x and losses (m,) of runs that the fit did not see, drawn hollow.
    beyond : the law is drawn up to so many times the largest run, or to where its verdict refuses.
    label : for the legend; by default the exponent with its 90% interval, and the verdict.
    look : colour and marker; by default the first of the style sheet.
    bands : kinds of interval, widest first: "new_run" (light), "mean" (dark).
    """
    axes = axes or new_axes()
    colour, marker = look or look_of("v2")
    along = along or fit.law.variables[0]
    joint = len(fit.law.variables) > 1
    own = (fit.data[{"N": "D", "D": "N"}[along]] == held) if joint else np.ones(fit.n_points, dtype=bool)
    x, loss = fit.data[along][own], fit.data["loss"][own]
    # Laws that lie on each other stay visible: the later ones are smaller and thinner.
    before = sum(line.get_gid() == "runs" for line in axes.lines) if not joint else 0
    less = 1.25 / (1 + 0.15 * before) if not joint else 0.9
    (runs,) = axes.plot(x, loss, marker, color=colour, label=law_label(fit) if label is None else label, zorder=3,
                        gid="runs")  # fmt: skip
    runs.set_markersize(runs.get_markersize() * less)
    if hidden is not None:
        axes.plot(*map(np.asarray, hidden), marker, color=colour, markerfacecolor="white", markeredgewidth=1.8,
                  markersize=9, zorder=4, label="held out")  # fmt: skip
    least, most = fit.fit_range[along]
    end = reach(fit, beyond, along, held)
    band = np.array([])
    if end:
        for ends, style in (((least, most), "-"), ((most, end), "--")):
            line = np.geomspace(*ends, POINTS)
            (law,) = axes.plot(line, fit.predict(*_target(fit, along, held, line)), color=colour, linestyle=style)
            law.set_linewidth(law.get_linewidth() * less)
        everywhere = np.unique(np.concatenate([np.geomspace(least, most, POINTS), np.geomspace(most, end, POINTS)]))
        for kind in bands:
            low, high = fit.interval(*_target(fit, along, held, everywhere), level=LEVEL, kind=kind)
            # An interval without an end is drawn to the frame's edge rather than not at all.
            low, high = np.maximum(low, 0.0), np.minimum(high, 20.0)
            band = np.concatenate([low, high])
            alpha = 0.22 if kind == "mean" else 0.10
            axes.fill_between(everywhere, low, high, color=colour, alpha=alpha, linewidth=0)
    axes.update_datalim([(most * beyond, float(loss.min()))])
    axes.autoscale_view(scaley=False)
    count_axis(axes)
    axes.set_xlabel(PLAIN[along])
    axes.set_ylabel(LOSS)
    keep_in_view(axes, band)
    if end < most * beyond * 0.99 and not (joint and any(t.get_text() == NO_PREDICTION for t in axes.texts)):
        at = float(fit.predict(*_target(fit, along, held, np.array([end])))[0]) if end else float(np.median(loss))
        say_no(axes, end or float(x.max()), at, GREY if joint else colour)
    return axes


def plot_intervals(
    rows: Sequence[Row], axes: Axes | None = None, *, truth: float | None = None, name: str = "truth"
) -> Axes:
    """Draw estimates with their 90% intervals, a row each from the top down; an end that is off the axis is an arrow.

    ``truth`` : a value to judge them by, drawn as a line across all rows; ``name`` is what the legend calls it.
    """
    axes = axes or new_axes()
    known = [row for row in rows if row.value is not None]
    values = np.array([row.value for row in known], dtype=float)
    if truth is not None:
        axes.axvline(truth, color="black", linestyle=":", label=f"{name}: {truth:.3f}")
        values = np.append(values, truth)
    ends = np.array([[row.low, row.high] for row in known], dtype=float).ravel()
    # Finite ends set the limits, but none that lies much further out than all that is estimated.
    room = max(2.0 * float(np.ptp(values)), 1.5 * float(np.abs(values).max())) if values.size else 1.0
    middle = float(np.median(values)) if values.size else 0.5
    inside = np.concatenate([values, ends[np.isfinite(ends) & (np.abs(ends - middle) < room)]]) if values.size else ends
    left, right = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 1.0)
    pad = 0.06 * (right - left or 1.0)
    left, right = left - pad, right + pad
    for y, row in enumerate(rows):
        colour, marker = look_of(row.recipe) if row.recipe else look(0)
        if row.value is None:
            axes.text(left + pad, y, row.note, va="center", color=colour, fontsize="small", bbox=ON_WHITE)
            continue
        low, high = max(row.low, left), min(row.high, right)
        if np.isfinite(row.low) or np.isfinite(row.high):
            axes.plot([low, high], [y, y], color=colour)
            for cut, at, arrow in ((row.low < left, left, "<"), (row.high > right, right, ">")):
                if cut:
                    axes.plot(at, y, arrow, color=colour, clip_on=False)
        axes.plot(row.value, y, marker, color=colour)
        if row.note:
            place = (row.value - left) / (right - left)  # words stay inside the frame
            axes.annotate(row.note, (row.value, y), (0, 7), textcoords="offset points", va="bottom", fontsize="small",
                          ha="left" if place < 0.2 else "right" if place > 0.8 else "center", color=GREY,
                          bbox=ON_WHITE)  # fmt: skip
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.7)
    axes.set_xlim(left, right)
    axes.grid(axis="y", visible=False)
    if truth is not None:
        axes.legend()
    return axes


def plot_residuals(fits: Mapping[str, FitResult], axes: Axes | None = None, *, looks: Sequence[Look] = ()) -> Axes:
    """Draw what fits of one variable leave over, in percent of the loss.

    ``looks`` : colour and marker of each; by default those of the style sheet.
    """
    axes = axes or new_axes()
    axes.axhline(0, color=FAINT, linewidth=1)
    for i, (name, fit) in enumerate(fits.items()):
        colour, marker = looks[i] if looks else look(i)
        x = fit.data[fit.law.variables[0]]
        axes.plot(x, 100 * left_over(fit), marker, color=colour, label=name)
        axes.set_xlabel(PLAIN[fit.law.variables[0]])
    count_axis(axes)
    axes.set_ylabel("observed over predicted, minus 1 (%)")
    if len(fits) > 1:
        axes.legend()
    return axes


def plot_curves(
    curves: Mapping[str, ArrayLike],
    axes: Axes | None = None,
    *,
    colours: Sequence[str] = (),
    marker: str = "",
    title: str = "",
) -> Axes:
    """Draw named lines. Those that lie on each other stay visible: later ones are thinner, and dashed.

    Parameters
    ----------
    curves : name -> points (m, 2).
    colours : one for each curve; by default light to dark, for curves that are ordered by size.
    marker : at every point, "" for none. title : of the legend.
    """
    axes = axes or new_axes()
    chosen = colours or shades(len(curves))
    for i, ((name, points), colour) in enumerate(zip(curves.items(), chosen, strict=True)):
        (line,) = axes.plot(*np.asarray(points, dtype=float).T, marker=marker, color=colour, label=name)
        if colours and not marker:
            line.set(linestyle=STYLES[i % len(STYLES)], linewidth=line.get_linewidth() * max(1.9 - 0.28 * i, 0.7))
    if curves:
        axes.legend(title=title or None)
    return axes


def count_axis(axes: Axes) -> None:
    """A logarithmic x axis of counts, with ticks as people say them: 300k, 1M, 10B."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    # Few decades want more ticks than one each; the margins of later artists change little.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high / low < 10**3.2 else (1.0,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


# ---- colours and words -----------------------------------------------------------


def look(i: int) -> Look:
    """Colour and marker of the i-th series, by the style sheet in force; no two of the first 56 are alike."""
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    cycle = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    again, n = divmod(i, len(cycle))
    return to_hex(cycle[n]), MARKERS[(n + again) % len(MARKERS)]


def look_of(recipe: str) -> Look:
    """Colour and marker of a recipe, the same in every figure; V2 has the first colour, V1 the second."""
    order = ("v2", "v1", "wsd", "v1-warmup", "v1-long", "v1-cosine")
    return look(order.index(recipe) if recipe in order else len(ORDER))


def shades(n: int) -> list[str]:
    """Light to dark blue, n of them; none so light that it vanishes on white."""
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    return [to_hex(mpl.colormaps["viridis_r"](v)) for v in np.linspace(0.15, 1.0, n)]


def law_label(fit: FitResult, name: str = "") -> str:
    """A law in a legend: its exponent with the 90% interval and the verdict; the verdict alone where it refuses."""
    verdict = fit.verdict()
    symbol = fit.law.param_names[-1]
    said = verdict.level
    if not verdict.refused:
        said = f"{GREEK.get(symbol, symbol)} = {bracket(fit.params[symbol], *fit.parameter_interval(symbol))}, {said}"
    return f"{name}: {said}" if name else said


def bracket(value: float, low: float, high: float, digits: int = 2) -> str:
    """A number with its 90% interval: ``0.35 [0.30, 0.41]``; an end that the data do not set is infinite."""
    ends = ", ".join(f"{v:.{digits}f}" if np.isfinite(v) else "∞" for v in (low, high))
    return f"{value:.{digits}f} [{ends}]"


def reach(fit: FitResult, beyond: float = BEYOND, along: str = "", held: float = np.nan) -> float:
    """How far up a law may be drawn: to ``beyond`` times its largest run, or where its verdict refuses; 0 for nowhere.

    ``along``, ``held`` : as for `plot_law`.
    """
    along = along or fit.law.variables[0]

    def refused(ln_x: float) -> bool:
        return fit.verdict(*_target(fit, along, held, np.array([np.exp(ln_x)]))).refused

    most = float(np.log(fit.fit_range[along][1]))
    end = last_believed(refused, most, most + float(np.log(beyond)), HALVINGS)
    return 0.0 if end is None else float(np.exp(end))


def last_believed(refused: Callable[[float], bool], good: float, bad: float, halvings: int) -> float | None:
    """How far from ``good`` towards ``bad`` nothing is refused, by halving the way; None where ``good`` is refused."""
    if not refused(bad):
        return bad
    if refused(good):
        return None
    for _ in range(halvings):
        middle = (good + bad) / 2
        good, bad = (good, middle) if refused(middle) else (middle, bad)
    return good


def left_over(fit: FitResult) -> np.ndarray:
    """Observed over predicted, minus 1, float (n,), of what the fit predicts: of the pool where it is one."""
    return np.asarray(fit.data["loss"] / fit.predict(*(fit.data[v] for v in fit.law.variables)) - 1)


def scatter(fit: FitResult) -> float:
    """Root mean square of `left_over`."""
    return float(np.sqrt(np.mean(left_over(fit) ** 2)))


def new_axes() -> Axes:
    """A figure of its own, for a plot that was given no axes."""
    import matplotlib.pyplot as plt

    return plt.subplots()[1]


def legend_above(axes: Axes) -> None:
    """A legend; where it has many lines, in room made for it above all that is drawn."""
    lines = len(axes.get_legend_handles_labels()[1])
    if lines > 2:
        low, high = axes.get_ylim()
        share = min(0.08 * lines, 0.6)
        axes.set_ylim(low, high + (high - low) * share / (1 - share))
    axes.legend(loc="upper right" if lines > 2 else "best")


def say_instead(axes: Axes, text: str) -> None:
    """Words in a panel that has nothing to draw."""
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])


def _target(fit: FitResult, along: str, held: float, x: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(x if v == along else np.full_like(x, held) for v in fit.law.variables)


def keep_in_view(axes: Axes, band: np.ndarray) -> None:
    """Runs and laws set the limits, and a ``band`` so far as it is no taller than they are: one may have no end."""
    lines = [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines]
    losses = np.concatenate([y[np.isfinite(y)] for y in lines])
    low, high = float(losses.min()), float(losses.max())
    flat = max(0.02 * high - (high - low), 0.0)  # what is flat must look so
    low, high = low - flat / 2, high + flat / 2
    room = high - low
    if band.size:
        low, high = max(min(low, band.min()), low - 0.3 * room), min(max(high, band.max()), high + 0.3 * room)
    low, high = max(0.0, low - 0.06 * room), high + 0.06 * room
    if not axes.get_autoscaley_on():  # laws drawn before have set limits of their own
        low, high = min(low, axes.get_ylim()[0]), max(high, axes.get_ylim()[1])
    axes.set_ylim(low, high)


def say_no(axes: Axes, x: float, y: float, colour: str) -> None:
    """``no prediction`` where a law stops: beyond its end, upright where there is little room."""
    left, right = np.log(axes.get_xlim())
    tight = (right - np.log(x)) / (right - left) < 0.28
    axes.annotate(
        NO_PREDICTION, (x, y), (9, 2), textcoords="offset points", rotation=90 if tight else 0, ha="left",
        va="bottom", fontsize="small", color=colour, annotation_clip=True, zorder=5,
        bbox=ON_WHITE,
    )  # fmt: skip
