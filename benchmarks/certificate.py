"""Is the certificate of an optimum ever false? Random designs against SciPy, slowly: many starts, each polished.

    python benchmarks/certificate.py [--designs 2000] [--seed 1000]

Half the designs are made to have bent valleys: few sizes over a narrow span, so that E, A and alpha trade off, and
Huber's threshold far below the noise, so that the objective has a kink wherever a residual is zero. A certificate is
false where both routes agree and SciPy finds an objective lower by more than the certificate's own tolerance.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from scaling_lib.fit import setup as setups
from scaling_lib.fit.laws import get_law
from scaling_lib.fit.setup import AGREE, Setup, certify

DELTAS = (1e-3, 1e-3, 1e-3, 1e-2, np.inf)
LAW = get_law("chinchilla")


@dataclass(frozen=True)
class Outcome:
    """One design: its runs, whether it was certified, and by what share SciPy's objective is lower."""

    runs: int
    certified: bool
    excess: float

    @property
    def false(self) -> bool:
        """Whether the certificate is false."""
        return self.certified and self.excess > AGREE


def design(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes, tokens and noisy losses (n,) of 8 to 60 runs: a grid, IsoFLOP curves, near-constant D/N, or scattered."""
    hard = rng.random() < 0.5
    n = d = np.empty(0)
    while not 8 <= n.size <= 60:
        kind, sizes, lengths = rng.integers(4), rng.integers(3, 6 if hard else 9), rng.integers(3, 9)
        span_n = 10 ** (rng.uniform(0.4, 1.2) if hard else rng.uniform(0.5, 2.5))
        span_d = 10 ** rng.uniform(0.5, 2.5)
        n0, d0 = 10 ** rng.uniform(6, 9), 10 ** rng.uniform(8, 10.5)
        ladder = np.geomspace(n0, n0 * span_n, sizes)
        if kind == 0:
            n, d = (a.ravel() for a in np.meshgrid(ladder, np.geomspace(d0, d0 * span_d, lengths)))
        elif kind == 1:
            c = np.repeat(np.geomspace(6 * n0 * d0, 6 * n0 * d0 * span_n * span_d, lengths), sizes)
            n = np.sqrt(c / 120) * np.tile(np.geomspace(span_n**-0.5, span_n**0.5, sizes), lengths)
            d = c / 6 / n
        elif kind == 2:
            n = np.repeat(ladder, lengths)
            d = 20 * n * np.tile(np.geomspace(1, span_d, lengths), sizes) ** rng.uniform(0.2, 1)
        else:
            runs = rng.integers(10, 40)
            n, d = n0 * span_n ** rng.random(runs), d0 * span_d ** rng.random(runs)
    alpha, beta = rng.uniform(0.1, 0.7, 2)
    floor, (a, b) = rng.uniform(0.3, 2.2), rng.uniform(0.1, 2.0, 2)
    loss = floor + a * (n / np.exp(np.log(n).mean())) ** -alpha + b * (d / np.exp(np.log(d).mean())) ** -beta
    size = 10 ** rng.uniform(-3.3, -1.7)
    noise = rng.standard_t(2, n.size) if rng.random() < 0.3 else rng.standard_normal(n.size)
    return n, d, loss * np.exp(np.clip(size * noise, -1, 1))


def reference(work: Setup, rng: np.random.Generator, known: np.ndarray, starts: int = 24) -> float:
    """The lowest objective that SciPy finds from ``known`` (k,) and ``starts`` others, the best four polished."""
    bounds = list(zip(work.lower, work.upper, strict=True))

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        m, jac = LAW.core(np.clip(theta, work.lower, work.upper), work.log_x)
        r = np.log(np.maximum(m, 1e-120)) - work.y
        psi = np.clip(r, -work.delta, work.delta)
        return float(np.sum(psi * (r - 0.5 * psi))) / unit, (jac / np.maximum(m, 1e-120)) @ psi / unit

    def descend(theta: np.ndarray) -> tuple[float, np.ndarray]:
        options = {"maxiter": 3000, "maxfun": 6000, "ftol": 1e-15, "gtol": 1e-10, "maxcor": 20}
        found = minimize(objective, theta, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return float(found.fun), found.x

    unit = 1.0
    unit = max(objective(known)[0], 1e-12)
    pool = setups.seeds(work, 3 * starts)
    ends = sorted((descend(p) for p in (known, *pool[rng.permutation(len(pool))[:starts]])), key=lambda end: end[0])
    lowest = ends[0][0]
    for value, theta in ends[:4]:
        for _ in range(3):
            simplex = np.clip(theta + np.vstack([np.zeros(5), rng.normal(0, 0.03, (5, 5))]), work.lower, work.upper)
            options = {"maxfev": 3000, "xatol": 1e-10, "fatol": 1e-13, "adaptive": True, "initial_simplex": simplex}
            found = minimize(lambda t: objective(t)[0], theta, method="Nelder-Mead", options=options)
            better, place = descend(np.clip(found.x, work.lower, work.upper))
            gain = value - better
            if gain > 0:
                value, theta = better, place
            if gain < 1e-8 * value:
                break
        lowest = min(lowest, value)
    return lowest * unit


def check(seed: int) -> Outcome:
    """Fit one random design and hold it against the reference."""
    rng = np.random.default_rng(seed)
    n, d, loss = design(rng)
    work = setups.make(LAW, (n, d), loss, DELTAS[rng.integers(len(DELTAS))], {})
    theta, cost, certificate = certify(work, 48)
    lowest = reference(work, rng, theta)
    return Outcome(n.size, bool(certificate["agree"]), (cost - lowest) / lowest)


def main() -> None:
    """Check many designs and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1000, help="of the first design")
    args = parser.parse_args()
    started = time.process_time()
    seeds = range(args.seed, args.seed + args.designs)
    found = []
    for seed in seeds:
        found.append(check(seed))
        if found[-1].excess > AGREE or not found[-1].certified:
            kind = "false" if found[-1].false else "missed" if found[-1].excess > AGREE else "not certified"
            print(f"design {seed}: {found[-1].runs} runs, {kind}, SciPy lower by {found[-1].excess:.1e}", flush=True)
    certified = [f for f in found if f.certified]
    print(
        f"{len(found)} designs from seed {args.seed}: {len(certified)} certified, {sum(f.false for f in found)} of "
        f"them false (largest excess {max(f.excess for f in certified):.1e}), {len(found) - len(certified)} not; "
        f"{(time.process_time() - started) / 60:.0f} minutes of one core"
    )


if __name__ == "__main__":
    main()
