"""The numbers of committed sweeps as plain data: what documents quote, and what a test refits from the records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed

from scaling_lib.errors import InputError
from scaling_lib.fit.result import FitResult
from scaling_lib.runs import Run, has_records, read_runs
from scaling_lib.show.grids import Grid, find_grids
from scaling_lib.show.ladders import Ladder, find_ladders
from scaling_lib.show.noise import differences, pooled_relative, spreads
from scaling_lib.show.rates import is_rate_study, rate_scans, width_power
from scaling_lib.show.studies import study_numbers
from scaling_lib.show.tokenizers import compare_tokenizers


def digest_folder(folder: Path, rule: Callable[[int], float]) -> dict[str, Any]:
    """Every sweep below ``folder`` by its name; ``rule``: d_model -> peak rate, for studies of rates.

    Raises
    ------
    InputError
        When no folder below holds records, or one of them is invalid.
    """
    runs = {sweep.name: read_runs(sweep) for sweep in sorted(folder.glob("*")) if has_records(sweep)}
    if not runs:
        raise InputError(f"{folder}: no folder below it holds run records; give one such as results")
    # Fits of sweeps have nothing to do with each other: a process for each core, the largest sweeps first.
    order = sorted(runs, key=lambda name: -len(runs[name]))
    workers = min(cpu_count(), len(order))
    made = Parallel(n_jobs=workers)(delayed(digest)(runs[name], rule) for name in order)
    by_name = dict(zip(order, made, strict=True))
    found = {name: by_name[name] for name in runs}
    for first, second in permutations(runs, 2):
        if runs[first][0].config.model.vocab_size < runs[second][0].config.model.vocab_size:
            try:
                both = compare_tokenizers(runs[first], runs[second])
            except InputError:
                continue  # two texts, two recipes, nothing in common
            found[second].setdefault("tokenizers", []).append({"beside": first, **_rounded(asdict(both))})
    return found


def digest(runs: Sequence[Run], rule: Callable[[int], float]) -> dict[str, Any]:
    """One sweep: what was trained, and every number that its report prints; rounded to five digits."""
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
    return out | _rounded(study_numbers(runs))


def _rounded(value: Any) -> Any:
    """Every float inside, rounded; None for those that are not finite."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
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
