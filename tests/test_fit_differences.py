"""Differences between recipes against SciPy's t test, and by how often they are called real."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scaling_lib.errors import InputError
from scaling_lib.fit import difference


def test_the_interval_and_the_chance_are_students():
    first, second = np.array([2.31, 2.33, 2.30]), np.array([2.28, 2.29, 2.27, 2.30])
    oracle = stats.ttest_ind(np.log(second), np.log(first))
    found = difference(first, second)
    ends = oracle.confidence_interval(0.9)
    assert [found.low, found.high] == pytest.approx(np.expm1([ends.low, ends.high]))
    assert found.chance == pytest.approx(oracle.pvalue)
    assert found.dof == 5
    assert found.real == (oracle.pvalue < 0.1)


def test_a_known_noise_serves_single_runs():
    found = difference(2.30, 2.28, noise=0.004)
    assert found.change == pytest.approx(2.28 / 2.30 - 1)
    assert np.log1p(found.high) - np.log1p(found.low) == pytest.approx(2 * stats.norm.ppf(0.95) * 0.004 * np.sqrt(2))
    assert not difference(2.30, 2.29, noise=0.004).real
    assert "within the noise" in str(difference(2.30, 2.29, noise=0.004))


def test_one_pair_in_ten_of_equal_recipes_is_called_real():
    rng = np.random.default_rng(0)
    called = [difference(*np.exp(rng.normal(0, 0.004, (2, 3)))).real for _ in range(600)]
    assert stats.binom.ppf(0.001, 600, 0.1) <= sum(called) <= stats.binom.ppf(0.999, 600, 0.1)


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [((2.3, 2.2), {}, "one run each"), ((2.3, 2.2), {"noise": 0.0}, "noise=0.0"), ((2.3, [-1.0]), {}, "second")],
)
def test_refusals(arguments, options, says):
    with pytest.raises(InputError, match=says):
        difference(*arguments, **options)
