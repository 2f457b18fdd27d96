"""One recipe against another, paired by seed: in nats, as a multiple of compute, and as a shift of the law.

Runs of two recipes with one seed share first weights, the order of the data and the validation text, so most of the
noise cancels in their difference. What a change of recipe does to the law is found by letting one part of it shift at a
time: its floor, a prefactor or an exponent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy import optimize, special

from scaling_lib.config import ModelConfig
from scaling_lib.errors import InputError
from scaling_lib.fit.estimate import fit_joint
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.seeds import half_width, length_for, pairs
from scaling_lib.runs import Run, check_poolable
from scaling_lib.words import table

LEVEL = 0.9
LEAST_SEEDS = 3
LEAST_CELLS = 8  # of two recipes, to ask which part of the law they differ in
K = TypeVar("K", bound=Hashable)
Losses = dict[tuple[ModelConfig, int], dict[int, float]]  # by model and tokens, then by seed


def of_recipe(runs: Sequence[Run], recipe: str) -> list[Run]:
    """The runs of one recipe."""
    return [r for r in runs if r.config.train.recipe == recipe]


def by_seed(runs: Sequence[Run], cell: Callable[[Run], K]) -> dict[K, dict[int, float]]:
    """Final losses of finished runs by what they have in common beside their seed, such as the model; then by seed."""
    found: dict[K, dict[int, float]] = {}
    for r in runs:
        if r.finished and r.val_loss is not None:
            found.setdefault(cell(r), {})[r.config.train.seed] = r.val_loss
    return found


class Change(NamedTuple):
    """Loss of one recipe less that of another in one cell, paired by seed: nats, 90% interval; NaN for one seed."""

    cell: Any
    before: float
    after: float
    change: float
    low: float
    high: float
    seeds: int


def changes(first: Sequence[Run], second: Sequence[Run], cell: Callable[[Run], Any], least: int = 1) -> list[Change]:
    """What ``second`` has over ``first`` in every cell with ``least`` shared seeds, by Student's t."""
    found = []
    for key, losses in pairs(by_seed(first, cell), by_seed(second, cell)).items():
        if len(losses) >= least:
            (before, after), d = losses.mean(axis=0).tolist(), losses[:, 1] - losses[:, 0]
            mean, half = float(d.mean()), half_width(d, LEVEL) if len(d) > 1 else math.nan
            found.append(Change(key, before, after, mean, mean - half, mean + half, len(d)))
    return found


def cell_changes(runs: Sequence[Run], reference: str, other: str) -> list[Change]:
    """`changes` between two recipes at every model and length with three shared seeds, by size."""
    a, b = of_recipe(runs, reference), of_recipe(runs, other)
    found = changes(a, b, lambda r: (r.config.model, r.config.n_tokens), LEAST_SEEDS)
    return sorted(found, key=lambda c: (c.cell[0].d_model, c.cell[1]))


# ---- what it does to the law -----------------------------------------------------


def recipe_effect(runs: Sequence[Run], reference: str, other: str) -> dict[str, Any]:
    """Compare two recipes cell by cell, and ask which part of the law their difference belongs to.

    A law is fitted to the reference; then each part of it may shift, one at a time, and has to explain the paired
    differences. How well is judged against the noise between seeds of one cell, which no law can explain.

    Returns
    -------
    Plain data, intervals at 90%. ``noise`` : standard deviation of a paired difference of log losses. ``cells`` : nats
    (``mean``, ``low``, ``high``) and ``multiple``, how many times the tokens the reference needs for the other's loss
    at the same size and seed; NaN where its lengths do not reach it. ``shifts`` : of each part ``by`` how much, what is
    ``left_over`` (standard deviation, as a share of the loss), and ``p`` of the lack of fit (F test against the noise
    between seeds), which is small where this part is not the whole answer.

    Raises InputError where fewer than eight cells (model, tokens) have three or more shared seeds.
    """
    check_poolable(runs)
    cells = cell_changes(runs, reference, other)
    if len(cells) < LEAST_CELLS:
        raise InputError(
            f"{len(cells)} cells have both {reference!r} and {other!r} with three shared seeds; "
            f"{LEAST_CELLS} are needed: python -m scaling_lib run --mode paired"
        )
    a, b = (by_seed(of_recipe(runs, x), lambda r: (r.config.model, r.config.n_tokens)) for x in (reference, other))
    sizes = {r.config.model: r.counts["n_params_non_embedding"] for r in runs}
    rows = [(sizes[m], d, math.log(x), math.log(y / x)) for (m, d), losses in pairs(a, b).items() for x, y in losses]
    n, d, log_loss, change = np.array(sorted(rows)).T
    fit = fit_joint(n, d, np.exp(log_loss))
    cell = np.unique(np.stack([n, d]), axis=1, return_inverse=True)[1].ravel()
    means = np.bincount(cell, weights=change) / np.bincount(cell)
    pure, dof = float(np.sum((change - means[cell]) ** 2)), len(cell) - len(means)
    return {
        "reference": reference,
        "other": other,
        "noise": math.sqrt(pure / dof),
        "cells": [
            {"model": c.cell[0].name, "n_tokens": c.cell[1], "mean": c.change, "low": c.low, "high": c.high, **times}
            for c, times in zip(cells, _multiples([c.cell for c in cells], a, b), strict=True)
        ],
        "shifts": [
            {"what": what, **_shift(steps, fit, (n, d, log_loss, change), pure, dof)}
            for what, steps in _moves(fit.law.param_names, n, d).items()
        ],
    }  # fmt: skip


