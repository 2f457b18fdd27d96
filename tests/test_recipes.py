"""Recipes against the table that defines them, and modes against the sizes and lengths they promise."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling_lib.config import trunk_id
from scaling_lib.counting import count_parameters
from scaling_lib.errors import InputError
from scaling_lib.sweep.plan import Options, make_plan
from scaling_lib.sweep.recipes import (
    MODES,
    RECIPES,
    STEPS_OF_THE_WAY,
    cells,
    find_mode,
    find_recipe,
    make_train_config,
    peak_lr,
)

ONE_LINE = r"\A[^\n]+\Z"
M = 1_000_000


@pytest.mark.parametrize(
    ("name", "schedule", "warmup", "decay", "weight_decay"),
    [("v1", "constant", 0, 0, 0.0), ("v2", "cosine", 300, 0, 0.01), ("wsd", "wsd", 300, 600, 0.01)],
)
def test_recipes_are_what_their_names_mean(name, schedule, warmup, decay, weight_decay):
    train = make_train_config(name, 64, 3000, 16)
    assert (train.schedule, train.warmup_steps, train.decay_steps) == (schedule, warmup, decay)
    assert train.weight_decay == weight_decay
    assert (train.beta1, train.beta2, train.grad_clip) == (0.9, 0.95, 1.0)


def test_the_way_from_v1_to_v2_changes_one_thing_at_a_time():
    assert (STEPS_OF_THE_WAY[0], STEPS_OF_THE_WAY[-1]) == ("v1", "v2")
    way = [RECIPES[name] for name in STEPS_OF_THE_WAY]
    changed = [
        [
            f
            for f in ("schedule", "warmup_share", "decay_share", "weight_decay", "long")
            if getattr(a, f) != getattr(b, f)
        ]
        for a, b in itertools.pairwise(way)
    ]
    assert changed == [["long"], ["warmup_share"], ["schedule"], ["weight_decay"]]


def test_the_peak_rate_falls_as_one_over_the_width():
    assert peak_lr(64) == 7.5e-3
    for width in (32, 128, 1408):
        assert peak_lr(width) * width == pytest.approx(7.5e-3 * 64, rel=5e-3)  # to three figures
    assert make_train_config("v2", 128, 10, 1).lr == peak_lr(128)
    assert make_train_config("v2", 128, 10, 1, lr=0.3).lr == 0.3


@given(st.sampled_from(sorted(RECIPES)), st.integers(1, 20_000))
def test_any_number_of_steps_makes_a_valid_training(name, steps):
    train = make_train_config(name, 64, steps, 1)
    assert train.max_steps == steps
    assert abs(train.warmup_steps - RECIPES[name].warmup_share * steps) <= 0.5
    assert abs(train.decay_steps - RECIPES[name].decay_share * steps) <= 0.5


SIZES = {  # what is counted, the sizes in millions (0: not promised), and within how much
    "demo": ("non_embedding", (0.0062, 0.014, 0.025, 0.055, 0.098), 0.02),
    "laptop": ("non_embedding", (0.025, 0, 0, 0, 0, 0, 0, 2), 0.03),
    "quick": ("total", (2, 5, 10, 20, 50), 0.06),
    "standard": ("total", (5, 10, 20, 50, 100, 200), 0.04),
    "full": ("total", (5, 10, 20, 50, 100, 200, 350, 500), 0.04),
}
LENGTHS = {  # vocabulary, window, batch, steps of V1 and of V2, corpus
    "demo": (512, 64, 16, 200, 600, "python-stdlib"),
    "quick": (10_000, 256, 8, 1000, 3000, "python-env"),
    "standard": (10_000, 512, 64, 1000, 5000, "python-env"),
    "full": (10_000, 512, 64, 2000, 8000, "python-env"),
}


@pytest.mark.parametrize("mode", SIZES)
def test_modes_have_the_sizes_that_they_promise(mode):
    counted, sizes, tolerance = SIZES[mode]
    actual = [getattr(count_parameters(MODES[mode].model(i)), counted) for i in range(len(MODES[mode].shapes))]
    assert actual == sorted(actual)
    for got, wanted in zip(actual, sizes, strict=True):
        assert not wanted or got == pytest.approx(wanted * M, rel=tolerance)


@pytest.mark.parametrize("mode", LENGTHS)
def test_modes_have_the_lengths_that_they_promise(mode):
    vocabulary, length, batch, v1, v2, corpus = LENGTHS[mode]
    found = cells(mode)
    shape = {(c.model.vocab_size, c.model.seq_len, c.train.batch_size, c.corpus) for c in found}
    assert shape == {(vocabulary, length, batch, corpus)}
    n = len(MODES[mode].shapes)
    by_steps = Counter((c.train.recipe, c.train.max_steps) for c in found)
    assert by_steps["v1", v1] == by_steps["v2", v2] == n
    assert len(found) == 2 * n + 4  # and the rungs in D of the middle size, less the one that is a size's too


def test_heads_are_16_to_64_wide_and_every_ladder_has_the_rungs_that_a_law_needs():
    for mode, m in MODES.items():
        for _, n_head, d_model in m.shapes:
            assert d_model % n_head == 0
            assert 16 <= d_model // n_head <= 64
            assert d_model % 8 == 0  # what matrix units like
        if mode in ("lr-study", "seed-noise", "paired", "tokenizers"):  # no ladder's law is fitted to them
            continue
        assert len(m.shapes) >= 5, mode  # p + 2 of a law of three parameters
        if mode != "coverage":  # a ladder in size alone
            assert 0 < m.middle < len(m.shapes) - 1, mode
            assert len(set(m.data_steps)) >= 5, mode


def test_the_ladder_in_tokens_doubles_about_the_length_of_the_sizes():
    for mode in ("demo", "quick", "standard", "full"):
        m = MODES[mode]
        steps = [c.train.max_steps for c in cells(mode, recipes=["v2"]) if c.model == m.model(m.middle)]
        assert sorted(steps) == [min(steps) * 2**k for k in range(5)]
        assert m.steps_v2 in steps
        cut = [c.train.max_steps for c in cells(mode, recipes=["v2"], max_steps=800) if c.model == m.model(m.middle)]
        assert [n / 800 for n in cut] == [n / m.steps_v2 for n in steps]


def test_laptop_is_a_grid_of_8_sizes_and_5_lengths_each_on_one_trunk():
    found = cells("laptop")
    assert len(found) == len(set(found)) == 40
    assert {c.train.recipe for c in found} == {"wsd"}
    for k in range(5):
        here = [c for c in found if abs(c.n_tokens / (2**k * M) - 1) < 0.003]
        assert len({c.model for c in here}) == 8
    assert len({c.train.warmup_steps for c in found}) == 1  # a trunk is shared from its first step
    jobs = [job for phase in make_plan(found, Options()).phases for job in phase.jobs]
    assert [len(job.cells) for job in jobs] == [5] * 8


def test_every_mode_can_be_cut_short():
    for (mode, m), recipe in itertools.product(MODES.items(), ("v2", "wsd")):
        for steps in (1, 7):
            found = cells(mode, recipes=[recipe], max_steps=steps, seeds=[0])
            assert len(set(found)) == len(found)
            lengths = Counter(c.train.max_steps for c in found)
            assert lengths[steps] >= len(m.shapes), (mode, recipe)
            assert not m.grid or max(lengths) == steps, (mode, recipe)


def test_seeds_repeat_every_run_and_sizes_keep_the_smallest():
    once, thrice = cells("demo"), cells("demo", seeds=range(3))
    assert Counter(c.train.seed for c in thrice) == dict.fromkeys(range(3), len(once))
    assert [c for c in thrice if c.train.seed == 0] == once
    two = cells("demo", sizes=2)
    assert {c.model.d_model for c in two} == {16, 24}
    assert len(two) == 4  # the middle size is not among them, so neither is its ladder in D
    assert len(cells("demo", sizes=3)) == 2 * 3 + 4


def test_the_cheapest_run_comes_first_and_options_reach_every_run():
    found = cells("demo", corpus="uniform", vocab_size=300, lr=0.1)
    work = [count_parameters(c.model).total * c.n_tokens for c in found]
    assert work == sorted(work)
    assert {(c.corpus, c.model.vocab_size, c.train.lr) for c in found} == {("uniform", 300, 0.1)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "huge"},
        {"mode": ""},
        {"recipes": ["v2", "v3"]},
        *[{"max_steps": v} for v in (0, -1)],
        *[{"vocab_size": v} for v in (256, 65_536)],
        *[{"lr": v} for v in (0.0, -1.0, float("nan"))],
        *[{"sizes": v} for v in (-1, 6)],
    ],
    ids=str,
)
def test_wrong_wishes_are_refused_in_one_line(wrong):
    with pytest.raises(InputError, match=ONE_LINE):
        cells(**{"mode": "demo", **wrong})


def test_unknown_names_are_answered_with_the_known_ones_and_steps_are_whole():
    with pytest.raises(InputError, match="v1, v1-long"):
        find_recipe("v3")
    with pytest.raises(InputError, match="demo, laptop"):
        find_mode("huge")
    for steps in (0, 2.5, True, "9"):
        with pytest.raises(InputError, match=r"\A[^\n]*max_steps[^\n]*\Z"):
            make_train_config("v2", 64, steps, 1)


def test_the_study_of_rates_takes_multiples_of_the_rule_on_trunks_of_their_own():
    found = cells("lr-study")
    assert len(found) == len(set(found)) == 3 * 5 * 2
    for model in {c.model for c in found}:
        rates = sorted({c.train.lr for c in found if c.model == model})
        assert rates == pytest.approx([peak_lr(model.d_model) * 2.0**k for k in (-2, -1, 0, 1, 2)], rel=5e-3)
    assert {c.train.lr for c in cells("lr-study", lr=0.01)} == {0.01}
    trunks = {trunk_id(c, "text") for c in found}
    assert len(trunks) == 15  # one for each size and rate, shared by both lengths


@pytest.mark.parametrize(
    ("mode", "recipes", "models", "lengths", "seeds"),
    [
        ("seed-noise", ("wsd", "v2"), 2, {976, 1953}, 5),
        ("paired", ("v1-long", "v1-warmup", "v1-cosine", "v2"), 4, {244, 488, 976, 1953}, 3),
        ("coverage", ("v2",), 8, {300}, 40),
    ],
)
def test_studies_train_every_cell_by_every_recipe_with_the_same_seeds(mode, recipes, models, lengths, seeds):
    found = {(c.train.recipe, c.model, c.train.max_steps, c.train.seed) for c in cells(mode)}
    sizes = {c.model for c in cells(mode)}
    assert found == set(itertools.product(recipes, sizes, lengths, range(seeds)))
    assert len(cells(mode)) == len(found) == len(recipes) * models * len(lengths) * seeds
    assert {c.train.seed for c in cells(mode, seeds=[7])} == {7}
