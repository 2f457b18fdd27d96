"""Are two recipes different, and by how much compute? From replicates: runs of one size and length with several seeds.

Runs of two recipes that share a seed share first weights and the order of the text: their difference is less noisy than
either loss, and *paired* intervals use that [Student 1908]. All differences are of log losses. The compute multiplier
is the length at which the reference would reach the other's loss, read from the reference's own losses at other lengths
of the same size, over the length that was trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.special import stdtr, stdtrit
from scipy.stats import nct

from scaling_lib.errors import InputError
from scaling_lib.fit import check
from scaling_lib.fit.check import check_level
from scaling_lib.fit.differences import Difference, difference
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
    """Two recipes at one size and length.

    seeds : pairs, or runs of the reference and of the other. difference : of the other's loss, as a share.
    factor : compute multiplier and its interval (value, low, high): 0 or inf beyond the reference's lengths, nan where
        it has no others. needed : seeds of each recipe that would find such a difference in 90% of trials; None where a
        thousand would not do.
    """

    n: float
    d: float
    seeds: tuple[int, ...]
    difference: Difference
    factor: tuple[float, float, float]
    needed: int | None


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
    check_level(level)
    if detect is not None and not (np.isfinite(detect) and detect > 0):
        raise InputError(f"a difference to detect must be a share of the loss above 0, not {detect!r}")
    out = []
    a_cells, b_cells = _cells(reference, paired), _cells(other, paired)
    for cell in sorted(set(a_cells) & set(b_cells)):
        a, b = a_cells[cell], b_cells[cell]
        shared = sorted(set(a) & set(b))
        if min((len(shared),) if paired else (len(a), len(b))) < 2:
            continue
        if paired:
            found = _paired(np.log([a[s] for s in shared]), np.log([b[s] for s in shared]), level)
        else:
            found = difference(list(a.values()), list(b.values()), level=level)
        size = abs(np.log1p(found.change)) if detect is None else np.log1p(detect)
        needed = seeds_needed(size, found.noise, paired=paired, level=level)
        seeds = (len(shared),) if paired else (len(a), len(b))
        out.append(Contrast(*cell, seeds, found, _multiplier(a_cells, cell, found), needed))
    if not out:
        what = "two shared seeds" if paired else "two runs of each"
        raise InputError(f"no size and length has {what}: noise cannot be told from a difference; train more seeds")
    return tuple(out)


def seeds_needed(size: float, noise: float, *, paired: bool, level: float = 0.9) -> int | None:
    """Fewest seeds of each recipe whose interval excludes 0 in 90% of trials, where ln L differs by ``size``.

    ``noise`` is the standard deviation of a run's log loss (paired: of a difference, over the root of 2). None where
    more than a thousand are needed.
    """
    for count in range(2, MOST_SEEDS + 1):
        dof = count - 1 if paired else 2 * count - 2
        edge = stdtrit(dof, 0.5 + level / 2.0)
        if 1.0 - nct.cdf(edge, dof, size * np.sqrt(count / 2.0) / max(noise, 1e-12)) >= POWER:
            return count
    return None


def _paired(first: Array, second: Array, level: float) -> Difference:
    """Student's interval of the mean difference of log losses (n,) that share seeds."""
    change = second - first
    dof, spread = len(change) - 1.0, float(change.std(ddof=1))
    error = max(spread / np.sqrt(len(change)), 1e-300)
    half = float(stdtrit(dof, 0.5 + level / 2.0)) * error
    value, low, high = np.expm1(change.mean() + np.array([0.0, -half, half])).tolist()
    chance = 2.0 * float(stdtr(dof, -abs(change.mean()) / error))
    return Difference(value, low, high, level, chance, spread / np.sqrt(2.0), dof)


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
    cells: dict[tuple[float, float], dict[str, float]], at: tuple[float, float], found: Difference
) -> tuple[float, float, float]:
    """The reference's length for each changed loss, over its length: 0 or inf where its ladder does not reach."""
    ladder = sorted((d, float(np.mean(np.log(list(v.values()))))) for (n, d), v in cells.items() if n == at[0])
    x, y = np.log([d for d, _ in ladder]), np.array([loss for _, loss in ladder])
    if len(x) < 2 or np.any(np.diff(y) >= 0.0):
        return np.nan, np.nan, np.nan
    goal = dict(ladder)[at[1]] + np.log1p([found.change, found.high, found.low])
    inside = np.exp(PchipInterpolator(y[::-1], x[::-1])(np.clip(goal, y.min(), y.max()))) / at[1]
    value, low, high = np.where(goal > y.max(), 0.0, np.where(goal < y.min(), np.inf, inside)).tolist()
    return value, low, high
