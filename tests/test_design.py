"""Advice on the next runs: its linear algebra against the information form, its choice against all subsets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from scaling_lib.errors import InputError
from scaling_lib.fit import fit_joint
from scaling_lib.fit.design import Outlook, candidate_grid, next_runs
from scaling_lib.fit.result import FitResult

N0, D0 = (v.ravel() for v in np.meshgrid([1e6, 4e6, 1.6e7], [2e7, 8e7, 3.2e8]))
TARGET = (1e9, 2e10)


def law(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return 1.5 + 90.0 / n**0.3 + 180.0 / d**0.28


@pytest.fixture(scope="module")
def fit() -> FitResult:
    rng = np.random.default_rng(3)
    return fit_joint(N0, D0, law(N0, D0) * np.exp(rng.normal(0.0, 0.004, len(N0))))


@pytest.fixture(scope="module")
def outlook(fit: FitResult) -> Outlook:
    return Outlook(fit, *candidate_grid(fit, 4e18), TARGET)


def test_what_is_left_is_the_information_form_s() -> None:
    rng = np.random.default_rng(0)
    gradient, half = rng.normal(size=(8, 5)), rng.normal(size=(5, 5))
    prior, noise = half @ half.T, rng.uniform(0.1, 1.0, 7)
    one = object.__new__(Outlook)
    one.covariance, one.noise = gradient @ prior @ gradient.T, noise
    chosen = [0, 3, 4]
    information = np.linalg.inv(prior) + (gradient[chosen].T / noise[chosen]) @ gradient[chosen]
    t = gradient[-1]
    assert one.left(chosen) == pytest.approx(t @ np.linalg.solve(information, t) / (t @ prior @ t), rel=1e-9)
    gain = np.linalg.slogdet(information)[1] + np.linalg.slogdet(prior)[1]
    assert one.information(chosen) == pytest.approx(gain, rel=1e-9)
    assert one.left([]) == 1.0


def test_the_covariance_is_that_of_draws_from_the_pool() -> None:
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 6.4e7, 6), np.geomspace(2e7, 1.3e9, 6)))
    bent = 1.0 + 0.002 * np.sin(np.log(n))  # so that the forms' inflations are not 1
    fit = fit_joint(n, d, bent * law(n, d) * np.exp(np.random.default_rng(4).normal(0.0, 3e-4, len(n))))
    outlook = Outlook(fit, *candidate_grid(fit, 4e18), (1e8, 2e9))
    assert fit.pool is not None
    assert fit.pool.best.inflation > 1.3
    points = np.append(outlook.n, 1e8), np.append(outlook.d, 2e9)
    drawn = np.log(np.concatenate([form.value(p, *points) for form, p in fit.pool.draws(4000)]))
    sampled = np.cov(drawn.T)
    ratio = np.sqrt(np.diag(outlook.covariance) / np.diag(sampled))
    assert np.all((ratio > 0.8) & (ratio < 1.1))  # the draws are Student's: a little wider
    scale = np.sqrt(np.outer(np.diag(sampled), np.diag(sampled)))
    assert np.abs(sampled / scale - outlook.covariance / scale / ratio[:, None] / ratio).max() < 0.1


def test_the_choice_is_near_the_best_of_all_subsets(fit: FitResult) -> None:
    rng = np.random.default_rng(1)
    n, d, cost = candidate_grid(fit, 4e18)
    some = rng.choice(len(n), 11, replace=False)
    small = Outlook(fit, n[some], d[some], cost[some], TARGET)
    budget = float(np.sort(small.cost)[-1])
    sets = [list(s) for r in range(1, 12) for s in itertools.combinations(range(11), r)]
    best = min(small.left(s) for s in sets if small.cost[s].sum() <= budget)
    advice = small.choose(budget)
    assert advice.cost.sum() <= budget
    assert len(set(advice.chosen.tolist())) == len(advice.chosen)
    assert small.left(advice.chosen) <= 1.1 * best


def test_advice_narrows_the_interval_in_its_order_and_with_the_budget(outlook: Outlook) -> None:
    advice = outlook.choose(1e19)
    assert np.all(np.diff(advice.width) < 1e-12)
    assert advice.width[-1] < 0.7 * advice.width[0]
    widths = outlook.frontier([1e16, 1e18, 1e19])
    assert np.all(np.diff(widths) <= 0)
    whole, target = outlook.choose(1e18, "D"), outlook.choose(1e18, "c")
    assert outlook.information(whole.chosen) >= outlook.information(target.chosen)
    assert outlook.left(target.chosen) <= outlook.left(whole.chosen)


def test_what_was_expected_is_what_a_new_fit_finds(fit: FitResult, outlook: Outlook) -> None:
    """Not equal, but of one size: the fit with the advised runs is narrower by about as much as was said."""
    advice = outlook.choose(1e19)
    rng = np.random.default_rng(5)
    loss = law(advice.n, advice.d) * np.exp(rng.normal(0.0, 0.004, len(advice.n)))
    after = fit_joint(np.append(N0, advice.n), np.append(D0, advice.d), np.append(fit.data["loss"], loss))
    low, high = after.interval(*TARGET)
    assert 0.25 < (high - low) / 2 / after.predict(*TARGET) / advice.width[-1] < 4.0


@pytest.mark.parametrize(
    ("n", "d"),
    [
        (np.geomspace(1e6, 1e8, 9), 20 * np.geomspace(1e6, 1e8, 9)),
        (np.full(9, 1e6), np.geomspace(1e7, 1e9, 9)),
        (np.geomspace(1e6, 1e8, 9), np.full(9, 1e9)),
        (N0[:5], D0[:5]),
    ],
    ids=["ray", "one size", "one length", "too few"],
)
def test_designs_that_say_nothing_are_refused(n: np.ndarray, d: np.ndarray) -> None:
    runs = fit_joint(n, d, law(n, d) * np.exp(np.random.default_rng(2).normal(0, 0.003, len(n))))
    with pytest.raises(InputError, match="no advice follows"):
        next_runs(runs, TARGET, [1e7], [1e9], [1e17], 1e18)


@pytest.mark.parametrize("budget", [0.0, -1.0, np.nan, np.inf, 1.0])
def test_a_budget_that_buys_nothing_is_refused(outlook: Outlook, budget: float) -> None:
    with pytest.raises(InputError, match="budget"):
        outlook.choose(budget)


def test_candidates_are_checked_and_cost_what_they_say(fit: FitResult) -> None:
    with pytest.raises(InputError, match="cost"):
        next_runs(fit, TARGET, [1e7], [1e9], [-1.0], 1e18)
    with pytest.raises(InputError, match="at most"):
        candidate_grid(fit, 1.0)
    n, d, cost = candidate_grid(fit, 1e17, 2.0)
    assert np.allclose(cost, 12.0 * n * d)
    assert cost.max() <= 1e17
