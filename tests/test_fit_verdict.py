"""Verdicts: what must be refused is refused, with the numbers that say why."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_fit_estimate import epoch_table, sweep

from scaling_lib.errors import InputError
from scaling_lib.fit import FitResult, Verdict, fit_joint, fit_power_law
from scaling_lib.fit.laws import CHINCHILLA

X = np.geomspace(1e6, 1e9, 10)


def ladder(seed: int = 0, noise: float = 0.005, x: np.ndarray = X, **options):
    rng = np.random.default_rng(seed)
    return fit_power_law(x, (1.7 + 400 / x**0.34) * np.exp(rng.normal(0, noise, len(x))), **options)


def test_a_clean_ladder_is_supported_near_and_weak_or_refused_far():
    fit = ladder()
    assert fit.verdict() == fit.verdict(1e9) == Verdict("supported", ())
    assert fit.verdict(4e9).level == "supported"
    assert fit.verdict(3e10).level == "weak"  # 30 times beyond ten runs the interval is wide
    far = fit.verdict(1e11)
    assert far.level == "weak"
    assert "2.0 decades in N beyond the largest run, and the runs span 3.0 decades" in far.reasons[0]
    assert not far.refused
    assert fit.verdict(1.8e13).refused
    assert fit.verdict([1e9, 1.8e13]).refused  # the worst of several


def test_five_small_models_do_not_support_a_giant():
    """The demo's ladder, 25k to 0.4M, asked about 1.8T parameters."""
    x = np.geomspace(25e3, 0.4e6, 5)
    for floor in ("free", 0.0):
        for noise in (0.0, 0.002, 0.02):
            verdict = ladder(x=x, noise=noise, floor=floor).verdict(1.8e12)
            assert verdict.refused
            assert any("6.7 decades in N beyond the largest run" in r for r in verdict.reasons), verdict


@pytest.mark.parametrize("seed", range(20))
def test_losses_that_do_not_fall_have_no_trend(seed):
    rng = np.random.default_rng(seed)
    loss = np.log(10_000) * np.exp(rng.normal(0, 0.01, 6))
    x = np.geomspace(2e6, 1e8, 6)
    verdict = fit_power_law(x, loss).verdict(1e9)
    assert verdict.level == "no trend"
    assert verdict.refused
    assert "do not fall with N beyond their noise" in verdict.reasons[0]


def test_flat_losses_have_no_trend_however_smooth_they_are():
    """A ladder trained at a rate near zero falls a little, since larger fresh models start a little lower."""
    verdict = fit_power_law([24_736, 55_536, 98_624, 230_960, 443_232], [6.245, 6.244, 6.240, 6.238, 6.235]).verdict()
    assert verdict.level == "no trend"
    assert "flat" in verdict.reasons[0]


def test_five_sizes_that_fall_at_every_step_have_a_trend():
    """A curved ladder scatters widely about a straight line: its order speaks for it."""
    verdict = fit_power_law([24_736, 55_536, 98_624, 230_960, 443_232], [3.989, 3.904, 3.846, 3.840, 3.820]).verdict()
    assert verdict.level == "weak"


def test_constant_and_rising_losses_have_no_trend():
    assert fit_power_law(X, np.full(10, 9.21)).verdict(1e10).level == "no trend"
    assert fit_power_law(X, 2.0 + 0.1 * np.log(X)).verdict(1e10).level == "no trend"
    n, d, _ = sweep()
    rng = np.random.default_rng(1)
    assert fit_joint(n, d, 6.0 * np.exp(rng.normal(0, 0.01, len(n)))).verdict(1e11, 1e12).level == "no trend"


def test_a_fall_in_the_losses_is_seen_through_one_wild_run():
    fit = ladder(noise=0.01)
    loss = fit.data["loss"].copy()
    loss[9] *= 4.0
    assert fit_power_law(X, loss, objective="huber").verdict(1e9).level != "no trend"


def test_a_steep_clean_ladder_of_five_falls():
    """Round a straight line it scatters by 15%, round the law by a thousandth."""
    fit = ladder(x=np.geomspace(1e5, 1e9, 5), noise=0.001)
    assert fit.verdict(1e9).level == "weak"  # two degrees of freedom, and no more than that
    assert fit.verdict(1e9).reasons == ("2 degrees of freedom are few to judge the noise by",)


def test_trend_that_is_only_the_groups_own_noise():
    """Two trunks that differ by chance: with the groups named, no fall is claimed."""
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], 8)
    x = np.geomspace(1e6, 1e8, 16)
    loss = 3.0 * np.exp(np.where(codes == 0, 0.01, -0.01) + rng.normal(0, 0.002, 16))
    assert fit_power_law(x, loss).verdict(1e8).level != "no trend"
    assert fit_power_law(x, loss, groups=codes).verdict(1e8).level == "no trend"


