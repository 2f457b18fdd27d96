"""IsoFLOP parabolas and envelopes against published bias figures, closed forms and simulated truth."""

import numpy as np
import pytest

from scaling_lib.errors import InputError
from scaling_lib.fit import compare_with_joint, envelope, isoflop
from scaling_lib.fit.envelopes import Line
from scaling_lib.fit.table import table_from_arrays

E, A, B = 1.69, 406.4, 410.7


def optimum(c, alpha, beta):
    """N*(C) of E + A/N^alpha + B/D^beta with C = 6 N D, in closed form [Hoffmann et al. 2022, equation 4]."""
    g = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    return g * (c / 6) ** (beta / (alpha + beta))


def sweep(alpha, beta, width, points=15, budgets=5, offset=1.0):
    """Return N, C and noise-free losses: sizes from N*/width to N* width at each of 1e17 .. 1e21 FLOP."""
    c = np.repeat(np.logspace(17, 21, budgets), points)
    n = optimum(c, alpha, beta) * offset * np.tile(width ** np.linspace(-1, 1, points), budgets)
    return n, c, E + A / n**alpha + B / (c / 6 / n) ** beta


# Percent error of D* at 1e24 FLOP, from the study of the bias [arXiv 2603.22339].
BIAS = [
    (0.31, 0.31, (0.0, 0.0, 0.0, 0.0)),
    (0.34, 0.28, (-0.327, -1.301, -2.903, -5.100)),
    (0.465, 0.155, (-1.675, -6.498, -13.910, -23.116)),
]


@pytest.mark.parametrize(("alpha", "beta", "percent"), BIAS)
def test_the_published_bias_of_the_parabolas_is_reproduced_to_three_decimals(alpha, beta, percent):
    for width, expected in zip((2, 4, 8, 16), percent, strict=True):
        result = isoflop(*sweep(alpha, beta, width), window=np.inf)
        assert result.flags == ("ok",) * 5
        _, d = result.optimal(1e24)
        error = 100 * (d * 6 * optimum(1e24, alpha, beta) / 1e24 - 1)
        assert abs(error - expected) <= 5.1e-4, (width, error)


def test_the_exponents_of_a_symmetric_law_are_exact_and_add_to_one():
    result = isoflop(*sweep(0.31, 0.31, 4))
    assert result.a == pytest.approx(0.5, abs=1e-9)
    skewed = isoflop(*sweep(0.34, 0.28, 1.1))
    assert skewed.a == pytest.approx(0.28 / 0.62, abs=1e-4)  # a = beta / (alpha + beta)
    assert skewed.b == pytest.approx(0.34 / 0.62, abs=1e-4)
    assert np.allclose(result.n_opt, optimum(result.budgets, 0.31, 0.31), rtol=1e-6)
    assert np.allclose(6 * result.n_opt * result.d_opt, result.budgets)
    u = np.log(result.n_opt) - result.centre
    assert np.allclose(np.sum(result.coefficients * np.stack([u**0, u, u**2], axis=1), axis=1), result.loss_opt)


@pytest.mark.parametrize("kind", ["scatter", "bootstrap"])
def test_the_interval_of_the_exponent_covers(kind):
    """400 noisy sweeps with a known exponent of 1/2: a nominal 90% interval covers 86 to 94%."""
    n, c, clean = sweep(0.31, 0.31, 4, points=9)
    rng = np.random.default_rng(1)
    hits = 0
    for draw in range(400):
        noisy = clean * np.exp(0.003 * rng.standard_normal(n.size))
        r = isoflop(n, c, noisy, use_edges=True, bootstrap=200 if kind == "bootstrap" else 0, seed=draw)
        hits += r.a_interval[0] <= 0.5 <= r.a_interval[1]
    assert 0.86 <= hits / 400 <= 0.94, hits / 400


def test_curves_that_are_no_parabolas_narrow_the_window_and_widen_the_interval():
    """Nine sizes from N*/12 to 12 N* without noise: a parabola through all is sure of a size a fifth too large."""
    alpha, beta, truth = 0.55, 0.28, optimum(1e23, 0.55, 0.28)
    runs = sweep(alpha, beta, 12, points=9)
    every, chosen = isoflop(*runs, window=np.inf), isoflop(*runs)
    assert every.optimal(1e23)[0] > 1.2 * truth
    assert every.interval(1e23)[0] > truth
    assert chosen.lack_of_fit[0] < 1e-6
    assert 2 < chosen.window < 6
    assert chosen.n_fitted == (5,) * 5
    low, high = chosen.interval(1e23)
    assert low < truth < high < 1.6 * low
    assert abs(np.log(chosen.optimal(1e23)[0] / truth)) < 0.5 * np.log(every.optimal(1e23)[0] / truth)


