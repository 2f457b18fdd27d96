"""The slides of a talk that show a sweep's figures: what each of them says, with numbers from the records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import backtests
from scaling_lib.fit.result import FitResult
from scaling_lib.runs import Run
from scaling_lib.show.figures import WAY, grid_isoflop
from scaling_lib.show.grids import Grid, find_grids
from scaling_lib.show.ladders import Ladder, find_ladders, short
from scaling_lib.show.rates import is_rate_study
from scaling_lib.show.slides import Slide
from scaling_lib.show.versus import Change, Versus, compare_recipes

RECIPES, SCALING, FAR, LIMITS = "V1 against V2", "Scaling", "Extrapolation", "Limits"
ENOUGH_MINIMA = 3  # through two points any line passes
MOST_ROWS = 12  # of a table on one slide


@dataclass(frozen=True)
class Sweep:
    """One sweep of the talk: its name, its records, and its figures' files by their names."""

    name: str
    runs: tuple[Run, ...]
    pictures: dict[str, Path]

    @cached_property
    def ladders(self) -> dict[str, list[Ladder]]:
        """By variable; none for a study of rates."""
        found = [] if is_rate_study(self.runs) else find_ladders(self.runs)
        return {v: [x for x in found if x.variable == v] for v in "ND"}

    @cached_property
    def grids(self) -> list[Grid]:
        return [] if is_rate_study(self.runs) else find_grids(self.runs)

    @property
    def source(self) -> str:
        first = self.runs[0]
        return (
            f"{self.name}: {len(self.runs)} runs on {first.corpus['name']}, vocabulary "
            f"{first.config.model.vocab_size:,}"
        )

    def slide(self, picture: str, section: str, title: str, points: Sequence[str], notes: str) -> Slide:
        """A slide with one of the sweep's figures, its caption and its description."""
        path = self.pictures[picture]
        caption, alt = words(path)
        said = f"{notes}\n\nCaption: {caption}\n\nFor who cannot see the figure: {alt}\n\nSource: {self.source}."
        return Slide(section, title, tuple(points), "", path, alt, caption, (), said, self.source)


def words(picture: Path) -> tuple[str, str]:
    """Caption and description, which stand beside every exported figure."""
    caption, _, alt = picture.with_suffix(".txt").read_text(encoding="utf-8").partition("\n\nDescription: ")
    return " ".join(caption.split()), " ".join(alt.split())


# ---- V1 against V2 ---------------------------------------------------------------


def recipes(sweep: Sweep) -> Iterator[Slide]:
    """What each recipe is, where V1 ends and V2, and which change does it."""
    if "v1-against-v2" not in sweep.pictures:
        return
    yield _recipe_table(sweep)
    there = {r.config.train.recipe for r in sweep.runs}
    versus = compare_recipes(sweep.runs, sweep.name, [name for name in WAY if name in there])
    last = versus.changes[-1]
    first, vocabulary = max(r.first_loss or 0.0 for r in sweep.runs), sweep.runs[0].config.model.vocab_size
    yield sweep.slide(
        "v1-against-v2",
        RECIPES,
        f"At {last.model}, {last.before} ends at {last.loss_before:.2f} nats and {last.after} at {last.loss_after:.2f}",
        (
            f"Both start at {first:.2f}: ln {vocabulary:,} = {np.log(vocabulary):.2f} is the loss of knowing nothing",
            f"From {last.before} to {last.after}: {last}",
            f"{last.seeds} seed{'s' if last.seeds > 1 else ''}",
        ),
        "A loss of ln(vocabulary) is not a bad model: it is a model before it has learnt anything.",
    )
    if "one-change-at-a-time" in sweep.pictures and versus.way:
        yield _one_change(sweep, versus)


def _one_change(sweep: Sweep, versus: Versus) -> Slide:
    most = min(versus.way, key=lambda c: c.change)
    return sweep.slide(
        "one-change-at-a-time",
        RECIPES,
        f"The largest step: from {most.before} to {most.after}, {most.change:+.2f} nats",
        [_step(c) for c in versus.way],
        "Each recipe keeps what the one before it changed. Seeds are paired, so most of the noise cancels. An interval "
        "that holds 0 means that the change has not been shown to do anything.",
    )


def _step(c: Change) -> str:
    return f"{c.before} to {c.after}: {c}"


def _recipe_table(sweep: Sweep) -> Slide:
    rows = [("recipe", "rate", "warm-up", "weight decay", "steps", "runs")]
    for name in WAY:
        own = [r for r in sweep.runs if r.config.train.recipe == name]
        if own:
            steps = sorted({r.config.train.max_steps for r in own})
            t = own[0].config.train
            rows.append(
                (
                    name.upper(),
                    {"constant": "constant", "cosine": "cosine to 0"}.get(t.schedule, t.schedule),
                    f"{t.warmup_steps / t.max_steps:.0%} of the steps" if t.warmup_steps else "none",
                    f"{t.weight_decay:g}",
                    f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}",
                    f"{len(own)}",
                )
            )
    return Slide(
        RECIPES,
        "From V1 to V2, one change at a time",
        ("Same models, same text, same order of the data for the same seed",),
        table=tuple(rows),
        notes=f"Read from the records' own configuration. Source: {sweep.source}.",
        source=sweep.source,
    )


