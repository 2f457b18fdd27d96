"""Are two recipes different, and by how much compute? From runs that differ in their seed.

Runs of two recipes that share a seed share first weights and the order of the text: their difference is less noisy than
either loss, and *paired* intervals use that [Student 1908]. All differences here are of log losses. The compute
multiplier is the length at which the reference would reach the other's loss, read from the reference's own losses at
other lengths of the same size, over the length that was trained.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.special import nctdtr, stdtr, stdtrit

from scaling_lib.errors import InputError
from scaling_lib.fit.check import check_level, columns, positive
from scaling_lib.fit.forms import Array

POWER = 0.9  # chance with which the seeds that would settle it find a difference
MOST_SEEDS = 1000
K = TypeVar("K", bound=Hashable)
S = TypeVar("S", int, str)


@dataclass(frozen=True)
class Difference:
    """The second recipe's loss relative to the first's.

    change : second / first - 1 of the geometric means. low, high : its interval at ``level``. chance : of a difference
    this large, either way, where there is none. noise : standard deviation of a run's log loss. dof : behind it.
    """

    change: float
    low: float
    high: float
    level: float
    chance: float
    noise: float
    dof: float

    @property
    def real(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0.0 or self.high < 0.0

    def __str__(self) -> str:
        said = "real" if self.real else "within the noise"
        return (
            f"{100 * self.change:+.2g}% ({self.level:.0%} interval {100 * self.low:+.2g}% to {100 * self.high:+.2g}%), "
            f"{said}: a run scatters by {100 * self.noise:.2g}%"
        )


def difference(
    first: Any,
    second: Any,
    *,
    paired: bool = False,
    noise: float | None = None,
    dof: float = np.inf,
    level: float = 0.9,
) -> Difference:
    """Compare losses of two recipes at one size, each a run or more, by the scatter of seeds.

    Parameters
    ----------
    first, second : (a,), (b,) losses of runs that differ in their seed alone.
    paired : whether runs at the same place share a seed (a = b).
    noise : standard deviation of a run's log loss on ``dof`` degrees of freedom, known from elsewhere, such as
        ``fit.pool.noise_at`` at that size; without it from the samples: of unpaired ones the variance is taken to be
        the same, of paired ones it is that of the differences, halved.
    level : of the interval, by Student's t.

    Raises
    ------
    InputError : bad losses; pairs of unequal number; one run each and no ``noise``; ``noise`` not above 0.
    """
    check_level(level)
    a, b = (np.log(positive(name, np.atleast_1d(v))) for name, v in (("first", first), ("second", second)))
    if paired and len(a) != len(b):
        raise InputError(f"{len(a)} and {len(b)} losses make no pairs: give one of each for every seed")
    if noise is None:
        samples = [(b - a) / np.sqrt(2.0)] if paired else [a, b]
        dof = float(sum(len(v) - 1 for v in samples))
        if dof < 1:
            raise InputError(
                "one run each says nothing of the noise: give seeds, or noise= from runs that repeat a size"
            )
        noise = float(np.sqrt(sum(np.sum((v - v.mean()) ** 2) for v in samples) / dof))
    elif not 0.0 < noise < np.inf:
        raise InputError(f"noise={noise!r} must be a standard deviation of log losses above 0, such as 0.004")
    gap, freedom = float(b.mean() - a.mean()), min(dof, 1e9)
    error = max(noise * np.sqrt(1.0 / len(a) + 1.0 / len(b)), 1e-300)
    half = float(stdtrit(freedom, 0.5 + level / 2.0)) * error
    change, low, high = np.expm1(gap + np.array([0.0, -half, half])).tolist()
    return Difference(change, low, high, level, 2.0 * float(stdtr(freedom, -abs(gap) / error)), noise, dof)


def pairs(first: Mapping[K, Mapping[S, float]], second: Mapping[K, Mapping[S, float]]) -> dict[K, Array]:
    """Losses (n, 2) that share a seed, in every cell of the first where the second has one of its seeds too.

    Both : cell, such as (size, length) -> seed -> loss.
    """
    shared = {cell: sorted(set(own) & set(second.get(cell, {}))) for cell, own in first.items()}
    return {cell: np.array([[first[cell][s], second[cell][s]] for s in at]) for cell, at in shared.items() if at}


def half_width(values: Array, level: float = 0.9) -> float:
    """Half the interval of the mean of two or more ``values`` (n,), such as paired differences: Student's t."""
    n = len(values)
    return float(stdtrit(n - 1, 0.5 + level / 2) * values.std(ddof=1) / np.sqrt(n))


