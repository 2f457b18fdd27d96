"""What a sweep may answer beyond its laws, where its runs are made for it: retrained ladders, known floors, recipes.

One place decides which questions a folder of records can answer; the report prints the answers, the digest keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scaling_lib.runs import Run
from scaling_lib.show.effect import LEAST_CELLS, effect_report, recipe_effect
from scaling_lib.show.grids import find_grids
from scaling_lib.show.known import floor_report, known_floors
from scaling_lib.show.noise import differences
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