@pytest.mark.parametrize("noise", [0.0, 0.005, 0.02])
def test_all_runs_at_twenty_tokens_a_parameter_are_not_identifiable(noise):
    rng = np.random.default_rng(0)
    n = np.geomspace(1e7, 1e10, 12)
    truth = CHINCHILLA.value(np.array([1.8172, 482.01, 2085.43, 0.3478, 0.3658]), n, 20 * n)
    verdict = fit_joint(n, 20 * n, truth * np.exp(rng.normal(0, noise, 12))).verdict(1e10, 2e11)
    assert verdict.level == "not identifiable"
    assert "D/N = 20" in verdict.reasons[0]


def test_too_few_distinct_sizes():
    loss = [4.0, 3.4, 3.0, 2.8]
    verdict = fit_power_law([1e6, 1e7, 1e8, 1e9], loss).verdict(1e9)
    assert verdict.level == "not identifiable"
    assert verdict.reasons == ("4 distinct values of N for 3 parameters: at least 5 are needed",)
    assert not fit_power_law([1e6, 1e7, 1e8, 1e9], loss, floor=0.0).verdict(1e9).refused
    repeated = np.repeat([1e6, 1e7, 1e8, 1e9], 5)
    rng = np.random.default_rng(0)
    assert fit_power_law(repeated, np.repeat(loss, 5) * np.exp(rng.normal(0, 0.01, 20))).verdict(1e9).refused


def test_one_size_only():
    n = np.full(8, 1e7)
    assert fit_power_law(n, np.linspace(3, 3.1, 8)).verdict(1e8).refused
    d = np.geomspace(1e8, 1e10, 8)
    verdict = fit_joint(n, d, 2 + 300 / d**0.3).verdict(1e7, 1e10)
    assert verdict.level == "not identifiable"
    assert any("N takes fewer than 3 values" in r for r in verdict.reasons)


def test_a_wide_interval_is_refused_and_a_middling_one_weak():
    x = np.geomspace(1e6, 6e6, 6)
    wide = ladder(x=x, noise=0.03).verdict(1e8)
    assert wide.level == "not identifiable"
    assert "90% interval at the target" in wide.reasons[0]
    middling = ladder(noise=0.02, seed=2).verdict(2e10)
    assert middling.level == "weak"
    assert any("% of the loss" in r for r in middling.reasons)


def test_a_floor_at_its_bound_is_a_doubt():
    loss = np.exp(3.0 - 0.02 * np.log(X / 1e5) ** 1.4)
    verdict = fit_power_law(X, loss * np.exp(0.001 * np.cos(np.arange(10) * 2.0)), law="power").verdict(1e9)
    assert verdict.level == "weak"
    assert any("the floor E is at its bound (0)" in r for r in verdict.reasons)


def test_a_form_that_does_not_follow_the_runs_is_a_doubt():
    x = np.geomspace(1e6, 1e9, 25)
    rng = np.random.default_rng(0)
    wavy = (1.7 + 400 / x**0.34) * np.exp(0.05 * np.sin(np.log(x / 1e6) / 1.6) + rng.normal(0, 0.003, 25))
    verdict = fit_power_law(x, wavy, law="power").verdict(1e9)
    assert any("the residuals bend" in r for r in verdict.reasons)


def test_lack_of_fit_is_uniform_under_noise():
    """A p value: one draw in ten below .1, whatever the design."""
    x = np.geomspace(1e6, 1e9, 16)
    low = [ladder(seed=s, x=x).misfit.chance < 0.1 for s in range(120)]
    assert 3 <= sum(low) <= 23  # 12 expected; 99.8% of binomial draws


def test_few_degrees_of_freedom_and_leverage_are_doubts():
    verdict = ladder(x=np.geomspace(1e6, 1e9, 5), noise=0.001).verdict(1e9)
    assert "2 degrees of freedom are few to judge the noise by" in verdict.reasons
    x = np.array([1e6, 1.1e6, 1.2e6, 1.3e6, 1.4e6, 1.5e6, 1e9])
    verdict = ladder(x=x, noise=0.001, floor=1.7).verdict(1e9)
    assert any("hangs on row 7 (N = 1e+09)" in r for r in verdict.reasons), verdict


def test_published_table_is_weak_at_the_rumoured_size():
    alone = fit_joint(*epoch_table(), law="chinchilla").verdict(1.8e12, 1.3e13)
    assert alone.level == "weak"
    assert any("2.0 decades in N beyond the largest run" in r for r in alone.reasons)
    assert any("the residuals bend" in r for r in alone.reasons)
    pooled = fit_joint(*epoch_table())
    assert pooled.verdict(1.8e12, 1.3e13).refused  # the bend of the residuals, carried that far, makes it too wide
    assert not pooled.verdict(1.75e11, 3e11).refused


def test_r_squared_comes_with_the_verdict():
    flat = fit_power_law([1e6, 1e7, 1e8, 1e9], [4.0, 3.4, 3.0, 2.8])
    assert flat.r2 > 0.99
    line = next(r for r in flat.summary().splitlines() if "R-squared" in r)
    assert "the verdict is not identifiable" in line


