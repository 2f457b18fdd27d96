"""The batched solver against SciPy, one problem at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from scaling_lib.fit.laws import POWER_N
from scaling_lib.fit.setup import descend, make, seeds
from scaling_lib.fit.solver import Pin, evaluate, merge, minimise

X = np.geomspace(1e6, 1e9, 12)


def work(delta: float = np.inf, seed: int = 0, noise: float = 0.01):
    rng = np.random.default_rng(seed)
    return make(POWER_N, (X,), (1.7 + 400 / X**0.34) * np.exp(rng.normal(0, noise, 12)), delta, {})


@pytest.mark.parametrize("delta", [np.inf, 0.005])
def test_gradient_and_second_derivative_of_the_objective(delta):
    setup = work(delta)
    theta = np.array([[0.5, -0.6, 0.3], [0.3, -0.4, 0.2]])
    weight = np.linspace(0.5, 2.0, 12)[None, :]
    _, grad, inner, outer = evaluate(setup.problem(weight=weight), theta)
    for i in range(3):
        step = np.zeros((2, 3))
        step[:, i] = 1e-6
        up = evaluate(setup.problem(weight=weight), theta + step)[0]
        down = evaluate(setup.problem(weight=weight), theta - step)[0]
        np.testing.assert_allclose(grad[:, i], (up - down) / 2e-6, rtol=1e-5, atol=1e-9)
    for matrix in (inner, outer):
        assert np.linalg.eigvalsh(matrix).min() > -1e-12
    assert (np.linalg.eigvalsh(outer - inner) > -1e-9).all()  # reweighting majorises the true curvature


def test_many_members_reach_what_scipy_reaches_alone():
    setup = work()
    start = seeds(setup, 64)
    solution = minimise(setup.problem(), start)

    def residual(theta):
        return np.log(POWER_N.core(theta, setup.log_x)[0]) - setup.y

    alone = optimize.least_squares(
        residual, [0.5, -0.5, 0.3], bounds=(setup.lower, setup.upper), xtol=1e-14, ftol=1e-14
    )
    assert solution.cost.min() == pytest.approx(alone.cost, rel=1e-9)
    np.testing.assert_allclose(solution.theta[np.argmin(solution.cost)], alone.x, rtol=1e-4)
    assert np.mean(solution.cost < alone.cost * 1.000001) > 0.9


def test_a_minimum_outside_the_bounds_ends_on_them():
    """A law that bends down in log-log has its best floor below 0."""
    loss = np.exp(3.0 - 0.02 * np.log(X / 1e6) ** 1.5)
    setup = make(POWER_N, (X,), loss, np.inf, {})
    theta, cost, done = descend(setup, seeds(setup, 8), setup.y[None, :])
    assert theta[0, 0] == 0.0
    assert done[0]
    free = optimize.minimize(
        lambda p: 0.5 * np.sum((np.log(POWER_N.core(np.array([0.0, *p]), setup.log_x)[0]) - setup.y) ** 2), [0.0, 0.2]
    )
    assert cost[0] == pytest.approx(free.fun, rel=1e-6)


def test_weights_count_as_repeated_runs():
    setup = work(0.004)
    weight = np.array([[0, 1, 2, 1, 3, 1, 0, 1, 1, 2, 1, 1]], dtype=float)
    theta, cost, _ = descend(setup, seeds(setup, 6), setup.y[None, :], weight=weight)
    times = weight[0].astype(int)
    repeated = setup.problem(np.repeat(setup.y, times)[None, :], log_x=(np.repeat(setup.log_x[0], times),))
    again = minimise(repeated, theta)
    assert again.cost[0] == pytest.approx(cost[0], rel=1e-9)


def test_problems_side_by_side_do_not_meet():
    setup = work()
    rng = np.random.default_rng(4)
    y = setup.y + rng.normal(0, 0.01, (5, 12))
    together = descend(setup, seeds(setup, 6), y)
    for i in range(5):
        alone = descend(setup, seeds(setup, 6), y[i : i + 1])
        np.testing.assert_allclose(together[1][i], alone[1][0], rtol=1e-9)
        np.testing.assert_allclose(together[0][i], alone[0][0], rtol=1e-5)


def test_a_pin_holds_the_prediction():
    setup = work()
    pin = Pin(np.array([-1.0]), np.array([1e8]), log_x=(np.array([2.0]),))
    solved = minimise(setup.problem(pin=pin), np.array([[0.4, -0.5, 0.3]]))
    assert np.log(POWER_N.core(solved.theta[0], (np.array([2.0]),))[0][0]) == pytest.approx(-1.0, abs=1e-6)


def test_a_law_seen_at_one_size_only_still_ends():
    setup = make(POWER_N, (np.full(5, 1e7),), np.array([3.0, 3.1, 2.9, 3.05, 3.0]), np.inf, {})
    theta, cost, _ = descend(setup, seeds(setup, 8), setup.y[None, :])
    assert np.isfinite(theta).all()
    assert cost[0] == pytest.approx(0.5 * np.sum((setup.y - setup.y.mean()) ** 2), rel=1e-6)


def test_merge_keeps_the_best_that_differ():
    cost = np.array([[3.0, 1.0, 1.0 + 1e-9, 2.0]])
    theta = np.arange(8.0).reshape(1, 4, 2)
    best, points = merge(cost, theta, 3)
    assert best.tolist() == [[1.0, 2.0, 3.0]]
    assert points[0, 0].tolist() == [2.0, 3.0]
    best, _ = merge(np.array([[5.0, 5.0]]), np.zeros((1, 2, 2)), 2)
    assert best.tolist() == [[5.0, 5.0]]