# ---- scaling ---------------------------------------------------------------------


def scaling(sweep: Sweep) -> Iterator[Slide]:
    """The laws in size and in tokens, the curves they rest on, and the joint law."""
    for variable, name, what in (("N", "parameter-scaling", "size"), ("D", "data-scaling", "tokens")):
        ladders = sweep.ladders[variable]
        if not ladders or name not in sweep.pictures:
            continue
        yield sweep.slide(
            name, SCALING, _law_title(ladders[-1], what), [_law_point(x) for x in ladders],
            "Points are final losses, the line is the fitted law, dashed beyond the data. A law that is refused is not "
            "drawn.",
        )  # fmt: skip
        curves = f"curves-by-{'size' if variable == 'N' else 'length'}"
        if curves in sweep.pictures:
            yield sweep.slide(
                curves, SCALING, _curve_title(ladders[-1]),
                ("The law is fitted to the ends of these curves", "A point is the mean since the point before it"),
                "Only the end of a run's own schedule is a fair loss for a law: a point on the way is not annealed.",
            )  # fmt: skip
    for grid in sweep.grids:
        yield from _grid(sweep, grid, f"-{grid.recipe}" if len(sweep.grids) > 1 else "")


def _law_title(ladder: Ladder, what: str) -> str:
    e, name = ladder.fit, ladder.recipe.upper()
    if e is None or e.verdict().refused:
        return f"{name}: more {what}, and no law that these runs can bear"
    symbol = "alpha" if ladder.variable == "N" else "beta"
    return f"{name}: the loss falls with {what}, exponent {e.params[symbol]:.2f} ({e.verdict().level})"


def _law_point(ladder: Ladder) -> str:
    name, fit = ladder.recipe.upper(), ladder.fit
    if fit is None:
        return f"{name}: no fit"
    verdict = fit.verdict()
    if verdict.refused:
        return f"{name}: {verdict.level}"
    symbol, letter = ("alpha", "α") if ladder.variable == "N" else ("beta", "β")
    return f"{name}: {letter} = {_interval(fit, symbol)}, floor E = {_interval(fit, 'E')}; {verdict.level}"


def _interval(fit: FitResult, name: str) -> str:
    low, high = fit.parameter_interval(name)
    return f"{fit.params[name]:.2f} [{low:.2f}, {high:.2f}]"


def _curve_title(ladder: Ladder) -> str:
    i, j = int(np.argmin(ladder.x)), int(np.argmax(ladder.x))
    unit = "parameters" if ladder.variable == "N" else "tokens"
    return (
        f"From {short(ladder.x[i])} to {short(ladder.x[j])} {unit}, the final loss goes from {ladder.loss[i]:.2f} to "
        f"{ladder.loss[j]:.2f} nats"
    )


def _grid(sweep: Sweep, grid: Grid, end: str) -> Iterator[Slide]:
    fit, verdict = grid.fit, grid.fit.verdict()
    if f"joint-law{end}" in sweep.pictures:
        points = [f"{letter} = {_interval(fit, n)}" for n, letter in (("alpha", "α"), ("beta", "β"), ("E", "floor E"))]
        yield sweep.slide(
            f"joint-law{end}", SCALING,
            f"One law for {len(grid.runs)} runs leaves {100 * fit.sigma:.1f}% of scatter ({verdict.level})",
            [f"{grid.recipe.upper()}, with 90% intervals:", *points],
            "Lines are one joint law, not a fit for each size. Where points leave their line, the law is wrong there.",
        )  # fmt: skip
    if f"isoflop{end}" in sweep.pictures:
        try:
            found = grid_isoflop(grid)
        except InputError:
            return
        inside = int(np.sum(found.used))
        title = f"At equal cost the best size grows as the budget to the power {found.a:.2f}"
        if inside < ENOUGH_MINIMA:
            title = "At equal cost there is a best size; how it grows takes more minima than these"
        yield sweep.slide(
            f"isoflop{end}", SCALING, title,
            (
                f"{inside} of {len(found.budgets)} budgets have their minimum inside the sizes tried",
                f"Through those minima: N* ~ C^{found.a:.2f}, without an interval, since the budgets share runs",
                "Interpolated in the grid: no run was trained for a budget",
            ),
            "Minima that lie at the end of the sizes tried are not used.",
        )  # fmt: skip


# ---- extrapolation and limits ----------------------------------------------------


