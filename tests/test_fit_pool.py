"""The pool of forms: against closed forms, a mixture by hand, and laws that are known to be wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from scaling_lib.fit import fit_joint, fit_power_law
from scaling_lib.fit.laws import CHINCHILLA, KAPLAN, POWER_MEAN
from scaling_lib.fit.noise import by_size, replicates
from scaling_lib.fit.pool import cuts, fit_form, mixture_quantile
from scaling_lib.fit.setup import make

TRUTH = np.array([1.8172, 482.01, 2085.43, 0.3478, 0.3658])
N, D = (v.ravel() for v in np.meshgrid(np.geomspace(3e7, 1e10, 7), np.geomspace(5e8, 2e11, 6)))
TRUE_LOSS = CHINCHILLA.value(TRUTH, N, D)


def noisy(values: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    return values * np.exp(noise * np.random.default_rng(seed).standard_normal(len(values)))


def test_a_mixtures_quantile_is_the_root_of_its_distribution_function() -> None:
    weight, centre, scale, dof = (
        np.array(v)[:, None] for v in ([0.6, 0.3, 0.1], [0.7, 0.74, 1.2], [0.01, 0.02, 0.2], [5.0, 30.0, 9.0])
    )
    for q in (0.05, 0.5, 0.95, 0.999):
        root = optimize.brentq(lambda y, q=q: np.sum(weight * stats.t.cdf((y - centre) / scale, dof)) - q, -5, 5)
        assert mixture_quantile(weight, centre, scale, dof, q)[0] == pytest.approx(root, abs=1e-8)


def test_one_forms_weighted_robust_fit_is_scipys() -> None:
    loss = noisy(TRUE_LOSS, 0.01)
    scatter = (N / N.max()) ** -0.2
    work = make(CHINCHILLA, (N, D), loss, np.inf, {})
    fit = fit_form("chinchilla", work, scatter, None, np.ones((1, len(N)), dtype=bool))[0]
    assert fit is not None

    def r(p: np.ndarray) -> np.ndarray:
        e, a, b, alpha, beta = p
        return (np.log(loss) - np.log(e + a / (N / 1e9) ** alpha + b / (D / 1e10) ** beta)) / scatter

    own = (np.log(loss) - fit.at((N, D))[0]) / scatter
    size = np.quantile(np.abs(own), 0.75) / stats.norm.ppf(0.875) * np.sqrt(42 / 37)
    tight = {"xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-14, "bounds": (0.01, 10.0)}
    oracle = optimize.least_squares(r, [1.8, 0.4, 0.4, 0.35, 0.36], loss="huber", f_scale=1.345 * size, **tight)
    assert fit.work.natural(fit.theta)[[0, 3, 4]] == pytest.approx(oracle.x[[0, 3, 4]], rel=2e-3)


def test_each_cut_hides_the_largest_runs_and_runs_of_one_size_alike() -> None:
    keep = cuts((np.repeat([1e6, 1e7, 1e8, 1e9], 3),))
    assert keep.sum(axis=1).tolist() == [9, 6]  # 1 and 2 of 12 wanted: all three of a size; 4 and 6: two sizes
    assert np.all(np.diff(keep.astype(int), axis=1) <= 0)


@pytest.mark.parametrize(("law", "params"), [(CHINCHILLA, TRUTH), (KAPLAN, np.array([6.4e13, 1.8e13, 0.076, 0.103]))])
def test_the_true_form_weighs_most_and_the_hidden_runs_take_no_part(law, params) -> None:
    pool = fit_joint(N, D, noisy(law.value(params, N, D), 0.003)).pool
    assert pool is not None
    assert law.name in [m.name for m in pool.members[:2]]
    assert sum(m.weight for m in pool.members) == pytest.approx(1.0)
    assert pool.members[-1].weight < 0.05
    size = np.sort(N * D)
    for cut in (cut for member in pool.members for cut in member.cuts):
        assert size[cut.hidden].min() > size[~cut.hidden].max()
        assert len(cut.error) == cut.hidden.sum()


def test_prediction_interval_and_draws_of_a_pool() -> None:
    fit = fit_joint(N, D, noisy(TRUE_LOSS, 0.005))
    assert fit.pool is not None
    x = np.geomspace(1e9, 1e11, 5), np.geomspace(1e11, 1e13, 5)
    low, high = fit.interval(*x)
    far = fit.interval(*x, kind="new_run")
    assert np.all(np.diff([far[0], low, fit.predict(*x), high, far[1]], axis=0) > 0)
    forms = np.array(list(fit.pool.by_form(x).values()))
    assert np.all((forms.min(axis=0) <= fit.predict(*x)) & (fit.predict(*x) <= forms.max(axis=0)))
    drawn = np.concatenate([law.value(p, 2e10, 4e11) for law, p in fit.pool.draws(4000)])
    assert np.quantile(drawn, [0.05, 0.95]) == pytest.approx(fit.interval(2e10, 4e11), rel=0.01)
    alone = fit_joint(N, D, fit.data["loss"], law="chinchilla")
    assert alone.params == fit.params  # the parameters are the named form's
    assert alone.predict(1e10, 1e11) == pytest.approx(alone.law.value(alone.values, 1e10, 1e11))


def test_a_wrong_form_is_named_and_the_pool_holds_the_truth() -> None:
    """The shortfalls combine nearly as a maximum: Chinchilla's sum bends, and the power mean says so."""
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(3e7, 1e10, 10), np.geomspace(5e8, 2e11, 8)))
    truth = np.array([1.2, 300, 900, 0.32, 0.33, 4.0])
    loss = noisy(POWER_MEAN.value(truth, n, d), 0.001)
    alone = fit_joint(n, d, loss, law="chinchilla")
    assert alone.misfit.absurd
    assert alone.verdict().refused
    assert "power_mean predicts the largest of these runs better" in str(alone.verdict())
    target = 4 * n.max(), 4 * d.max()
    low, high = fit_joint(n, d, loss).interval(*target)
    assert low <= POWER_MEAN.value(truth, *target) <= high
    assert high / low < 1.05


