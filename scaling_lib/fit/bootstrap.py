"""Bootstrap draws: the fit made again on resampled noise or resampled runs, from several starts each time.

A warm start alone keeps a draw in the optimum it came from; published checks found a third of the nominal coverage that
way. Here every draw starts anew from points spread over the law's whole box, as well as from the estimate.
"""

from __future__ import annotations

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import setup as setups
from scaling_lib.fit.forms import Array
from scaling_lib.fit.noise import Noise
from scaling_lib.fit.setup import Setup

KINDS = ("auto", "parametric", "residual", "case", "wild")
MOST_DRAWS = 100_000
BLOCK = 3_000_000  # residuals of all starts of the draws solved together: some 100 MB
# Webb's six points: mean 0, variance 1, and 6^G distinct draws where two signs would give 2^G [Webb 2014].
WEBB = np.array([-np.sqrt(1.5), -1.0, -np.sqrt(0.5), np.sqrt(0.5), 1.0, np.sqrt(1.5)])


def choose(kind: str, n: int, dof: int, least_squares: bool, clustered: bool) -> str:
    """The kind that ``"auto"`` stands for.

    Runs that come in groups: wild, by group, or for robust objectives whole groups of residuals. Many runs: whole
    runs. A few runs at chosen sizes, where leaving some out would change the design: noise round the fit, from its
    normal model or, for robust objectives, its residuals.

    Raises
    ------
    InputError
        Wild draws of a robust objective. It feels the density of the noise at 0, which the draws do not keep: the
        runs a near-LAD fit passes through have no residual to draw. Nominal 90% intervals then held 75%.
    """
    if kind == "wild" and not least_squares:
        raise InputError("wild draws are sound for objective='log_mse' only: use bootstrap_kind='residual'")
    if kind != "auto":
        return kind
    if clustered:
        return "wild" if least_squares else "residual"
    if dof >= 60:
        return "case"
    return "parametric" if least_squares else "residual"


def draw(
    work: Setup, theta: Array, noise: Noise, residuals: Array, kind: str, count: int, seed: int, starts: int
) -> Array:
    """Scaled working parameters (count, k) of bootstrap draws; ``kind`` is not ``"auto"``.

    Raises
    ------
    InputError
        If no degree of freedom is left to estimate the noise by.
    """
    if noise.dof <= 0:
        raise InputError("a bootstrap needs more runs than parameters: there is no noise to draw from")
    rng = np.random.default_rng(seed)
    n, k = len(residuals), len(theta)
    size = max(1, BLOCK // (n * (starts + 1)))
    first = np.concatenate([theta[None, :], setups.seeds(work, starts)])
    centre = work.y - residuals
    out = np.empty((count, k))
    for i in range(0, count, size):
        r = min(size, count - i)
        weight = None
        if kind == "case":
            weight = _cases(rng, r, n, noise.codes, work.n_free)
            y = np.broadcast_to(work.y, (r, n))
        else:
            y = centre + NOISE_OF[kind](rng, r, noise, residuals)
        out[i : i + r] = setups.descend(work, first, y, weight=weight, keep=2)[0]
    return out


def _parametric(rng: np.random.Generator, r: int, noise: Noise, residuals: Array) -> Array:
    """Normal noise with the estimated variances, shared within groups."""
    n = len(residuals)
    if noise.codes is None or noise.between <= 0:
        return rng.normal(0.0, max(noise.sigma, 1e-300), (r, n))
    # Split sigma as the pseudo-residuals' variances are split: for least squares they are the same thing.
    share = noise.between / (noise.within + noise.between)
    groups = rng.normal(0.0, noise.sigma * np.sqrt(share), (r, int(noise.codes.max()) + 1))
    return groups[:, noise.codes] + rng.normal(0.0, noise.sigma * np.sqrt(1.0 - share), (r, n))


def _residual(rng: np.random.Generator, r: int, noise: Noise, residuals: Array) -> Array:
    """Residuals, widened for leverage and centred, drawn anew; with groups, whole groups of residuals are drawn."""
    wide = _widened(noise, residuals)
    n = len(wide)
    if noise.codes is None:
        return wide[rng.integers(0, n, (r, n))]
    count = int(noise.codes.max()) + 1
    means = np.array([wide[noise.codes == g].mean() for g in range(count)])
    rest = wide - means[noise.codes]
    sizes = np.bincount(noise.codes, minlength=count)
    rest = rest * np.sqrt(sizes / np.maximum(sizes - 1, 1))[noise.codes]
    shrink = np.sqrt(noise.between / max(float(np.var(means)), 1e-300)) if noise.between > 0 else 0.0
    groups = means[rng.integers(0, count, (r, count))] * min(float(shrink), 10.0)
    return groups[:, noise.codes] + rest[rng.integers(0, n, (r, n))]


def _wild(rng: np.random.Generator, r: int, noise: Noise, residuals: Array) -> Array:
    """Each run's own residual, widened for leverage, times a random factor shared within its group."""
    if noise.codes is None:
        return (
            residuals / np.sqrt(np.maximum(1.0 - noise.geometry.leverage, 0.05)) * rng.choice(WEBB, (r, len(residuals)))
        )
    wide = noise.cluster_widened(residuals)
    return wide * rng.choice(WEBB, (r, int(noise.codes.max()) + 1))[:, noise.codes]


NOISE_OF = {"parametric": _parametric, "residual": _residual, "wild": _wild}


def _widened(noise: Noise, residuals: Array) -> Array:
    wide = residuals / np.sqrt(np.maximum(1.0 - noise.geometry.leverage, 0.05))
    return wide - wide.mean()


def _cases(rng: np.random.Generator, r: int, n: int, codes: Array | None, k: int) -> Array:
    """Multiplicities (r, n) of runs, or of whole groups, drawn with replacement; at least k distinct runs in each."""
    count = n if codes is None else int(codes.max()) + 1
    out = np.empty((r, n))
    for i in range(r):
        for _ in range(100):
            drawn = np.bincount(rng.integers(0, count, count), minlength=count).astype(float)
            out[i] = drawn if codes is None else drawn[codes]
            if np.count_nonzero(out[i]) >= k:
                break
        else:
            raise InputError(f"too few groups to draw {k} runs from: use bootstrap_kind='wild' or 'parametric'")
    return out
