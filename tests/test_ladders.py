"""Ladders from made records: which runs they hold, and that the law behind the losses is found again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from scaling_lib.counting import count_parameters
from scaling_lib.errors import InputError
from scaling_lib.runs import Run
from scaling_lib.show.ladders import Ladder, at_shared_length, find_ladders, short

Make = Callable[..., Run]
WIDTHS = (16, 32, 48, 64, 96, 128)
STEPS = (50, 100, 200, 400, 800, 1600)


def size_of(d_model: int) -> int:
    return 12 * 2 * d_model**2 + 6 * d_model  # two layers: five gains of norms, one of the token shift


def law_n(d_model: int) -> float:
    return 2.0 + 30.0 / size_of(d_model) ** 0.3


def law_d(steps: int) -> float:
    return 2.5 + 40.0 / (steps * 1024) ** 0.25


@pytest.fixture
def demo_like(make_run: Make) -> list[Run]:
    """Two recipes in N at 100 steps, and the second in D at width 64."""
    runs = [make_run(r, d_model=d, loss=law_n(d) + 0.3 * (r == "v1")) for r in ("v1", "v2") for d in WIDTHS]
    return runs + [make_run("v2", d_model=64, steps=s, loss=law_d(s)) for s in STEPS if s != 100]


def by_name(ladders: Sequence[Ladder]) -> dict[tuple[str, str], Ladder]:
    return {(x.recipe, x.variable): x for x in ladders}


def test_each_recipe_has_its_ladders_and_each_ladder_its_runs(demo_like: list[Run]) -> None:
    found = by_name(find_ladders(demo_like))
    assert set(found) == {("v1", "N"), ("v2", "N"), ("v2", "D")}
    for recipe in ("v1", "v2"):
        ladder = found[recipe, "N"]
        assert [r.config.model.d_model for r in ladder.runs] == list(WIDTHS)
        assert {r.config.train.max_steps for r in ladder.runs} == {100}
        np.testing.assert_array_equal(ladder.x, [size_of(d) for d in WIDTHS])
        np.testing.assert_array_equal(ladder.x, [count_parameters(r.config.model).non_embedding for r in ladder.runs])
        assert ladder.held == "102,400 tokens each"
    ladder = found["v2", "D"]
    assert [r.config.train.max_steps for r in ladder.runs] == list(STEPS)
    np.testing.assert_array_equal(ladder.x, [s * 1024 for s in STEPS])
    assert {r.config.model.d_model for r in ladder.runs} == {64}
    assert ladder.held == f"2x64, {size_of(64):,} parameters"


def test_the_law_behind_the_losses_is_found_again(make_run: Make) -> None:
    runs = [make_run(d_model=d, loss=law_n(d)) for d in (*WIDTHS, 192, 256)]
    fit = by_name(find_ladders(runs))["v2", "N"].fit
    assert fit is not None
    assert fit.params["E"] == pytest.approx(2.0, abs=1e-3)
    assert fit.params["alpha"] == pytest.approx(0.3, rel=1e-3)
    assert fit.params["A"] == pytest.approx(30.0, rel=1e-2)


def test_the_order_of_the_records_does_not_matter(demo_like: list[Run], make_run: Make) -> None:
    grid = [make_run("wsd", d_model=d, steps=s, loss=law_n(d) + law_d(s)) for d in WIDTHS for s in STEPS]
    runs = demo_like + grid
    expected = {k: ([r.run_id for r in x.runs], x.held) for k, x in by_name(find_ladders(runs)).items()}
    assert expected["wsd", "N"][1] == f"{1600 * 1024:,} tokens each"  # the longest of equally many
    assert expected["wsd", "D"][1].startswith("2x128,")
    for seed in range(5):
        random.Random(seed).shuffle(runs)
        assert {k: ([r.run_id for r in x.runs], x.held) for k, x in by_name(find_ladders(runs)).items()} == expected


def test_fewer_than_three_rungs_make_no_ladder(make_run: Make) -> None:
    assert find_ladders([make_run(d_model=d) for d in (16, 32)]) == []
    assert find_ladders([]) == []
    three = [make_run(d_model=d, loss=law_n(d)) for d in (16, 32, 48)]
    assert [(x.variable, len(x.runs)) for x in find_ladders(three)] == [("N", 3)]
    seeds = [make_run(d_model=d, seed=s) for d in (16, 32) for s in range(3)]
    assert find_ladders(seeds) == []  # six runs, but two sizes
    (ladder,) = find_ladders([make_run(d_model=d, seed=s, loss=law_n(d)) for d in WIDTHS for s in range(3)])
    assert (len(ladder.runs), len(set(ladder.x))) == (18, 6)


def test_a_run_that_diverged_is_named_and_left_out(make_run: Make) -> None:
    runs = [make_run(d_model=d, loss=law_n(d)) for d in WIDTHS] + [make_run(d_model=80, loss=None)]
    (ladder,) = find_ladders(runs)
    assert ladder.left_out == ("v2-2x80-s100-r0",)
    assert len(ladder.runs) == 6
    assert ladder.fit is not None
    assert ladder.fit.n_points == 6


def test_runs_that_differ_in_more_than_one_thing_are_refused(make_run: Make) -> None:
    runs = [make_run(d_model=d) for d in WIDTHS]
    for odd, message in (
        (make_run(d_model=80, fingerprint="0" * 64), "corpus fingerprint"),
        (make_run(d_model=80, vocab_size=513), "vocabulary"),
        (make_run(d_model=64, steps=200, lr=2e-3), "peak rate"),
    ):
        with pytest.raises(InputError, match=rf"\A[^\n]*{message}[^\n]*\Z"):
            find_ladders([*runs, odd])


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.8e12, "1.8T"), (175e9, "175B"), (24_736, "24.7k"), (443_000, "443k"), (2e6, "2M"), (7, "7"), (0.5, "0.5")],
)
def test_counts_in_short(value: float, text: str) -> None:
    assert short(value) == text


def test_the_length_that_most_models_share_is_taken_and_the_longest_of_equals(make_run: Make) -> None:
    runs = [
        make_run("v2", d_model=d, steps=s) for s, widths in ((100, (32, 48, 128)), (200, (16, 32, 48))) for d in widths
    ]
    assert {r.config.train.max_steps for r in at_shared_length(runs)} == {200}
    assert {r.config.train.max_steps for r in at_shared_length(runs[:-1])} == {100}
    assert at_shared_length([]) == []