def test_a_clear_bend_of_no_size_is_no_doubt() -> None:
    """Rounded losses of a law without noise, and a bend of two millionths."""
    loss = TRUE_LOSS * np.exp(3e-7 * np.log(N / 1e9) * np.log(D / 1e10))
    for law in ("pool", "chinchilla"):
        fit = fit_joint(N, D, loss, law=law)
        assert fit.misfit.chance < 0.01
        assert fit.verdict(2e10, 4e11).level == "supported"


def test_a_claim_reaches_no_further_than_the_hold_out_tried_it() -> None:
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 1e9, 8), np.geomspace(1e9, 1e11, 7)))
    fit = fit_joint(n, d, noisy(1.8 + 480 / n**0.35 + 2100 / d**0.37, 0.002))
    assert fit.pool is not None
    size = np.sort(n * d)
    kept = size[size < size[n.size - round(0.5 * n.size)] * (1 - 1e-6)].max()
    tried = float(np.exp(fit.pool.tried))
    assert tried == pytest.approx(size.max() / kept, rel=1e-6)
    inside, outside = (np.sqrt(share * tried) for share in (0.9, 1.2))
    assert fit.verdict(1e9 * inside, 1e11 * inside).level == "supported"
    beyond = fit.verdict(1e9 * outside, 1e11 * outside)
    assert beyond.level == "weak"
    assert f"{tried:.3g} times only" in str(beyond)


def test_forms_that_disagree_at_the_target_make_it_weak() -> None:
    n, d = N[::2], D[::2]
    fit = fit_joint(n, d, noisy(TRUE_LOSS[::2], 0.02, seed=5))
    assert fit.pool is not None
    for times in (2, 20):
        far = times * n.max(), times * d.max()
        apart = fit.pool.disagreement(tuple(np.array([v]) for v in far))[0]
        assert ("forms disagree" in str(fit.verdict(*far))) == (apart > 0.02) or fit.verdict(*far).refused


def test_held_parameters_keep_only_forms_that_have_them() -> None:
    held = fit_joint(N, D, noisy(TRUE_LOSS, 0.003), fixed={"E": 1.8172})
    assert held.pool is not None
    assert {m.name for m in held.pool.members} == {"chinchilla", "power_mean"}
    assert not fit_power_law(N[:7] * np.arange(1, 8), TRUE_LOSS[:7], floor=1.0).pooled


def test_noise_by_size_from_repeats_and_from_residuals() -> None:
    rng = np.random.default_rng(2)
    n = np.repeat(np.geomspace(1e6, 1e9, 12), 8)
    noise = 0.02 * (n / 1e6) ** -0.3 * rng.standard_normal(len(n))
    for x in (np.log(n), np.log(n) + 1e-3 * np.arange(len(n))):  # the second repeats nothing
        found = by_size((x,), noise, noise, np.zeros(len(n)))
        ends = found((np.array([x.min(), x.max(), x.max() + 5.0]),))
        assert np.log(ends[1] / ends[0]) / np.ptp(x) == pytest.approx(-0.3, abs=0.08)
        assert ends[1] == ends[2]  # beyond the runs the noise stays as at their edge
        assert np.mean(found((x,)) ** 2) == pytest.approx(1.0)
    even = by_size((np.log(n),), noise * n**0.3, noise * n**0.3, np.zeros(len(n)))((np.log(n),))
    assert abs(np.log(even[-1] / even[0])) < 0.1 * np.log(1e3)


def test_repeats_are_found_and_their_variance_is_unbiased() -> None:
    rng = np.random.default_rng(3)
    x = (np.repeat(np.log([1e6, 1e7, 1e8]), [1, 2, 4]),)
    found = [replicates(x, rng.normal(0, 1.0, 7)) for _ in range(400)]
    assert found[0].repeated.tolist() == [False] + [True] * 6
    assert found[0].spare == 4
    assert np.mean([r.deviation[r.repeated] ** 2 for r in found]) == pytest.approx(1.0, abs=0.12)
