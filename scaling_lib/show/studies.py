"""What a sweep may answer beyond its laws, where its runs are made for it: retrained ladders, known floors, recipes.

One place decides which questions a folder of records can answer; the report prints the answers, and `sweep_numbers`
gives them, and all else that the report prints, as plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scaling_lib.fit.result import FitResult
from scaling_lib.runs import Run
from scaling_lib.show.effect import LEAST_CELLS, effect_report, recipe_effect
from scaling_lib.show.grids import Grid, find_grids
from scaling_lib.show.known import floor_report, known_floors
from scaling_lib.show.ladders import Ladder, find_ladders
from scaling_lib.show.noise import differences, pooled_relative, spreads
from scaling_lib.show.rates import is_rate_study, rate_scans, width_power
from scaling_lib.show.retrained import LEAST_FITTED, LEAST_LADDERS, coverage_report, retrained_coverage, whole_ladders

# Reference and other: the whole way, then its steps.
PAIRS = (("v1-long", "v2"), ("v1-long", "v1-warmup"), ("v1-warmup", "v1-cosine"), ("v1-cosine", "v2"))


def study_texts(runs: Sequence[Run]) -> list[str]:
    """The answers in words and tables, one text for each question."""
    found = [effect_report(runs, *pair) for pair in _pairs(runs)]
    if _has_floor(runs):
        found.append("The floor, where the truth is known\n" + floor_report(known_floors(runs)))
    hidden = _hidden(runs)
    if hidden:
        title = "Retrained ladders: does the 90% interval of a new run hold the hidden largest size?"
        found.append(f"{title}\n" + coverage_report([retrained_coverage(runs, hide) for hide in hidden]))
    return found


def study_numbers(runs: Sequence[Run]) -> dict[str, Any]:
    """The same answers as plain data, not rounded; without the questions that these runs cannot answer."""
    out: dict[str, Any] = {}
    pairs = _pairs(runs)
    if pairs:
        out["effects"] = [_effect(runs, *pair) for pair in pairs]
    if _has_floor(runs):
        floors = known_floors(runs)
        out["true_floor"] = floors[0].truth
        out["floors"] = [
            {
                "n_tokens": f.n_tokens or None, "E": f.fit.params["E"], "low": f.low, "high": f.high,
                "holds": f.holds, "verdict": f.verdict.level,
            }
            for f in floors
        ]  # fmt: skip
    hidden = _hidden(runs)
    if hidden:
        trials = [retrained_coverage(runs, hide) for hide in hidden]
        out["retrained"] = [
            {
                "hidden": t.hidden, "span": t.span, "held": int(t.covered.sum()), "trials": len(t.covered),
                "refused": t.refused, "half_width": t.half_width,
            }
            for t in trials
        ]  # fmt: skip
    return out


def _effect(runs: Sequence[Run], reference: str, other: str) -> dict[str, Any]:
    effect = recipe_effect(runs, reference, other)
    return {
        "reference": reference,
        "other": other,
        "noise": effect.noise,
        "cells": [
            {
                "model": c.model.name, "n_tokens": c.n_tokens, "mean": c.mean, "low": c.low, "high": c.high,
                "multiple": m.factor, "multiple_low": m.low, "multiple_high": m.high,
            }
            for c, m in zip(effect.cells, effect.multipliers, strict=True)
        ],
        "shifts": [
            {
                "what": s.what, "by": s.values.tolist(), "low": s.low.tolist(), "high": s.high.tolist(),
                "left_over": s.scatter, "p": s.p,
            }
            for s in effect.shifts
        ],
    }  # fmt: skip


def _pairs(runs: Sequence[Run]) -> list[tuple[str, str]]:
    return [pair for pair in PAIRS if len(differences(runs, pair[1], pair[0])) >= LEAST_CELLS]


def _has_floor(runs: Sequence[Run]) -> bool:
    return runs[0].corpus.get("entropy_rate") is not None and len(find_grids(runs)) == 1


def _hidden(runs: Sequence[Run]) -> range:
    """How many of the largest sizes may be hidden: as long as five are left, three at most."""
    kinds = {(r.config.train.recipe, r.config.n_tokens) for r in runs}
    sizes, ladders = whole_ladders(runs)
    enough = len(ladders) >= LEAST_LADDERS and len(kinds) == 1
    return range(1, min(3, len(sizes) - LEAST_FITTED) + 1) if enough else range(0)


# ---- all numbers of a sweep --------------------------------------------------------


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
        "training_hours": _round(sum(r.seconds for r in runs) / 3600),
        "loss": {"first": _round(first.first_loss), "lowest": _round(min(losses, default=None))},
    }
    if is_rate_study(runs):
        scans = rate_scans(runs, rule)
        power, error = width_power(scans)
        out["rates"] = {
            "scans": len(scans),
            "interior": sum(s.interior for s in scans),
            "largest_excess_of_the_rule": _round(float(np.max([s.rule_excess for s in scans]))),
            "width_power": _round(power),
            "width_power_stderr": _round(error),
        }
        return out
    out["ladders"] = [_ladder(x) for x in find_ladders(runs)]
    out["grids"] = [_grid(g) for g in find_grids(runs)]
    cells = spreads(runs)
    if cells:
        pooled, low, high = pooled_relative(cells)
        out["seed_noise"] = {"cells": len(cells), "relative": _round(pooled), "low": _round(low), "high": _round(high)}
    paired = differences(runs, "wsd", "v2")
    if paired:
        out["wsd_less_v2"] = [
            {
                "model": d.model.name, "n_tokens": d.n_tokens, "mean": _round(d.mean),
                "low": _round(d.low), "high": _round(d.high),
            }
            for d in paired
        ]  # fmt: skip
    return out | rounded(study_numbers(runs))


def rounded(value: Any) -> Any:
    """Every float inside, rounded; None for those that are not finite."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return _round(value) if isinstance(value, float) else value


def _ladder(ladder: Ladder) -> dict[str, Any]:
    out: dict[str, Any] = {"recipe": ladder.recipe, "variable": ladder.variable, "runs": len(ladder.runs)}
    if ladder.fit is None:
        return {**out, "no_fit": ladder.why_not}
    return {**out, **_fit(ladder.fit)}


def _fit(fit: FitResult) -> dict[str, Any]:
    verdict = fit.verdict()
    out: dict[str, Any] = {"law": fit.law.name, "verdict": verdict.level, "r2": _round(fit.r2)}
    if verdict.level != "no trend":
        out["params"] = {name: _round(value) for name, value in fit.params.items()}
        out["intervals"] = {name: [_round(v) for v in fit.parameter_interval(name)] for name in fit.params}
        out["sigma"] = _round(fit.sigma)
    return out


def _grid(grid: Grid) -> dict[str, Any]:
    b = grid.held_out
    return {
        "recipe": grid.recipe,
        "runs": len(grid.runs),
        **_fit(grid.fit),
        "held_out": {
            "cells": len(b.observed),
            "mean_abs_error": _round(b.mean_abs_error),
            "straight_line": _round(float(np.abs(b.line_error).mean())),
            "nearest_run": _round(float(np.abs(b.nearest_error).mean())),
            "interval_held": _round(float(b.covered.mean())),
            "median_half_width": _round(float(np.median((b.high - b.low) / 2 / b.observed))),
            "verdict": b.verdict.level,
        },
    }


def _round(value: float | None) -> float | None:
    """Five significant digits; None for what is not finite, since JSON has no word for it."""
    if value is None or not np.isfinite(value):
        return None
    return float(f"{value:.5g}")
