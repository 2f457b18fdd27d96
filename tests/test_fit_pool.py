"""The pool of forms: against closed forms, a mixture by hand, and laws that are known to be wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from scaling_lib.errors import InputError
from scaling_lib.fit import fit_joint, fit_power_law
from scaling_lib.fit.laws import CHINCHILLA, KAPLAN, POWER_MEAN
from scaling_lib.fit.noise import by_size, replicates
from scaling_lib.fit.pool import mixture_quantile
from scaling_lib.fit.rolling import cuts, fit_form

TRUTH = np.array([1.8172, 482.01, 2085.43, 0.3478, 0.3658])
N, D = (v.ravel() for v in np.meshgrid(np.geomspace(3e7, 1e10, 7), np.geomspace(5e8, 2e11, 6)))


def noisy(values: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    return values * np.exp(noise * np.random.default_rng(seed).standard_normal(len(values)))


def test_a_mixtures_quantile_is_the_root_of_its_distribution_function():
    weight = np.array([[0.6], [0.3], [0.1]])
    centre, scale, dof = (
        np.array([[0.7], [0.74], [1.2]]),
        np.array([[0.01], [0.02], [0.2]]),
        np.array([[5.0], [30], [9]]),
    )

    def share(y: float) -> float:
        return float(np.sum(weight * stats.t.cdf((y - centre) / scale, dof)))

    for q in (0.05, 0.5, 0.95, 0.999):
        root = optimize.brentq(lambda y, q=q: share(y) - q, -5, 5, xtol=1e-13)
        assert mixture_quantile(weight, centre, scale, dof, q)[0] == pytest.approx(root, abs=1e-8)


def test_one_forms_weighted_robust_fit_is_scipys():
    loss = noisy(CHINCHILLA.value(TRUTH, N, D), 0.01)
    scatter = (N / N.max()) ** -0.2
    whole = np.ones((1, len(N)), dtype=bool)
    fit = fit_form("chinchilla", CHINCHILLA, {}, (N, D), loss, whole, scatter, None)[0]
    assert fit is not None

    def r(p: np.ndarray) -> np.ndarray:
        e, a, b, alpha, beta = p
        return (np.log(loss) - np.log(abs(e) + a / (N / 1e9) ** alpha + b / (D / 1e10) ** beta)) / scatter

    size = np.quantile(np.abs(r_of(fit, loss, scatter)), 0.75) / stats.norm.ppf(0.875) * np.sqrt(42 / 37)
    oracle = optimize.least_squares(
        r, [1.8, 0.4, 0.4, 0.35, 0.36], loss="huber", f_scale=1.345 * size, xtol=1e-14, ftol=1e-14, gtol=1e-14
    )
    natural = fit.work.natural(fit.theta)
    assert natural[[0, 3, 4]] == pytest.approx(oracle.x[[0, 3, 4]], rel=2e-3)


def r_of(fit, loss: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    return (np.log(loss) - fit.at((N, D))[0]) / scatter


def test_the_true_form_weighs_most_and_the_hidden_runs_take_no_part():
    for law, params in ((CHINCHILLA, TRUTH), (KAPLAN, np.array([6.4e13, 1.8e13, 0.076, 0.103]))):
        loss = noisy(law.value(params, N, D), 0.003)
        pool = fit_joint(N, D, loss).pool
        assert pool is not None
        assert law.name in [m.name for m in pool.members[:2]]
        assert sum(m.weight for m in pool.members) == pytest.approx(1.0)
        assert pool.members[-1].weight < 0.05
        for member in pool.members:
            for cut in member.cuts:
                c = np.sort(N * D)
                assert c[cut.hidden].min() > c[~cut.hidden].max()
                assert len(cut.error) == cut.hidden.sum()


def test_each_cut_hides_the_largest_runs_and_runs_of_one_size_alike():
    keep = cuts((np.repeat([1e6, 1e7, 1e8, 1e9], 3),))
    assert keep.sum(axis=1).tolist() == [9, 6]  # 1 and 2 of 12 wanted: all three of a size; 4 and 6: two sizes
    assert np.all(np.diff(keep.astype(int), axis=1) <= 0)


def test_prediction_and_interval_of_a_pool():
    fit = fit_joint(N, D, noisy(CHINCHILLA.value(TRUTH, N, D), 0.005))
    x = np.geomspace(1e9, 1e11, 5), np.geomspace(1e11, 1e13, 5)
    low, high = fit.interval(*x)
    far = fit.interval(*x, kind="new_run")
    assert np.all((far[0] < low) & (low < fit.predict(*x)) & (fit.predict(*x) < high) & (high < far[1]))
    each = fit.pool.by_form(x)
    assert np.all(np.min(list(each.values()), axis=0) <= fit.predict(*x))
    assert np.all(fit.predict(*x) <= np.max(list(each.values()), axis=0))
    alone = fit_joint(N, D, fit.data["loss"], law="chinchilla")
    assert alone.params == fit.params  # the parameters are the named form's
    assert alone.predict(1e10, 1e11) == pytest.approx(alone.law.value(alone.values, 1e10, 1e11))
    assert not alone.pooled
    assert fit.pooled


def test_draws_of_the_pool_spread_as_its_interval():
    fit = fit_joint(N, D, noisy(CHINCHILLA.value(TRUTH, N, D), 0.005))
    drawn = np.concatenate([law.value(p, 2e10, 4e11) for law, p in fit.pool.draws(4000)])
    low, high = fit.interval(2e10, 4e11)
    assert np.quantile(drawn, [0.05, 0.95]) == pytest.approx([low, high], rel=0.01)


def test_a_wrong_form_is_named_and_its_interval_is_wide_or_refused():
    """The shortfalls combine nearly as a maximum: Chinchilla's sum bends, and the power mean says so."""
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(3e7, 1e10, 10), np.geomspace(5e8, 2e11, 8)))
    loss = noisy(POWER_MEAN.value(np.array([1.2, 300, 900, 0.32, 0.33, 4.0]), n, d), 0.001)
    alone = fit_joint(n, d, loss, law="chinchilla")
    assert alone.misfit.absurd
    verdict = alone.verdict()
    assert verdict.refused
    assert "power_mean predicts the largest of these runs better" in str(verdict)
    target = 4 * n.max(), 4 * d.max()
    truth = POWER_MEAN.value(np.array([1.2, 300, 900, 0.32, 0.33, 4.0]), *target)
    low, high = fit_joint(n, d, loss).interval(*target)
    assert low <= truth <= high
    assert high / low < 1.05


