"""Are two recipes different, and by how much compute? From replicates: runs of one size and length with several seeds.

Runs of two recipes that share a seed share first weights and the order of the text: their difference is less noisy than
either loss, and *paired* intervals use that [Student 1908]. Otherwise the two variances add up [Welch 1947]. The
compute multiplier is the length at which the reference would reach the other's loss, read from the reference's own
losses at other lengths of the same size, over the length that was trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.special import stdtrit
from scipy.stats import nct

from scaling_lib.errors import InputError
from scaling_lib.fit import check
from scaling_lib.fit.forms import Array

POWER = 0.9  # chance with which the seeds that would settle it find a difference
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Replicates:
    """Runs of one recipe: ``r`` sizes, lengths and losses (r,), and the key of each run's seed (r,) str, or None."""

    n: Array
    d: Array
    loss: Array
    seed: Array | None = None


@dataclass(frozen=True)
class Contrast:
    """The other recipe less the reference at one size and length.

    seeds : pairs, or runs of the reference and of the other. mean, low, high : difference of the losses, its interval.
    relative : mean over the reference's loss. factor : compute multiplier and its interval (value, low, high); 0 or inf
        beyond the reference's lengths, nan without others. needed : seeds of each recipe that would find such a difference in 90% of
        trials; None where a thousand would not do.
    """

    n: float
    d: float
    seeds: tuple[int, ...]
    mean: float
    low: float
    high: float
    relative: float
    factor: tuple[float, float, float]
    needed: int | None

    @property
    def different(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        return not self.low <= 0.0 <= self.high


def contrasts(
    reference: Replicates, other: Replicates, *, paired: bool, level: float = 0.9, detect: float | None = None
) -> tuple[Contrast, ...]:
    """Compare two recipes at every size and length where both have two or more runs (paired: two shared seeds).

    Parameters
    ----------
    detect : a difference, as a share of the loss, for which ``needed`` is counted; by default the measured one.

    Raises
    ------
    InputError
        No such size and length; a level outside 0 to 1; a ``detect`` that is no positive number; pairs without seeds.
    """
    if not 0.0 < level < 1.0:
        raise InputError(f"level={level:g} must lie between 0 and 1")
    if detect is not None and not (np.isfinite(detect) and detect > 0):
        raise InputError(f"a difference to detect must be a share of the loss above 0, not {detect!r}")
    out = []
    seeds: tuple[int, ...]
    a_cells, b_cells = _cells(reference, paired), _cells(other, paired)
    for cell in sorted(set(a_cells) & set(b_cells)):
        a, b = a_cells[cell], b_cells[cell]
        if paired:
            shared = sorted(set(a) & set(b))
            change, base = np.array([b[s] - a[s] for s in shared]), float(np.mean([a[s] for s in shared] or [1.0]))
            if (count := len(shared)) < 2:
                continue
            mean, spread, seeds, dof = float(change.mean()), float(change.std(ddof=1)), (count,), count - 1.0
            error = spread / np.sqrt(count)
        else:
            x, y = np.array(list(a.values())), np.array(list(b.values()))
            if min(len(x), len(y)) < 2:
                continue
            parts = np.array([x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)])
            error, seeds, base = float(np.sqrt(parts.sum())), (len(x), len(y)), float(x.mean())
            dof = float(parts.sum() ** 2 / max(np.sum(parts**2 / np.array([len(x) - 1, len(y) - 1])), 1e-300))
            mean, spread = float(y.mean() - base), float(np.sqrt(x.var(ddof=1) + y.var(ddof=1)))
        half = float(stdtrit(max(dof, 1.0), 0.5 + level / 2.0)) * error
        factor = _multiplier(a_cells, cell, (mean, mean + half, mean - half))
        size = abs(mean) if detect is None else detect * base
        needed = seeds_needed(size, spread, paired=paired, level=level)
        out.append(Contrast(*cell, seeds, mean, mean - half, mean + half, mean / base, factor, needed))
    if not out:
        what = "two shared seeds" if paired else "two runs of each"
        raise InputError(f"no size and length has {what}: noise cannot be told from a difference; train more seeds")
    return tuple(out)


def seeds_needed(size: float, spread: float, *, paired: bool, level: float = 0.9) -> int | None:
    """Fewest seeds of each recipe whose interval excludes 0 in 90% of trials, for a true difference of ``size``.

    ``spread`` is the standard deviation of a difference of two runs. None where more than a thousand are needed.
    """
    if spread <= 0.0:
        return 2
    for count in range(2, MOST_SEEDS + 1):
        dof = count - 1 if paired else 2 * count - 2
        edge = stdtrit(dof, 0.5 + level / 2.0)
        if 1.0 - nct.cdf(edge, dof, size * np.sqrt(count) / spread) >= POWER:
            return count
    return None


def _cells(runs: Replicates, paired: bool) -> dict[tuple[float, float], dict[str, float]]:
    """Losses by size and length, then by seed, or by place where pairs are not asked for."""
    data = check.columns(("N", "D", "loss"), (runs.n, runs.d, runs.loss))
    if paired and runs.seed is None:
        raise InputError("pairs need to know which runs share a seed: give a column `group` or `label` that says so")
    keys = range(len(data["loss"])) if runs.seed is None or not paired else runs.seed
    out: dict[tuple[float, float], dict[str, float]] = {}
    for n, d, loss, key in zip(data["N"].tolist(), data["D"].tolist(), data["loss"].tolist(), keys, strict=True):
        cell = out.setdefault((n, d), {})
        if str(key) in cell:
            raise InputError(f"two runs of N = {n:.4g}, D = {d:.4g} have the seed {key}: pairs need one of each")
        cell[str(key)] = loss
    return out


def _multiplier(
    cells: dict[tuple[float, float], dict[str, float]], at: tuple[float, float], changes: tuple[float, float, float]
) -> tuple[float, float, float]:
    """The reference's length for each changed loss, over its length: 0 or inf where its ladder does not reach so far."""
    ladder = sorted((d, float(np.mean(list(v.values())))) for (n, d), v in cells.items() if n == at[0])
    x, y = np.log([d for d, _ in ladder]), np.array([loss for _, loss in ladder])
    if len(x) < 2 or np.any(np.diff(y) >= 0.0):
        return np.nan, np.nan, np.nan
    inverse = PchipInterpolator(y[::-1], x[::-1], extrapolate=False)
    here = float(dict(ladder)[at[1]])
    goal = here + np.array(changes)
    beyond = np.where(goal > y.max(), 0.0, np.inf)
    value, low, high = np.where((goal > y.max()) | (goal < y.min()), beyond, np.exp(inverse(goal)) / at[1]).tolist()
    return value, low, high
