"""Seed noise and paired differences against SciPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scaling_lib.show.noise import differences, noise_report, pooled_relative, spreads
from scipy import stats

from scaling_lib.runs import Run

Make = Callable[..., Run]
RNG = np.random.default_rng(5)
WSD = 3.0 + RNG.normal(0, 0.02, 5)
V2 = WSD + 0.05 + RNG.normal(0, 0.005, 5)


def runs(make_run: Make) -> list[Run]:
    made = []
    for recipe, losses in (("wsd", WSD), ("v2", V2)):
        made += [make_run(recipe, d_model=32, seed=k, loss=float(v)) for k, v in enumerate(losses)]
    return [*made, make_run("v2", d_model=64, seed=0, loss=2.9), make_run("v2", d_model=64, seed=1, loss=2.8)]


def test_the_spread_of_a_cell_is_its_standard_deviation(make_run: Make) -> None:
    found = spreads(runs(make_run))
    assert [(s.recipe, s.model.d_model, len(s.losses)) for s in found] == [("v2", 32, 5), ("wsd", 32, 5)]
    assert found[1].relative == pytest.approx(np.std(WSD, ddof=1) / WSD.mean())


def test_the_pooled_spread_has_its_chi_squared_interval(make_run: Make) -> None:
    found = spreads(runs(make_run))
    pooled, low, high = pooled_relative(found)
    squares = 4 * (found[0].relative ** 2 + found[1].relative ** 2)
    assert pooled == pytest.approx(np.sqrt(squares / 8))
    assert stats.chi2.cdf(squares / low**2, 8) == pytest.approx(0.95)
    assert stats.chi2.cdf(squares / high**2, 8) == pytest.approx(0.05)


def test_a_difference_is_that_of_a_paired_t_test(make_run: Make) -> None:
    (found,) = differences(runs(make_run), "wsd", "v2")
    oracle = stats.ttest_rel(WSD, V2)
    interval = oracle.confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.relative == pytest.approx((WSD - V2).mean() / V2.mean())


def test_only_seeds_that_both_have_are_paired(make_run: Make) -> None:
    some = [r for r in runs(make_run) if not (r.config.train.recipe == "v2" and r.config.train.seed == 1)]
    (found,) = differences(some, "wsd", "v2")
    keep = [0, 2, 3, 4]
    assert found.mean == pytest.approx((WSD - V2)[keep].mean())
    few = [r for r in some if r.config.train.recipe == "wsd" or r.config.train.seed < 3]
    assert differences(few, "wsd", "v2") == []


def test_the_report_has_every_cell_and_nothing_to_say_of_two_seeds(make_run: Make) -> None:
    text = noise_report(runs(make_run))
    assert text.count("2x32") == 3
    assert "2x64" not in text
    assert "together" in text
    assert noise_report([make_run("v2", seed=k) for k in range(2)]) == ""
