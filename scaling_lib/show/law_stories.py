"""What the ladders of one variable say: the law, its curves, its residuals, and how far it reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.fit.result import FitResult
from scaling_lib.show import plot
from scaling_lib.show.changes import Change, changes
from scaling_lib.show.ladders import COUNT, Ladder, recipe_name, short
from scaling_lib.show.panels import plot_fit, plot_gaps, plot_training_curves
from scaling_lib.show.story import THING, Story, doubt, law_of, one_panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEAR, FAR = 3.0, 1000.0  # times the largest run, to which a law is drawn


def law_stories(ladders: Sequence[Ladder], truth: float | None) -> Iterator[Story]:
    """Stories of the ladders of one variable, the last recipe's in words. ``truth``: the text's entropy, if known."""
    yield _law(ladders, truth)
    yield _curves(ladders[-1])
    yield _residuals(ladders[-1])
    yield _far(ladders[-1], truth)


def _held(ladder: Ladder) -> str:
    shared = "N" if ladder.variable == "D" else "D"
    return f"{short(ladder.runs[0].counts[COUNT[shared]])} {THING[shared]} each"


def _law(ladders: Sequence[Ladder], truth: float | None) -> Story:
    """L(N) or L(D) of every recipe; words are of the last one's."""
    last, what = ladders[-1], THING[ladders[-1].variable]
    headline, caption, notes = "", f"{law_of(last)}: no law: {last.why_not}", ""
    if (fit := last.fit) is not None:
        verdict = fit.verdict()
        notes = f"The verdict in full: {verdict}."
        caption = f"{law_of(last)}, {_held(last)}: {verdict.level}."
        if verdict.level == "no trend":
            headline = f"The loss does not fall with {what} beyond its noise: there is no law"
        elif verdict.refused:
            headline = f"These runs do not say how the loss falls with {what}: {plot.NO_PREDICTION}"
        else:
            headline = f"Twice the {what} remove {_doubling(fit)} of what is left above the floor{doubt(fit)}"
            if fit.law.param_names[-1] in fit.diagnostics["at_bound"]:
                headline = f"The loss falls to its floor so fast that these runs do not pin down the exponent of {what}"
            floor = plot.bracket(fit.params["E"], *fit.parameter_interval("E"))
            caption = f"{law_of(last)}, {_held(last)}: {plot.law_label(fit)}. Floor E = {floor}. {_band(fit)}"
    caption += f" The entropy of this text is known: {truth:.3f}." if truth else ""
    gaps = _gaps(ladders)
    if gaps:
        above = f"loss at the same number of {what} less that of {recipe_name(last.recipe)}"
        caption += f" Right, stretched about 0: {above}, paired by seed."

    def draw(figure: Figure) -> None:
        axes, *right = figure.subplots(1, 1 + bool(gaps), squeeze=False)[0]
        for ladder in ladders:
            plot_fit(ladder, axes, extrapolate=NEAR, bands=("mean",))
        draw_truth(truth, last.loss, axes)
        if right:
            plot_gaps(gaps, last, right[0])
            axes.set_ylabel("validation loss\n(nats per token)")  # the legend takes of the height
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        else:
            axes.legend()

    return Story(
        "parameter-scaling" if last.variable == "N" else "data-scaling", headline, draw, caption,
        f"Loss against {what}: " + "; ".join(f"{recipe_name(x.recipe)} goes {_ends(x)}" for x in ladders) + ".",
        notes,
    )  # fmt: skip


def draw_truth(truth: float | None, loss: np.ndarray, axes: Axes) -> None:
    """A line at the text's entropy, where that is known, in sight of the losses."""
    if truth is not None:
        axes.axhline(truth, color="black", linestyle=":", label=f"known entropy {truth:.3f}")
        axes.set_ylim(bottom=min(axes.get_ylim()[0], truth - 0.05 * float(np.ptp(loss))))


