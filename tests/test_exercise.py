"""The budgeted exercise: what is shown, what is hidden, how an interval is scored, and what the package answers."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pytest
from scipy import stats

from scaling_lib.errors import InputError
from scaling_lib.runs import Run
from scaling_lib.show.exercise import (
    commit,
    exercise_text,
    fared,
    interval_score,
    package_answers,
    plot_exercise,
    reveal,
    set_exercise,
)
from scaling_lib.show.grids import Grid, the_grid

mpl.use("agg")
Make = Callable[..., Run]
WIDTHS = (16, 32, 48, 64, 96, 128)
STEPS = (50, 100, 200, 400, 800)


def law(n: float, tokens: float) -> float:
    return 1.8 + 30 / n**0.3 + 300 / tokens**0.45


@pytest.fixture(scope="module")
def grid(make_run: Make) -> Grid:
    noise = np.random.default_rng(1).normal(0, 0.001, (6, 5)).tolist()
    return the_grid(
        [
            make_run("wsd", d_model=d, steps=s, loss=law(24 * d**2 + 6 * d, s * 1024) * (1 + e))
            for d, row in zip(WIDTHS, noise, strict=True)
            for s, e in zip(STEPS, row, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def truth(grid: Grid) -> float:
    return float(grid.table.loss[np.argmax(grid.table.get("C"))])


def budget_for(grid: Grid, runs: int) -> float:
    c = np.sort(grid.table.get("C"))
    return float(np.sqrt(c[runs - 1] * c[runs]))


def test_only_the_cheap_runs_are_shown_and_the_largest_is_asked_for(grid: Grid, truth: float) -> None:
    exercise = set_exercise(grid, budget_for(grid, 9))
    assert len(exercise.known) == 9
    assert exercise.known.get("C").max() < exercise.budget
    assert exercise.target == (24 * 128**2 + 6 * 128, 800 * 1024, grid.table.get("C").max())
    assert exercise.beyond == pytest.approx(exercise.target[2] / exercise.known.get("C").max())
    text = exercise_text(exercise)
    assert len(text.splitlines()) == 11
    assert f"{truth:.3f}" not in text
    assert f"{truth:.3f}" not in repr(exercise)
    assert f"{exercise.known.loss[0]:.3f}" in text


def test_a_budget_that_shows_too_little_or_all_is_refused(grid: Grid) -> None:
    for budget in (1.0, 1e30):
        with pytest.raises(InputError, match="choose one between") as caught:
            set_exercise(grid, budget)
        assert "\n" not in str(caught.value)


def test_the_score_is_the_width_plus_the_penalty_of_a_miss() -> None:
    assert interval_score(2.0, 3.0, 2.27) == pytest.approx(1.0)
    assert interval_score(2.4, 2.6, 2.27) == pytest.approx(0.2 + 20 * 0.13)
    assert interval_score(2.0, 2.1, 2.27) == pytest.approx(0.1 + 20 * 0.17)
    assert interval_score(2.0, 3.0, 4.0, level=0.5) == pytest.approx(1.0 + 4 * 1.0)


def test_nobody_gains_by_saying_another_interval_than_the_one_believed() -> None:
    """The mean score over normal outcomes is least at the 5% and 95% quantiles."""
    outcomes = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)

    def mean(half: float, shift: float = 0.0) -> float:
        return float(np.mean([interval_score(shift - half, shift + half, y) for y in outcomes]))

    best = mean(stats.norm.ppf(0.95))
    assert all(mean(half) > best for half in (0.5, 1.2, 1.5, 1.8, 3.0))
    assert all(mean(stats.norm.ppf(0.95), shift) > best for shift in (-0.5, 0.3))


@pytest.mark.parametrize(("low", "high"), [(3.0, 2.0), (2.0, 2.0), (-1.0, 2.0), (float("nan"), 2.0)])
def test_a_commitment_is_two_rising_losses(low: float, high: float) -> None:
    with pytest.raises(InputError, match="lower one first"):
        commit(low, high)


def test_the_reveal_tells_the_truth_and_how_all_fared(grid: Grid, truth: float) -> None:
    exercise = set_exercise(grid, budget_for(grid, 20))
    text = reveal(exercise, commit(truth - 0.1, truth + 0.1))
    assert f"{truth:.3f} nats per token" in text
    assert "held, score 0.20" in text
    assert "missed, score 10.10" in reveal(exercise, commit(truth + 0.5, truth + 0.6))


def test_the_package_answers_by_three_forms_and_two_rulers(grid: Grid, truth: float) -> None:
    exercise = set_exercise(grid, budget_for(grid, 20))
    joint, kaplan, power, line, near = package_answers(exercise)
    assert joint.name == "joint law (supported)"
    assert joint.low <= truth <= joint.high
    assert joint.loss == pytest.approx(truth, rel=0.01)
    assert kaplan.name.startswith("Kaplan's form")
    assert power.name.startswith("power law in C")
    c, loss = exercise.known.get("C"), exercise.known.loss
    ruler = np.exp(np.polyval(np.polyfit(np.log(c), np.log(loss), 1), np.log(exercise.target[2])))
    assert line.loss == pytest.approx(ruler)
    assert near.loss == pytest.approx(loss[np.argmax(c)])


def test_a_refused_form_gives_no_number(grid: Grid) -> None:
    exercise = set_exercise(grid, budget_for(grid, 6))
    joint = package_answers(exercise)[0]
    assert "6 distinct values of (N, D) for 5 parameters" in joint.refused
    assert np.isnan(joint.loss)
    text = reveal(exercise, commit(1.0, 5.0))
    assert "joint law: refused. not identifiable" in text
    assert max(len(line) for line in text.splitlines()) <= 110


def test_how_a_form_fares_with_more_runs(grid: Grid, truth: float) -> None:
    rows = fared(grid, (budget_for(grid, 6), budget_for(grid, 20))).splitlines()
    assert rows[1].split()[1:4] == ["6", "not", "identifiable"]
    assert "(" in rows[1]
    assert rows[2].split()[1:3] == ["20", "supported"]
    assert rows[2].endswith("held")
    assert f"{truth:.2f}" in rows[2]


def test_the_figure_hides_the_truth_until_it_is_time(grid: Grid, truth: float) -> None:
    exercise = set_exercise(grid, budget_for(grid, 9))
    before = plot_exercise(exercise)
    drawn = np.concatenate([np.atleast_1d(line.get_ydata()) for line in before.lines])
    assert not np.any(np.isclose(drawn.astype(float), truth, atol=1e-9))
    points = [line for line in before.lines if line.get_linestyle() == "None"]
    assert sum(len(p.get_ydata()) for p in points) == 9
    after = plot_exercise(exercise, commit(2.0, 3.0))
    star = next(line for line in after.lines if line.get_marker() == "*")
    assert star.get_ydata()[0] == pytest.approx(truth)
    assert "FLOP" in after.get_xlabel()
