"""Bootstrap draws: the fit made again on resampled noise or resampled runs, from several starts each time.

A warm start alone keeps a draw in the optimum it came from; published checks found a third of the nominal coverage that
way. Here every draw starts anew from points spread over the law's whole box, as well as from the estimate.
"""

from __future__ import annotations

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import check
from scaling_lib.fit import setup as setups
from scaling_lib.fit.fitted import Fitted
from scaling_lib.fit.forms import Array

KINDS = ("auto", "parametric", "residual", "case", "wild")
MOST_DRAWS = 100_000
STARTS = 8
BLOCK = 3_000_000  # residuals of all starts of the draws solved together: some 100 MB
# Webb's six points: mean 0, variance 1, and 6^G distinct draws where two signs would give 2^G [Webb 2014].
WEBB = np.array([-np.sqrt(1.5), -1.0, -np.sqrt(0.5), np.sqrt(0.5), 1.0, np.sqrt(1.5)])


def choose(fit: Fitted, kind: str) -> str:
    """The kind of draws to make; what ``"auto"`` stands for.

    Runs that come in groups: wild, by group, or for robust objectives whole groups of residuals. Many runs: whole
    runs. A few runs at chosen sizes, where leaving some out would change the design: noise round the fit, from its
    normal model or, for robust objectives, its residuals. Wild draws of a robust objective are refused: it feels the
    density of the noise at 0, which the draws do not keep, since the runs a near-LAD fit passes through have no
    residual to draw. Nominal 90% intervals then held 75%.
    """
    least_squares = bool(np.isinf(fit.delta))
    if check.choice("bootstrap_kind", kind, KINDS) == "wild" and not least_squares:
        raise InputError("wild draws are sound for objective='log_mse' only: use bootstrap_kind='residual'")
    if kind != "auto":
        return kind
    if fit.groups is not None:
        return "wild" if least_squares else "residual"
    if fit.dof >= 60:
        return "case"
    return "parametric" if least_squares else "residual"


def draw(fit: Fitted, kind: str, count: int, seed: int) -> Array:
    """Natural parameters (count, k) of bootstrap draws; ``kind`` is not ``"auto"``."""
    if not isinstance(count, int | np.integer) or not 1 <= count <= MOST_DRAWS:
        raise InputError(f"bootstrap={count!r} must be a whole number of draws from 1 to {MOST_DRAWS:,}")
    if fit.dof <= 0:
        raise InputError("a bootstrap needs more runs than parameters: there is no noise to draw from")
    rng, work, n = np.random.default_rng(seed), fit.work, fit.n_points
    size = max(1, BLOCK // (n * (STARTS + 1)))
    first = np.concatenate([fit.theta[None, :], setups.seeds(work, STARTS)])
    parts = []
    for i in range(0, int(count), size):
        r = min(size, int(count) - i)
        if kind == "case":
            y, weight = np.broadcast_to(work.y, (r, n)), _cases(rng, r, fit)
        else:
            y, weight = work.y - fit.residuals + NOISE_OF[kind](rng, r, fit), None
        parts.append(setups.descend(work, first, y, weight=weight, keep=2)[0])
    return work.natural(np.concatenate(parts))


def _parametric(rng: np.random.Generator, r: int, fit: Fitted) -> Array:
    """Normal noise with the estimated variances, shared within groups."""
    noise, n = fit.noise, fit.n_points
    if noise.codes is None or noise.between <= 0:
        return rng.normal(0.0, max(noise.sigma, 1e-300), (r, n))
    # Split sigma as the pseudo-residuals' variances are split: for least squares they are the same thing.
    share = noise.between / (noise.within + noise.between)
    groups = rng.normal(0.0, noise.sigma * np.sqrt(share), (r, int(noise.codes.max()) + 1))
    return groups[:, noise.codes] + rng.normal(0.0, noise.sigma * np.sqrt(1.0 - share), (r, n))


def _residual(rng: np.random.Generator, r: int, fit: Fitted) -> Array:
    """Residuals, widened for leverage and centred, drawn anew; with groups, whole groups of residuals are drawn."""
    noise, n = fit.noise, fit.n_points
    wide = _widened(fit)
    wide = wide - wide.mean()
    if noise.codes is None:
        return wide[rng.integers(0, n, (r, n))]
    sizes = np.bincount(noise.codes)
    means = np.bincount(noise.codes, wide) / sizes
    rest = (wide - means[noise.codes]) * np.sqrt(sizes / np.maximum(sizes - 1, 1))[noise.codes]
    narrower = np.sqrt(noise.between / max(float(np.var(means)), 1e-300))  # the means vary by their runs' own noise too
    groups = means[rng.integers(0, len(means), (r, len(means)))] * min(float(narrower), 10.0)
    return groups[:, noise.codes] + rest[rng.integers(0, n, (r, n))]


def _wild(rng: np.random.Generator, r: int, fit: Fitted) -> Array:
    """Each run's own residual, widened for leverage, times a random factor shared within its group."""
    codes = fit.groups
    if codes is None:
        return _widened(fit) * rng.choice(WEBB, (r, fit.n_points))
    wide = fit.residuals.copy()  # of each group, undone for the pull its own runs had on the fit: (I - H_gg)^-1/2 r_g
    for g in range(int(codes.max()) + 1):
        basis = fit.noise.geometry.basis[codes == g]
        values, vectors = np.linalg.eigh(np.eye(len(basis)) - basis @ basis.T)
        wide[codes == g] = vectors @ ((vectors.T @ wide[codes == g]) / np.sqrt(np.maximum(values, 0.05)))
    return wide * rng.choice(WEBB, (r, int(codes.max()) + 1))[:, codes]


NOISE_OF = {"parametric": _parametric, "residual": _residual, "wild": _wild}


def _widened(fit: Fitted) -> Array:
    return fit.residuals / np.sqrt(np.maximum(1.0 - fit.noise.geometry.leverage, 0.05))


def _cases(rng: np.random.Generator, r: int, fit: Fitted) -> Array:
    """Multiplicities (r, n) of runs, or whole groups, drawn with replacement: no fewer runs than free parameters."""
    codes = np.arange(fit.n_points) if fit.groups is None else fit.groups
    count = int(codes.max()) + 1
    out = np.empty((r, fit.n_points))
    for row in out:
        for _ in range(100):
            row[:] = np.bincount(rng.integers(0, count, count), minlength=count)[codes]
            if np.count_nonzero(row) >= fit.work.n_free:
                break
        else:
            needed = fit.work.n_free
            raise InputError(f"too few groups to draw {needed} runs from: use bootstrap_kind='wild' or 'parametric'")
    return out
