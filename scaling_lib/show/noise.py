"""How far runs that differ in their seed alone lie apart, and what a change of recipe does beside that."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy import special

from scaling_lib.config import ModelConfig, TrainConfig
from scaling_lib.runs import Run
from scaling_lib.show.ladders import short

LEAST_SEEDS = 3
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Spread:
    """The final losses of one recipe, model and length over its seeds: float (n_seeds,), nats per token."""

    recipe: str
    model: ModelConfig
    n_tokens: int
    losses: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.losses.mean())

    @property
    def relative(self) -> float:
        """Standard deviation over the mean."""
        return float(self.losses.std(ddof=1) / self.mean)


@dataclass(frozen=True)
class Difference:
    """Loss of one recipe less that of another at equal model, length and seeds: mean and interval, in nats."""

    model: ModelConfig
    n_tokens: int
    mean: float
    low: float
    high: float
    relative: float


def half_width(values: np.ndarray, level: float = 0.9) -> float:
    """Half the interval of the mean of two or more ``values`` (n,), such as paired differences: Student's t."""
    n = len(values)
    return float(special.stdtrit(n - 1, 0.5 + level / 2) * values.std(ddof=1) / math.sqrt(n))


def spreads(runs: Sequence[Run]) -> list[Spread]:
    """Every recipe, model and length with at least three finished seeds, smallest first."""
    found: dict[tuple[ModelConfig, TrainConfig], list[Run]] = {}
    for run in runs:
        if run.finished:
            found.setdefault((run.config.model, replace(run.config.train, seed=0)), []).append(run)
    made = [
        Spread(train.recipe, model, members[0].config.n_tokens, np.array([r.val_loss for r in members], dtype=float))
        for (model, train), members in found.items()
        if len(members) >= LEAST_SEEDS
    ]
    return sorted(made, key=lambda s: (s.recipe, s.model.d_model, s.n_tokens))


def pooled_relative(found: Sequence[Spread]) -> tuple[float, float, float]:
    """The relative standard deviation of the cells together, and its 90% interval (chi-squared).

    Of each recipe and model only the longest runs count: shorter ones share a trunk with them. Recipes still
    share first weights and data by seed, so the interval is a little too narrow where there are several.
    """
    longest = {(s.recipe, s.model): s for s in sorted(found, key=lambda s: s.n_tokens)}
    found = list(longest.values())
    dof = sum(len(s.losses) - 1 for s in found)
    squares = sum((len(s.losses) - 1) * s.relative**2 for s in found)
    low, high = (math.sqrt(squares / special.chdtri(dof, q)) for q in (0.05, 0.95))
    return math.sqrt(squares / dof), low, high


def pairs(first: Sequence[Run], second: Sequence[Run], cell: Callable[[Run], K]) -> dict[K, np.ndarray]:
    """Final losses (n_seeds, 2) of two sets of runs, paired by seed, in every cell that both finished.

    ``cell`` : what a pair has in common beside its seed, such as the model. The validation text and, by seed, the first
    weights and the order of the data are the same in both, so most of the noise cancels in a difference.
    """
    losses: list[dict[K, dict[int, float]]] = [{}, {}]
    for side, runs in zip(losses, (first, second), strict=True):
        for run in runs:
            if run.finished and run.val_loss is not None:
                side.setdefault(cell(run), {})[run.config.train.seed] = run.val_loss
    found = {}
    for key, own in losses[0].items():
        other = losses[1].get(key, {})
        common = sorted(set(own) & set(other))
        if common:
            found[key] = np.array([[own[s], other[s]] for s in common])
    return found


def differences(runs: Sequence[Run], recipe: str, other: str, level: float = 0.9) -> list[Difference]:
    """What ``recipe`` has over ``other``, paired by seed, wherever both share three or more; Student's t."""
    first, second = (of_recipe(runs, name) for name in (other, recipe))
    both = pairs(first, second, lambda r: (r.config.model, r.config.n_tokens))
    found = []
    for (model, n_tokens), losses in sorted(both.items(), key=lambda kv: (kv[0][0].d_model, kv[0][1])):
        if len(losses) >= LEAST_SEEDS:
            change = losses[:, 1] - losses[:, 0]
            mean, half = float(change.mean()), half_width(change, level)
            relative = mean / float(losses[:, 0].mean())
            found.append(Difference(model, n_tokens, mean, mean - half, mean + half, relative))
    return found


def of_recipe(runs: Sequence[Run], recipe: str) -> list[Run]:
    """The runs of one recipe."""
    return [r for r in runs if r.config.train.recipe == recipe]


def noise_report(runs: Sequence[Run]) -> str:
    """Seed noise cell by cell, pooled, and wsd against V2 where both are there; "" without three seeds anywhere."""
    found = spreads(runs)
    if not found:
        return ""
    lines = [
        "Seed noise: final losses of runs that differ in their seed alone",
        f"{'recipe':>10} {'model':>8} {'tokens':>8} {'seeds':>6} {'mean loss':>10} {'sd':>8} {'sd / mean':>10}",
    ]
    lines += [
        f"{s.recipe:>10} {s.model.name:>8} {short(s.n_tokens):>8} {len(s.losses):>6} {s.mean:>10.3f} "
        f"{s.mean * s.relative:>8.4f} {100 * s.relative:>9.2f}%"
        for s in found
    ]
    pooled, low, high = pooled_relative(found)
    lines.append(
        f"The longest runs together: {100 * pooled:.2f}% of the loss "
        f"(90% interval {100 * low:.2f} to {100 * high:.2f}%). The validation text is "
        "the same for all, so this is the noise of training alone."
    )
    paired = differences(runs, "wsd", "v2")
    if paired:
        lines += ["", "wsd less V2's cosine, paired by seed: nats, 90% interval, share of the loss"]
        lines += [
            f"{d.model.name:>10} {short(d.n_tokens):>8} {d.mean:>+9.4f} [{d.low:+.4f}, {d.high:+.4f}] "
            f"{100 * d.relative:>+7.2f}%"
            for d in paired
        ]
    return "\n".join(lines)
