"""What a sweep has to say: one list of stories, which `export` writes as pictures and `deck` as slides.

A headline is a message computed from the records. Every interval holds 90%, in brackets or as a band of the law's mean.
Where a verdict refuses, "no prediction" stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.runs import Run
from scaling_lib.show import plot
from scaling_lib.show.changes import changes, of_recipe
from scaling_lib.show.grids import (
    Grid,
    find_grids,
    grid_isoflop,
    isoflop_points,
    plot_grid,
    plot_held_out,
    plot_isoflop,
)
from scaling_lib.show.ladders import Ladder, at_shared_length, find_ladders, recipe_name, short, text_of
from scaling_lib.show.law_stories import draw_truth, law_stories
from scaling_lib.show.panels import plot_overview, plot_recipes
from scaling_lib.show.rates import is_rate_study, plot_rates, rate_report, rate_scans
from scaling_lib.show.story import THING, Story, doubt, law_of, one_panel
from scaling_lib.show.studies import known_floors
from scaling_lib.show.versus import compare_recipes
from scaling_lib.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WAY = ("v1", "v1-long", "v1-warmup", "v1-cosine", "v2")
STEPS = {"v1-long": "V2's number of steps", "v1-warmup": "then warm-up", "v1-cosine": "then cosine decay",
         "v2": "then weight decay"}  # fmt: skip
Rule = Callable[[int], float]


def sweep_stories(runs: Sequence[Run], rule: Rule | None = None) -> Iterator[Story]:
    """Everything that the records bear, the main figure first; a study of rates has that one alone.

    rule : d_model -> the peak rate by the width rule, which a study of rates is drawn beside.
    """
    found = _rates(runs, rule) if rule is not None and is_rate_study(runs) else _laws(runs)
    for story in found:
        yield story._replace(caption=f"{about(runs)}. {story.caption}")


def about(runs: Sequence[Run]) -> str:
    """What was trained, in words."""
    return f"{len(runs)} runs on {text_of(runs[0])}, vocabulary {runs[0].config.model.vocab_size:,}"


def _laws(runs: Sequence[Run]) -> Iterator[Story]:
    ladders, truth = find_ladders(runs), runs[0].corpus.get("entropy_rate")
    yield _overview(runs, ladders)
    yield from _recipes(runs)
    for variable in "ND":
        own = [x for x in ladders if x.variable == variable]
        if own:
            yield from law_stories(own, truth)
    grids = find_grids(runs)
    yield from chain.from_iterable(_grid(grid, f"-{grid.recipe}" if len(grids) > 1 else "", truth) for grid in grids)
    if len(grids) == 1 and truth is not None:
        yield _floors(runs)


# ---- the whole sweep -------------------------------------------------------------


def _overview(runs: Sequence[Run], ladders: Sequence[Ladder]) -> Story:
    levels = "; ".join(f"{law_of(x)}: {x.fit.verdict().level if x.fit else 'no fit'}" for x in ladders) or "no ladder"
    return Story(
        "overview", "", lambda figure: plot_overview(runs, figure),
        "Losses in nats per token with their laws, 90% bands of the laws' means, and the training curves. "
        f"Verdicts within the data: {levels}.",
        "Four panels. Above, loss against parameters and against training tokens, with fitted laws that continue "
        "dashed beyond the data. Below, training loss against tokens seen, a line for each size and for each length.",
        tall=True,
    )  # fmt: skip


def _recipes(runs: Sequence[Run]) -> Iterator[Story]:
    """V1 against V2 at the largest model that the records have of every recipe on the way, with the same seeds."""
    there = [name for name in WAY if of_recipe(runs, name)]
    way = compare_recipes(runs, "", there).way if {"v1", "v2"} <= set(there) else []
    if not way:
        return
    model = way[0][2].cell
    own = {name: [r for r in at_shared_length(of_recipe(runs, name)) if r.config.model == model] for name in there}
    (whole,) = changes(own["v1"], own["v2"], lambda r: r.config.model)
    size, paired = short(own["v1"][0].counts["n_params_non_embedding"]), counted(whole.seeds, "paired seed")
    sign, where = (1, "above") if whole.change > 0 else (-1, "below")
    low, high = sorted((sign * whole.low, sign * whole.high))
    ends = "" if np.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    yield Story(
        "v1-against-v2", f"V2 ends {abs(whole.change):.2f}{ends} nats {where} V1",
        lambda figure: plot_recipes({name: found[0] for name, found in own.items()}, figure),
        f"{size} parameters, {paired}. Validation loss along one run of each recipe, and its end enlarged. Dotted: "
        "the loss of knowing nothing.",
        f"Curves of {', '.join(map(recipe_name, own))} at one model size, falling from ln of the vocabulary.",
        "A loss of ln(vocabulary) is not a bad model: it is a model before it has learnt anything.",
    )  # fmt: skip
    if not ends:  # one seed only: nothing to pair
        return
    names = STEPS if len(there) > 2 else {"v2": "V1 to V2"}
    rows = [plot.Row(names[b.recipe], c.change, c.low, c.high) for _, b, c in way]
    rows = [row._replace(note=_signed(row, 3)) for row in rows]
    most = max(rows, key=lambda row: abs(row.value or 0.0))
    rest = max((abs(row.value or 0.0) for row in rows if row is not most), default=0.0)
    told = "; ".join(f"{row.label} {row.note}" for row in rows)
    yield Story(
        "one-change-at-a-time",
        f"{most.label}: {_signed(most, 2)} nats; each other change: {rest:.2f} at most" if len(rows) > 1 else "",
        one_panel(lambda axes: _draw_changes(rows, axes)),
        f"What each change of recipe does to the final loss, in the mean over {paired} of {size} parameters, with its "
        "90% interval. One that holds 0 shows nothing.",
        f"A row for each change with its interval: {told}.",
        "Seeds share first weights and the order of the text, so most of their noise cancels in the differences.",
    )  # fmt: skip


def _signed(row: plot.Row, digits: int) -> str:
    value, low, high = (f"{v:+.{digits}f}".replace("-", "−") for v in (row.value or 0.0, row.low, row.high))
    return f"{value} [{low}, {high}]"


def _draw_changes(rows: list[plot.Row], axes: Axes) -> None:
    plot.plot_intervals(rows, axes).axvline(0, color=plot.FAINT, linestyle=":")
    axes.set_xlabel("change of the final loss (nats)")


# ---- a grid ----------------------------------------------------------------------


def _grid(grid: Grid, end: str, truth: float | None) -> Iterator[Story]:
    fit, verdict, b = grid.fit, grid.fit.verdict(), grid.held_out
    letters = {"alpha": "α", "beta": "β", "E": "floor E"}
    values = ", ".join(f"{v} = {plot.bracket(fit.params[k], *fit.parameter_interval(k))}" for k, v in letters.items())
    rest, pooled = f"{100 * plot.scatter(fit):.1f}%", ", several forms pooled" if fit.pooled else ""

    def both(figure: Figure) -> None:
        for axes, variable in zip(figure.subplots(1, 2), "DN", strict=True):
            plot_grid(grid, variable, axes)
            draw_truth(truth, grid.table.loss, axes)
            axes.legend(title=THING["N" if variable == "D" else "D"], loc="center left", bbox_to_anchor=(1, 0.5))

    yield Story(
        f"joint-law{end}",
        f"One law of size and tokens does not hold for these runs: {verdict.level}" if verdict.refused else
        f"One law of size and tokens leaves {len(grid.runs)} runs a scatter of {rest}{doubt(fit)}",
        both,
        f"{recipe_name(grid.recipe)}. Chinchilla's form: {values}; {verdict.level}. Lines are one law for all "
        f"runs{pooled}: where points leave theirs, it is wrong.",
        "Loss against tokens with a line for each size, and against size with a line for each length."
        + (f" The known entropy, {truth:.3f}, is a dotted line." if truth else ""),
        f"The verdict in full: {verdict}.",
    )  # fmt: skip
    line, nearest = (f"{100 * np.abs(error).mean():.1f}%" for error in (b.line_error, b.nearest_error))
    errs = f"{100 * b.mean_abs_error:.1f}%, a straight line by {line}"
    yield Story(
        f"held-out{end}",
        f"The largest runs, hidden: {plot.NO_PREDICTION}; the law would have erred by {errs}" if b.verdict.refused else
        f"The largest runs, hidden and predicted: the law errs by {errs}",
        one_panel(lambda axes: plot_held_out(grid, axes)),
        f"The largest size and the longest runs, predicted from the rest: {int(b.covered.sum())} of {b.covered.size} "
        "lie inside the 90% interval of a new run (whiskers). Errors are means; the line is in the logarithms; the "
        f"nearest trained run errs by {nearest}. Verdict there: {b.verdict.level}.",
        "Predicted against observed losses of the held-out runs, with intervals, about the diagonal.",
        "A law has shown something only where it beats both baselines on runs that it never saw.",
    )  # fmt: skip
    try:
        found = grid_isoflop(grid)
    except InputError:
        return
    inside = int(found.used.sum())
    yield Story(
        f"isoflop{end}",
        f"Ten times the compute pay for a model {10**found.a:.1f} times as large, by parabolas" if inside > 2 else
        f"Of {len(found.budgets)} budgets, {inside} have their best size well inside those tried: too few for a law",
        one_panel(lambda axes: plot_isoflop(found, isoflop_points(grid), axes)),
        f"Loss against size at {len(found.budgets)} budgets, interpolated in the grid; stars are minima inside the "
        f"sizes tried, {inside} of {len(found.budgets)}. N* grows as C^{found.a:.2f}: no interval, "
        "since the budgets share runs.",
        "Parabolas of loss against size, one for each compute budget; minima move to larger sizes.",
        "A parabola is only the loss's local shape, and where sizes lie to one side of the minimum it is biased.",
    )  # fmt: skip


def _floors(runs: Sequence[Run]) -> Story:
    floors = known_floors(runs)
    joint, truth = floors[-1], floors[0].truth
    verdict, ends = joint.fit.verdict(), plot.bracket(joint.fit.params["E"], joint.low, joint.high)
    said = f"{ends}, {'holds' if joint.holds else 'misses'} it"
    if verdict.refused:
        said = f"has no number ({verdict.level})"
    levels = [f.fit.verdict() for f in floors]
    rows = [
        plot.Row(f.name, None, note=f"{plot.NO_PREDICTION}: {at.level}")
        if at.refused
        else plot.Row(f.name, f.fit.params["E"], f.low, f.high, at.level)
        for f, at in zip(floors, levels, strict=True)
    ]

    def draw(axes: Axes) -> None:
        plot.plot_intervals(rows, axes, truth=truth)
        axes.set_xlabel("floor E (nats per token), with its 90% interval")

    return Story(
        "floors", f"The text's entropy is {truth:.3f}: the joint law's floor, {said}", one_panel(draw),
        "Floors with 90% intervals. A ladder in N at one number of tokens has a floor of its own: what endless "
        "parameters reach with that much data. Only the joint law's floor means the language.",
        "A row for each fit: its floor with an interval, beside the known entropy.",
        f"Verdict on the joint law: {verdict}.",
    )  # fmt: skip


# ---- rates -----------------------------------------------------------------------


def _rates(runs: Sequence[Run], rule: Rule) -> Iterator[Story]:
    scans = rate_scans(runs, rule)
    outside, loses = sum(not s.interior for s in scans), 100 * max(s.rule_excess for s in scans)
    # The rule was made for rotary models: to learned positions it is only compared.
    learned = runs[0].config.model.positions == "learned"
    other = " It was made for rotary positions; these runs have learned ones." if learned else ""
    rule_loses = f"; the width rule loses at most {loses:.1f}%" if np.isfinite(loses) and not other else ""
    yield Story(
        "rates",
        f"In {outside} of {len(scans)} scans the best learning rate lies at the edge of those tried" if outside else
        f"The best learning rate lies inside those tried in all {len(scans)} scans{rule_loses}",
        lambda figure: plot_rates(runs, rule, figure),
        f"A panel for each number of tokens, a curve for each width; dotted: the width rule's rate.{other}",
        "Loss against peak learning rate, a panel for each number of tokens and a curve for each width, with the "
        "rate of the width rule dotted.",
        "A law is only as good as the tuning behind each of its points: an untuned rate at the large sizes bends it."
        f"\n\n{rate_report(runs, rule).strip()}",
    )  # fmt: skip