def test_a_clear_bend_of_no_size_is_no_doubt():
    """Rounded losses of a law without noise, and a bend of two millionths."""
    u, v = np.log(N / 1e9), np.log(D / 1e10)
    loss = CHINCHILLA.value(TRUTH, N, D) * np.exp(3e-7 * u * v)
    fit = fit_joint(N, D, loss)
    assert fit.misfit.chance < 0.01
    assert fit.verdict(2e10, 4e11).level == "supported"
    assert fit_joint(N, D, loss, law="chinchilla").verdict(2e10, 4e11).level == "supported"


def test_n_and_d_that_nearly_rise_together_are_named_so():
    n = np.repeat(np.geomspace(1e7, 1e9, 6), 2)
    d = n * np.tile([20.0, 40.0], 6)
    loss = noisy(CHINCHILLA.value(TRUTH, n, d), 0.004)
    verdict = fit_joint(n, d, loss, law="chinchilla").verdict()
    assert verdict.level != "no trend"
    assert "do not fall" not in str(verdict)


def test_a_ladder_that_falls_and_then_rises_is_called_so():
    x = np.repeat([1e6, 1e7, 1e8], 4)
    loss = np.repeat([4.57, 4.31, 4.44], 4) + 0.02 * np.tile([-1.0, 0.4, 1.2, -0.6], 3)
    verdict = fit_power_law(x, loss).verdict()
    assert verdict.level == "no trend"
    assert "the losses fall, then rise" in verdict.reasons[0]
    flat = np.repeat([4.57, 4.31, 4.33], 4) + 0.1 * np.tile([-1.0, 0.4, 1.2, -0.6], 3)
    assert "rise" not in str(fit_power_law(x, flat).verdict())


