"""Studies: noise between seeds, one recipe against another, floors, retrained ladders. Known truths come back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from scaling_lib.errors import InputError
from scaling_lib.runs import Run
from scaling_lib.show.changes import cell_changes, recipe_effect
from scaling_lib.show.studies import (
    exact_share,
    known_floors,
    pooled_relative,
    retrained_coverage,
    spreads,
    study_numbers,
    study_texts,
)

Make = Callable[..., Run]


def test_a_plain_ladder_answers_nothing(make_run: Make) -> None:
    runs = [make_run(d_model=d, loss=3 + 20 / d) for d in (16, 32, 48, 64, 96)]
    assert (study_texts(runs), study_numbers(runs)) == ([], {})


def test_a_share_has_the_interval_of_clopper_and_pearson() -> None:
    for held, total in ((0, 7), (1, 7), (6, 7), (7, 7), (37, 40)):
        expected = stats.binomtest(held, total).proportion_ci(0.9)
        assert exact_share(held, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


# ---- noise between seeds ---------------------------------------------------------

RNG = np.random.default_rng(5)
WSD = 3.0 + RNG.normal(0, 0.02, 5)
V2 = WSD + 0.05 + RNG.normal(0, 0.005, 5)


@pytest.fixture
def seeds(make_run: Make) -> list[Run]:
    made = [make_run("wsd", seed=k, loss=float(v)) for k, v in enumerate(WSD)]
    made += [make_run("v2", seed=k, loss=float(v)) for k, v in enumerate(V2)]
    return [*made, make_run("v2", d_model=64, seed=0, loss=2.9), make_run("v2", d_model=64, seed=1, loss=2.8)]


def test_the_pooled_spread_has_its_chi_squared_interval(seeds: list[Run]) -> None:
    found = spreads(seeds)  # two seeds say nothing of the noise
    assert [(s.recipe, s.model.d_model, len(s.losses)) for s in found] == [("v2", 32, 5), ("wsd", 32, 5)]
    assert found[1].relative == pytest.approx(np.std(WSD, ddof=1) / WSD.mean())
    pooled, low, high = pooled_relative(found)
    squares = 4 * (found[0].relative ** 2 + found[1].relative ** 2)
    assert pooled == pytest.approx(np.sqrt(squares / 8))
    assert stats.chi2.cdf(squares / np.array([low, high]) ** 2, 8) == pytest.approx([0.95, 0.05])


def test_a_difference_is_that_of_a_paired_t_test_over_shared_seeds(seeds: list[Run]) -> None:
    some = [r for r in seeds if not (r.config.train.recipe == "v2" and r.config.train.seed == 1)]
    for runs, keep in ((seeds, [0, 1, 2, 3, 4]), (some, [0, 2, 3, 4])):
        (found,) = cell_changes(runs, "v2", "wsd")
        ends = stats.ttest_rel(WSD[keep], V2[keep]).confidence_interval(0.9)
        assert (found.low, found.high) == pytest.approx((ends.low, ends.high))
        assert (found.before, found.after) == pytest.approx((V2[keep].mean(), WSD[keep].mean()))
    assert cell_changes([r for r in some if r.config.train.seed < 3], "v2", "wsd") == []
    numbers, text = study_numbers(seeds), study_texts(seeds)[0]
    assert f"{numbers['wsd_less_v2'][0]['mean']:+.4f}" in text
    assert f"{100 * numbers['seed_noise']['relative']:.2f}%" in text


# ---- one recipe against another --------------------------------------------------

E, A, ALPHA, B, BETA = 1.5, 60.0, 0.45, 90.0, 0.35
STEPS, SIZES = (100, 200, 400, 800), (32, 48, 64, 96)


@pytest.fixture
def sweep(make_run: Make) -> Callable[..., list[Run]]:
    """Two recipes on one grid, three seeds; the noise of a seed is shared but for a tenth of it."""

    def make(noise: float = 0.002, floor: float = E, b: float = B) -> list[Run]:
        rng, runs = np.random.default_rng(0), []
        for where in ({"d_model": d, "steps": s, "seed": k} for d in SIZES for s in STEPS for k in range(3)):
            shared = noise * rng.standard_normal()
            counts = make_run(**where).counts
            for recipe, (e, prefactor) in (("v1-long", (E, B)), ("v2", (floor, b))):
                loss = e + A / counts["n_params_non_embedding"] ** ALPHA + prefactor / counts["n_tokens"] ** BETA
                loss *= math.exp(shared + 0.1 * noise * rng.standard_normal())
                runs.append(make_run(recipe, **where, loss=loss))
        return runs

    return make


def shifts(runs: list[Run]) -> tuple[dict[str, Any], dict[str, SimpleNamespace]]:
    effect = recipe_effect(runs, "v1-long", "v2")
    return effect, {s["what"]: SimpleNamespace(**s) for s in effect["shifts"]}


def test_a_prefactor_of_data_comes_back_as_itself_and_as_a_multiple_of_compute(sweep: Any) -> None:
    effect, found = shifts(sweep(b=0.8 * B))
    own, both = found["prefactor B of data"], found["B and beta of data"]
    assert own.low[0] < math.log(0.8) < own.high[0] < own.low[0] + 0.02
    assert both.by == pytest.approx([math.log(0.8), 0.0], abs=0.03)
    assert min(own.p, both.p) > 0.05
    assert max(found[what].p for what in ("nothing", "floor E", "prefactor A of size")) < 0.05
    # 0.8 B at D is B at m D with m = 0.8 ** (-1 / beta); the longest cells lie beyond the reference's ladder.
    factors = np.array([c["multiple"] for c in effect["cells"]])
    assert np.isnan(factors).sum() == len(SIZES)
    assert np.nanmean(factors) == pytest.approx(0.8 ** (-1 / BETA), rel=0.05)


def test_a_floor_comes_back_in_nats_and_wrong_explanations_are_as_unsure_as_what_they_leave(sweep: Any) -> None:
    (_, alike), (changed, found) = shifts(sweep()), shifts(sweep(floor=E - 0.1))
    assert alike["nothing"].p > 0.05
    assert all(s.low[0] < 0 < s.high[0] for s in alike.values() if len(s.by) == 1)
    own, wrong, calm = found["floor E"], found["exponent alpha of size"], alike["exponent alpha of size"]
    assert own.low[0] < -0.1 < own.high[0]
    assert own.p > 0.05 > found["exponent beta of data"].p
    assert wrong.left_over > 50 * changed["noise"]
    assert wrong.high[0] - wrong.low[0] > 50 * (calm.high[0] - calm.low[0])


def test_the_lack_of_fit_is_an_f_test_on_the_means_of_cells_and_the_noise_that_of_pairs(sweep: Any) -> None:
    """For "nothing" there is no parameter, so the test can be worked out by hand."""
    runs = sweep(floor=E - 0.002)
    logs = {r.run_id: math.log(r.val_loss) for r in runs}
    pairs = [logs[name] - logs[name.replace("v2", "v1-long")] for name in logs if name.startswith("v2")]
    cells = np.array(pairs).reshape(16, 3)
    between = 3 * np.sum(cells.mean(axis=1) ** 2) / 16
    within = np.sum((cells - cells.mean(axis=1, keepdims=True)) ** 2) / 32
    effect, found = shifts(runs)
    assert effect["noise"] == pytest.approx(math.sqrt(within))
    assert found["nothing"].p == pytest.approx(stats.f.sf(between / within, 16, 32), rel=1e-6)


def test_an_effect_is_told_where_there_are_cells_enough(sweep: Any) -> None:
    runs = sweep(b=0.9 * B)
    (effect,) = study_numbers(runs)["effects"]
    text = next(t for t in study_texts(runs) if t.startswith("V2 less V1-LONG"))
    assert all(f"{cell['mean']:+.3f}" in text for cell in effect["cells"])
    json.dumps(effect)
    with pytest.raises(InputError, match=r"4 cells have both 'v1-long' and 'v2'.*--mode paired"):
        recipe_effect([r for r in runs if r.config.model.d_model == 32], "v1-long", "v2")


# ---- floors ----------------------------------------------------------------------


def test_the_joint_law_finds_the_floor_and_a_slice_finds_that_of_its_data(make_run: Make) -> None:
    floor, rng, runs = 1.7, np.random.default_rng(3), []
    for d_model in (16, 32, 48, 64, 96):
        for steps in (100, 200, 400, 800):
            counts = make_run("wsd", d_model=d_model, steps=steps).counts
            loss = floor + 300 / counts["n_params_non_embedding"] ** 0.75 + 3000 / counts["n_tokens"] ** 0.7
            run = make_run("wsd", d_model=d_model, steps=steps, loss=loss * (1 + 0.001 * rng.standard_normal()))
            runs.append(replace(run, corpus={**run.corpus, "entropy_rate": floor}))
    *slices, joint = known_floors(runs)
    assert joint.holds
    assert joint.high - joint.low < 0.1
    for f in slices:
        assert f.fit.params["E"] == pytest.approx(floor + 3000 / f.n_tokens**0.7, abs=0.03)
    assert not slices[0].holds  # a slice cannot know what more data would bring
    numbers, text = study_numbers(runs), study_texts(runs)[-1]
    assert [f["n_tokens"] for f in numbers["floors"]] == [102_400, 204_800, 409_600, 819_200, None]
    assert all(f"{f['E']:.3f}" in text for f in numbers["floors"])
    with pytest.raises(InputError, match="entropy of this text is not known"):
        known_floors([make_run("wsd")])


# ---- retrained ladders -----------------------------------------------------------

WIDTHS = range(16, 144, 16)


@pytest.fixture
def ladders(make_run: Make) -> Callable[..., list[Run]]:
    def make(seeds: int = 40, noise: float = 0.004, bend: float = 0.0, **other: object) -> list[Run]:
        rng, runs = np.random.default_rng(5), []
        for seed in range(seeds):
            for width in WIDTHS:
                loss = (3.5 + 60 / (24 * width**2 + 6 * width) ** 0.5) * math.exp(noise * rng.standard_normal())
                loss += bend * (width == max(WIDTHS))
                runs.append(make_run(d_model=width, seed=seed, loss=loss, **other))
        return runs

    return make


def test_where_the_law_is_true_nine_in_ten_intervals_hold_and_off_it_few(ladders: Any) -> None:
    found = retrained_coverage(ladders())
    assert len(found.observed) + found.refused == 40
    assert stats.binomtest(found.held, len(found.observed), 0.9).pvalue > 0.001
    assert found.span == pytest.approx((24 * 128**2 + 6 * 128) / (24 * 112**2 + 6 * 112))
    assert found.half_width < 0.03
    bent = retrained_coverage(ladders(bend=0.15))
    assert bent.held < 0.2 * len(bent.observed)
    assert np.mean(bent.predicted / bent.observed - 1) == pytest.approx(-0.15 / 3.6, rel=0.25)


def test_retrained_ladders_are_told_where_they_are_whole_and_of_one_kind(ladders: Any, make_run: Make) -> None:
    runs = ladders(seeds=12)
    trials, text = study_numbers(runs)["retrained"], study_texts(runs)[-1]
    assert [t["hidden"] for t in trials] == [1, 2, 3]  # five sizes must be left to fit
    assert all(f"{t['held']} of {t['trials']}" in text for t in trials)
    cut = [r for r in runs if r.config.model.d_model < max(WIDTHS) or r.config.train.seed < 5]
    two = [*runs, *ladders(seeds=12, steps=200)]
    for others in (cut, two):
        assert "retrained" not in study_numbers(others)
    flat = [make_run(d_model=w, seed=s, loss=4.0 + 0.01 * (w % 32 > 0)) for s in range(12) for w in WIDTHS]
    (numbers, *_) = study_numbers(flat)["retrained"]
    assert (numbers["held"], numbers["trials"], numbers["refused"]) == (0, 0, 12)
    assert "none predicted" in study_texts(flat)[-1]


def test_too_little_is_refused_in_one_line(ladders: Any, make_run: Make) -> None:
    for seeds, hide in ((9, 1), (12, 4), (12, 0)):
        with pytest.raises(InputError, match="are needed; --mode coverage"):
            retrained_coverage(ladders(seeds=seeds), hide)
    with pytest.raises(InputError, match="2 recipes or lengths"):
        retrained_coverage([*ladders(), make_run(steps=999)])
