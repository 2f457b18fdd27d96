"""Noise, intervals and bootstraps against closed forms, brute force and simulations of known truth."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, stats
from test_fit_estimate import epoch_table, sweep

from scaling_lib.errors import InputError
from scaling_lib.fit import fit_joint, fit_power_law
from scaling_lib.fit.influence import leave_one_out
from scaling_lib.fit.noise import measure, pseudo_residuals

X = np.geomspace(1e6, 1e9, 10)


def ladder(seed: int = 0, noise: float = 0.01, **options):
    rng = np.random.default_rng(seed)
    return fit_power_law(X, (1.7 + 400 / X**0.34) * np.exp(rng.normal(0, noise, 10)), law="power", **options)


def test_mean_of_balanced_groups_is_the_analysis_of_variance():
    """For a constant law in G groups of m: variance MS(between)/(G m) on G - 1 degrees of freedom, exactly."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(8), 5)
    y = rng.normal(0, 1.0, 8)[codes] + rng.normal(0, 0.5, 40)
    means = y.reshape(8, 5).mean(axis=1)
    between = 5 * np.sum((means - y.mean()) ** 2) / 7
    within = np.sum((y - means[codes]) ** 2) / 32
    noise = measure(np.ones((40, 1)), y - y.mean(), np.ones(1, dtype=bool), 39, np.inf, codes)
    assert noise.within == pytest.approx(within)
    assert noise.between == pytest.approx((between - within) / 5)
    variance, _, dof = noise.contrast(np.ones((1, 1)))
    assert variance[0] == pytest.approx(between / 40)
    assert dof[0] == pytest.approx(7.0)
    assert noise.covariance()[0, 0] == pytest.approx(between / 40)
    assert noise.sigma == pytest.approx(np.sqrt(noise.within + noise.between))


def test_variance_components_are_unbiased_round_a_line():
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(8), 4)
    jac = np.column_stack([np.ones(32), codes - 3.5, np.tile(np.arange(4.0), 8)])
    maker = np.eye(32) - jac @ np.linalg.pinv(jac)
    found = []
    for _ in range(400):
        r = maker @ (rng.normal(0, 1.0, 8)[codes] + rng.normal(0, 0.7, 32))
        noise = measure(jac, r, np.ones(3, dtype=bool), 29, np.inf, codes)
        found.append((noise.within, noise.between))
    np.testing.assert_allclose(np.mean(found, axis=0), [0.49, 1.0], rtol=0.08)


def test_sandwich_is_whites():
    rng = np.random.default_rng(2)
    jac = np.column_stack([np.ones(100), rng.normal(size=100)])
    r = rng.normal(0, np.exp(jac[:, 1]))
    inverse = np.linalg.inv(jac.T @ jac)
    r = r - jac @ inverse @ jac.T @ r
    hat = np.einsum("ni,ij,nj->n", jac, inverse, jac)
    white = inverse @ (jac.T * (r**2 / (1 - hat))) @ jac @ inverse
    noise = measure(jac, r, np.ones(2, dtype=bool), 98, np.inf, None)
    np.testing.assert_allclose(noise.covariance(), white, rtol=1e-9)
    np.testing.assert_allclose(noise.geometry.inverse, inverse, rtol=1e-9)


