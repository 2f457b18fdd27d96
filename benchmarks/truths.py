"""Do the pooled intervals hold on random truths: the law's mean, a new run, and the compute-optimal size?

    python benchmarks/truths.py [--truths 200] [--seed 0]

Every truth has a form (Chinchilla's sum, the power mean or Kaplan's), parameters, a design of 8 to 60 runs (a grid,
IsoFLOP curves or scattered) and a noise of its own, which falls with size; a run in twenty, fitted or new, is an
outlier. Losses are asked for at 1, 2 and 5 times the largest N and D, N* at 1 and 5 times the largest C = 6ND. An
interval that reaches to 0 or infinity holds, and is counted as open; where the verdict refuses, nothing is counted.
One core, some minutes.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass

import numpy as np

from scaling_lib.fit import compute_optimal, fit_joint
from scaling_lib.fit.laws import get_law

FACTORS = (1.0, 2.0, 5.0)
BUDGETS = (1.0, 5.0)
LEVEL = 0.9


@dataclass(frozen=True)
class Truth:
    """A random law with a design.

    n, d : (runs,). noise : ``(size, slope)``, the log noise being ``size (N / least N)^-slope``.
    """

    form: str
    params: dict[str, float]
    n: np.ndarray
    d: np.ndarray
    noise: tuple[float, float]

    def loss(self, n: np.ndarray, d: np.ndarray) -> np.ndarray:
        """The law's mean, of the shape of n and d."""
        law = get_law(self.form)
        return np.asarray(law.value(np.array([self.params[name] for name in law.param_names]), n, d))

    def runs(self, rng: np.random.Generator, n: np.ndarray, d: np.ndarray, outliers: float) -> np.ndarray:
        """Noisy losses of runs at (n, d)."""
        size = self.noise[0] * (n / self.n.min()) ** -self.noise[1]
        wide = np.where(rng.random(n.shape) < outliers, 6.0, 1.0)
        return self.loss(n, d) * np.exp(size * wide * rng.standard_normal(n.shape))

    def optimum(self, flops: float) -> float:
        """The size of the least loss at 6ND = flops, on a grid of a thousandth in ln N."""
        n = np.exp(np.arange(0.0, np.log(flops / 6.0), 1e-3))
        return float(n[np.argmin(self.loss(n, flops / 6.0 / n))])


def draw(rng: np.random.Generator) -> Truth:
    """One truth: exponents from 0.15 to 0.6, floors of a third to three quarters of the loss at the middle."""
    sizes, lengths = rng.integers(3, 9), rng.integers(3, 8)
    n0, d0 = 10 ** rng.uniform(6, 9), 10 ** rng.uniform(8.5, 10.5)
    span_n, span_d = 10 ** rng.uniform(0.8, 2.5), 10 ** rng.uniform(0.8, 2.5)
    match rng.integers(3):
        case 0:
            n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1, span_n, sizes), np.geomspace(1, span_d, lengths)))
        case 1:
            budget = np.repeat(np.geomspace(1, span_n * span_d, lengths), sizes)
            n = np.sqrt(budget) * np.tile(np.geomspace(0.25, 4, sizes), lengths)
            d = budget / n
        case _:
            runs = rng.integers(10, 61)
            n, d = span_n ** rng.random(runs), span_d ** rng.random(runs)
    n, d = n0 * n, d0 * d
    keep = rng.permutation(n.size)[:60]
    n, d = n[keep], d[keep]
    form = ("chinchilla", "power_mean", "kaplan")[rng.integers(3)]
    alpha, beta = rng.uniform(0.15, 0.6, 2)
    a, b = rng.uniform(0.2, 1.5, 2)
    mid_n, mid_d = np.exp(np.log(n).mean()), np.exp(np.log(d).mean())
    params = {"E": rng.uniform(0.5, 2.5), "A": a * mid_n**alpha, "B": b * mid_d**beta, "alpha": alpha, "beta": beta}
    if form == "power_mean":
        params["q"] = rng.uniform(0.5, 3.0)
    if form == "kaplan":  # no floor, so the exponents are small
        slow_n, slow_d = alpha / 3.0, beta / 3.0
        scale_n = mid_n * rng.uniform(1.0, 3.0) ** (1.0 / slow_n)
        scale_d = mid_d * rng.uniform(1.0, 3.0) ** (1.0 / slow_d)
        params = {"N_c": scale_n, "D_c": scale_d, "alpha_N": slow_n, "alpha_D": slow_d}
    return Truth(form, params, n, d, (10 ** rng.uniform(-2.7, -1.7), rng.uniform(0.0, 0.4)))


def main() -> None:
    """Draw, fit, ask; print the shares held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truths", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    held = {kind: np.full((args.truths, len(FACTORS)), np.nan) for kind in ("mean", "new_run")}
    size = np.full((args.truths, len(BUDGETS)), np.nan)
    width, open_ends, refused = np.full((args.truths, len(FACTORS)), np.nan), 0, 0
    for i in range(args.truths):
        rng = np.random.default_rng([args.seed, i])
        truth = draw(rng)
        fit = fit_joint(truth.n, truth.d, truth.runs(rng, truth.n, truth.d, 0.05))
        n, d = (np.array(FACTORS) * v.max() for v in (truth.n, truth.d))
        mean, fresh = truth.loss(n, d), truth.runs(rng, n, d, 0.05)
        believed = np.array([not fit.verdict(a, b).refused for a, b in zip(n, d, strict=True)])
        refused += int(np.sum(~believed))
        for kind, value in (("mean", mean), ("new_run", fresh)):
            low, high = fit.interval(n, d, level=LEVEL, kind=kind)
            held[kind][i] = np.where(believed, (low <= value) & (value <= high), np.nan)
            if kind == "mean":
                width[i] = np.where(believed, (high - low) / 2.0 / value, np.nan)
        for j, factor in enumerate(BUDGETS):
            flops = factor * float(np.max(6.0 * truth.n * truth.d))
            best = compute_optimal(fit, flops, level=LEVEL)
            if best.n_interval is not None and np.isfinite(best.n_params):
                low, high = best.n_interval
                open_ends += int(low == 0 or np.isinf(high))
                size[i, j] = low <= truth.optimum(flops) <= high
    for kind, found in held.items():
        shares = ", ".join(f"{100 * np.nanmean(v):.1f}%" for v in found.T)
        print(f"{kind:8} at 1, 2 and 5 times the largest N and D: {shares}")
    print("half-width of the mean there, medians: " + ", ".join(f"{100 * np.nanmedian(v):.2f}%" for v in width.T))
    asked = np.sum(np.isfinite(size), axis=0)
    shares = ", ".join(f"{100 * np.nanmean(v):.1f}% of {k}" for v, k in zip(size.T, asked, strict=True))
    print(f"N* at 1 and 5 times the largest budget: {shares}; {open_ends} intervals with an open end")
    print(f"{args.truths} truths, {refused} of {held['mean'].size} targets refused")


if __name__ == "__main__":
    main()
