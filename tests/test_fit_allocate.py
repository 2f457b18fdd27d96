"""Allocation against Chinchilla's closed form, SciPy, and published data-constrained numbers."""

import dataclasses
import re

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import stdtrit

from benchmarks import truths
from scaling_lib.errors import InputError
from scaling_lib.fit import allocate, published
from scaling_lib.fit.allocate import (
    compute_optimal,
    data_constrained,
    overtraining_cost,
    same_loss_smaller_model,
)
from scaling_lib.fit.estimate import fit_joint, fit_power_law
from scaling_lib.fit.laws import get_law

EPOCH = published.laws["chinchilla-epoch"]


def closed_form(p, c):
    """N*(C) of E + A/N^alpha + B/D^beta on C = 6 N D [Hoffmann et al. 2022, equation 4]."""
    g = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
    return g * (c / 6) ** (p["beta"] / (p["alpha"] + p["beta"]))


def simulated(noise=0.004, seed=0, law="chinchilla", shape=(8, 5)):
    """Fit Chinchilla's law to a grid of runs with known parameters."""
    grid = np.meshgrid(np.geomspace(1e7, 1e9, shape[0]), np.geomspace(2e8, 2e10, shape[1]))
    n, d = (a.ravel() for a in grid)
    rng = np.random.default_rng(seed)
    loss = published.laws["chinchilla"].predict(n, d) * np.exp(noise * rng.standard_normal(n.size))
    return fit_joint(n, d, loss, law=law, objective="log_mse", starts=8)


@pytest.mark.parametrize("name", ["chinchilla", "chinchilla-printed", "chinchilla-epoch", "chinchilla-epoch-printed"])
def test_the_optimum_is_chinchilla_s_closed_form(name):
    law = published.laws[name]
    budgets = np.geomspace(1e15, 1e27, 13)
    best = compute_optimal(law, budgets)
    assert best.n_params == pytest.approx(closed_form(law.params, budgets), rel=1e-6)
    assert best.n_params * best.n_tokens * 6 == pytest.approx(budgets)
    assert best.tokens_per_param == pytest.approx(best.n_tokens / best.n_params)
    assert best.loss == pytest.approx(law.predict(best.n_params, best.n_tokens))


def test_chinchilla_s_budget_gives_59_tokens_per_parameter_by_the_source_and_93_as_printed():
    assert round(compute_optimal(published.laws["chinchilla"], 5.76e23).tokens_per_param) == 59
    assert round(compute_optimal(published.laws["chinchilla-printed"], 5.76e23).tokens_per_param) == 93
    # Besiroglu et al. 2024 find about 20 tokens per parameter, as Chinchilla was trained.
    assert compute_optimal(EPOCH, 5.76e23).tokens_per_param == pytest.approx(20, abs=6)


