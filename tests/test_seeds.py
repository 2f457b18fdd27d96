"""Two recipes from replicates: intervals against SciPy's own tests, multipliers against a law, seeds by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scaling_lib.errors import InputError
from scaling_lib.fit.seeds import Replicates, contrasts, seeds_needed

SEEDS = np.array([str(i) for i in range(5)])


def runs(losses: np.ndarray, d: float = 1e6, seeds: np.ndarray | None = SEEDS) -> Replicates:
    return Replicates(np.full(len(losses), 1e5), np.full(len(losses), d), losses, seeds)


def test_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.2, 5)
    a, b = 3.0 + shared + rng.normal(0, 0.005, 5), 2.98 + shared + rng.normal(0, 0.01, 5)
    (pairs,) = contrasts(runs(a), runs(b[::-1], seeds=SEEDS[::-1]), paired=True)
    test = stats.ttest_rel(np.log(b), np.log(a))
    want, got = test.confidence_interval(0.9), pairs.difference
    assert np.log1p([got.low, got.high]) == pytest.approx([want.low, want.high], rel=1e-9)
    assert (got.chance, got.dof) == (pytest.approx(test.pvalue), 4)
    (apart,) = contrasts(runs(a), runs(b), paired=False)
    want, got = stats.ttest_ind(np.log(b), np.log(a)).confidence_interval(0.9), apart.difference
    assert np.log1p([got.low, got.high]) == pytest.approx([want.low, want.high], rel=1e-9)
    assert pairs.difference.real
    assert not apart.difference.real  # what pairing is for


def test_the_multiplier_is_the_law_s() -> None:
    def loss(d: np.ndarray) -> np.ndarray:
        return 1.0 + 50.0 * d**-0.3

    lengths = np.repeat(np.geomspace(2.5e5, 4e6, 9), 2)
    seed = np.tile(["0", "1"], 9)
    jitter = np.tile([0.001, -0.001], 9)
    reference = Replicates(np.full(18, 1e5), lengths, loss(lengths) + jitter, seed)
    other = Replicates(np.full(2, 1e5), np.full(2, 1e6), loss(np.full(2, 1.5e6)) + jitter[:2] * 1.01, seed[:2])
    (found,) = contrasts(reference, other, paired=True)
    value, low, high = found.factor
    assert value == pytest.approx(1.5, rel=0.01)
    assert low < value < high
    far = Replicates(np.full(2, 1e5), np.full(2, 1e6), loss(np.full(2, 1e8)) + jitter[:2] * 1.01, seed[:2])
    assert contrasts(reference, far, paired=True)[0].factor[0] == np.inf
    assert np.isnan(contrasts(runs(loss(np.full(5, 1e6)) + 0.01 * np.arange(5)), other, paired=True)[0].factor[0])


@pytest.mark.parametrize("paired", [True, False])
def test_seeds_needed_reach_their_power_in_simulation(paired: bool) -> None:
    rng = np.random.default_rng(1)
    spread, size = 0.02, 0.015
    count = seeds_needed(size, spread / np.sqrt(2), paired=paired)
    assert count is not None

    def power(n: int) -> float:
        if paired:
            x = rng.normal(size, spread, (20_000, n))
            t = x.mean(axis=1) / x.std(axis=1, ddof=1) * np.sqrt(n)
            return float(np.mean(t > stats.t.ppf(0.95, n - 1)))
        a, b = rng.normal(0, spread / np.sqrt(2), (2, 20_000, n))
        error = np.sqrt((a.var(axis=1, ddof=1) + b.var(axis=1, ddof=1)) / n)
        return float(np.mean((b.mean(axis=1) - a.mean(axis=1) + size) / error > stats.t.ppf(0.95, 2 * n - 2)))

    assert power(count) > 0.89
    assert power(count - 1) < 0.905
    assert seeds_needed(1e-9, 1.0, paired=paired) is None


def test_a_difference_to_detect_is_counted_instead() -> None:
    a = 3.0 + np.array([0.01, -0.01, 0.02, -0.02, 0.0])
    b = a - 0.5 + np.array([0.01, 0.0, -0.01, 0.005, -0.005])
    seen, small = (contrasts(runs(a), runs(b), paired=True, detect=v)[0].needed for v in (None, 0.001))
    assert seen is not None
    assert small is not None
    assert seen < small


def test_bad_input_is_refused() -> None:
    a = np.array([3.0, 3.1, 3.2, 3.3, 3.4])
    for other, words in (
        (runs(a[:1], seeds=SEEDS[:1]), "two shared seeds"),
        (runs(a, d=2e6), "two shared seeds"),
        (runs(a, seeds=None), "share a seed"),
        (runs(a, seeds=np.array(["0"] * 5)), "have the seed 0"),
        (runs(a * np.nan), "loss"),
    ):
        with pytest.raises(InputError, match=words):
            contrasts(runs(a), other, paired=True)
    with pytest.raises(InputError, match="level"):
        contrasts(runs(a), runs(a), paired=False, level=1.0)
    with pytest.raises(InputError, match="detect"):
        contrasts(runs(a), runs(a), paired=False, detect=float("nan"))