def _gaps(ladders: Sequence[Ladder]) -> dict[str, list[Change]]:
    """What each recipe's losses are above the last one's, by recipe, where they share a size (or length) and a seed."""
    last = ladders[-1]
    found = {
        x.recipe: changes(last.runs, x.runs, lambda r: (r.counts[COUNT[last.variable]], r.config.model.name))
        for x in ladders[:-1]
    }
    return {recipe: rows for recipe, rows in found.items() if rows}


def _band(fit: FitResult) -> str:
    return "Line and 90% band: several forms, pooled." if fit.pooled else "Band: 90% of the law's mean."


def _doubling(fit: FitResult) -> str:
    """What a doubling removes of the gap to the floor, 1 - 2^-exponent, with its interval."""
    symbol = fit.law.param_names[-1]
    share, low, high = (100 * (1 - 2.0**-v) for v in (fit.params[symbol], *fit.parameter_interval(symbol)))
    return f"{share:.0f}% [{low:.0f}, {high:.0f}]"


def _ends(ladder: Ladder) -> str:
    (first, start), (last, end) = ((short(ladder.x[i]), ladder.loss[i]) for i in (0, -1))
    return f"from {start:.2f} nats per token at {first} {THING[ladder.variable]} to {end:.2f} at {last}"


def _curves(ladder: Ladder) -> Story:
    what = "size" if ladder.variable == "N" else "length"
    return Story(
        f"curves-by-{what}", "", one_panel(lambda axes: plot_training_curves(ladder, axes)),
        f"Training loss of {recipe_name(ladder.recipe)} by {what}, {_held(ladder)}. A point is the mean since the one "
        "before.",
        f"Training curves, one for each {what}; the final validation losses go {_ends(ladder)}.",
    )  # fmt: skip


def _residuals(ladder: Ladder) -> Story:
    fits = {recipe_name(ladder.recipe): ladder.fit} if ladder.fit else {}

    def draw(axes: Axes) -> None:
        plot.plot_residuals(fits, axes, looks=[plot.look_of(ladder.recipe)])
        axes.set_xlabel(plot.AXIS[ladder.variable])

    rest = f"{100 * plot.scatter(ladder.fit):.2f}%" if ladder.fit else "unknown"
    return Story(
        f"residuals-{ladder.variable.lower()}", "", one_panel(draw),
        f"What the law {law_of(ladder)} leaves over; scatter {rest} of the loss. A bend here would say that the form "
        "is wrong.",
        f"Residuals of the fitted law about zero, in percent of the loss, at {len(ladder.x)} runs.",
    )  # fmt: skip


def _far(ladder: Ladder, truth: float | None) -> Story:
    """Three decades beyond the runs: how far the law may be believed is the message."""
    fit, headline, notes, far = ladder.fit, "", "", "three decades"
    if fit is not None:
        most = float(ladder.x.max())
        end = plot.reach(fit, FAR)
        ends = "; ".join(f"{k:,.0f} times beyond the largest run: {fit.verdict(k * most)}" for k in (10, FAR))
        notes = f"Outside the grey strip is an extrapolation. {ends}."
        if end:
            at = min(10 * most, end)
            what = f"{'Ten' if at < end else f'{at / most:.2g}'} times the " + (
                "largest model" if ladder.variable == "N" else "longest run"
            )
            headline = f"{what}: {plot.bracket(fit.predict(at), *fit.interval(at))} nats"
            if end < 0.99 * FAR * most:
                headline += f"; beyond {end / most:.2g} times, {plot.NO_PREDICTION}"
                far = f"{end / most:.2g} times"

    def draw(axes: Axes) -> None:
        plot_fit(ladder, axes, extrapolate=FAR, bands=("mean",))
        axes.axvspan(ladder.x.min(), ladder.x.max(), color="black", alpha=0.05, linewidth=0)
        draw_truth(truth, ladder.loss, axes)
        axes.legend()

    return Story(
        f"extrapolation-{ladder.variable.lower()}", headline, one_panel(draw),
        f"{law_of(ladder)}, {far} beyond its runs (grey). {_band(fit) if fit else 'No fit.'} A law stops where its "
        "verdict refuses.",
        f"The law continued beyond the data, with a band that widens. {headline}".strip(), notes,
    )  # fmt: skip