def test_summary_and_table_answer_the_checklist():
    fit = ladder(labels=[f"<run {i}>" for i in range(10)], notes={"N counts": "non-embedding parameters"})
    text = fit.summary(2e9)
    for item in ("form", "objective", "starts", "certificate", "range of N", "exclusions", "N counts", "prediction"):
        assert f"{item}: " in text
    assert "verdict: supported" in text
    assert "without run <run" in text
    table = fit._repr_html_()
    assert table.startswith("<table>")
    assert "&lt;run" in table
    assert "<run" not in table
    assert "none: see the verdict" in fit.summary(1e20)
    assert str(Verdict("weak", ("a", "b"))) == "weak: a; b"
    assert ladder(bootstrap=20, law="power").summary(1e9).count("20 parametric bootstrap draws") == 1
    assert "(held)" in ladder(floor=1.0).summary()
    assert fit.summary([1e9, 2e9]).count("a new run") == 2


def one_line(error: InputError) -> None:
    assert "\n" not in str(error)


positive = st.floats(1e-30, 1e30)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    runs=st.lists(
        st.tuples(st.one_of(positive, st.floats(), st.just(1e6)), st.one_of(positive, st.floats())), max_size=9
    ),
    objective=st.sampled_from(["log_mse", "huber", "lad"]),
    floor=st.sampled_from(["free", None, 1.0]),
    target=st.one_of(positive, st.floats()),
)
def test_whatever_the_numbers_no_nan_and_no_warning(runs, objective, floor, target):
    x, loss = [r[0] for r in runs], [r[1] for r in runs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            fit = fit_power_law(x, loss, objective=objective, floor=floor)
            low, high = fit.interval(target)
            numbers = [fit.predict(target), low, high, *fit.params.values(), *fit.stderr.values(), fit.r2]
            assert not np.isnan(numbers).any()
            assert np.isfinite(list(fit.params.values())).all()
            assert low <= fit.predict(target) * (1 + 1e-9)
            assert fit.verdict(target).level in ("supported", "weak", "not identifiable", "no trend")
        except InputError as error:
            one_line(error)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 9),
    law=st.sampled_from(["pool", "chinchilla", "kaplan", "over_training"]),
    objective=st.sampled_from(["log_mse", "huber"]),
    spread=st.sampled_from([0.0, 0.1, 10.0]),
    grouped=st.booleans(),
)
@example(seed=0, n=5, law="over_training", objective="log_mse", spread=10.0, grouped=False)  # a kink in the law
def test_joint_fits_of_anything_end_in_a_verdict(seed, n, law, objective, spread, grouped):
    rng = np.random.default_rng(seed)
    x, d, loss = np.exp(rng.uniform(0, 20, n)), np.exp(rng.uniform(0, 20, n)), np.exp(rng.normal(0, spread, n))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            groups = rng.integers(0, 3, n).tolist() if grouped else None
            fit = fit_joint(x, d, loss, law=law, objective=objective, groups=groups, starts=6)
        except InputError as error:
            one_line(error)
            return
        low, high = fit.interval(1e9, 1e10)
        assert not np.isnan([low, high, fit.predict(1e9, 1e10)]).any()
        assert fit.verdict(1e9, 1e10).level in ("supported", "weak", "not identifiable", "no trend")
        assert "nan" not in fit.summary(1e9, 1e10).replace("not", "")


def trunk_grid(bend: float, seed: int, shared: float = 0.01) -> FitResult:
    """Six trunks with shared noise, five lengths each; ``bend`` couples size and length, which no additive law does."""
    rng = np.random.default_rng(seed)
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(3e4, 2e6, 6), np.geomspace(1e6, 1.6e7, 5), indexing="ij"))
    u, v = np.log(n / n.mean()), np.log(d / d.mean())
    group = np.repeat(np.arange(6), 5)
    noise = shared * rng.standard_normal(6)[group] + 0.003 * rng.standard_normal(30)
    loss = (1.5 + 30 / n**0.3 + 300 / d**0.35) * np.exp(noise - bend * u * v)
    return fit_joint(n, d, loss, law="chinchilla", groups=group)


def test_residuals_that_bend_along_trunks_are_seen_although_the_trunks_share_noise() -> None:
    bent = trunk_grid(0.02, 0)
    assert bent.misfit.chance < 1e-6
    assert bent.misfit.clear
    assert "the residuals bend" in str(bent.verdict())
    assert max(trunk_grid(0.01, seed, shared=0.03).misfit.chance for seed in range(8)) < 0.01  # the weights see through
    chances = np.array([trunk_grid(0.0, seed).misfit.chance for seed in range(40)])
    assert np.sum(chances < 0.1) <= 9  # 4 are expected; more than 9 come once in 130 times
    assert np.sum(chances < 0.01) <= 2  # what bends from trunk to trunk would be counted in some 4 of 40
