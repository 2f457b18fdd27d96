"""A talk about sweeps: a list of slides (headline, figure, caption, notes).

Headlines are messages, computed from the records. Every interval on a slide holds 90%, in brackets or as a band of the
law's mean; where a verdict refuses, "no prediction" stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling_lib.fit import published
from scaling_lib.runs import Run
from scaling_lib.show import plot
from scaling_lib.show.changes import of_recipe
from scaling_lib.show.deck import TITLE, Slide, save_slides
from scaling_lib.show.extrapolation import plot_at_models
from scaling_lib.show.figures import WAY, back_tests, plot_recipes
from scaling_lib.show.grids import Grid, find_grids, plot_grid, plot_held_out
from scaling_lib.show.ladders import Ladder, find_ladders, short, text_of
from scaling_lib.show.published import JOINT, known_models
from scaling_lib.show.rates import is_rate_study, plot_rates, rate_scans
from scaling_lib.show.sliders.sources import published_source
from scaling_lib.show.studies import known_floors
from scaling_lib.show.versus import compare_recipes, sides
from scaling_lib.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DECK = "talk.pptx"
MOST_ROWS = 9  # of a table on one slide
FAR = 1000.0
NAMES = {"v1": "V1", "v1-long": "V1, V2's steps", "v1-warmup": "… + warm-up", "v1-cosine": "… + cosine decay",
         "v2": "V2", "wsd": "Warm-up, stable, decay"}  # fmt: skip
CHANGES = {"v1-long": "V2's number\nof steps", "v1-warmup": "then warm-up", "v1-cosine": "then cosine\ndecay",
           "v2": "then weight\ndecay"}  # fmt: skip


def save_talk(
    sweeps: Sequence[tuple[str, Sequence[Run]]], out: Path, rule: Callable[[int], float] | None = None
) -> Path:
    """Write ``out/talk.pptx`` about sweeps (name and records of each) and return its path.

    ``rule`` : d_model -> the peak rate by the width rule, for a study of rates. Raises ``InputError`` where the folder
    cannot be written.
    """
    return save_slides(tell(sweeps, rule), out / DECK)


def tell(sweeps: Sequence[tuple[str, Sequence[Run]]], rule: Callable[[int], float] | None = None) -> list[Slide]:
    """The slides of the talk, cover first."""
    hours = sum(r.seconds for _, runs in sweeps for r in runs) / 3600
    count = sum(len(runs) for _, runs in sweeps)
    cover = Slide(TITLE, [f"{count} small language models, {hours:.1f} hours of training in all",
                          *dict.fromkeys(_about(runs) for _, runs in sweeps)],
                  notes="Every number comes from these runs' records, or from a source that is named.")  # fmt: skip
    own = [slide for _, runs in sweeps for slide in _sweep(runs, rule)]
    return [cover, *_theory(), *own, *_others(), *_all_exponents(sweeps), *_end(sweeps)]


def _about(runs: Sequence[Run]) -> str:
    return f"{len(runs)} runs on {text_of(runs[0])}, vocabulary {runs[0].config.model.vocab_size:,}"


def _name(recipe: str) -> str:
    return NAMES.get(recipe, recipe.upper())


# ---- what a law is ---------------------------------------------------------------


def _theory() -> Iterator[Slide]:
    yield Slide(
        "A scaling law is a power law above a floor", _draw_form,
        "L(N) = E + A / N^α. The floor E is what no size removes, at best the entropy of the text. Twice the size "
        "divides the gap to the floor by 2^α, whatever the size. Tokens do the same: L(D) = E + B / D^β.",
        "A made law. Form with a free floor: Henighan et al. 2020; without one: Kaplan et al. 2020.",
    )  # fmt: skip
    yield Slide(
        "A verdict, not R-squared, says whether a law may be believed",
        [
            ("verdict", "what it means"),
            ("supported", "the runs bear the prediction, within its interval"),
            ("weak", "a number with a doubt that is named: few runs, a wide interval, a target far away"),
            ("not identifiable", "no prediction: the runs cannot tell the parameters apart there"),
            ("no trend", "no law: the losses do not fall beyond their noise"),
        ],
        "R-squared is near 1 for any smooth fall. The test that counts: hide the largest runs, predict them, look.",
        "Explain the four words before the first figure: every later slide uses them.",
    )


def _draw_form(figure: Figure) -> None:
    axes, n = figure.add_subplot(), np.geomspace(1e5, 1e9, 60)
    axes.plot(n, 1.5 + 2.0 * (n / 1e5) ** -0.3, color=plot.look(0)[0], label="loss")
    axes.axhline(1.5, color=plot.look(1)[0], linestyle="--", label="floor E")
    for at in (1e6, 2e6):
        axes.annotate("", (at, 1.5), (at, 1.5 + 2.0 * (at / 1e5) ** -0.3), arrowprops={"arrowstyle": "<->", "lw": 1.5})
    axes.annotate("twice the size: 1/2$^α$ of the gap", (2e6, 1.65), (12, 0), textcoords="offset points", va="center")
    plot.count_axis(axes)
    axes.set(xlabel="parameters N", ylabel="loss (nats per token)", ylim=(1.3, 3.6))
    axes.legend()


# ---- one sweep -------------------------------------------------------------------


def _sweep(runs: Sequence[Run], rule: Callable[[int], float] | None) -> Iterator[Slide]:
    """What a sweep's records say, as far as they can; every caption begins with what was trained."""
    for slide in _rates(runs, rule) if is_rate_study(runs) else _laws(runs):
        yield slide._replace(caption=f"{_about(runs)}. {slide.caption}")