def far(sweep: Sweep) -> Iterator[Slide]:
    """The laws far beyond the runs, and on the largest runs that they never saw."""
    for variable in "ND":
        ladders, name = sweep.ladders[variable], f"extrapolation-{variable.lower()}"
        if not ladders or name not in sweep.pictures:
            continue
        fit, largest = ladders[-1].fit, float(ladders[-1].x.max())
        said = [f"{times:,} times: {_said(fit, times * largest)}" for times in (3, 10, 1000)]
        what = "size" if variable == "N" else "tokens"
        yield sweep.slide(
            name, FAR, f"{ladders[-1].recipe.upper()}, 1,000 times the {what}: {_said(fit, 1000 * largest)}", said,
            "The grey strip is where the runs are. What lies outside it is an extrapolation, and the band must widen.",
        )  # fmt: skip
    for grid in sweep.grids:
        name = f"held-out-{grid.recipe}" if len(sweep.grids) > 1 else "held-out"
        if name in sweep.pictures:
            b = grid.held_out
            yield sweep.slide(
                name, FAR, f"The largest runs, hidden and predicted: a mean error of {100 * b.mean_abs_error:.1f}%",
                (
                    f"A straight line in the logarithms: {100 * np.abs(b.line_error).mean():.1f}%",
                    f"The nearest trained run: {100 * np.abs(b.nearest_error).mean():.1f}%",
                    f"Inside the 90% interval: {int(b.covered.sum())} of {b.covered.size}",
                    f"Verdict there: {b.verdict.level}",
                ),
                "A law has shown something only where it beats both baselines on runs that it never saw.",
            )  # fmt: skip


def _said(fit: FitResult | None, x: float) -> str:
    if fit is None:
        return "no fit"
    verdict = fit.verdict(x)
    if verdict.refused:
        return f"no prediction ({verdict.level})"
    low, high = fit.interval(x, level=0.9)
    return f"{fit.predict(x):.2f} nats [{low:.2f}, {high:.2f}] ({verdict.level})"


def back_tests(sweep: Sweep) -> Slide:
    """Published families predicted from their smaller kin."""
    results = {
        "Cerebras-GPT, from 5 models": backtests.cerebras()[5],
        "Pythia, N without embeddings": backtests.pythia()["non_embedding"],
        "Pythia, N in all": backtests.pythia()["total"],
    }
    points = [f"{name}: {100 * r.error[np.argmax(np.abs(r.error))]:+.1f}% at worst" for name, r in results.items()]
    farthest = max(float(r.span.max()) for r in results.values())
    slide = sweep.slide(
        "back-tests", FAR, f"Published families, predicted from smaller kin: up to {farthest:.0f} times the compute",
        (*points, "How parameters are counted decides"),
        "A claim that reaches further than these tests did is not covered by them.",
    )  # fmt: skip
    source = "Dey et al. 2023 (Cerebras-GPT); Biderman et al. 2023 (Pythia)"
    return replace(slide, source=source, notes=slide.notes.replace(sweep.source, source))


def left_over(sweep: Sweep) -> Iterator[Slide]:
    """What the law in N does not explain, and the scans of a study of rates."""
    ladders = sweep.ladders["N"]
    if ladders and ladders[-1].fit is not None and "residuals-n" in sweep.pictures:
        fit = ladders[-1].fit
        yield sweep.slide(
            "residuals-n", LIMITS,
            f"{ladders[-1].recipe.upper()}: what the law in size leaves over, {100 * fit.sigma:.2f}% of the loss",
            (
                f"Largest: {100 * np.abs(fit.residuals).max():.2f}%",
                f"{fit.n_points} runs, {fit.dof} degrees of freedom",
                "A bend would say that the form is wrong",
            ),
            "Residuals show what R-squared hides.",
        )  # fmt: skip
    if "rates" in sweep.pictures:
        yield sweep.slide(
            "rates", LIMITS, "A law is only as good as the tuning behind each of its points",
            ("Each curve: one width, several peak rates", "The optimum must lie inside the rates tried"),
            "An untuned rate at the large sizes bends a law upwards.",
        )  # fmt: skip


def exponents(sweeps: Sequence[Sweep]) -> Iterator[Slide]:
    """Every exponent in one native table; nothing where no sweep has one."""
    rows = []
    for s in sweeps:
        for x in [*s.ladders["N"], *s.ladders["D"]]:
            rows.append((s.name, x.recipe.upper(), f"L({x.variable})", *_cells(x.fit, x.variable)))
        for g in s.grids:
            rows += [(s.name, g.recipe.upper(), "L(N, D)", *_cells(g.fit, v)) for v in "ND"]
    more = f" Left out for want of room: {len(rows) - MOST_ROWS} more." if len(rows) > MOST_ROWS else ""
    if rows:
        yield Slide(
            LIMITS,
            "All exponents, and whether they may be believed",
            table=(("sweep", "recipe", "law", "exponent, 90% interval", "verdict"), *rows[:MOST_ROWS]),
            notes="Exponents compare across texts, losses do not." + more,
            source="; ".join(s.source for s in sweeps),
        )


def _cells(fit: FitResult | None, variable: str) -> tuple[str, str]:
    if fit is None:
        return "-", "no fit"
    verdict = fit.verdict()
    symbol, letter = ("alpha", "α") if variable == "N" else ("beta", "β")
    return ("-" if verdict.refused else f"{letter} = {_interval(fit, symbol)}"), verdict.level
