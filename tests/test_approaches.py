"""Three approaches to one exponent: on a law that is known, on a grid that cannot see its optimum, and in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

import matplotlib as mpl
import numpy as np
import pytest

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.estimate import fit_joint
from scaling_lib.fit.published import PublishedLaw
from scaling_lib.runs import Run
from scaling_lib.show.approaches import (
    approaches_table,
    chinchilla_exponents,
    grid_envelope,
    hemmed_in,
    law_exponent,
    laws_side_by_side,
    made_grid,
    plot_exponents,
    plot_frontier,
    three_approaches,
)
from scaling_lib.show.grids import Grid, the_grid

mpl.use("agg")
Make = Callable[..., Run]
WIDTHS = (16, 24, 32, 48, 64, 96, 128, 160)
STEPS = tuple(60 * 2**k for k in range(9))
ALPHA, BETA = 0.4, 0.3
PER_PARAM = 20.0  # tokens per parameter of the middle size's optimum: inside the grid


def size_of(d: int) -> int:
    return 24 * d**2 + 6 * d


@pytest.fixture(scope="module")
def law() -> PublishedLaw:
    """A law whose optimum at 55,000 parameters takes 20 tokens a parameter, and whose exponent is 3/7."""
    n = float(size_of(48))
    a = 600.0  # at the optimum alpha A N^-alpha = beta B D^-beta
    b = ALPHA * a * n**-ALPHA / (BETA * (PER_PARAM * n) ** -BETA)
    params = MappingProxyType({"E": 1.5, "A": a, "B": b, "alpha": ALPHA, "beta": BETA})
    return replace(published.laws["chinchilla"], name="known", title="a known law", params=params)


@pytest.fixture(scope="module")
def grid(make_run: Make, law: PublishedLaw) -> Grid:
    runs = [make_run("wsd", d_model=d, steps=s) for d in WIDTHS for s in STEPS]
    return made_grid(the_grid(runs), law)


def test_made_losses_are_the_law_s_own(grid: Grid, law: PublishedLaw) -> None:
    t = grid.table
    n, d = t.get("N"), t.get("D")
    assert np.allclose(t.loss, 1.5 + law.params["A"] / n**ALPHA + law.params["B"] / d**BETA)
    longer = made_grid(grid, law, 3.0).table
    assert np.allclose(longer.get("D"), 3 * d)
    assert np.allclose(longer.get("C"), 3 * t.get("C"))


def test_the_three_agree_with_the_closed_form_where_the_optimum_lies_inside(grid: Grid) -> None:
    envelope, isoflop, parametric = three_approaches(grid, draws=0)
    truth = BETA / (ALPHA + BETA)
    assert parametric.a == pytest.approx(truth, abs=1e-4)
    assert isoflop.a == pytest.approx(truth, abs=0.02)
    assert envelope.a == pytest.approx(truth, abs=0.06)  # eight sizes make a coarse staircase
    assert [x.name for x in (envelope, isoflop, parametric)] == ["envelope", "IsoFLOP", "parametric"]
    for x in (envelope, isoflop, parametric):
        assert x.left_out.shape == (len(WIDTHS),)
        assert np.all(np.abs(x.left_out - truth) < 0.15)
    rest = Grid(grid.recipe, tuple(r for r in grid.runs if r.config.model.d_model != WIDTHS[2]))
    assert envelope.left_out[2] == pytest.approx(grid_envelope(rest).a)
    assert np.ptp(envelope.left_out) > 0


def test_a_grid_below_the_optimum_bends_the_envelope_and_leaves_no_minimum(grid: Grid, law: PublishedLaw) -> None:
    """With a hundredth of the tokens smaller models, trained longer, would be better at every budget."""
    short = made_grid(grid, law, 0.01)
    envelope, isoflop, parametric = three_approaches(short, draws=0)
    assert envelope.a > 0.75  # at a fixed longest D the winner is N = C / (6 D): exponent 1
    assert np.isnan(isoflop.a)
    assert "0 of 5 budgets" in isoflop.why_not
    assert parametric.a == pytest.approx(BETA / (ALPHA + BETA), abs=1e-4)
    assert hemmed_in(short)[1].mean() > 0.9
    assert hemmed_in(grid)[1].mean() < 0.5
    text = approaches_table((envelope, isoflop, parametric))
    assert "none" in text.splitlines()[2]
    assert "0.43" in text.splitlines()[3]


def test_hemmed_in_is_where_no_smaller_size_spends_the_budget(grid: Grid) -> None:
    flops, hemmed = hemmed_in(grid)
    found = grid_envelope(grid)
    t = grid.table
    n, c = t.get("N"), 6 * t.get("N") * t.get("D")
    for i in range(0, flops.size, 97):
        able = [s for s in np.unique(n) if c[n == s].max() >= flops[i] * (1 - 1e-9)]
        assert hemmed[i] == bool(np.isclose(found.n_best[i], min(able)))


def test_the_interval_of_a_fitted_law_holds_its_exponent_and_widens_with_noise(grid: Grid) -> None:
    t = grid.table
    widths = []
    for noise in (0.001, 0.004):
        loss = t.loss * np.exp(noise * np.random.default_rng(0).standard_normal(len(t)))
        fit = fit_joint(t.n_params, t.n_tokens, loss, bootstrap=200)
        a, low, high = law_exponent(fit)
        assert low < a < high
        assert low - 0.02 < BETA / (ALPHA + BETA) < high + 0.02
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]
    assert all(np.isnan(law_exponent(fit_joint(t.n_params, t.n_tokens, t.loss))[1:]))


def test_the_published_interval_is_that_of_normal_draws() -> None:
    law = published.laws["chinchilla-epoch"]
    assert law.cov is not None
    a, low, high = law_exponent(law)
    draws = np.random.default_rng(0).multivariate_normal(
        [law.params["alpha"], law.params["beta"]], law.cov[3:, 3:], 200_000
    )
    sample = draws[:, 1] / draws.sum(axis=1)
    assert a == pytest.approx(0.36717 / (0.34731 + 0.36717), abs=1e-5)
    assert (low, high) == pytest.approx(tuple(np.quantile(sample, [0.05, 0.95])), abs=0.002)
    assert np.isnan(law_exponent(published.laws["chinchilla"])[1])
    with pytest.raises(InputError, match="kaplan"):
        law_exponent(published.laws["kaplan-joint"])


def test_chinchilla_s_exponents_are_the_published_ones() -> None:
    values = chinchilla_exponents()
    assert [round(v[0], 2) for v in values.values()] == [0.50, 0.49, 0.46, 0.51]


def test_laws_stand_side_by_side(grid: Grid) -> None:
    t = grid.table
    noisy = t.loss * np.exp(0.002 * np.random.default_rng(0).standard_normal(len(t)))
    fit = fit_joint(t.n_params, t.n_tokens, noisy)
    text = laws_side_by_side(fit, published.laws["chinchilla-epoch"])
    rows = {line.split()[0]: line for line in text.splitlines()[1:]}
    assert list(rows) == ["E", "A", "B", "alpha", "beta"]
    assert "1.82 [1.8, 1.9]" in rows["E"]  # 1.817 +- 1.645 x 0.02516
    assert "478 [320, 720]" in rows["A"]  # 477.8 x exp(+-1.645 x 0.2498)
    assert f"{fit.params['alpha']:.3g}" in rows["alpha"]
    assert "0.339" in laws_side_by_side(fit, published.laws["chinchilla"])  # without a covariance: no interval
    with pytest.raises(InputError, match="other parameters"):
        laws_side_by_side(fit, published.laws["kaplan-joint"])


def test_the_figures_show_what_the_tables_say(grid: Grid, law: PublishedLaw) -> None:
    found = three_approaches(made_grid(grid, law, 0.01), draws=0)
    rows = {x.name: (x.a, x.low, x.high) for x in found}
    axes = plot_exponents({"here": rows, "there": chinchilla_exponents()})
    assert [t.get_text() for t in axes.get_yticklabels()] == [*rows, *chinchilla_exponents()]
    assert [t.get_text() for t in axes.texts] == ["no exponent"]
    marks = [line for line in axes.lines if line.get_marker() != "None"]
    assert [m.get_xdata()[0] for m in marks][:2] == [found[0].a, found[2].a]
    assert axes.get_xlabel()
    frontier = plot_frontier(grid)
    assert len([line for line in frontier.lines if line.get_marker() == "o"]) == len(WIDTHS)
    first = frontier.lines[0]
    assert first.get_xdata()[0] == pytest.approx(6 * size_of(16) * STEPS[0] * 1024)
    assert "FLOP" in frontier.get_xlabel()
    assert "nats per token" in frontier.get_ylabel()