def _laws(runs: Sequence[Run]) -> Iterator[Slide]:
    yield from _recipes(runs)
    ladders = find_ladders(runs)
    for variable in "ND":
        own = [x for x in ladders if x.variable == variable and x.fit]
        if own:
            yield _law(own, runs)
    yield from _far([x for x in ladders if x.recipe == ladders[-1].recipe])
    for grid in find_grids(runs):
        yield from _grid(grid)
    if runs[0].corpus.get("entropy_rate") is not None and len(find_grids(runs)) == 1:
        yield _floors(runs)


def _recipes(runs: Sequence[Run]) -> Iterator[Slide]:
    """V1 against V2 at the largest model that both trained with the same seeds."""
    there = [name for name in WAY if of_recipe(runs, name)]
    versus = compare_recipes(runs, "", there) if {"v1", "v2"} <= set(there) else None
    if versus is None or not versus.changes:
        return
    whole = versus.changes[-1]
    own = [r for r in runs if r.config.model == whole.cell]
    ends = "" if np.isnan(whole.low) else f" [{-whole.high:.2f}, {-whole.low:.2f}]"
    names = CHANGES if len(there) > 2 else {"v2": "V1 to V2"}
    rows = [plot.Row(names.get(b.recipe, b.label), c.change, c.low, c.high) for _, b, c in versus.way]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
        plot_recipes({_name(x): of_recipe(own, x) for x in there}, left)
        plot.plot_intervals(rows, right).axvline(0, color=plot.FAINT, linestyle=":")
        right.set(xlabel="change of the final loss (nats)")

    yield Slide(
        f"V2 ends {-whole.change:.2f}{ends} nats below V1",
        draw,
        f"At {short(own[0].counts['n_params_non_embedding'])} parameters, {counted(whole.seeds, 'paired seed')}. Left: "
        "validation loss along one run of each recipe. Right: what each change does to the final loss, with 90% "
        "intervals; one that holds 0 shows nothing.",
        "A loss of ln(vocabulary) is not a bad model: it is a model before it has learnt anything.",
    )