def test_near_absolute_deviation_has_the_variance_of_the_median():
    """The mean of many normal draws by LAD, the median, has variance pi/2 sigma^2 / n."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(300):
        y = rng.normal(0, 0.01, 41)
        r = y - np.median(y)
        noise = measure(np.ones((41, 1)), r, np.ones(1, dtype=bool), 40, 1e-6, None)
        found.append(noise.contrast(np.ones((1, 1)))[0][0])
    assert np.mean(found) == pytest.approx(np.pi / 2 * 1e-4 / 41, rel=0.2)
    assert pseudo_residuals(np.array([0.1, -0.2]), 1, np.inf)[1] == 1.0


def test_rank_and_blind_parameters():
    jac = np.column_stack([np.ones(6), np.arange(6.0), np.arange(6.0) * 2, np.zeros(6)])
    noise = measure(jac, np.zeros(6), np.ones(4, dtype=bool), 2, np.inf, None)
    assert noise.geometry.rank == 2
    assert noise.geometry.blind.tolist() == [False, True, True, True]
    assert noise.geometry.condition == np.inf


@pytest.mark.parametrize("target", [1e9, 3e10])
def test_profile_interval_against_brute_force(target):
    """The ends are where the best objective given that prediction has risen by t^2 s^2 / 2."""
    fit = ladder(noise=0.02)
    low, high = fit.interval(target, level=0.9)
    y = np.log(fit.data["loss"])
    limit = fit.cost + 0.5 * stats.t.ppf(0.95, 7) ** 2 * 2 * fit.cost / 7

    def best_given(p: float) -> float:
        def cost(q):
            alpha, a = np.exp(q[0]), np.exp(q[1])
            level = p - a * (target / 1e7) ** -alpha
            if level < 0:
                return 1e3 - 1e3 * level
            return 0.5 * np.sum((np.log(level + a * (X / 1e7) ** -alpha) - y) ** 2)

        starts = [(np.log(c), np.log(b)) for c in (0.1, 0.2, 0.34, 0.5) for b in (0.8, 1.6)]
        return min(
            optimize.minimize(
                cost, s, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 4000}
            ).fun
            for s in starts
        )

    for end in (low, high):
        assert best_given(end) == pytest.approx(limit, rel=0.01)


def test_an_end_that_the_data_do_not_set_is_infinite_or_zero():
    """Five decades below runs that span half a decade the loss may be anything."""
    x = np.geomspace(1e6, 3e6, 7)
    rng = np.random.default_rng(1)
    fit = fit_power_law(x, (1.7 + 400 / x**0.34) * np.exp(rng.normal(0, 0.1, 7)), law="power")
    low, high = fit.interval(1e-3, level=0.9)
    assert high == np.inf
    assert 0.0 <= low < fit.predict(1e-3)
    assert fit.verdict(1e-3).refused


def test_profile_of_the_floor_against_brute_force():
    fit = ladder(noise=0.01)
    low, high = fit.parameter_interval("E")
    limit = fit.cost + stats.t.ppf(0.95, 7) ** 2 * fit.cost / 7
    for end in (low, high):
        assert fit_power_law(X, fit.data["loss"], floor=end).objective == pytest.approx(limit, rel=0.02)


def test_delta_interval_is_the_textbook_one():
    fit = ladder()
    slope = fit.law.gradient(fit.values, 1e10)
    error = np.sqrt(slope @ fit.cov @ slope) / fit.predict(1e10)
    low, high = fit.interval(1e10, method="delta", level=0.8)
    assert np.log(high / low) / 2 == pytest.approx(stats.t.ppf(0.9, 7) * error, rel=1e-4)
    low, high = fit.interval(1e10, method="delta", level=0.8, kind="new_run")
    assert np.log(high / low) / 2 == pytest.approx(stats.t.ppf(0.9, 7) * np.hypot(error, fit.sigma), rel=1e-4)


def test_intervals_nest_and_hold_the_prediction():
    fit = ladder(bootstrap=200)
    x = np.geomspace(1e6, 1e11, 7)
    for method in ("delta", "profile", "bootstrap"):
        narrow, wide = fit.interval(x, level=0.5, method=method), fit.interval(x, level=0.95, method=method)
        run = fit.interval(x, level=0.95, method=method, kind="new_run")
        assert np.all(run[0] <= wide[0])
        assert np.all(wide[0] <= narrow[0])
        assert np.all(narrow[0] <= fit.predict(x))
        assert np.all(fit.predict(x) <= narrow[1])
        assert np.all(narrow[1] <= wide[1])
        assert np.all(wide[1] <= run[1])
    assert fit.interval(1e9) == fit.interval(1e9, method="bootstrap")
    assert isinstance(fit.interval(1e9)[0], float)
    assert fit.interval(x.reshape(7, 1))[0].shape == (7, 1)


@pytest.mark.parametrize("kind", ["parametric", "residual", "case", "wild"])
def test_each_bootstrap_finds_the_spread_of_least_squares(kind):
    rng = np.random.default_rng(6)
    x = np.geomspace(1e6, 1e9, 40)
    plain = fit_power_law(
        x, (1.7 + 400 / x**0.34) * np.exp(rng.normal(0, 0.01, 40)), law="power", bootstrap=600, bootstrap_kind=kind
    )
    assert plain.draws.shape == (600, 3)
    assert plain.bootstrap_kind == kind
    linear = np.sqrt(np.diag(plain.cov))
    apart = 0.25 if kind in ("parametric", "residual") else 0.4  # the others feel that 40 residuals are not equal
    np.testing.assert_allclose(plain.stderr["E"], linear[0], rtol=apart)
    np.testing.assert_allclose(plain.stderr["alpha"], linear[2], rtol=apart)


@pytest.mark.parametrize("kind", ["parametric", "residual", "case", "wild"])
def test_grouped_bootstraps_are_wider_than_ones_that_take_the_runs_for_independent(kind):
    rng = np.random.default_rng(7)
    codes = np.repeat(np.arange(10), 6)
    x = X[codes] * np.tile(np.geomspace(0.9, 1.1, 6), 10)
    loss = (1.7 + 400 / x**0.34) * np.exp(rng.normal(0, 0.01, 10)[codes] + rng.normal(0, 0.003, 60))
    apart = fit_power_law(x, loss, law="power", bootstrap=200, bootstrap_kind=kind)
    grouped = fit_power_law(x, loss, law="power", groups=codes, bootstrap=200, bootstrap_kind=kind)
    spread = [fit.law.value(fit.draws, 1e9).std() for fit in (apart, grouped)]
    assert spread[1] / spread[0] > 1.4


def test_automatic_choice_of_bootstrap():
    assert ladder(bootstrap=5).bootstrap_kind == "parametric"
    assert ladder(bootstrap=5, objective="huber").bootstrap_kind == "residual"
    assert ladder(bootstrap=5, groups=list("aabbccddee")).bootstrap_kind == "wild"
    assert ladder(bootstrap=5, objective="huber", groups=list("aabbccddee")).bootstrap_kind == "residual"
    assert fit_joint(*sweep(), bootstrap=5).bootstrap_kind == "case"
    with pytest.raises(InputError, match="wild draws are sound for"):
        ladder(bootstrap=5, objective="huber", bootstrap_kind="wild")


def test_draws_are_the_same_for_a_seed_and_differ_between_seeds():
    first, again, other = (ladder(bootstrap=20, seed=s).draws for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_bootstrap_needs_noise_to_draw_from():
    with pytest.raises(InputError, match="more runs than parameters"):
        fit_power_law([1e6, 1e7, 1e8], [4.0, 3.0, 2.5], bootstrap=10)


def test_a_floor_at_its_bound_has_no_error_and_a_one_sided_interval():
    loss = np.exp(3.0 - 0.02 * np.log(X / 1e5) ** 1.4 + 0.003 * np.cos(np.arange(10) * 2.0))
    fit = fit_power_law(X, loss)
    assert fit.diagnostics["at_bound"] == ("E",)
    assert fit.stderr["E"] == np.inf
    low, high = fit.parameter_interval("E")
    assert low == 0.0
    assert 0.0 < high < loss.min()
    assert "E: at its bound (0); 90% interval up to" in fit.summary()
    assert "0.00 ±" not in fit.summary()


def test_influence_is_the_fit_without_each_run():
    fit = ladder(noise=0.02)
    without = leave_one_out(fit, 1e10)
    for i in (0, 4, 9):
        keep = np.arange(10) != i
        again = fit_power_law(X[keep], fit.data["loss"][keep], law="power")
        assert without.prediction[i] == pytest.approx(again.predict(1e10), rel=1e-4)
    assert abs(without.change[without.largest]) == np.abs(without.change).max()
    with pytest.raises(InputError, match="one target"):
        leave_one_out(fit, [1e9, 1e10])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"level": 1.0}, "level=1.0"),
        ({"level": "90%"}, "level='90%'"),
        ({"kind": "median"}, "kind='median'"),
        ({"method": "magic"}, "method='magic'"),
        ({"method": "bootstrap"}, "fit again with bootstrap"),
    ],
)
def test_bad_interval_options(options, says):
    with pytest.raises(InputError, match=says):
        ladder().interval(1e9, **options)


def test_bad_targets():
    fit = ladder()
    for bad, says in ((-1.0, "not above 0"), (np.nan, "not a number"), ("big", "not a number")):
        with pytest.raises(InputError, match=says):
            fit.predict(bad)
    with pytest.raises(InputError, match="expected 1"):
        fit.predict(1e9, 1e9)
    with pytest.raises(InputError, match="no parameter"):
        fit.parameter_interval("B")
    assert fit.predict(np.empty(0)).shape == (0,)
    assert fit.interval(np.empty(0))[0].shape == (0,)


def test_linear_and_bootstrap_errors_agree_on_unequal_noise():
    """Small runs noisier than large ones: the sandwich must follow, as resampling whole runs does."""
    rng = np.random.default_rng(8)
    n, d, _ = sweep()
    noise = 0.02 * (n / 1e8) ** -0.4
    loss = (1.8172 + 482.01 / n**0.3478 + 2085.43 / d**0.3658) * np.exp(noise * rng.normal(size=len(n)))
    fit = fit_joint(n, d, loss, objective="log_mse", bootstrap=200)
    np.testing.assert_allclose(
        [fit.stderr[p] for p in ("E", "alpha", "beta")], np.sqrt(np.diag(fit.cov))[[0, 3, 4]], rtol=0.35
    )
    assert fit.noise.squares is not None


@pytest.mark.slow
def test_published_bootstrap_errors():
    """Besiroglu et al. 2024: .026, .015, .021 from 4,000 draws of whole runs."""
    fit = fit_joint(*epoch_table(), bootstrap=1500)
    np.testing.assert_allclose([fit.stderr[p] for p in ("E", "alpha", "beta")], [0.026, 0.015, 0.021], rtol=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ladder", "grid", "trunks", "ray", "flat"])
def test_coverage_and_refusals(name, monkeypatch):
    """A small version of benchmarks/coverage.py: limits at 99.9% of what 90% coverage gives by chance in 60 draws."""
    path = Path(__file__).parents[1] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_study", path)  # "coverage" is a package's name
    assert spec is not None
    study = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "coverage_study", study)
    spec.loader.exec_module(study)
    design = next(d for d in study.designs() if d.name == name)
    tally = study.study(design, 60 if design.identifiable else 20, seed=11)
    if not design.identifiable:
        assert tally.refused.min() >= 0.9
        return
    assert tally.refused.max() <= 0.1
    for share in (tally.mean, tally.new_run):
        assert stats.binom.ppf(0.001, 60, 0.88) / 60 <= share.min()


def test_far_out_the_interval_goes_on_widening_and_never_lies_on_the_estimate():
    """Five runs, a floor near its bound: one leap along the bent valley used to fail, and the low end stayed put."""
    d = np.array([999_424, 1_998_848, 3_999_744, 7_999_488, 15_998_976], dtype=float)
    fit = fit_power_law(d, [3.9611, 3.4797, 2.9728, 2.4976, 2.2693], variable="D")  # results/laptop, 6x168
    target = np.geomspace(3e7, 1e10, 14)
    low, high = fit.interval(target)
    assert np.all(low < 0.95 * fit.predict(target))
    assert np.all(np.diff(high - low) > -0.05 * (high - low)[1:])