def length_for(d: Sequence[float], loss: Sequence[float], goal: Array) -> Array:
    """Lengths at which a ladder (d, loss) reaches losses ``goal``: 0 or inf beyond it, nan where it does not fall."""
    x, y = np.log(d), np.asarray(loss, dtype=float)
    if len(x) < 2 or np.any(np.diff(y) >= 0.0):
        return np.full(np.shape(goal), np.nan)
    inside = np.exp(PchipInterpolator(y[::-1], x[::-1])(np.clip(goal, y.min(), y.max())))
    return np.where(goal > y.max(), 0.0, np.where(goal < y.min(), np.inf, inside))


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


class Replicates(NamedTuple):
    """Runs of one recipe: ``r`` sizes, lengths and losses (r,), and the key of each run's seed (r,) str, or None."""

    n: Array
    d: Array
    loss: Array
    seed: Array | None = None


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
    a_cells, b_cells = _cells(reference, paired), _cells(other, paired)
    shared = pairs(a_cells, b_cells)
    out = []
    for cell in sorted(set(shared if paired else a_cells) & set(b_cells)):
        losses = shared[cell].T if paired else ([*a_cells[cell].values()], [*b_cells[cell].values()])
        seeds = (len(losses[0]),) if paired else (len(losses[0]), len(losses[1]))
        if min(seeds) < 2:
            continue
        found = difference(*losses, paired=paired, level=level)
        size = abs(np.log1p(found.change)) if detect is None else np.log1p(detect)
        needed = seeds_needed(size, found.noise, paired=paired, level=level)
        means = {d: float(np.mean(np.log([*v.values()]))) for (n, d), v in sorted(a_cells.items()) if n == cell[0]}
        goal = means[cell[1]] + np.log1p([found.change, found.high, found.low])
        value, low, high = (length_for([*means], [*means.values()], goal) / cell[1]).tolist()
        out.append(Contrast(*cell, seeds, found, (value, low, high), needed))
    if not out:
        what = "two shared seeds" if paired else "two runs of each"
        raise InputError(f"no size and length has {what}: noise cannot be told from a difference; train more seeds")
    return tuple(out)


def _cells(runs: Replicates, paired: bool) -> dict[tuple[float, float], dict[str, float]]:
    """Losses by size and length, then by seed, or by place where pairs are not asked for."""
    data = columns(("N", "D", "loss"), runs[:3])
    if paired and runs.seed is None:
        raise InputError("pairs need to know which runs share a seed: give a column `group` or `label` that says so")
    keys = map(str, runs.seed if paired and runs.seed is not None else range(len(data["loss"])))
    out: dict[tuple[float, float], dict[str, float]] = {}
    for n, d, loss, key in zip(*(v.tolist() for v in data.values()), keys, strict=True):
        cell = out.setdefault((n, d), {})
        if key in cell:
            raise InputError(f"two runs of N = {n:.4g}, D = {d:.4g} have the seed {key}: pairs need one of each")
        cell[key] = loss
    return out


def seeds_needed(size: float, noise: float, *, paired: bool, level: float = 0.9) -> int | None:
    """Fewest seeds of each recipe whose interval excludes 0 in 90% of trials, where ln L differs by ``size``.

    ``noise`` is the standard deviation of a run's log loss (paired: of a difference, over the root of 2). None where
    more than a thousand are needed.
    """
    for count in range(2, MOST_SEEDS + 1):
        dof = count - 1 if paired else 2 * count - 2
        edge = stdtrit(dof, 0.5 + level / 2.0)
        shift = min(size * np.sqrt(count / 2.0) / max(noise, 1e-12), 1e3)  # farther off SciPy has no number
        if 1.0 - nctdtr(dof, shift, edge) >= POWER:
            return count
    return None