def _law(ladders: Sequence[Ladder], runs: Sequence[Run]) -> Slide:
    """L(N) or L(D) of every recipe; the headline is the last one's."""
    last, truth = ladders[-1], runs[0].corpus.get("entropy_rate")
    fit = last.fit
    assert fit is not None
    what, verdict = ("parameters" if last.variable == "N" else "tokens"), fit.verdict()
    headline = f"Twice the {what} remove {_halved(fit)} of what is left above the floor{_doubt(fit)}"
    if verdict.refused:
        headline = f"These runs do not say how the loss falls with {what}: {plot.NO_PREDICTION}"
        if verdict.level == "no trend":
            headline = f"The loss does not fall with {what} beyond its noise: there is no law"
    elif fit.law.param_names[-1] in fit.diagnostics["at_bound"]:
        headline = f"The loss falls to its floor so fast that these runs do not pin down the exponent of {what}"
    caption = f"{_name(last.recipe)}, {last.held}: {verdict if verdict.refused else plot.law_label(fit)}."
    if not verdict.refused:
        floor = plot.bracket(fit.params["E"], *fit.parameter_interval("E"))
        caption += f" Floor E = {floor}. {_band(fit)}"
    caption += f" The entropy of this text is known: {truth:.3f}." if truth else ""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for ladder in ladders:
            _draw(ladder, axes, 3.0)
        if truth:
            axes.axhline(truth, color="black", linestyle=":", label=f"known entropy {truth:.3f}")
            axes.set_ylim(bottom=min(axes.get_ylim()[0], truth - 0.05 * float(np.ptp(last.loss))))
        axes.legend(**({"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if len(ladders) > 2 else {}))

    return Slide(headline, draw, caption, "Points are final losses. A law that is refused is not drawn.")


def _band(fit: Any) -> str:
    return "Line and 90% band: several forms, pooled." if fit.pooled else "Band: 90% of the law's mean."


def _doubt(fit: Any) -> str:
    return " (weak)" if fit.verdict().level == "weak" else ""


def _halved(fit: Any) -> str:
    """What a doubling removes of the gap to the floor, 1 - 2^-exponent, with its interval."""
    symbol = fit.law.param_names[-1]
    share, low, high = (100 * (1 - 2.0**-v) for v in (fit.params[symbol], *fit.parameter_interval(symbol)))
    return f"{share:.0f}% [{low:.0f}, {high:.0f}]"


def _draw(ladder: Ladder, axes: Axes, beyond: float, named: bool = True) -> None:
    assert ladder.fit is not None
    label = plot.law_label(ladder.fit, _name(ladder.recipe) if named else "")
    plot.plot_law(ladder.fit, axes, beyond=beyond, label=label, look=plot.look_of(ladder.recipe), bands=("mean",))
    axes.set_xlabel(plot.AXIS[ladder.variable])


def _far(ladders: Sequence[Ladder]) -> Iterator[Slide]:
    """One recipe's laws, far beyond its runs."""
    own = [x for x in ladders if x.fit and not x.fit.verdict().refused]
    said, stops = [], []
    for x in own:
        fit = x.fit
        assert fit is not None
        most, end = float(x.x.max()), plot.reach(fit, FAR)
        at = min(10.0 * most, end)
        thing = "the largest model" if x.variable == "N" else "the longest run"
        times = "Ten" if at == 10 * most else f"{at / most:.2g}"
        said.append(f"{times} times {thing}: {plot.bracket(fit.predict(at), *fit.interval(at))} nats")
        stops.append(f"; beyond {end / most:.2g} times, {plot.NO_PREDICTION}" if end < 0.99 * FAR * most else "")

    def draw(figure: Figure) -> None:
        for axes, x in zip(figure.subplots(1, len(own), squeeze=False)[0], own, strict=True):
            _draw(x, axes, FAR, named=False)
            axes.axvspan(x.x.min(), x.x.max(), color="black", alpha=0.06, linewidth=0)
            axes.legend()

    if own:
        both = ". ".join(a + b for a, b in zip(said, stops, strict=True))
        yield Slide(said[0] + stops[0], draw,
                    f"{_name(own[0].recipe)}. {both}. Grey: where the runs are. {_band(own[0].fit)}",
                    "Outside the grey strip is an extrapolation; a law stops where its verdict refuses.")  # fmt: skip


def _grid(grid: Grid) -> Iterator[Slide]:
    fit, verdict, b = grid.fit, grid.fit.verdict(), grid.held_out
    letters = {"alpha": "α", "beta": "β", "E": "floor E"}
    values = ", ".join(f"{v} = {plot.bracket(fit.params[k], *fit.parameter_interval(k))}" for k, v in letters.items())

    def draw(figure: Figure) -> None:
        for axes, variable in zip(figure.subplots(1, 2), "DN", strict=True):
            plot_grid(grid, variable, axes).set_title("")
            axes.legend(title="parameters" if variable == "D" else "tokens", loc="center left", bbox_to_anchor=(1, 0.5))

    rest, pooled = f"{100 * plot.scatter(fit):.1f}%", ", several forms pooled" if fit.pooled else ""
    yield Slide(
        f"One law of size and tokens does not hold for these runs: {verdict.level}" if verdict.refused else
        f"One law of size and tokens leaves {len(grid.runs)} runs a scatter of {rest}{_doubt(fit)}", draw,
        f"{_name(grid.recipe)}. Chinchilla's form: {values}; {verdict.level}. Lines are one law for all "
        f"runs{pooled}: where points leave theirs, it is wrong.", f"The verdict in full: {verdict}.",
    )  # fmt: skip
    errs = f"{100 * b.mean_abs_error:.1f}%, a straight line by {100 * np.abs(b.line_error).mean():.1f}%"
    yield Slide(
        f"The largest runs, hidden: {plot.NO_PREDICTION}; the law would have erred by {errs}" if b.verdict.refused else
        f"The largest runs, hidden and predicted: the law errs by {errs}",
        lambda figure: plot_held_out(grid, figure.add_subplot()).set_title(""),
        f"{int(b.covered.sum())} of {b.covered.size} lie inside the 90% interval of a new run (whiskers). Mean errors; "
        f"the line is in the logarithms; the nearest trained run errs by {100 * np.abs(b.nearest_error).mean():.1f}%. "
        f"Verdict there: {b.verdict.level}.",
        "A law has shown something only where it beats both baselines on runs that it never saw.",
    )  # fmt: skip


def _floors(runs: Sequence[Run]) -> Slide:
    floors = known_floors(runs)
    joint, truth = floors[-1], floors[0].truth
    verdict, ends = joint.fit.verdict(), plot.bracket(joint.fit.params["E"], joint.low, joint.high)
    said = f"has no number ({verdict.level})"
    if not verdict.refused:
        said = f"{ends}, {'holds' if joint.holds else 'misses'} it"
    rows = []
    for f in floors:
        at = f.fit.verdict()
        rows.append(plot.Row(f.name, None if at.refused else f.fit.params["E"], f.low, f.high, at.level))

    def draw(figure: Figure) -> None:
        axes = plot.plot_intervals(rows, figure.add_subplot(), truth=truth)
        axes.set_xlabel("floor E (nats per token), with its 90% interval")

    return Slide(
        f"The text's entropy is {truth:.3f}: the joint law's floor, {said}",
        draw,
        "Floors with 90% intervals. A ladder in N at one number of tokens has a floor of its own: what endless "
        "parameters reach with that much data. Only the joint law's floor means the language.",
        f"Verdict on the joint law: {verdict}.",
    )


def _rates(runs: Sequence[Run], rule: Callable[[int], float] | None) -> Iterator[Slide]:
    if rule is None:
        return
    scans = rate_scans(runs, rule)
    outside = sum(not s.interior for s in scans)
    best = sum(s.rule_excess < 1e-9 for s in scans)
    yield Slide(
        f"In {outside} of {len(scans)} scans the best learning rate lies at the edge of those tried" if outside else
        f"Every best rate lies inside those tried; the width rule's own is the best in {best} of {len(scans)} scans",
        lambda figure: plot_rates(runs, rule, figure),
        "A panel for each number of tokens, a curve for each width; dotted: the width rule's rate.",
        "A law is only as good as the tuning behind each of its points: an untuned rate at the large sizes bends it.",
    )  # fmt: skip


# ---- around the sweeps -----------------------------------------------------------


def _others() -> Iterator[Slide]:
    tests = back_tests()
    yield Slide(tests.headline, tests.draw, tests.caption,
                "Dey et al. 2023 (Cerebras-GPT); Biderman et al. 2023 (Pythia). A claim that reaches further than "
                "these tests is not covered by them.")  # fmt: skip
    laws = [published_source(name) for name in JOINT]

    def draw(figure: Figure) -> None:
        for axes, source in zip(figure.subplots(1, len(laws)), laws, strict=True):
            plot_at_models(source, axes).set_title(source.title.partition(",")[0])
            axes.set_xlabel("parameters N, 20 tokens for each")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)

    yield Slide(
        "Published laws speak about texts of their own: compare exponents, not losses", draw,
        "; ".join(f"{source.title}: {source.text}" for source in laws) + ". Band: 90% of the law's mean, where a "
        "covariance is published. GPT-4's size and tokens are a rumour.",
        "; ".join(published.laws[name].source for name in JOINT),
    )  # fmt: skip


def _all_exponents(sweeps: Sequence[tuple[str, Sequence[Run]]]) -> Iterator[Slide]:
    """Every exponent in tables; nothing where there is one or none."""
    rows = [
        (text_of(runs[0]), _name(side.recipe), name.split(" of ")[1],
         plot.NO_PREDICTION if e.value is None else f"{name.split()[0]} = {plot.bracket(e.value, e.low, e.high)}",
         e.note)
        for _, runs in sweeps if not is_rate_study(runs)
        for side in sides(runs) for name, e in side.exponents.items()
    ]  # fmt: skip
    for first in range(0, len(rows) if len(rows) > 1 else 0, MOST_ROWS):
        yield Slide("All exponents, and whether they may be believed" + (", continued" if first else ""),
                    [("text", "recipe", "law", "exponent, 90% interval", "verdict"), *rows[first : first + MOST_ROWS]],
                    "Exponents compare across texts, losses do not.")  # fmt: skip


def _end(sweeps: Sequence[tuple[str, Sequence[Run]]]) -> Iterator[Slide]:
    counts = [r.counts for _, runs in sweeps for r in runs]
    n, d = (max(c[k] for c in counts) for k in ("n_params_non_embedding", "n_tokens"))
    gpt3 = known_models()[0]
    times = [f"{float(f'{ratio:.2g}'):,.0f}" for ratio in (gpt3.n_params / n, gpt3.n_tokens / d)]
    texts = " and ".join(sorted({text_of(runs[0]) for _, runs in sweeps}))
    yield Slide(
        "What these runs cannot say",
        [
            f"The largest model has {short(n)} parameters: {gpt3.name} is {times[0]} times as large.",
            f"The longest run saw {short(d)} tokens: {gpt3.name} saw {times[1]} times as many.",
            f"The text is {texts}: another one has another floor, and may have other exponents.",
            "Losses in nats per token are of one text and one tokenizer; they compare with no others.",
        ],
        notes="Say this before anybody asks about GPT-4.",
    )
    yield Slide(
        "Try it yourself",
        ["./run_experiments.sh demo: a first law on your own machine, in minutes",
         *(f"python -m scaling_lib summary {name}" for name, _ in sweeps),
         "python -m scaling_lib compare: a quick look against a real sweep"],
        notes="Sources: Kaplan et al. 2020; Henighan et al. 2020; Hoffmann et al. 2022; Besiroglu et al. 2024; "
        "Biderman et al. 2023 (Pythia); Dey et al. 2023 (Cerebras-GPT).",
    )  # fmt: skip
