"""Two recipes from replicates: intervals against SciPy's own tests, multipliers against a law, seeds by simulation."""

import numpy as np
import pytest
from scipy import stats

from scaling_lib.errors import InputError
from scaling_lib.fit import difference
from scaling_lib.fit.seeds import Difference, Replicates, contrasts, pairs, seeds_needed

SEEDS = np.array([str(i) for i in range(5)])


def runs(losses: np.ndarray, d: np.ndarray | float = 1e6, seeds: np.ndarray | None = SEEDS) -> Replicates:
    n = len(losses)
    return Replicates(np.full(n, 1e5), np.full(n, 1.0) * d, losses, seeds)


def check(found: Difference, test: stats._stats_py.TtestResult, dof: int) -> None:
    want = test.confidence_interval(0.9)
    assert np.log1p([found.low, found.high]) == pytest.approx([want.low, want.high], rel=1e-9)
    assert (found.chance, found.dof) == (pytest.approx(test.pvalue), dof)
    assert found.real == (test.pvalue < 0.1)


def test_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.2, 5)
    a, b = 3.0 + shared + rng.normal(0, 0.005, 5), 2.98 + shared + rng.normal(0, 0.01, 5)
    (paired,) = contrasts(runs(a), runs(b[::-1], seeds=SEEDS[::-1]), paired=True)
    (apart,) = contrasts(runs(a), runs(b), paired=False)
    check(paired.difference, stats.ttest_rel(np.log(b), np.log(a)), 4)
    check(apart.difference, stats.ttest_ind(np.log(b), np.log(a)), 8)
    check(difference(a[:3], b), stats.ttest_ind(np.log(b), np.log(a[:3])), 6)
    assert paired.difference.real
    assert not apart.difference.real  # what pairing is for


def test_a_known_noise_serves_single_runs() -> None:
    found = difference(2.30, 2.28, noise=0.004)
    assert found.change == pytest.approx(2.28 / 2.30 - 1)
    assert np.log1p(found.high) - np.log1p(found.low) == pytest.approx(2 * stats.norm.ppf(0.95) * 0.004 * np.sqrt(2))
    assert "within the noise" in str(difference(2.30, 2.29, noise=0.004))


def test_one_pair_in_ten_of_equal_recipes_is_called_real() -> None:
    rng = np.random.default_rng(0)
    called = [difference(*np.exp(rng.normal(0, 0.004, (2, 3)))).real for _ in range(600)]
    assert stats.binom.ppf(0.001, 600, 0.1) <= sum(called) <= stats.binom.ppf(0.999, 600, 0.1)


def test_only_seeds_that_both_have_are_paired() -> None:
    first = {"a": {0: 3.0, 1: 3.1, 2: 3.2}, "b": {0: 2.0}, "c": {0: 1.0}}
    second = {"a": {2: 3.3, 0: 2.9, 7: 1.0}, "b": {1: 2.0}}
    assert {cell: losses.tolist() for cell, losses in pairs(first, second).items()} == {"a": [[3.0, 2.9], [3.2, 3.3]]}


def test_the_multiplier_is_the_law_s() -> None:
    def loss(d: np.ndarray) -> np.ndarray:
        return 1.0 + 50.0 * d**-0.3

    lengths, seed = np.repeat(np.geomspace(2.5e5, 4e6, 9), 2), np.tile(["0", "1"], 9)
    jitter = np.tile([0.001, -0.001], 9)
    reference = runs(loss(lengths) + jitter, lengths, seed)

    def factor(d: float, against: Replicates = reference) -> tuple[float, float, float]:
        other = runs(loss(np.full(2, d)) + jitter[:2] * 1.01, seeds=seed[:2])
        return contrasts(against, other, paired=True)[0].factor

    value, low, high = factor(1.5e6)
    assert value == pytest.approx(1.5, rel=0.01)
    assert low < value < high
    assert factor(1e8)[0] == np.inf
    assert np.isnan(factor(1.5e6, runs(loss(np.full(5, 1e6)) + 0.01 * np.arange(5)))[0])


@pytest.mark.parametrize("paired", [True, False])
def test_seeds_needed_reach_their_power_in_simulation(paired: bool) -> None:
    rng = np.random.default_rng(1)
    spread, size = 0.02, 0.015
    count = seeds_needed(size, spread / np.sqrt(2), paired=paired)
    assert count is not None

    def power(n: int) -> float:
        x = rng.normal(0, spread / np.sqrt(2), (2, 20_000, n))
        shifted = x[1] + size
        test = stats.ttest_rel(shifted, x[0], axis=1) if paired else stats.ttest_ind(shifted, x[0], axis=1)
        return float(np.mean((test.pvalue < 0.1) & (test.statistic > 0)))

    assert power(count) > 0.89
    assert power(count - 1) < 0.905
    assert seeds_needed(1e-9, 1.0, paired=paired) is None


def test_a_difference_to_detect_is_counted_instead() -> None:
    a = 3.0 + np.array([0.01, -0.01, 0.02, -0.02, 0.0])
    b = a - 0.5 + np.array([0.01, 0.0, -0.01, 0.005, -0.005])
    seen, small = (contrasts(runs(a), runs(b), paired=True, detect=v)[0].needed or 0 for v in (None, 0.001))
    assert 0 < seen < small


def test_bad_input_is_refused() -> None:
    a = np.array([3.0, 3.1, 3.2, 3.3, 3.4])
    for other, words in (
        (runs(a[:1], seeds=SEEDS[:1]), "two shared seeds"),
        (runs(a, d=2e6), "two shared seeds"),
        (runs(a, seeds=None), "share a seed"),
        (runs(a, seeds=np.array(["0"] * 5)), "have the seed 0"),
    ):
        with pytest.raises(InputError, match=words):
            contrasts(runs(a), other, paired=True)
    for options, words in (({"level": 1.0}, "level"), ({"detect": float("nan")}, "detect")):
        with pytest.raises(InputError, match=words):
            contrasts(runs(a), runs(a), paired=False, **options)
    for losses, options, words in (
        ((2.3, 2.2), {}, "one run each"),
        ((2.3, 2.2), {"noise": 0.0}, "noise=0.0"),
        ((2.3, [-1.0]), {}, "second"),
        ((a, a[:2]), {"paired": True}, "no pairs"),
    ):
        with pytest.raises(InputError, match=words):
            difference(*losses, **options)
