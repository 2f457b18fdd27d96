"""Noise, intervals and bootstraps against closed forms, brute force and simulations of known truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats
from test_fit_estimate import epoch_table, sweep

from benchmarks import coverage as study
from benchmarks import truths
from scaling_lib.fit import FitResult, fit_joint, fit_power_law
from scaling_lib.fit.misfit import STRAIGHT
from scaling_lib.fit.noise import measure, pseudo_residuals
from scaling_lib.fit.summary import leave_one_out
from scaling_lib.runs import counts_of, shipped

X = np.geomspace(1e6, 1e9, 10)


def ladder(seed: int = 0, noise: float = 0.01, **options: Any) -> FitResult:
    rng = np.random.default_rng(seed)
    return fit_power_law(X, (1.7 + 400 / X**0.34) * np.exp(rng.normal(0, noise, 10)), law="power", **options)


def all_move(jac: np.ndarray, r: np.ndarray, delta: float = np.inf, codes: np.ndarray | None = None) -> Any:
    n, k = jac.shape
    return measure(jac, r, np.ones(k, dtype=bool), n - k, delta, codes)


def test_mean_of_balanced_groups_is_the_analysis_of_variance() -> None:
    """For a constant law in G groups of m: variance MS(between)/(G m) on G - 1 degrees of freedom, exactly."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(8), 5)
    y = rng.normal(0, 1.0, 8)[codes] + rng.normal(0, 0.5, 40)
    means = y.reshape(8, 5).mean(axis=1)
    between = 5 * np.sum((means - y.mean()) ** 2) / 7
    within = np.sum((y - means[codes]) ** 2) / 32
    noise = all_move(np.ones((40, 1)), y - y.mean(), codes=codes)
    assert noise.within == pytest.approx(within)
    assert noise.between == pytest.approx((between - within) / 5)
    variance, _, dof = noise.contrast(np.ones((1, 1)))
    assert (variance[0], dof[0]) == pytest.approx((between / 40, 7.0))
    assert noise.covariance()[0, 0] == pytest.approx(between / 40)
    assert noise.sigma == pytest.approx(np.sqrt(noise.within + noise.between))


def test_variance_components_are_unbiased_round_a_line() -> None:
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(8), 4)
    jac = np.column_stack([np.ones(32), codes - 3.5, np.tile(np.arange(4.0), 8)])
    maker = np.eye(32) - jac @ np.linalg.pinv(jac)
    found = []
    for _ in range(400):
        noise = all_move(jac, maker @ (rng.normal(0, 1.0, 8)[codes] + rng.normal(0, 0.7, 32)), codes=codes)
        found.append((noise.within, noise.between))
    np.testing.assert_allclose(np.mean(found, axis=0), [0.49, 1.0], rtol=0.08)


def test_sandwich_is_whites() -> None:
    rng = np.random.default_rng(2)
    jac = np.column_stack([np.ones(100), rng.normal(size=100)])
    r = rng.normal(0, np.exp(jac[:, 1]))
    inverse = np.linalg.inv(jac.T @ jac)
    r = r - jac @ inverse @ jac.T @ r
    hat = np.einsum("ni,ij,nj->n", jac, inverse, jac)
    white = inverse @ (jac.T * (r**2 / (1 - hat))) @ jac @ inverse
    noise = all_move(jac, r)
    np.testing.assert_allclose(noise.covariance(), white, rtol=1e-9)
    np.testing.assert_allclose(noise.geometry.inverse, inverse, rtol=1e-9)


