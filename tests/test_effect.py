"""What a recipe does to the law: known shifts of a known law come back, and the wrong explanations are refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pytest
from scaling_lib.show.effect import effect_report, plot_effect, recipe_effect
from scipy import stats

from scaling_lib.errors import InputError
from scaling_lib.runs import Run

mpl.use("agg")
E, A, ALPHA, B, BETA = 1.5, 60.0, 0.45, 90.0, 0.35
STEPS = (100, 200, 400, 800)
WIDTHS = (32, 48, 64, 96)


def law(n: float, d: float, *, floor: float = E, b: float = B, beta: float = BETA) -> float:
    return floor + A / n**ALPHA + b / d**beta


@pytest.fixture
def sweep(make_run: Callable[..., Run]) -> Callable[..., list[Run]]:
    """Two recipes on one grid, three seeds; the noise of a seed is shared but for a tenth of it."""

    def make(noise: float = 0.002, **changed: float) -> list[Run]:
        rng = np.random.default_rng(0)
        runs = []
        for d_model in WIDTHS:
            for steps in STEPS:
                for seed in range(3):
                    shared = noise * rng.standard_normal()
                    for recipe, how in (("v1-long", {}), ("v2", changed)):
                        one = make_run(recipe, d_model=d_model, steps=steps, seed=seed)
                        n, d = one.counts["n_params_non_embedding"], one.counts["n_tokens"]
                        own = shared + 0.1 * noise * rng.standard_normal()
                        loss = law(n, d, **how) * math.exp(own)
                        runs.append(make_run(recipe, d_model=d_model, steps=steps, seed=seed, loss=loss))
        return runs

    return make


def shift(runs: list[Run], what: str):
    found = recipe_effect(runs, "v1-long", "v2")
    return found, next(s for s in found.shifts if s.what == what)


def test_a_prefactor_of_data_comes_back_as_itself_and_as_a_multiple_of_compute(sweep) -> None:
    effect, own = shift(sweep(b=0.8 * B), "prefactor B of data")
    assert own.low[0] < math.log(0.8) < own.high[0]
    assert own.high[0] - own.low[0] < 0.02
    assert own.enough
    wrong = {s.what: s for s in effect.shifts}
    assert not wrong["nothing"].enough
    assert not wrong["floor E"].enough
    assert not wrong["prefactor A of size"].enough
    # 0.8 B at D is B at m D with m = 0.8 ** (-1 / beta); the longest cells lie beyond the reference's ladder.
    factors = np.array([m.factor for m in effect.multipliers])
    assert np.isnan(factors).sum() == len(WIDTHS)
    assert np.nanmean(factors) == pytest.approx(0.8 ** (-1 / BETA), rel=0.05)


def test_a_floor_comes_back_in_nats(sweep) -> None:
    effect, own = shift(sweep(floor=E - 0.1), "floor E")
    assert own.low[0] < -0.1 < own.high[0]
    assert own.enough
    assert not next(s for s in effect.shifts if s.what == "exponent beta of data").enough


def test_recipes_that_are_alike_need_no_shift(sweep) -> None:
    effect, nothing = shift(sweep(), "nothing")
    assert nothing.enough
    assert nothing.values.size == 0
    assert all(s.low[0] < 0 < s.high[0] for s in effect.shifts if s.values.size == 1)


def test_the_noise_is_that_of_pairs(sweep) -> None:
    effect = recipe_effect(sweep(noise=0.01), "v1-long", "v2")
    assert effect.noise == pytest.approx(0.001 * math.sqrt(2), rel=0.25)


def test_too_few_cells_are_refused_in_one_line(sweep) -> None:
    runs = [r for r in sweep() if r.config.model.d_model == 32]
    with pytest.raises(InputError, match=r"4 cells have both 'v1-long' and 'v2'.*--mode paired") as error:
        recipe_effect(runs, "v1-long", "v2")
    assert "\n" not in str(error.value)


def test_the_report_and_the_figure_show_every_cell(sweep) -> None:
    runs = sweep(b=0.9 * B)
    text = effect_report(runs, "v1-long", "v2")
    assert text.count("beyond its ladder") == len(WIDTHS)
    assert text.count("x [") == len(WIDTHS) * (len(STEPS) - 1)
    axes = plot_effect(recipe_effect(runs, "v1-long", "v2"))
    assert len(axes.containers) == len(WIDTHS)
    assert "nats" in axes.get_ylabel()


def test_both_parts_of_the_data_term_come_back_with_their_signs(sweep) -> None:
    """A prefactor of 0.8 about the middle of the data is all of it: the exponent stays."""
    _, both = shift(sweep(b=0.8 * B), "B and beta of data")
    assert both.values[0] == pytest.approx(math.log(0.8), abs=0.03)
    assert both.values[1] == pytest.approx(0.0, abs=0.02)
    assert both.enough


def test_a_wrong_explanation_is_as_unsure_as_what_it_leaves_over(sweep) -> None:
    alike, changed = (recipe_effect(sweep(floor=floor), "v1-long", "v2") for floor in (E, E - 0.1))
    a, c = (next(s for s in x.shifts if s.what == "exponent alpha of size") for x in (alike, changed))
    assert c.scatter > 50 * changed.noise
    assert (c.high - c.low)[0] > 50 * (a.high - a.low)[0]  # what is left over is a hundred times the noise


def test_the_lack_of_fit_is_an_f_test_on_the_means_of_cells(sweep) -> None:
    """For "nothing" there is no parameter, so the test can be worked out by hand."""
    runs = sweep(floor=E - 0.002)
    losses = {(r.config.train.recipe, r.config.model, r.config.n_tokens, r.config.train.seed): r.val_loss for r in runs}
    by_cell: dict = {}
    for (recipe, *cell, seed), loss in losses.items():
        if recipe == "v2":
            by_cell.setdefault(tuple(cell), []).append(math.log(loss / losses[("v1-long", *cell, seed)]))
    cells = np.array(list(by_cell.values()))  # (16, 3)
    between = 3 * np.sum(cells.mean(axis=1) ** 2) / 16
    within = np.sum((cells - cells.mean(axis=1, keepdims=True)) ** 2) / 32
    _, nothing = shift(runs, "nothing")
    assert nothing.p == pytest.approx(stats.f.sf(between / within, 16, 32), rel=1e-6)