def test_the_interval_of_an_optimum_covers_where_curves_bend():
    n, c, clean = sweep(0.465, 0.155, 6, points=9)
    truth, rng = optimum(1e23, 0.465, 0.155), np.random.default_rng(5)
    held = {"auto": 0, np.inf: 0}
    for _ in range(60):
        noisy = clean * np.exp(0.002 * rng.standard_normal(n.size))
        for window in held:
            low, high = isoflop(n, c, noisy, use_edges=True, window=window).interval(1e23)
            held[window] += low <= truth <= high
    assert held["auto"] >= 50
    assert held[np.inf] <= 6


def test_parabolas_with_noise_pass_the_test_of_lack_of_fit():
    n, c, _ = sweep(0.31, 0.31, 4, points=9)
    curve = 3 + 0.05 * np.log(n / optimum(c, 0.31, 0.31)) ** 2
    rng = np.random.default_rng(2)
    chances = [isoflop(n, c, curve + 2e-3 * rng.standard_normal(n.size)).lack_of_fit[0] for _ in range(200)]
    assert 0.01 <= np.mean(np.array(chances) < 0.05) <= 0.1
    assert 0.4 < np.mean(chances) < 0.6


def test_the_joint_law_stands_beside_the_parabolas():
    n, c, clean = sweep(0.34, 0.28, 4, points=9)
    loss = clean * np.exp(0.001 * np.random.default_rng(0).standard_normal(n.size))
    both = compare_with_joint(table_from_arrays(loss, n_params=n, flops=c), [1e22])
    truth = optimum(1e22, 0.34, 0.28)
    low, high = both.optima[0].n_interval
    assert low < truth < high
    assert both.optima[0].n_params == pytest.approx(truth, rel=0.1)
    told = both.to_dict()["predictions"][0]
    assert told["n_params"] == both.isoflop.optimal(1e22)[0]
    assert told["joint_n_params"] == both.optima[0].n_params


def test_errors_that_go_together_widen_the_interval_by_group():
    """Each size is a trunk whose error every budget shares, growing with C: the minima move together."""
    n, c, clean = sweep(0.31, 0.31, 4, points=9)
    trunk = np.tile(np.arange(9), 5)
    rng = np.random.default_rng(3)
    noisy = clean + 0.004 * rng.standard_normal(9)[trunk] * np.log(c / 1e16) + 1e-4 * rng.standard_normal(n.size)
    single = isoflop(n, c, noisy, bootstrap=500, use_edges=True)
    grouped = isoflop(n, c, noisy, bootstrap=500, groups=trunk, use_edges=True)
    assert np.ptp(grouped.interval(1e24)) > np.ptp(single.interval(1e24))


def test_a_lowest_loss_at_the_end_of_the_sizes_is_an_edge_though_the_parabola_turns_inside():
    """Exact parabolas about ln N* = 10 + ln(C)/2; the first budget's sizes begin just below its minimum."""
    c = np.repeat(np.logspace(17, 20, 4), 5)
    u = np.tile(np.linspace(-1, 1, 5), 4)
    u[:5] = np.linspace(-0.1, 1.9, 5)
    n = np.exp(10 + np.log(c) / 2 + u)
    result = isoflop(n, c, 3 + 0.05 * u**2 + 0.005 * (c < 2e17) * u)
    assert result.flags == ("edge", "ok", "ok", "ok")
    assert result.n_range[0, 0] <= result.n_opt[0] <= result.n_range[0, 1]
    assert list(result.used) == [False, True, True, True]
    assert result.a == pytest.approx(0.5, abs=1e-9)
    assert abs(isoflop(n, c, 3 + 0.05 * u**2 + 0.005 * (c < 2e17) * u, use_edges=True).a - 0.5) > 0.001
    n, c, _ = sweep(0.34, 0.28, 4)
    n = np.where(c > 5e20, 6 * n, n)  # the largest budget: all sizes above N*
    far = isoflop(n, c, E + A / n**0.34 + B / (c / 6 / n) ** 0.28)
    assert far.flags == ("ok",) * 4 + ("outside",)
    assert not far.used[-1]


