"""Coverage on retrained ladders, checked on made ones: where the law holds it comes out, where it bends it does not."""

from __future__ import annotations

import math
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pytest
from scaling_lib.show.retrained import coverage_report, plot_retrained, retrained_coverage

from scaling_lib.errors import InputError
from scaling_lib.runs import Run
from scaling_lib.show.studies import study_numbers, study_texts

mpl.use("agg")
WIDTHS = range(16, 144, 16)


@pytest.fixture
def ladders(make_run: Callable[..., Run]) -> Callable[..., list[Run]]:
    def make(seeds: int = 40, noise: float = 0.004, bend: float = 0.0, **other: object) -> list[Run]:
        rng = np.random.default_rng(5)
        runs = []
        for seed in range(seeds):
            for width in WIDTHS:
                n = make_run(d_model=width).counts["n_params_non_embedding"]
                loss = (3.5 + 60 / n**0.5) * math.exp(noise * rng.standard_normal())
                loss += bend * (width == max(WIDTHS))
                runs.append(make_run(d_model=width, seed=seed, loss=loss, **other))
        return runs

    return make


def test_where_the_law_is_true_nine_in_ten_intervals_hold(ladders) -> None:
    found = retrained_coverage(ladders())
    assert len(found.observed) + found.refused == 40
    low, high = found.share.interval(0.95)
    assert low <= 0.9 <= high
    assert low > 0.7
    n = [r.counts["n_params_non_embedding"] for r in ladders(seeds=1)]
    assert found.span == pytest.approx(n[-1] / n[-2])
    assert found.half_width < 0.03


def test_a_largest_size_off_the_law_is_missed(ladders) -> None:
    found = retrained_coverage(ladders(bend=0.15))
    assert found.share.share < 0.2
    assert np.mean(found.error) == pytest.approx(-0.15 / 3.6, rel=0.25)


def test_flat_ladders_are_refused_and_counted(ladders, make_run) -> None:
    rng = np.random.default_rng(1)
    flat = [make_run(d_model=w, seed=s, loss=4 + 0.01 * rng.standard_normal()) for s in range(12) for w in WIDTHS]
    assert retrained_coverage(flat).refused >= 9
    known = [make_run(d_model=w, seed=s, loss=4.0 + 0.01 * (w % 32 > 0)) for s in range(12) for w in WIDTHS]
    found = retrained_coverage(known)
    assert found.refused == 12
    assert found.share is None
    assert "none predicted" in coverage_report([found])
    (numbers, *_) = study_numbers(known)["retrained"]
    assert (numbers["held"], numbers["trials"], numbers["refused"]) == (0, 0, 12)
    plot_retrained(found)


def test_a_sweep_cut_short_has_no_such_answer_and_keeps_the_others(ladders) -> None:
    largest = max(WIDTHS)
    cut = [r for r in ladders(seeds=12) if r.config.model.d_model < largest or r.config.train.seed < 5]
    assert "retrained" not in study_numbers(cut)
    assert study_texts(cut) == []


@pytest.mark.parametrize(("seeds", "hide"), [(9, 1), (12, 4), (12, 0)])
def test_too_little_is_refused_in_one_line(ladders, seeds: int, hide: int) -> None:
    with pytest.raises(InputError, match="are needed; --mode coverage") as error:
        retrained_coverage(ladders(seeds=seeds), hide=hide)
    assert "\n" not in str(error.value)


def test_two_lengths_are_not_one_ladder(ladders, make_run) -> None:
    with pytest.raises(InputError, match="2 recipes or lengths"):
        retrained_coverage([*ladders(), make_run(steps=999)])


def test_report_and_figure_count_alike(ladders) -> None:
    kinds = [retrained_coverage(ladders(seeds=12), hide) for hide in (1, 2)]
    text = coverage_report(kinds).splitlines()
    assert len(text) == 3
    assert str(kinds[1].share) in text[2]
    axes = plot_retrained(kinds[0])
    drawn = sum(len(c.get_segments()) for c in axes.collections)
    assert drawn == len(kinds[0].observed)
