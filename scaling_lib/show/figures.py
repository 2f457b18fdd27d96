"""The named figures of a sweep, each with a caption that gives the verdict and a text for who cannot see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import backtests
from scaling_lib.runs import Run
from scaling_lib.show.changes import of_recipe
from scaling_lib.show.grids import (
    Grid,
    find_grids,
    grid_isoflop,
    isoflop_points,
    plot_grid,
    plot_held_out,
    plot_isoflop,
)
from scaling_lib.show.ladders import Ladder, at_shared_length, find_ladders, short
from scaling_lib.show.plot import (
    AXIS,
    FAINT,
    GREY,
    LOSS,
    Row,
    bracket,
    legend_above,
    look,
    look_of,
    plot_curves,
    plot_fit,
    plot_intervals,
    plot_residuals,
    plot_training_curves,
    say_instead,
    scatter,
)
from scaling_lib.show.rates import is_rate_study, plot_rates, rate_report
from scaling_lib.show.versus import compare_recipes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WAY = ("v1", "v1-long", "v1-warmup", "v1-cosine", "v2")


@dataclass(frozen=True)
class Named:
    """One figure: a name for its file, what draws it on an empty figure, and its words.

    caption : what to print below it. alt : what it shows, for a reader who cannot see it.
    tall : whether it has two rows of panels. headline : its message on a slide, where it has one.
    """

    name: str
    draw: Callable[[Figure], None]
    caption: str
    alt: str
    tall: bool = False
    headline: str = ""


def main_figure(runs: Sequence[Run], rule: Callable[[int], float] | None = None) -> Named:
    """The one figure to look at first: the overview, or the scans of a study of learning rates.

    rule : d_model -> the peak rate by the width rule, which a study is drawn beside.
    """
    if rule is not None and is_rate_study(runs):
        return Named(
            "rates",
            lambda figure: (plot_rates(runs, rule, figure), None)[1],
            rate_report(runs, rule).strip(),
            "Loss against peak learning rate, a panel for each number of tokens and a curve for each width, with the "
            "rate of the width rule dotted.",
            tall=True,
        )
    return _overview(runs, find_ladders(runs))


def figure_set(runs: Sequence[Run], rule: Callable[[int], float] | None = None) -> list[Named]:
    """Every named figure that the records can bear, the main one first; a study of rates has that one alone.

    The last, ``back-tests``, is of published models and the same for every sweep.
    """
    found = [main_figure(runs, rule)]
    if found[0].name == "rates":
        return found
    ladders = find_ladders(runs)
    grids = find_grids(runs)
    for variable, name in (("N", "parameter-scaling"), ("D", "data-scaling")):
        own = [x for x in ladders if x.variable == variable]
        if own:
            found += [_scaling(own, name), _curves(own[-1]), _residuals(own[-1]), _extrapolation(own[-1])]
    found += [*_recipes(runs), *(figure for grid in grids for figure in _grid(grid, len(grids) > 1)), back_tests()]
    return found


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
    for i, (variable, rungs) in enumerate((("N", "sizes"), ("D", "lengths"))):
        own = [x for x in ladders if x.variable == variable]
        for ladder in own:
            plot_fit(ladder, panels[i])
        panels[i].set_title("Parameter scaling" if variable == "N" else "Data scaling")
        if own:
            legend_above(panels[i])
            plot_training_curves(own[-1], panels[i + 2])  # the last recipe: V2 after V1
        else:
            say_instead(panels[i], f"no ladder in {variable}: at least three {rungs} are needed")
            say_instead(panels[i + 2], f"no ladder in {variable}")
    return figure


def _one(draw: Callable[[Axes], object]) -> Callable[[Figure], None]:
    return lambda figure: (draw(figure.add_subplot()), None)[1]


def _overview(runs: Sequence[Run], ladders: Sequence[Ladder]) -> Named:
    verdicts = "; ".join(f"{x.recipe.upper()}, L({x.variable}): {_verdict(x)}" for x in ladders) or "no ladder"
    corpus = runs[0].corpus.get("name")
    return Named(
        "overview",
        lambda figure: (plot_overview(runs, figure), None)[1],
        f"{len(runs)} runs on {corpus}, vocabulary {runs[0].config.model.vocab_size:,}. Losses in nats per token with "
        f"their laws, 90% bands and the training curves. Verdicts within the data: {verdicts}.",
        "Four panels. Above, loss against parameters and against training tokens, with fitted laws that continue "
        "dashed beyond the data. Below, training loss against tokens seen, a line for each size and for each length.",
        tall=True,
    )


def _verdict(ladder: Ladder) -> str:
    return ladder.fit.verdict().level if ladder.fit else "no fit"


def _law_in_words(ladder: Ladder) -> str:
    fit = ladder.fit
    if fit is None:
        return f"no law: {ladder.why_not}"
    verdict = fit.verdict()
    if verdict.refused:
        return f"{ladder.recipe.upper()}: {verdict}"
    exponent = fit.law.param_names[-1]
    values = ", ".join(f"{k} = {bracket(fit.params[k], *fit.parameter_interval(k))}" for k in (exponent, "E"))
    return f"{ladder.recipe.upper()}: {fit.law.formula}, {values}, 90% in brackets; {verdict}"


def _ends(ladder: Ladder) -> str:
    i, j = int(np.argmin(ladder.x)), int(np.argmax(ladder.x))
    unit = "parameters" if ladder.variable == "N" else "tokens"
    return (
        f"from {ladder.loss[i]:.2f} nats per token at {short(ladder.x[i])} {unit} to {ladder.loss[j]:.2f} at "
        f"{short(ladder.x[j])}"
    )


def _scaling(ladders: Sequence[Ladder], name: str) -> Named:
    def draw(axes: Axes) -> None:
        for ladder in ladders:
            plot_fit(ladder, axes)
        legend_above(axes)

    return Named(
        name,
        _one(draw),
        ". ".join(_law_in_words(x) for x in ladders)
        + ". Bands: 90% for the law's mean (dark) and for a new run (light).",
        "Loss against "
        + ("parameters" if ladders[0].variable == "N" else "training tokens")
        + ": "
        + "; ".join(f"{x.recipe.upper()} goes {_ends(x)}" for x in ladders)
        + ".",
    )


def _curves(ladder: Ladder) -> Named:
    what = "size" if ladder.variable == "N" else "length"
    return Named(
        f"curves-by-{what}",
        _one(lambda axes: plot_training_curves(ladder, axes)),
        f"Training loss of {ladder.recipe.upper()} by {what}, {ladder.held}. A point is the mean since the one before.",
        f"Training curves, one for each {what}; the final losses go {_ends(ladder)}.",
    )


def _residuals(ladder: Ladder) -> Named:
    def draw(axes: Axes) -> None:
        plot_residuals({ladder.recipe.upper(): ladder.fit} if ladder.fit else {}, axes)
        axes.set_xlabel(AXIS[ladder.variable])

    rest = f"{100 * scatter(ladder.fit):.2f}%" if ladder.fit else "unknown"
    return Named(
        f"residuals-{ladder.variable.lower()}",
        _one(draw),
        f"What the law L({ladder.variable}) of {ladder.recipe.upper()} leaves over; scatter {rest} of the loss. A "
        "bend here would say that the form is wrong.",
        f"Residuals of the fitted law about zero, in percent of the loss, at {len(ladder.x)} runs.",
    )


def _extrapolation(ladder: Ladder) -> Named:
    far = 3.0  # decades beyond the largest run: the band and the verdict are the message

    def draw(axes: Axes) -> None:
        plot_fit(ladder, axes, extrapolate=10**far)
        axes.axvspan(ladder.x.min(), ladder.x.max(), color="black", alpha=0.05, linewidth=0)
        axes.legend()

    words = "no fit"
    if ladder.fit is not None:
        words = "; ".join(
            f"{10**k:.0f}x beyond the largest run: {ladder.fit.verdict(ladder.x.max() * 10**k)}" for k in (1.0, far)
        )
    return Named(
        f"extrapolation-{ladder.variable.lower()}",
        _one(draw),
        f"The law L({ladder.variable}) of {ladder.recipe.upper()} three decades beyond its runs (grey), with its 90% "
        f"band. {words}.",
        "The fitted law continued three decades beyond the data, with a band that widens.",
    )


def _recipes(runs: Sequence[Run]) -> list[Named]:
    """V1 against V2 at the largest size that the records have of every recipe on the way, with the same seeds."""
    there = [name for name in WAY if of_recipe(runs, name)]
    way = compare_recipes(runs, "", there).way if {"v1", "v2"} <= set(there) else []
    if not way:
        return []
    model = way[0][2].cell
    own = [r for r in runs if r.config.model == model]
    found = [
        Named(
            "v1-against-v2",
            _one(lambda axes: plot_recipes({name.upper(): of_recipe(own, name) for name in there}, axes)),
            f"Validation loss at {model.name}, along one run of each recipe; the dotted line is the loss of knowing "
            "nothing.",
            f"Curves of the recipes {', '.join(there)} at one model size, falling from ln of the vocabulary.",
        )
    ]
    if any(np.isnan(c.low) for *_, c in way):  # one seed only: nothing to pair
        return found
    rows = [Row(f"{a.label} to {b.label}", c.change, c.low, c.high) for a, b, c in way]
    changes = "; ".join(f"{b.recipe} {c.change:+.3f} [{c.low:+.3f}, {c.high:+.3f}]" for _, b, c in way)

    def draw(axes: Axes) -> None:
        plot_intervals(rows, axes).axvline(0, color=FAINT, linestyle=":")
        axes.set_xlabel("change of the final loss (nats)")

    found.append(
        Named(
            "one-change-at-a-time",
            _one(draw),
            f"What each change of recipe does to the final loss at {model.name}, in the mean over {way[0][2].seeds} "
            f"paired seeds, with its 90% interval (nats): {changes}.",
            f"A row for each change with its interval: {changes}.",
        )
    )
    return found


def plot_recipes(runs: Mapping[str, Sequence[Run]], axes: Axes) -> Axes:
    """Draw the validation loss of the first run of each recipe, by name, and the loss of knowing nothing."""
    lines = {name: at_shared_length(own)[0] for name, own in runs.items()}
    curves = {
        name: [(p.n_tokens, p.val_loss) for p in run.history if p.val_loss is not None] for name, run in lines.items()
    }
    plot_curves(curves, axes, colours=[look_of(run.config.train.recipe)[0] for run in lines.values()])
    vocab_size = next(iter(lines.values())).config.model.vocab_size
    nothing = np.log(vocab_size)
    axes.axhline(nothing, color=FAINT, linestyle=":", linewidth=1.2)
    axes.annotate(f"ln {vocab_size:,} = {nothing:.2f}: knowing nothing", (0.98, nothing), (0, 2), ha="right",
                  xycoords=("axes fraction", "data"), textcoords="offset points", va="bottom", fontsize="small",
                  color=GREY)  # fmt: skip
    axes.set(xlabel="training tokens seen", ylabel=LOSS)
    axes.xaxis.set_major_formatter(lambda value, _: short(value) if value else "0")
    return axes


def _grid(grid: Grid, several: bool) -> Iterable[Named]:
    def both(figure: Figure) -> None:
        for i, variable in enumerate("DN"):
            plot_grid(grid, variable, figure.add_subplot(1, 2, i + 1))

    end = f"-{grid.recipe}" if several else ""
    verdict = grid.fit.verdict()
    b = grid.held_out
    yield Named(
        f"joint-law{end}",
        both,
        f"{len(grid.runs)} runs of {grid.recipe.upper()} and the joint law {grid.fit.law.formula}; scatter "
        f"{100 * scatter(grid.fit):.2f}%; {verdict}.",
        "Loss against tokens with a line for each size, and against size with a line for each length.",
    )
    yield Named(
        f"held-out{end}",
        _one(lambda axes: plot_held_out(grid, axes)),
        f"The largest size and the longest runs, predicted from the rest: mean absolute error "
        f"{100 * b.mean_abs_error:.2f}%, {b.covered.mean():.0%} of {len(b.observed)} inside the 90% interval of a new "
        f"run; a straight line errs by {100 * np.abs(b.line_error).mean():.2f}%, the nearest run by "
        f"{100 * np.abs(b.nearest_error).mean():.2f}%.",
        "Predicted against observed losses of the held-out runs, with intervals, about the diagonal.",
    )
    try:
        found = grid_isoflop(grid)
    except InputError:
        return
    yield Named(
        f"isoflop{end}",
        _one(lambda axes: plot_isoflop(found, isoflop_points(grid), axes)),
        f"Loss against size at {len(found.budgets)} budgets, interpolated in the grid, with parabolas; stars "
        f"are minima inside. N* ~ C^{found.a:.2f}, without an interval: budgets share runs.",
        "Parabolas of loss against size, one for each compute budget; minima move to larger sizes.",
    )


def back_tests() -> Named:
    """Published models predicted from their smaller kin: how the error of honest back-tests looks."""
    results = {
        "Cerebras-GPT, from 5 models": backtests.cerebras()[5],
        "Pythia, N without embeddings": backtests.pythia()["non_embedding"],
        "Pythia, N in all": backtests.pythia()["total"],
    }

    def draw(axes: Axes) -> None:
        for i, (name, r) in enumerate(results.items()):
            colour, marker = look(i)
            low, high = 100 * (r.predicted - r.low) / r.observed, 100 * (r.high - r.predicted) / r.observed
            axes.errorbar(
                r.span, 100 * r.error, yerr=np.array([low, high]), fmt=marker, color=colour, capsize=4, label=name
            )
        axes.axhline(0, color=FAINT, linewidth=1)
        axes.set_xscale("log")
        axes.set_xticks([2, 5, 10, 20], ["2x", "5x", "10x", "20x"])
        axes.minorticks_off()
        axes.set_xlabel("how far beyond the largest fitted model")
        axes.set_ylabel("error of the prediction (%)")
        axes.legend()

    worst = {name: 100 * float(r.error[np.argmax(np.abs(r.error))]) for name, r in results.items()}
    words = "; ".join(f"{name} {value:+.1f}%" for name, value in worst.items())
    least, most = (f(abs(value) for value in worst.values()) for f in (min, max))
    return Named(
        "back-tests",
        _one(draw),
        f"Published models predicted from their smaller kin, with 90% intervals of a new run. Worst errors: {words}.",
        f"Errors of back-tests against their distance, with intervals; the worst are {words}.",
        headline=f"Published families, predicted from their smaller kin: off by {least:.1f}% to {most:.1f}% at worst",
    )
