"""What a sweep may answer beyond its laws: noise between seeds, one recipe against another, floors, retrained ladders.

One place decides which questions a folder of records can answer. Each study is plain data; the report prints it as a
table, and `sweep_numbers` gives it, and all else that the report prints, as JSON.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from scaling_lib.config import ModelConfig, TrainConfig
from scaling_lib.errors import InputError
from scaling_lib.fit.estimate import fit_power_law
from scaling_lib.fit.result import FitResult
from scaling_lib.runs import Run, check_poolable
from scaling_lib.show.changes import (
    LEAST_CELLS,
    LEAST_SEEDS,
    LEVEL,
    by_seed,
    cell_changes,
    effect_text,
    recipe_effect,
)
from scaling_lib.show.grids import Grid, find_grids, the_grid
from scaling_lib.show.ladders import Ladder, find_ladders, short
from scaling_lib.show.rates import is_rate_study, rate_numbers
from scaling_lib.words import table

LEAST_LADDERS, LEAST_FITTED = 10, 5  # retrained ladders; sizes fitted: three parameters and two more
# Reference and other: the whole way from V1's rate to V2, then its steps.
WAYS = (("v1-long", "v2"), ("v1-long", "v1-warmup"), ("v1-warmup", "v1-cosine"), ("v1-cosine", "v2"))


# ---- noise between seeds ---------------------------------------------------------


class Spread(NamedTuple):
    """The final losses (n_seeds,) of one recipe, model and length; ``relative`` : standard deviation over the mean."""

    recipe: str
    model: ModelConfig
    n_tokens: int
    losses: np.ndarray
    relative: float


def spreads(runs: Sequence[Run]) -> list[Spread]:
    """Every recipe, model and length with at least three finished seeds, smallest first."""
    cells: dict[tuple[ModelConfig, TrainConfig], list[Run]] = {}
    for r in (r for r in runs if r.finished):
        cells.setdefault((r.config.model, replace(r.config.train, seed=0)), []).append(r)
    found = []
    for (model, train), own in cells.items():
        losses = np.array([r.val_loss for r in own], dtype=float)
        if len(own) >= LEAST_SEEDS:
            relative = float(losses.std(ddof=1) / losses.mean())
            found.append(Spread(train.recipe, model, own[0].config.n_tokens, losses, relative))
    return sorted(found, key=lambda s: (s.recipe, s.model.d_model, s.n_tokens))


def pooled_relative(found: Sequence[Spread]) -> tuple[float, float, float]:
    """The relative standard deviation of the cells together, and its 90% interval (chi-squared).

    Of each recipe and model only the longest runs count: shorter ones share a trunk with them. Recipes still
    share first weights and data by seed, so the interval is a little too narrow where there are several.
    """
    longest = {(s.recipe, s.model): s for s in sorted(found, key=lambda s: s.n_tokens)}.values()
    dof = sum(len(s.losses) - 1 for s in longest)
    squares = sum((len(s.losses) - 1) * s.relative**2 for s in longest)
    low, high = (math.sqrt(squares / special.chdtri(dof, q)) for q in (0.05, 0.95))
    return math.sqrt(squares / dof), low, high


def _noise(runs: Sequence[Run], found: Sequence[Spread]) -> tuple[dict[str, Any], str]:
    """Seed noise cell by cell and pooled, and wsd against V2 where both are there."""
    relative, low, high = pooled_relative(found)
    data: dict[str, Any] = {"seed_noise": {"cells": len(found), "relative": relative, "low": low, "high": high}}
    rows = [
        {"s": s, "tokens": short(s.n_tokens), "seeds": len(s.losses), "mean": s.losses.mean()}
        | {"sd": s.losses.std(ddof=1)}
        for s in found
    ]
    told = table(rows, {"recipe": "{s.recipe}", "model": "{s.model.name}", "tokens": "{tokens}", "seeds": "{seeds}",
                        "mean loss": "{mean:.3f}", "sd": "{sd:.4f}", "sd / mean": "{s.relative:.2%}"})  # fmt: skip
    text = (
        f"Seed noise: final losses of runs that differ in their seed alone\n{told}\n"
        f"The longest runs together: {relative:.2%} of the loss (90% interval {100 * low:.2f} to {high:.2%}). The "
        "validation text is the same for all, so this is the noise of training alone."
    )
    if paired := cell_changes(runs, "v2", "wsd"):
        data["wsd_less_v2"] = [
            {"model": c.cell[0].name, "n_tokens": c.cell[1], "mean": c.change, "low": c.low, "high": c.high}
            for c in paired
        ]  # fmt: skip
        rows = [
            row | {"tokens": short(row["n_tokens"]), "share": c.change / c.before}
            for row, c in zip(data["wsd_less_v2"], paired, strict=True)
        ]
        told = table(rows, {"model": "{model}", "tokens": "{tokens}", "nats": "{mean:+.4f}",
                            "90% interval": "[{low:+.4f}, {high:+.4f}]",
                            "share of the loss": "{share:+.2%}"})  # fmt: skip
        text += f"\n\nwsd less V2's cosine, paired by seed\n{told}"
    return data, text


# ---- floors where the entropy is known -------------------------------------------


class Floor(NamedTuple):
    """One fit's floor E with its 90% interval, nats per token, beside the language's entropy.

    n_tokens : of the slice L(N) that was fitted; None for the joint law. A ladder in N at one token count has a floor
    of its own: what endless parameters would reach with *that much data*. Only the joint law's means the language.
    """

    n_tokens: float | None
    truth: float
    fit: FitResult
    low: float
    high: float

    @property
    def name(self) -> str:
        return f"L(N) at {short(self.n_tokens)} tokens" if self.n_tokens else "joint law L(N, D)"

    @property
    def holds(self) -> bool:
        """Whether the interval contains the truth."""
        return self.low <= self.truth <= self.high


def known_floors(runs: Sequence[Run]) -> list[Floor]:
    """The floor of L(N) at every token count of a grid, shortest first, and last that of the joint law.

    Raises InputError where the text has no known entropy, or the records hold no grid.
    """
    truth = runs[0].corpus.get("entropy_rate") if runs else None
    if truth is None:
        raise InputError(
            "the entropy of this text is not known; train on random-walk or hierarchy (--mode known-entropy)"
        )
    grid = the_grid(runs)
    n, d, loss = grid.table.get("N"), grid.table.get("D"), grid.table.loss
    fits: list[tuple[float | None, FitResult]] = [
        (x, fit_power_law(n[d == x], loss[d == x])) for x in np.unique(d).tolist()
    ]
    return [Floor(x, float(truth), fit, *fit.parameter_interval("E")) for x, fit in [*fits, (None, grid.fit)]]


def _floors(floors: Sequence[Floor]) -> tuple[dict[str, Any], str]:
    truth = floors[0].truth
    rows = [
        {"n_tokens": f.n_tokens, "E": f.fit.params["E"], "low": f.low, "high": f.high, "holds": f.holds,
         "verdict": f.fit.verdict().level}
        for f in floors
    ]  # fmt: skip
    told = [
        row | {"fit": f.name, "said": "yes" if f.holds else "no", "lowest": np.min(f.fit.data["loss"])}
        for f, row in zip(floors, rows, strict=True)
    ]
    columns = {"fit": "{fit}", "E": "{E:.3f}", "90% interval": "{low:.3f} to {high:.3f}", "holds": "{said}",
               "lowest loss": "{lowest:.3f}", "verdict": "{verdict}"}  # fmt: skip
    title = f"The floor, where the truth is known: true E = {truth:.3f} nats per token"
    return {"true_floor": truth, "floors": rows}, f"{title}\n{table(told, columns)}"


# ---- ladders that were trained again ---------------------------------------------


class Retrained(NamedTuple):
    """Trials with the ``hidden`` largest sizes left out and the largest predicted, ``span`` times beyond the fit.

    observed, predicted, low, high : (trials,) losses in nats per token, and the 90% interval of a new run. refused :
    trials whose verdict allowed no prediction; they are not among the arrays. held : how many intervals held.
    half_width : their median half-width, as a share of the loss; NaN where every trial was refused.
    """

    hidden: int
    span: float
    refused: int
    observed: np.ndarray
    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    held: int
    half_width: float


def retrained_coverage(runs: Sequence[Run], hide: int = 1) -> Retrained:
    """Do intervals hold on real models? Fit every seed's ladder without its ``hide`` largest sizes, predict the last.

    Parameters
    ----------
    runs : one recipe, one length, the same five or more sizes (after hiding) with ten or more seeds.

    Raises InputError for fewer sizes or seeds than that, or more than one recipe or length.
    """
    check_poolable(runs)
    kinds = {(r.config.train.recipe, r.config.n_tokens) for r in runs}
    if len(kinds) != 1:
        raise InputError(f"the runs are of {len(kinds)} recipes or lengths; retrained ladders must be of one")
    sizes, ladders = _whole_ladders(runs)
    if hide < 1 or len(sizes) - hide < LEAST_FITTED or len(ladders) < LEAST_LADDERS:
        raise InputError(
            f"{len(ladders)} whole ladders of {len(sizes)} sizes with {hide} hidden: at least {LEAST_LADDERS} ladders "
            f"and {LEAST_FITTED} fitted sizes are needed; --mode coverage trains such a sweep"
        )
    fitted, target = np.array(sizes[:-hide]), sizes[-1]
    fits = [fit_power_law(fitted, losses[:-hide]) for losses in ladders]
    rows = [
        (losses[-1], fit.predict(target), *fit.interval(target, level=LEVEL, kind="new_run"))
        for losses, fit in zip(ladders, fits, strict=True) if not fit.verdict(target).refused
    ]  # fmt: skip
    observed, predicted, low, high = np.array(rows, dtype=float).reshape(-1, 4).T
    held = int(np.sum((low <= observed) & (observed <= high)))
    half_width = float(np.median((high - low) / 2 / observed)) if rows else math.nan
    refused = len(fits) - len(rows)
    return Retrained(hide, target / fitted[-1], refused, observed, predicted, low, high, held, half_width)


def _whole_ladders(runs: Sequence[Run]) -> tuple[list[float], list[np.ndarray]]:
    """The sizes (n,), and the losses (n,) at them of every seed that finished them all."""
    seeds = by_seed(runs, lambda r: r.counts["n_params_non_embedding"])
    common = sorted(set.intersection(*map(set, seeds.values()))) if seeds else []
    return sorted(seeds), [np.array([seeds[n][seed] for n in sorted(seeds)]) for seed in common]


def _retrained(runs: Sequence[Run]) -> list[Retrained]:
    """With one to three sizes hidden, as long as five are left; none where the runs are no such sweep."""
    found = []
    for hide in (1, 2, 3):
        with contextlib.suppress(InputError):
            found.append(retrained_coverage(runs, hide))
    return found


def exact_share(held: int, total: int) -> tuple[float, float]:
    """The 90% interval of a probability of which ``held`` of ``total`` trials are known, after Clopper and Pearson."""
    tail = (1.0 - LEVEL) / 2.0
    low = special.betaincinv(held, total - held + 1, tail) if held else 0.0
    high = special.betaincinv(held + 1, total - held, 1.0 - tail) if held < total else 1.0
    return float(low), float(high)


def _coverage(trials: Sequence[Retrained]) -> tuple[dict[str, Any], str]:
    rows, told = [], []
    for t in trials:
        total, said = len(t.observed), {"told": "none predicted", "wide": "", "error": ""}
        rows.append({"hidden": t.hidden, "span": t.span, "held": t.held, "trials": total, "refused": t.refused,
                     "half_width": t.half_width})  # fmt: skip
        if total:
            low, high = exact_share(t.held, total)
            share = f"{t.held / total:.0%} (90% interval {low:.0%} to {high:.0%})"
            said = {"told": f"{t.held} of {total}, {share}", "wide": f"{t.half_width:.2%}",
                    "error": f"{np.mean(t.predicted / t.observed - 1):+.2%}"}  # fmt: skip
        told.append(rows[-1] | said)
    columns = {"hidden": "{hidden}", "beyond": "{span:.1f}x", "held": "{told}", "refused": "{refused}",
               "median half-width": "{wide}", "mean error": "{error}"}  # fmt: skip
    title = "Retrained ladders: does the 90% interval of a new run hold the hidden largest size?"
    return {"retrained": rows}, f"{title}\n{table(told, columns)}"


# ---- all of them -----------------------------------------------------------------


def study_texts(runs: Sequence[Run]) -> list[str]:
    """The answers in words and tables, one text for each question that these runs can answer."""
    return [text for _, text in _studies(runs)]


def study_numbers(runs: Sequence[Run]) -> dict[str, Any]:
    """The same answers as plain data, not rounded; without the questions that these runs cannot answer."""
    return {key: value for data, _ in _studies(runs) for key, value in data.items()}


def _studies(runs: Sequence[Run]) -> Iterator[tuple[dict[str, Any], str]]:
    """Each study that the records bear: its plain data, and the same in words."""
    if found := spreads(runs):
        yield _noise(runs, found)
    if ways := [way for way in WAYS if len(cell_changes(runs, *way)) >= LEAST_CELLS]:
        effects = [recipe_effect(runs, *way) for way in ways]
        yield {"effects": effects}, "\n\n".join(map(effect_text, effects))
    if runs[0].corpus.get("entropy_rate") is not None and len(find_grids(runs)) == 1:
        yield _floors(known_floors(runs))
    if trials := _retrained(runs):
        yield _coverage(trials)


def sweep_numbers(runs: Sequence[Run], rule: Callable[[int], float]) -> dict[str, Any]:
    """What was trained, and every number that a sweep's report prints, as plain data rounded to five digits.

    ``rule`` : d_model -> peak rate, for studies of rates.
    """
    first = runs[0]
    losses = [r.val_loss for r in runs if r.val_loss is not None]
    out: dict[str, Any] = {
        "runs": len(runs),
        "diverged": sum(not r.finished for r in runs),
        "corpus": first.corpus.get("name"),
        "fingerprint": str(first.corpus["fingerprint"])[:16],
        "vocab_size": first.config.model.vocab_size,
        "training_hours": sum(r.seconds for r in runs) / 3600,
        "loss": {"first": first.first_loss, "lowest": min(losses, default=None)},
    }
    if is_rate_study(runs):
        return rounded(out | {"rates": rate_numbers(runs, rule)})
    ladders, grids = [_ladder(x) for x in find_ladders(runs)], [_grid(g) for g in find_grids(runs)]
    return rounded(out | {"ladders": ladders, "grids": grids} | study_numbers(runs))


def rounded(value: Any) -> Any:
    """Every float inside, to five significant digits; None for those that are not finite: JSON has no word for it."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    if not isinstance(value, float):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _ladder(ladder: Ladder) -> dict[str, Any]:
    out = {"recipe": ladder.recipe, "variable": ladder.variable, "runs": len(ladder.runs)}
    return {**out, "no_fit": ladder.why_not} if ladder.fit is None else {**out, **_fit(ladder.fit)}


def _fit(fit: FitResult) -> dict[str, Any]:
    verdict = fit.verdict()
    out: dict[str, Any] = {"law": fit.law.name, "verdict": verdict.level, "r2": fit.r2}
    if verdict.level == "no trend":
        return out
    intervals = {name: fit.parameter_interval(name) for name in fit.params}
    return {**out, "params": dict(fit.params), "intervals": intervals, "sigma": fit.sigma}


def _grid(grid: Grid) -> dict[str, Any]:
    b = grid.held_out
    held_out = {
        "cells": len(b.observed),
        "mean_abs_error": b.mean_abs_error,
        "straight_line": float(np.abs(b.line_error).mean()),
        "nearest_run": float(np.abs(b.nearest_error).mean()),
        "interval_held": float(b.covered.mean()),
        "median_half_width": float(np.median((b.high - b.low) / 2 / b.observed)),
        "verdict": b.verdict.level,
    }
    return {"recipe": grid.recipe, "runs": len(grid.runs), **_fit(grid.fit), "held_out": held_out}
