"""How often do intervals hold? Ladders drawn again and again from a law that is known, each fitted like real runs.

An interval's level is a promise about repetitions: of all nominal 90% intervals, 90% should hold the truth. Where
the truth is known, that can be counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from scaling_lib.errors import InputError
from scaling_lib.fit.check import check_level
from scaling_lib.fit.estimate import fit_power_law
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import POWER_N

MOST_DRAWS = 100_000


@dataclass(frozen=True)
class Share:
    """``held`` of ``total`` independent trials, with the exact interval of the chance behind them."""

    held: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.held <= self.total or self.total < 1:
            raise InputError(f"{self.held} of {self.total} is no share: count from 0 to the total, of 1 or more")

    @property
    def share(self) -> float:
        """held / total."""
        return self.held / self.total

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """(low, high) of the chance of a single trial, by Clopper and Pearson: exact, never too narrow [1934].

        Raises InputError unless 0 < level < 1.
        """
        check_level(level)
        tail = (1.0 - level) / 2.0
        missed = self.total - self.held
        low = float(betaincinv(self.held, missed + 1, tail)) if self.held else 0.0
        high = float(betaincinv(self.held + 1, missed, 1.0 - tail)) if missed else 1.0
        return low, high

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.held} of {self.total}, {self.share:.0%} (90% interval {low:.0%} to {high:.0%})"


@dataclass(frozen=True, eq=False)
class KnownLadder:
    """Runs of sizes ``n`` (runs,) whose losses follow L = E + A / n^alpha, times noise.

    noise : standard deviation of each run's log loss. shared : of the part of it that all runs of a group have in
    common. groups : (runs,) int, 0, 1, ..., or None where nothing is shared.
    """

    n: Array
    E: float = 1.7
    A: float = 400.0
    alpha: float = 0.34
    noise: float = 0.005
    shared: float = 0.0
    groups: Array | None = None

    def __post_init__(self) -> None:
        if (self.shared > 0) != (self.groups is not None):
            raise InputError("noise is shared within groups: give both shared and groups, or neither")
        if min(self.noise, self.shared) < 0 or self.noise == 0:
            raise InputError(f"noise={self.noise:g} must be above 0 and shared={self.shared:g} 0 or more")

    def truth(self, n: Array | float) -> Array:
        """Return the law's loss at sizes ``n``."""
        return POWER_N.value(np.array([self.E, self.A, self.alpha]), n)

    def draw(self, rng: np.random.Generator) -> Array:
        """Return losses (runs,) of one sweep."""
        noise = rng.normal(0.0, self.noise, len(self.n))
        if self.groups is not None:
            noise = noise + rng.normal(0.0, self.shared, int(self.groups.max()) + 1)[self.groups]
        return self.truth(self.n) * np.exp(noise)


@dataclass(frozen=True, eq=False)
class Coverage:
    """What ``draws`` sweeps of one known law said of it; every array is (draws,).

    level : of all intervals. target : the size predicted at. floor, loss : the true E, and the true loss there.
    floor_low, floor_high : intervals of E. mean_low, mean_high : of the law at the target. new_low, new_high : of a
    new run there. fresh : the loss of one more run there, drawn after each sweep.
    """

    level: float
    target: float
    floor: float
    loss: float
    floor_fit: Array
    floor_low: Array
    floor_high: Array
    mean_low: Array
    mean_high: Array
    new_low: Array
    new_high: Array
    fresh: Array

    @property
    def floor_held(self) -> Share:
        """How many intervals of E hold the true E."""
        return _share(self.floor_low, self.floor, self.floor_high)

    @property
    def mean_held(self) -> Share:
        """How many intervals of the law at the target hold the true loss."""
        return _share(self.mean_low, self.loss, self.mean_high)

    @property
    def new_held(self) -> Share:
        """How many intervals of a new run hold the fresh run."""
        return _share(self.new_low, self.fresh, self.new_high)


def _share(low: Array, value: Array | float, high: Array) -> Share:
    return Share(int(np.sum((low <= value) & (value <= high))), len(low))


def coverage(
    ladder: KnownLadder,
    draws: int = 300,
    *,
    beyond: float = 30.0,
    level: float = 0.9,
    use_groups: bool = True,
    law: str = "pool",
    seed: int = 0,
) -> Coverage:
    """Draw, fit and ask ``draws`` times, with the package's defaults.

    Parameters
    ----------
    ladder : the truth, the design and the noise.
    beyond : the target lies so many times beyond the largest size.
    use_groups : whether the fit is told which runs share noise; False is the classic mistake.
    law : "pool" or "power", as `fit_power_law` takes it.

    Raises
    ------
    InputError : ``draws`` is no whole number from 1 to 100,000; a bad level.
    """
    if isinstance(draws, bool) or not isinstance(draws, int) or not 1 <= draws <= MOST_DRAWS:
        raise InputError(f"draws={draws!r} must be a whole number from 1 to {MOST_DRAWS:,}")
    check_level(level)
    rng = np.random.default_rng(seed)
    target = beyond * float(ladder.n.max())
    loss = float(ladder.truth(target))
    rows = np.empty((draws, 8))
    for row in rows:
        sweep = ladder.draw(rng)
        fit = fit_power_law(ladder.n, sweep, groups=ladder.groups if use_groups else None, law=law)
        row[0] = fit.params["E"]
        row[1:3] = fit.parameter_interval("E", level=level)
        row[3:5] = fit.interval(target, level=level)
        row[5:7] = fit.interval(target, level=level, kind="new_run")
        row[7] = loss * np.exp(rng.normal(0.0, np.hypot(ladder.noise, ladder.shared)))
    return Coverage(level, target, ladder.E, loss, *rows.T)