def test_near_absolute_deviation_has_the_variance_of_the_median() -> None:
    """The mean of many normal draws by LAD, the median, has variance pi/2 sigma^2 / n."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(300):
        y = rng.normal(0, 0.01, 41)
        found.append(all_move(np.ones((41, 1)), y - np.median(y), 1e-6).contrast(np.ones((1, 1)))[0][0])
    assert np.mean(found) == pytest.approx(np.pi / 2 * 1e-4 / 41, rel=0.2)


def test_rank_and_blind_parameters() -> None:
    jac = np.column_stack([np.ones(6), np.arange(6.0), np.arange(6.0) * 2, np.zeros(6)])
    geometry = all_move(jac, np.zeros(6)).geometry
    assert (geometry.rank, geometry.condition) == (2, np.inf)
    assert geometry.blind.tolist() == [False, True, True, True]


def test_profile_of_the_floor_against_brute_force() -> None:
    fit = ladder(noise=0.01)
    limit = fit.cost + stats.t.ppf(0.95, 7) ** 2 * fit.cost / 7
    for end in fit.parameter_interval("E"):
        assert fit_power_law(X, fit.data["loss"], floor=end).cost == pytest.approx(limit, rel=3e-4)


Runs = tuple[np.ndarray, np.ndarray, np.ndarray]


def learned() -> Runs:
    """The shipped grid of models with learned positions, which no additive law follows: its valley is bent."""
    runs = [r for r in shipped("laptop-learned") if r.val_loss is not None]
    found = [(counts_of(r.config)["n_params_non_embedding"], r.history[-1].n_tokens, r.val_loss) for r in runs]
    n, d, loss = (np.array(column, dtype=float) for column in zip(*found, strict=True))
    return n, d, loss


def simulated() -> Runs:
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 4)))
    noise = np.random.default_rng(1).normal(0, 0.004, 20)
    return n, d, (1.8172 + 482.01 / n**0.3478 + 2085.43 / d**0.3658) * np.exp(noise)


def blind() -> Runs:
    """Runs whose loss hardly falls with D: a first guess of the upper end is a hundred times too far."""
    rng = np.random.default_rng([77, 20])
    truth = truths.draw(rng)
    return truth.n, truth.d, truth.runs(rng, truth.n, truth.d, 0.05)


@pytest.mark.parametrize(
    ("runs", "law", "objective", "times"),
    [
        (learned, "chinchilla", "huber", 50.0),
        (learned, "chinchilla", "log_mse", 1.0),
        (simulated, "chinchilla", "log_mse", 10.0),
        (blind, "kaplan", "log_mse", 1e3),
    ],
)
def test_profile_of_a_joint_law_against_scipys_constrained_minimum(
    runs: Callable[[], Runs], law: str, objective: str, times: float
) -> None:
    """A thousandth of the half-width before the end the objective does not yet object, and beyond it it does."""
    n, d, loss = runs()
    fit = fit_joint(n, d, loss, law=law, objective=objective)
    fit.__dict__["misfit"] = STRAIGHT  # which would widen the interval beyond the profile's
    work, target = fit.work, (times * n.max(), times * d.max())
    at = work.scaled_log(tuple(np.array([v]) for v in target))
    variance, bend, dof = fit.unbounded_noise.contrast(work.log_law(fit.theta, at)[1])
    scale = variance[0] / bend[0]

    def there(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = work.log_law(theta, at)
        return float(value[0]), slope[0]

    def cost(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = work.log_law(theta)
        psi = np.clip(value - work.y, -fit.delta, fit.delta)
        return float(np.sum(psi * (value - work.y - psi / 2))) / fit.rest.cost[0], psi @ slope / fit.rest.cost[0]

    def root(distance: float) -> float:
        """Signed root of the least objective with the prediction held so far from the optimum."""
        place, rng = there(fit.theta)[0] + distance, np.random.default_rng(0)
        held = {"type": "eq", "fun": lambda t: there(t)[0] - place, "jac": lambda t: there(t)[1]}
        start, found = fit.theta, []
        for part in (*np.linspace(0.2, 1.0, 5), *np.ones(6)):  # creeping along the valley, then from round its end
            place = there(fit.theta)[0] + part * distance
            end = optimize.minimize(
                cost,
                np.clip(start, work.lower, work.upper),
                jac=True,
                bounds=list(zip(work.lower, work.upper, strict=True)),
                constraints=held,
                method="SLSQP",
                options={"maxiter": 400, "ftol": 1e-13},
            )
            good = abs(there(end.x)[0] - place) < 1e-8
            start = end.x if part < 1.0 and good else start + rng.normal(0, 0.1, len(start))
            found += [end.fun] if part == 1.0 and good else []
        return float(np.sqrt(max(2.0 * fit.rest.cost[0] * (min(found) - 1.0) / scale, 0.0)))

    low, high = np.log(np.array(fit.interval(*target)) / fit.predict(*target))
    slack, limit = 1e-3 * (high - low) / 2, stats.t.ppf(0.95, dof[0])
    for end in (low, high):
        assert root(end - np.sign(end) * slack) < limit < root(end + np.sign(end) * slack)


def test_far_out_an_end_is_infinite_or_the_interval_goes_on_widening() -> None:
    x = np.geomspace(1e6, 3e6, 7)  # runs that span half a decade, and a target six decades below
    loss = (1.7 + 400 / x**0.34) * np.exp(np.random.default_rng(1).normal(0, 0.1, 7))
    low, high = fit_power_law(x, loss, law="power").interval(1e-3)
    assert 0.0 <= low < high == np.inf
    # Five runs, a floor near its bound: one leap along the bent valley fails, and must not pass for an end.
    d = np.array([999_424, 1_998_848, 3_999_744, 7_999_488, 15_998_976], dtype=float)
    fit = fit_power_law(d, [3.9611, 3.4797, 2.9728, 2.4976, 2.2693], variable="D", law="power")
    target = np.geomspace(3e7, 1e10, 14)
    low, high = fit.interval(target)
    assert np.all(low < 0.95 * fit.predict(target))
    assert np.all(np.diff(high - low) > -0.05 * (high - low)[1:])


def test_delta_interval_is_the_textbook_one() -> None:
    fit = ladder()
    slope = fit.law.gradient(fit.values, 1e10)
    error = np.sqrt(slope @ fit.cov @ slope) / fit.predict(1e10)
    for kind, spread in (("mean", error), ("new_run", np.hypot(error, fit.sigma))):
        low, high = fit.interval(1e10, method="delta", level=0.8, kind=kind)
        assert np.log(high / low) / 2 == pytest.approx(stats.t.ppf(0.9, 7) * spread, rel=1e-4)


def test_intervals_nest_and_hold_the_prediction() -> None:
    fit = ladder(bootstrap=200)
    x = np.geomspace(1e6, 1e11, 7)
    for method in ("delta", "profile", "bootstrap"):
        narrow, wide = (fit.interval(x, level=level, method=method) for level in (0.5, 0.95))
        run = fit.interval(x, level=0.95, method=method, kind="new_run")
        ordered = run[0], wide[0], narrow[0], fit.predict(x), narrow[1], wide[1], run[1]
        assert np.all(np.diff(ordered, axis=0) >= 0)
    assert fit.interval(1e9) == fit.interval(1e9, method="bootstrap")
    assert isinstance(fit.interval(1e9)[0], float)
    assert fit.interval(x.reshape(7, 1))[0].shape == (7, 1)


@pytest.mark.parametrize("kind", ["parametric", "residual", "case", "wild"])
def test_each_bootstrap_finds_the_spread_and_that_of_groups_is_wider(kind: str) -> None:
    rng = np.random.default_rng(6)
    x, codes = np.geomspace(1e6, 1e9, 60), np.repeat(np.arange(10), 6)
    own, shared = rng.normal(0, 0.01, 60), rng.normal(0, 0.01, 10)[codes]

    def fit(noise: np.ndarray, groups: np.ndarray | None = None) -> FitResult:
        loss, draws = (1.7 + 400 / x**0.34) * np.exp(noise), 400 if groups is None else 200
        return fit_power_law(x, loss, law="power", groups=groups, bootstrap=draws, bootstrap_kind=kind)

    plain, apart, grouped = fit(own), fit(0.3 * own + shared), fit(0.3 * own + shared, codes)
    linear = np.sqrt(np.diag(plain.cov))[[0, 2]]
    np.testing.assert_allclose([plain.stderr["E"], plain.stderr["alpha"]], linear, rtol=0.3)
    assert grouped.law.value(grouped.draws, 1e9).std() > 1.4 * apart.law.value(apart.draws, 1e9).std()


def test_automatic_choice_of_bootstrap_and_its_seed() -> None:
    pairs = list("aabbccddee")
    for options, kind in (
        ({}, "parametric"),
        ({"objective": "huber"}, "residual"),
        ({"groups": pairs}, "wild"),
        ({"objective": "huber", "groups": pairs}, "residual"),
    ):
        assert ladder(bootstrap=5, **options).bootstrap_kind == kind
    assert fit_joint(*sweep(), bootstrap=5).bootstrap_kind == "case"
    first, again, other = (ladder(bootstrap=20, seed=s).draws for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.slow
def test_published_bootstrap_errors() -> None:
    """Besiroglu et al. 2024: .026, .015, .021 from 4,000 draws of whole runs."""
    fit = fit_joint(*epoch_table(), bootstrap=800)
    np.testing.assert_allclose([fit.stderr[p] for p in ("E", "alpha", "beta")], [0.026, 0.015, 0.021], rtol=0.2)


def test_a_floor_at_its_bound_has_no_error_and_a_one_sided_interval() -> None:
    loss = np.exp(3.0 - 0.02 * np.log(X / 1e5) ** 1.4 + 0.003 * np.cos(np.arange(10) * 2.0))
    fit = fit_power_law(X, loss)
    assert fit.diagnostics["at_bound"] == ("E",)
    assert fit.stderr["E"] == np.inf
    low, high = fit.parameter_interval("E")
    assert low == 0.0 < high < loss.min()
    assert f"E: at its bound (0); 90% interval up to {high:.3g}" in fit.summary()


def test_leaving_out_is_the_fit_without_each_run() -> None:
    fit = ladder(noise=0.02)
    change = leave_one_out(fit, (np.array([1e10]),))
    for i in (0, 4, 9):
        keep = np.arange(10) != i
        again = fit_power_law(X[keep], fit.data["loss"][keep], law="power").predict(1e10)
        assert again / fit.predict(1e10) - 1 == pytest.approx(change[i], rel=1e-2, abs=1e-4)
    most = int(np.argmax(np.abs(change)))
    assert f"without row {most + 1} " in fit.summary(1e10)


@pytest.mark.slow
def test_shared_noise_that_the_fit_is_not_told_of_breaks_its_intervals() -> None:
    """Of 48 sweeps the share whose 90% intervals of the floor, and of the law at the largest size, hold.

    Told, it lies above 75% but for one study in a thousand. Far beyond the runs ignored groups do not show: there the
    sizes' common errors look like a bend of the law, for which the interval is widened.
    """
    sizes, codes = np.repeat(np.geomspace(1e6, 1e9, 8), 6), np.repeat(np.arange(8), 6)
    rng, held, width = np.random.default_rng(0), np.zeros((2, 2)), np.zeros((2, 48))
    for draw in range(48):
        loss = (1.7 + 400 / sizes**0.34) * np.exp(rng.normal(0, 0.002, 48) + rng.normal(0, 0.005, 8)[codes])
        for told, groups in enumerate((None, codes)):
            fit = fit_power_law(sizes, loss, groups=groups)
            (e0, e1), (low, high) = fit.parameter_interval("E"), fit.interval(1e9)
            held[told] += e0 <= 1.7 <= e1, low <= 1.7 + 400 / 1e9**0.34 <= high
            width[told, draw] = high - low
    assert held[1].min() >= 0.75 * 48
    assert held[0, 0] < 0.65 * 48
    assert held[0, 1] < held[1, 1]
    assert np.median(width[0]) < 0.6 * np.median(width[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ladder", "grid", "trunks", "ray", "flat"])
def test_coverage_and_refusals(name: str) -> None:
    """A small version of benchmarks/coverage.py: limits at 99.9% of what 88% coverage gives by chance in 30 draws."""
    design = next(d for d in study.designs() if d.name == name)
    tally = study.study(design, 30 if design.identifiable else 10, seed=11)
    if not design.identifiable:
        assert tally.refused.min() >= 0.9
        return
    assert tally.refused.max() <= 0.1
    for share in (tally.mean, tally.new_run):
        assert stats.binom.ppf(0.001, 30, 0.88) / 30 <= share.min()


def test_the_share_inside_hubers_threshold_is_one_of_the_runs_not_of_the_spare_ones():
    """With ten runs and three parameters the other divisor gives 8 / 7, cut to 1: noise a tenth too small."""
    residuals = np.array([-2.0, -1.0, -0.7, -0.4, -0.1, 0.1, 0.4, 0.7, 1.0, 2.0])
    pseudo, slope, _ = pseudo_residuals(residuals, dof=7, delta=1.345)
    assert slope == pytest.approx(0.8)
    assert pseudo == pytest.approx(np.clip(residuals, -1.345, 1.345) / 0.8)