def test_a_small_fall_is_a_trend_where_repeats_show_that_it_is_no_noise():
    x = np.repeat(np.geomspace(1e6, 1e9, 6), 4)
    loss = 3.0 * np.repeat(np.linspace(1.004, 1.0, 6), 4) * np.exp(1e-4 * np.tile([-1.0, 0.4, 1.2, -0.6], 6))
    assert fit_power_law(x, loss).verdict().level != "no trend"
    assert fit_power_law(x[::4], loss[::4]).verdict().level == "no trend"


def test_noise_by_size_from_repeats_and_from_residuals():
    rng = np.random.default_rng(2)
    n = np.repeat(np.geomspace(1e6, 1e9, 12), 8)
    noise = 0.02 * (n / 1e6) ** -0.3 * rng.standard_normal(len(n))
    for x, source in (((np.log(n),), "replicates"), ((np.log(n) + 1e-3 * np.arange(len(n)),), "residuals")):
        found = by_size(x, noise, noise, np.zeros(len(n)))
        assert found.source == source
        assert found.slopes[0] == pytest.approx(-0.3, abs=0.08)
        assert np.mean(found(x) ** 2) == pytest.approx(1.0)
        beyond = found((np.array([x[0].max(), x[0].max() + 5.0]),))
        assert beyond[0] == beyond[1]  # beyond the runs the noise stays as at their edge
    even = by_size((np.log(n),), noise * n**0.3, noise * n**0.3, np.zeros(len(n)))
    assert abs(even.slopes[0]) < 0.1


def test_repeats_are_found_and_their_variance_is_unbiased():
    rng = np.random.default_rng(3)
    x = (np.repeat(np.log([1e6, 1e7, 1e8]), [1, 2, 4]),)
    squares = []
    for _ in range(400):
        found = replicates(x, rng.normal(0, 1.0, 7))
        squares.append(np.mean(found.deviation[found.repeated] ** 2))
    assert found.repeated.tolist() == [False] + [True] * 6
    assert found.spare == 4
    assert np.mean(squares) == pytest.approx(1.0, abs=0.12)


def test_forms_that_disagree_at_the_target_make_it_weak():
    n, d = N[::2], D[::2]
    fit = fit_joint(n, d, noisy(CHINCHILLA.value(TRUTH, n, d), 0.02, seed=5))
    far = (20 * n.max(), 20 * d.max())
    apart = fit.pool.disagreement(tuple(np.array([v]) for v in far))[0]
    said = str(fit.verdict(*far))
    assert ("forms disagree" in said) == (apart > 0.02) or fit.verdict(*far).refused


def test_held_parameters_keep_only_forms_that_have_them():
    loss = noisy(CHINCHILLA.value(TRUTH, N, D), 0.003)
    held = fit_joint(N, D, loss, fixed={"E": 1.8172})
    assert {m.name for m in held.pool.members} == {"chinchilla", "power_mean"}
    assert fit_power_law(N[:7] * np.arange(1, 8), loss[:7], floor=1.0).pooled is False
    with pytest.raises(InputError, match="law='magic'"):
        fit_power_law(N[:7] * np.arange(1, 8), loss[:7], law="magic")


def test_a_claim_reaches_no_further_than_the_hold_out_tried_it():
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 1e9, 8), np.geomspace(1e9, 1e11, 7)))
    loss = 1.8 + 480 / n**0.35 + 2100 / d**0.37
    fit = fit_joint(n, d, loss * np.exp(np.random.default_rng(0).normal(0, 0.002, n.size)))
    size = np.sort(n * d)
    kept = size[size < size[n.size - round(0.5 * n.size)] * (1 - 1e-6)].max()
    tried = float(np.exp(fit.pool.tried))
    assert tried == pytest.approx(size.max() / kept, rel=1e-6)
    inside, outside = (np.sqrt(share * tried) for share in (0.9, 1.2))
    assert fit.verdict(1e9 * inside, 1e11 * inside).level == "supported"
    beyond = fit.verdict(1e9 * outside, 1e11 * outside)
    assert beyond.level == "weak"
    assert f"{tried:.3g} times only" in str(beyond)