def test_other_joint_laws_agree_with_scipy_and_closed_forms():
    law = published.laws["kaplan-joint"]
    best = compute_optimal(law, 1e21)
    found = minimize_scalar(
        lambda u: law.predict(np.exp(u), 1e21 / 6 / np.exp(u)),
        bounds=(5, 40),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert np.log(best.n_params) == pytest.approx(found.x, abs=1e-4)
    assert best.loss <= found.fun + 1e-12
    assert best.n_interval is None
    p = EPOCH.params
    mean = dataclasses.replace(EPOCH, law=get_law("power_mean"), params={**p, "q": 1.0}, cov=None)
    assert compute_optimal(mean, 1e22).n_params == pytest.approx(compute_optimal(EPOCH, 1e22).n_params, rel=1e-5)
    gadre = dataclasses.replace(
        EPOCH, law=get_law("over_training"), params={"E": 1.8, "a": 100.0, "b": 200.0, "eta": 0.16}, cov=None
    )
    # d/dM of (a M^eta + b M^-eta) vanishes at M = (b/a)^(1/(2 eta)).
    assert compute_optimal(gadre, 1e22).tokens_per_param == pytest.approx(2 ** (1 / 0.32), rel=1e-5)


def test_intervals_come_from_the_published_covariance():
    best = compute_optimal(EPOCH, 5.76e23)
    assert best.n_interval[0] < best.n_params < best.n_interval[1]
    assert best.d_interval[0] < best.n_tokens < best.d_interval[1]
    assert best.loss_interval[0] < best.loss < best.loss_interval[1]
    assert compute_optimal(EPOCH, 5.76e23, level=0.5).n_interval[1] < best.n_interval[1]
    assert compute_optimal(EPOCH, 5.76e23) == best  # the draws are seeded


@pytest.mark.parametrize("shape", [(8, 5), (3, 3)])
def test_intervals_of_a_fit_cover_the_known_optimum(shape):
    """60 simulated fits of 40 and of 9 runs: the nominal 90% interval of N* at 1e22 covers in 80 to 98%."""
    truth, hits = compute_optimal(published.laws["chinchilla"], 1e22).n_params, 0
    for seed in range(60):
        low, high = compute_optimal(simulated(seed=seed, shape=shape), 1e22, judge=False).n_interval
        hits += low <= truth <= high
    assert 0.8 <= hits / 60 <= 0.98, hits / 60


def test_a_pooled_fit_draws_on_all_its_forms():
    truth, held = compute_optimal(published.laws["chinchilla"], 1e22), 0
    for seed in range(20):
        fit = simulated(seed=seed, law="pool")
        best = compute_optimal(fit, 1e22, judge=False)
        assert best.loss == pytest.approx(fit.predict(best.n_params, best.n_tokens))
        assert best.loss_interval == pytest.approx(fit.interval(best.n_params, best.n_tokens))
        held += best.n_interval[0] <= truth.n_params <= best.n_interval[1]
    assert held >= 16


@pytest.mark.filterwarnings("error")
def test_where_many_draws_of_a_pool_have_no_optimum_the_end_is_zero_or_infinite(monkeypatch):
    drawn = np.concatenate([np.full(30, -np.inf), np.linspace(15.0, 18.0, 70)])[:, None]
    monkeypatch.setattr(allocate, "pooled_draws", lambda *_: drawn)
    best = compute_optimal(simulated(law="pool"), 1e22, judge=False)
    assert best.n_interval[0] == 0.0
    assert best.d_interval[1] == np.inf
    assert np.log(best.n_interval[1]) == pytest.approx(np.quantile(drawn, 0.95), abs=0.05)


def test_the_interval_ends_where_a_constrained_fit_objects():
    """At each end the least objective with the optimum held there exceeds the minimum by t^2 / 2 of the noise."""
    fit = simulated(noise=0.01)
    data, c = fit.data, 1e22
    best = compute_optimal(fit, c, judge=False)

    def objective(p):
        model = np.exp(p[0]) + np.exp(p[1]) / data["N"] ** p[3] + np.exp(p[2]) / data["D"] ** p[4]
        return 1e4 * float(np.sum(np.log(model / data["loss"]) ** 2))

    def ln_best(p):
        return (np.log(p[3] / p[4]) + p[1] - p[2] + p[4] * np.log(c / 6)) / (p[3] + p[4])

    start = np.r_[np.log(fit.values[:3]), fit.values[3:]]
    assert ln_best(start) == pytest.approx(np.log(best.n_params), abs=1e-6)
    noise = 2 * fit.cost / fit.dof
    for end in best.n_interval:
        held = {"type": "eq", "fun": lambda p, end=end: ln_best(p) - np.log(end)}
        found = minimize(objective, start, constraints=held, method="SLSQP", options={"maxiter": 500, "ftol": 1e-12})
        t = np.sqrt((found.fun / 1e4 - 2 * fit.cost) / noise)
        assert t == pytest.approx(stdtrit(fit.dof, 0.95), rel=2e-3)


def test_an_end_that_one_leap_misses_is_found_all_the_same():
    """The first aim of these profiles lies where the loss has no minimum; SciPy's constrained minimum ends here too."""
    rng = np.random.default_rng([5, 16])
    truth = truths.draw(rng)
    fit = fit_joint(truth.n, truth.d, truth.runs(rng, truth.n, truth.d, 0.05), law="chinchilla")
    best = compute_optimal(fit, 6 * truth.n.max() * truth.d.max(), judge=False)
    assert best.n_interval == (0.0, pytest.approx(1.1744e7, rel=3e-3))


def test_a_fit_brings_its_verdict():
    assert compute_optimal(simulated(), 1e21).verdict.level == "supported"
    far = compute_optimal(simulated(), 1e40)
    assert far.verdict.refused
    assert np.isnan([far.n_params, far.loss, *far.n_interval, *far.d_interval, *far.loss_interval]).all()
    near, far = compute_optimal(simulated(), np.array([1e21, 1e40])).n_params
    assert near == pytest.approx(compute_optimal(simulated(), 1e21).n_params, rel=1e-6)
    assert np.isnan(far)
    assert compute_optimal(EPOCH, 1e21).verdict is None
    n = np.geomspace(1e7, 1e9, 9)
    collinear = fit_joint(n, 20 * n, EPOCH.predict(n, 20 * n))
    assert compute_optimal(collinear, 1e20).verdict.level == "not identifiable"


def test_over_training_costs_what_the_loss_surface_says():
    best = compute_optimal(EPOCH, 1e22)
    none = overtraining_cost(EPOCH, 1e22, best.tokens_per_param)
    assert (none.extra_loss, none.flops_ratio) == pytest.approx((0, 1), abs=1e-5)
    much = overtraining_cost(EPOCH, 1e22, 2000)
    assert (much.n_tokens / much.n_params, 6 * much.n_params * much.n_tokens) == pytest.approx((2000, 1e22))
    assert much.flops_ratio > 1.5
    assert compute_optimal(EPOCH, much.flops_equivalent).loss == pytest.approx(much.loss, abs=1e-9)
    assert much.extra_loss == pytest.approx(EPOCH.predict(much.n_params, much.n_tokens) - best.loss)


def test_the_same_loss_from_a_smaller_model_takes_more_training():
    best = compute_optimal(EPOCH, 1e22)
    half = same_loss_smaller_model(EPOCH, 1e22, best.n_params / 2)
    assert half.loss == pytest.approx(best.loss, abs=1e-9)
    assert half.size_ratio == pytest.approx(0.5)
    p = EPOCH.params  # solved by hand for D
    room = best.loss - p["E"] - p["A"] / half.n_params ** p["alpha"]
    assert half.n_tokens == pytest.approx((p["B"] / room) ** (1 / p["beta"]), rel=1e-6)
    assert half.flops_ratio == pytest.approx(half.flops / 1e22, rel=1e-5)
    least = (p["A"] / (best.loss - p["E"])) ** (1 / p["alpha"])
    with pytest.raises(InputError, match=re.escape(f"more than {least:.3g}")):
        same_loss_smaller_model(EPOCH, 1e22, 0.9 * least)


def test_muennighoff_s_data_constrained_optimum():
    """At the paper's 9.2e21 FLOP and 25B unique tokens: smaller and longer than Chinchilla's rule."""
    law = published.laws["muennighoff"]
    c = 6 * 6.34e9 * 242e9
    best = data_constrained(law, c, 25e9)
    found = minimize_scalar(
        lambda u: law.predict(np.exp(u), c / 6 / np.exp(u), 25e9), bounds=(20, 26), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    assert np.log(best.n_params) == pytest.approx(found.x, abs=1e-4)
    assert best.loss <= 2.2256440889984477 <= 2.2269634075087867  # the paper's pick, and Chinchilla's rule
    assert best.n_params == pytest.approx(6.34e9, rel=0.1)
    assert best.epochs == pytest.approx(best.n_tokens / 25e9)
    plain = dataclasses.replace(law, law=get_law("chinchilla"))  # whose decay constants are Muennighoff's
    borrowed = data_constrained(plain, c, 25e9)
    assert (borrowed.n_params, borrowed.loss) == (best.n_params, best.loss)


def test_with_data_enough_the_constraint_does_nothing():
    free = compute_optimal(EPOCH, 1e21)
    held = data_constrained(EPOCH, 1e21, 1e13)
    assert held.n_params == pytest.approx(free.n_params, rel=1e-5)
    assert (held.loss, held.epochs) == pytest.approx((free.loss, 1))
    scarce = data_constrained(EPOCH, np.array([1e20, 1e21]), 1e9)
    assert scarce.loss[1] > free.loss
    assert np.all(scarce.epochs > 1)
    assert np.all((scarce.n_interval[0] < scarce.n_params) & (scarce.n_params < scarce.n_interval[1]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: compute_optimal(EPOCH, -1), "above zero"),
        (lambda: compute_optimal(EPOCH, 3.0), "exceed 24"),
        (lambda: compute_optimal(EPOCH, 1e20, level=1.5), "level"),
        (lambda: compute_optimal(published.laws["kaplan-n"], 1e20), "a law of N and D"),
        (lambda: compute_optimal(published.laws["muennighoff"], 1e20), "data_constrained"),
        (lambda: data_constrained(EPOCH, 1e20, 0), "unique_tokens"),
        (lambda: data_constrained(published.laws["kaplan-joint"], 1e20, 1e9), "neither"),
        (lambda: overtraining_cost(EPOCH, 1e20, "x"), "one number"),
        (lambda: overtraining_cost(EPOCH, 1e20, 1e30), "parameters and"),
        (lambda: overtraining_cost(EPOCH, 1e20, 1e-30), "parameters and"),
        (lambda: overtraining_cost(EPOCH, 40, 1), "smallest budget"),
        (lambda: compute_optimal(EPOCH, np.ma.masked_array([1e20, 1e21], mask=[False, True])), "finite|masked"),
        (lambda: compute_optimal(EPOCH, "x"), "number"),
        (lambda: compute_optimal(fit_power_law([1e6, 1e7, 1e8, 1e9], [5, 4, 3.5, 3.2]), 1e20), "fit_joint"),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