def test_curvature_within_the_noise_is_no_minimum():
    """Half of all noise curves upwards; at two standard errors about 4 in 100 may still pass for a minimum."""
    n, c, _ = sweep(0.34, 0.28, 4, points=9)
    with pytest.raises(InputError, match=r"0 of 5 budgets [^\n]* flat"):
        isoflop(n, c, np.full(n.size, 9.21))
    _, _, clean = sweep(0.34, 0.28, 4, points=9)
    result = isoflop(n, c, np.where(c < 1.01 * c.min(), 9.21, clean))
    assert result.flags == ("flat", "ok", "ok", "ok", "ok")
    for values in (result.n_opt, result.d_opt, result.loss_opt):
        assert np.isnan(values).tolist() == [True, False, False, False, False]
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(100):
        try:
            found += isoflop(n, c, 9.21 + 1e-3 * rng.standard_normal(n.size)).used.sum()
        except InputError as error:
            found += int(str(error).split()[1])
    assert found / 500 < 0.08


def test_a_line_s_error_uses_the_whole_covariance():
    line = Line(0.5, 20.0, 40.0, np.array([[0.04, -0.01], [-0.01, 0.01]]), 0, 0.9)
    half = 1.6449 * np.array([0.2, np.sqrt(0.04 - 2 * 2 * 0.01 + 4 * 0.01)])
    low, high = line.interval(np.exp([40.0, 42.0]))
    assert np.log([low, high]) == pytest.approx(np.array([20.0, 21.0]) + np.outer([-1, 1], half), abs=1e-5)


def test_budgets_are_found_by_their_gaps():
    n, c, loss = sweep(0.34, 0.28, 4)
    jitter = c * np.exp(0.02 * np.random.default_rng(0).standard_normal(c.size))
    assert isoflop(n, jitter, loss).budgets.size == 5
    low, high = isoflop(*(v[:30] for v in (n, c, loss * np.exp(0.01 * (jitter / c - 1))))).a_interval
    assert 0 < high - low < 0.2  # two budgets take their interval from the parabolas
    with pytest.raises(InputError, match="run into each other"):
        isoflop(n, np.geomspace(1e17, 1e21, n.size), loss)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": [2.0, 3.0]}, "different length"),
        ({"flops": np.r_[np.nan, np.full(74, 1e18)]}, r"C\[0\]"),
        ({"level": 1.0}, "level"),
        ({"window": 0.5}, "factor above 1"),
        ({"window": "all"}, "factor above 1"),
        ({"groups": [1, 2], "bootstrap": 10}, "one label per run"),
        ({"groups": np.zeros(75), "bootstrap": 10}, "one group only"),
    ],
)
def test_bad_input_is_one_line(change, words):
    n, c, loss = sweep(0.34, 0.28, 4)
    with pytest.raises(InputError, match=words) as caught:
        isoflop(**{"n_params": n, "flops": c, "loss": loss, **change})
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="above zero"):
        isoflop(n, c, loss).optimal(0.0)


def test_the_envelope_finds_the_exponent_of_a_known_law():
    """Curves of many sizes whose envelope is the compute-optimal frontier, N* ~ C^(beta / (alpha + beta))."""
    alpha, beta = 0.34, 0.28
    sizes = np.geomspace(1e6, 1e9, 25)
    n = np.repeat(sizes, 60)
    c = 6 * n * np.tile(np.geomspace(1e7, 1e12, 60), 25)
    result = envelope(n, c, E + A / n**alpha + B / (c / 6 / n) ** beta)
    assert result.a == pytest.approx(beta / (alpha + beta), abs=0.01)
    n_star, d_star = result.optimal(1e19)
    assert n_star == pytest.approx(optimum(1e19, alpha, beta), rel=0.1)
    assert 6 * n_star * d_star == pytest.approx(1e19)
    assert np.all(np.diff(result.n_best) >= 0)
    with pytest.raises(InputError, match="best strictly inside"):
        envelope([1e6, 1e7, 1e8], [1e15, 1e16, 1e17], [4.0, 3.0, 2.0])