def _moves(names: Sequence[str], n: np.ndarray, d: np.ndarray) -> dict[str, np.ndarray]:
    """What may shift, each as the steps (k, 5) of the working parameters that it takes: amplitudes by their logarithms.

    An exponent turns its term about the middle of the data, or it would move the prefactor too.
    """
    e, a, b, alpha, beta = np.eye(5)[[names.index(name) for name in ("E", "A", "B", "alpha", "beta")]]
    alpha, beta = alpha + np.log(n).mean() * a, beta + np.log(d).mean() * b
    return {
        "nothing": np.empty((0, 5)),
        "floor E": e[None],
        "prefactor A of size": a[None],
        "prefactor B of data": b[None],
        "exponent alpha of size": alpha[None],
        "exponent beta of data": beta[None],
        "B and beta of data": np.stack([b, beta]),
    }


def _shift(
    steps: np.ndarray, fit: FitResult, data: tuple[np.ndarray, ...], pure: float, pure_dof: int
) -> dict[str, Any]:
    """Law and shift together, on the reference's losses and on the paired differences, each in units of its noise."""
    n, d, log_loss, change = data
    noise, k = math.sqrt(pure / pure_dof), len(steps)
    start = fit.law.to_working(fit.values)

    def log_law(working: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(np.maximum(fit.law.value(fit.law.to_natural(working), n, d), 1e-9)))

    def residuals(x: np.ndarray) -> np.ndarray:
        before, after = log_law(x[:5]), log_law(x[:5] + x[5:] @ steps)
        return np.concatenate([(log_loss - before) / fit.sigma, (change - (after - before)) / noise])

    low = np.full(5 + k, -np.inf)
    low[fit.law.param_names.index("E")] = -1e-9  # the floor may rest at 0
    found = optimize.least_squares(residuals, np.append(start, np.zeros(k)), bounds=(low, np.inf), x_scale="jac")
    left = found.fun[len(change) :] * noise  # of the differences
    dof, cells = len(left) - k, len(left) - pure_dof
    scatter = math.sqrt(float(left @ left) / dof)
    # Where the shift does not explain the differences, what it leaves counts as noise and widens its interval.
    cov = np.linalg.pinv(found.jac.T @ found.jac) * max(1.0, (scatter / noise) ** 2)
    half = special.stdtrit(dof, 0.5 + LEVEL / 2) * np.sqrt(np.diag(cov)[5:])
    lack = max(float(left @ left) - pure, 0.0) / (cells - k) / (pure / pure_dof)
    values, p = found.x[5:], float(special.fdtrc(cells - k, pure_dof, lack))
    return {"by": values.tolist(), "low": (values - half).tolist(), "high": (values + half).tolist(),
            "left_over": scatter, "p": p}  # fmt: skip


def _multiples(cells: Sequence[Any], ladders: Losses, goals: Losses) -> list[dict[str, float]]:
    """At each model and length: how many times the tokens the ladders need for the goals' loss, in the mean."""
    rows = []
    for model, tokens in cells:
        logs = []
        for seed, goal in goals[model, tokens].items():
            ladder = sorted((d, own[seed]) for (m, d), own in ladders.items() if m == model and seed in own)
            reached = float(length_for([d for d, _ in ladder], [x for _, x in ladder], np.array(goal))) / tokens
            logs.append(math.log(reached) if 0.0 < reached < math.inf else math.nan)
        half = half_width(np.array(logs), LEVEL)
        value, low, high = np.exp(np.mean(logs) + np.array([0.0, -half, half])).tolist()
        rows.append({"multiple": value, "multiple_low": low, "multiple_high": high})
    return rows


def effect_text(effect: dict[str, Any]) -> str:
    """What `recipe_effect` found, in two tables."""
    a, b = effect["reference"].upper(), effect["other"].upper()
    cells = [
        {**c, "times": "{multiple:.2f}x [{multiple_low:.2f}, {multiple_high:.2f}]".format(**c)
         if math.isfinite(c["multiple"]) else "beyond its ladder"}
        for c in effect["cells"]
    ]  # fmt: skip
    shifts = [
        {**s, "moved": ", ".join(map("{:+.3f} [{:+.3f}, {:+.3f}]".format, s["by"], s["low"], s["high"])),
         "chance": f"{s['p']:.3f}" if s["p"] >= 0.001 else "<0.001"}
        for s in effect["shifts"]
    ]  # fmt: skip
    told = table(cells, {"model": "{model}", "tokens": "{n_tokens:,}", "nats": "{mean:+.3f}",
                         "90% interval": "[{low:+.3f}, {high:+.3f}]", "multiple of compute": "{times}"})  # fmt: skip
    moved = table(shifts, {"what shifts": "{what}", "by": "{moved}", "left over": "{left_over:.2%}", "p": "{chance}"})
    return (
        f"{b} less {a}, paired by seed, and the tokens that {a} would need\n{told}\n\n{b} over {a}: "
        f"{len(cells)} cells, noise between seeds {effect['noise']:.2%} of the loss\n{moved}"
    )
