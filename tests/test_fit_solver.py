"""The batched solver, and the certificate of an optimum, against SciPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize

from benchmarks import certificate as slow
from scaling_lib.fit import fit_power_law
from scaling_lib.fit import setup as setups
from scaling_lib.fit.laws import POWER_N
from scaling_lib.fit.setup import Setup, certify, descend, halton, make, seeds
from scaling_lib.fit.solver import Pin, bending, evaluate, merge, minimise

X = np.geomspace(1e6, 1e9, 12)


def work(delta: float = np.inf) -> Setup:
    noise = np.random.default_rng(0).normal(0, 0.01, 12)
    return make(POWER_N, (X,), (1.7 + 400 / X**0.34) * np.exp(noise), delta, {})


def log_model(theta: np.ndarray, setup: Setup) -> np.ndarray:
    """Written out anew: E + exp(a - alpha u)."""
    return np.log(theta[0] + np.exp(theta[1] - theta[2] * setup.log_x[0]))


@pytest.mark.parametrize("delta", [np.inf, 0.005])
def test_gradient_and_second_derivative_of_the_objective(delta: float) -> None:
    problem = replace(work(delta), weight=np.linspace(0.5, 2.0, 12))
    theta = np.array([[0.5, -0.6, 0.3], [0.3, -0.4, 0.2]])
    _, grad, inner, outer = evaluate(problem, theta)
    exact = inner + bending(problem, theta)
    for i, step in enumerate(1e-6 * np.eye(3)):
        up, down = evaluate(problem, theta + step), evaluate(problem, theta - step)
        np.testing.assert_allclose(grad[:, i], (up[0] - down[0]) / 2e-6, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(exact[:, i], (up[1] - down[1]) / 2e-6, rtol=1e-4, atol=1e-6)
    for matrix in (inner, outer, outer - inner):  # reweighting majorises the true curvature
        assert np.linalg.eigvalsh(matrix).min() > -1e-9


def test_many_members_reach_what_scipy_reaches_alone() -> None:
    setup = work()
    solution = minimise(setup, seeds(setup, 64))
    alone = optimize.least_squares(
        lambda theta: log_model(theta, setup) - setup.y,
        [0.5, -0.5, 0.3],
        bounds=(setup.lower, setup.upper),
        xtol=1e-14,
        ftol=1e-14,
    )
    assert solution.cost.min() == pytest.approx(alone.cost, rel=1e-9)
    np.testing.assert_allclose(solution.theta[np.argmin(solution.cost)], alone.x, rtol=1e-4)
    assert np.mean(solution.cost < alone.cost * 1.000001) > 0.9


def test_a_minimum_outside_the_bounds_ends_on_them() -> None:
    """A law that bends down in log-log has its best floor below 0."""
    setup = make(POWER_N, (X,), np.exp(3.0 - 0.02 * np.log(X / 1e6) ** 1.5), np.inf, {})
    theta, cost, done = descend(setup, seeds(setup, 8), setup.y[None, :], keep=3)
    assert theta[0, 0] == 0.0
    assert done[0]
    free = optimize.minimize(lambda p: 0.5 * np.sum((log_model(np.array([0.0, *p]), setup) - setup.y) ** 2), [0.0, 0.2])
    assert cost[0] == pytest.approx(free.fun, rel=1e-6)


def test_weights_count_as_repeated_runs() -> None:
    setup, times = work(0.004), np.array([0, 1, 2, 1, 3, 1, 0, 1, 1, 2, 1, 1])
    theta, cost, _ = descend(setup, seeds(setup, 6), setup.y[None, :], weight=times[None, :].astype(float), keep=3)
    repeated = replace(setup, y=np.repeat(setup.y, times), log_x=(np.repeat(setup.log_x[0], times),))
    assert minimise(repeated, theta).cost[0] == pytest.approx(cost[0], rel=1e-9)


def test_problems_side_by_side_do_not_meet() -> None:
    setup = work()
    y = setup.y + np.random.default_rng(4).normal(0, 0.01, (5, 12))
    together = descend(setup, seeds(setup, 6), y, keep=3)
    for i in range(5):
        alone = descend(setup, seeds(setup, 6), y[i : i + 1], keep=3)
        np.testing.assert_allclose(together[1][i], alone[1][0], rtol=1e-9)
        np.testing.assert_allclose(together[0][i], alone[0][0], rtol=1e-5)


def test_a_pin_holds_the_prediction() -> None:
    setup = work()

    def off(theta: np.ndarray, cases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, slope = POWER_N.log_value(theta, (np.array([2.0]),))
        return value[:, 0] + 1.0, slope[:, :, 0]

    pin = Pin(off, weight=np.array([1e8]), cases=np.array([0]))
    solved = minimise(replace(setup, pin=pin), np.array([[0.4, -0.5, 0.3]]))
    e, a, alpha = solved.theta[0]
    assert np.log(e + np.exp(a - 2.0 * alpha)) == pytest.approx(-1.0, abs=1e-6)


def test_a_law_seen_at_one_size_only_still_ends() -> None:
    setup = make(POWER_N, (np.full(5, 1e7),), np.array([3.0, 3.1, 2.9, 3.05, 3.0]), np.inf, {})
    theta, cost, _ = descend(setup, seeds(setup, 8), setup.y[None, :], keep=3)
    assert np.isfinite(theta).all()
    assert cost[0] == pytest.approx(0.5 * np.sum((setup.y - setup.y.mean()) ** 2), rel=1e-6)


def test_merge_keeps_the_best_that_differ() -> None:
    points = merge(np.array([[3.0, 1.0, 1.0 + 1e-9, 2.0]]), np.arange(4.0).reshape(1, 4, 1), 3)
    assert points.ravel().tolist() == [1.0, 3.0, 0.0]
    assert merge(np.array([[5.0, 5.0]]), np.array([[[1.0], [2.0]]]), 2).ravel().tolist() == [1.0, 1.0]


def test_starts_are_even_and_scaled_parameters_return_to_natural_ones() -> None:
    points = halton(1024, 5)
    np.testing.assert_allclose(points.mean(axis=0), 0.5, atol=0.02)
    np.testing.assert_allclose(points.var(axis=0), 1 / 12, rtol=0.05)
    assert points[0].tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 5, 1 / 7, 1 / 11])
    params = np.array([1.7, 400.0, 0.34])
    np.testing.assert_allclose(work().natural(work().scaled(params)), params, rtol=1e-12)


@pytest.mark.parametrize("seed", [5, 11, 65, 106])
def test_bent_valleys_that_are_hard_to_descend_are_certified(seed: int) -> None:
    """Few sizes over a narrow span: E, A and alpha trade off, and a kink lies wherever a residual is zero."""
    outcome = slow.check(seed)
    assert outcome.certified
    assert abs(outcome.excess) < 1e-6


def test_no_certificate_is_false_and_few_are_refused() -> None:
    found = [slow.check(seed) for seed in range(200, 212)]
    assert not any(f.false for f in found)
    assert sum(f.certified for f in found) >= 11


def test_routes_that_disagree_or_did_not_come_to_rest_certify_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    n, d, loss = slow.design(np.random.default_rng(0))
    work = make(slow.LAW, (n, d), loss, np.inf, {})
    theta, cost, found = certify(work, 8)
    assert found["agree"]
    monkeypatch.setattr(setups, "profile_route", lambda *_: (theta, cost, False))
    assert not certify(work, 8)[2]["agree"]
    monkeypatch.setattr(setups, "profile_route", lambda *_: (np.zeros(3), 1.0, True))
    x = np.geomspace(1e6, 1e9, 9)
    fit = fit_power_law(x, 1.7 + 400 / x**0.34 + 0.01 * np.cos(np.arange(9)))
    assert not fit.success
    assert fit.message in fit.verdict(2e9).reasons
