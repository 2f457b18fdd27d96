"""Is the difference between two recipes real, or within the noise of seeds?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from scaling_lib.errors import InputError
from scaling_lib.fit import check
from scaling_lib.fit.check import check_level


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
    first: Any, second: Any, *, noise: float | None = None, dof: float = np.inf, level: float = 0.9
) -> Difference:
    """Compare losses of two recipes at one size, each a run or more, by the scatter of seeds.

    Parameters
    ----------
    first, second : (a,), (b,) losses of runs that differ in their seed alone.
    noise : standard deviation of a run's log loss on ``dof`` degrees of freedom, known from elsewhere, such as
        ``fit.pool.noise_at`` at that size; without it from the two samples, whose variance is taken to be the same.
    level : of the interval, by Student's t.

    Raises
    ------
    InputError : bad losses; one run each and no ``noise``; ``noise`` not above 0.
    """
    check_level(level)
    a, b = (np.log(check.positive(name, np.atleast_1d(v))) for name, v in (("first", first), ("second", second)))
    if noise is None:
        dof = float(len(a) + len(b) - 2)
        if dof < 1:
            raise InputError(
                "one run each says nothing of the noise: give seeds, or noise= from runs that repeat a size"
            )
        noise = float(np.sqrt((np.sum((a - a.mean()) ** 2) + np.sum((b - b.mean()) ** 2)) / dof))
    elif not 0.0 < noise < np.inf:
        raise InputError(f"noise={noise!r} must be a standard deviation of log losses above 0, such as 0.004")
    gap = float(b.mean() - a.mean())
    error = max(noise * np.sqrt(1.0 / len(a) + 1.0 / len(b)), 1e-300)
    freedom = min(dof, 1e9)
    half = float(stdtrit(freedom, 0.5 + level / 2.0)) * error
    low, high = np.expm1(gap - half), np.expm1(gap + half)
    chance = 2.0 * float(stdtr(freedom, -abs(gap) / error))
    return Difference(float(np.expm1(gap)), float(low), float(high), level, chance, noise, dof)
