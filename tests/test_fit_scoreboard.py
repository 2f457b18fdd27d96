"""Forms ranked by held-out rollout, on sweeps whose form is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scaling_lib.errors import InputError
from scaling_lib.fit import compare_laws, fit_power_law, published
from scaling_lib.fit.backtests import backtest, interval_score
from scaling_lib.fit.laws import KAPLAN
from scaling_lib.fit.scoreboard import LINE, NEAREST, as_markdown, pooled_scores, scoreboard

X = np.geomspace(1e6, 1e9, 12)


def test_the_true_form_wins_and_the_errors_are_those_of_separate_fits():
    rng = np.random.default_rng(0)
    loss = (1.7 + 400 / X**0.34) * np.exp(rng.normal(0, 0.002, 12))
    ranking = compare_laws(X, loss, target=1e10)
    assert ranking.best.name == "power_n, E free"
    names = [s.name for s in ranking.scores]
    assert {LINE, NEAREST, "power_n, E = 0", "broken_n, E free"} == set(names) - {"power_n, E free"}
    errors = []
    for cut in (9, 10, 11):
        errors.append(abs(fit_power_law(X[:cut], loss[:cut], law="power").predict(X[cut]) / loss[cut] - 1))
    assert ranking.best.held_out == pytest.approx(np.mean(errors), rel=1e-6)
    assert ranking.best.worst == pytest.approx(np.max(errors), rel=1e-6)
    assert ranking.best.prediction == pytest.approx(fit_power_law(X, loss, law="power").predict(1e10))
    low, high = ranking.spread
    assert low <= ranking.best.prediction <= high


def test_baselines_are_what_they_say():
    loss = 20.0 * X**-0.1
    ranking = compare_laws(X, loss, target=1e10)
    line = next(s for s in ranking.scores if s.name == LINE)
    assert line.held_out < 1e-9
    assert line.prediction == pytest.approx(20.0 * 1e10**-0.1)
    nearest = next(s for s in ranking.scores if s.name == NEAREST)
    assert nearest.prediction == pytest.approx(loss[-1])
    assert nearest.held_out == pytest.approx(np.mean(loss[8:11] / loss[9:12] - 1))


def test_a_law_that_no_run_follows_is_beaten_by_the_nearest_run():
    loss = np.maximum(20.0 * X**-0.1, 20.0 * X[7] ** -0.1)  # the fall ends where the hidden runs begin
    ranking = compare_laws(X, loss)
    assert ranking.best.name == NEAREST
    assert "power_n, E free" in ranking.beaten
    assert "no better than a baseline" in ranking.summary()


def test_joint_forms_and_a_known_floor():
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 1e11, 6)))
    rng = np.random.default_rng(1)
    loss = KAPLAN.value(np.array([6.4e13, 1.8e13, 0.076, 0.103]), n, d) * np.exp(rng.normal(0, 0.001, 36))
    ranking = compare_laws(n, loss, n_tokens=d, target=(1e10, 1e12), known_floor=0.5)
    laws = [s.name for s in ranking.scores if s.fit is not None]
    assert laws[0] in ("kaplan", "power_mean, E = 0", "power_mean, E free", "power_mean, E = 0.5 known")
    assert "chinchilla, E = 0.5 known" in laws
    kaplan = next(s for s in ranking.scores if s.name == "kaplan")
    assert kaplan.held_out < 0.002
    assert kaplan.held_out < next(s for s in ranking.scores if s.name == "chinchilla, E = 0").held_out


def test_a_form_with_more_parameters_than_runs_is_ranked_last():
    ranking = compare_laws(X[:6], 1.7 + 400 / X[:6] ** 0.34, forms=["power_n", "broken_n"], folds=2)
    assert ranking.scores[-1].name.startswith("broken_n")
    assert ranking.scores[-1].held_out == np.inf
    assert ranking.spread is None
    assert "could not be fitted" in ranking.summary()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"folds": 0}, "folds=0"),
        ({"folds": 10}, "too few"),
        ({"forms": ["chinchilla"]}, "law 'chinchilla' is one of N, D"),
        ({"forms": ["cubic"]}, "unknown law"),
        ({"target": (1e9, 1e9)}, "expected 1"),
        ({"variable": "C"}, "variable='C'"),
        ({"n_tokens": [1e9]}, "different length"),
    ],
)
def test_refusals(options, says):
    with pytest.raises(InputError, match=says):
        compare_laws(X, 1.7 + 400 / X**0.34, **options)


def test_the_scoreboard_counts_what_back_tests_say():
    table = published.cerebras_gpt()
    scores = scoreboard({"cerebras": table}, cuts=(10.0,))
    by_form = {s.form: s for s in scores}
    assert list(by_form) == ["pool", "power law", "line", "nearest run"]
    test = backtest(table, hide=2, law="power_c")
    own = by_form["power law"]
    assert (own.hidden, own.held) == (2, test.covered.sum())
    assert own.error == pytest.approx(test.mean_abs_error)
    assert own.score == pytest.approx(np.mean(interval_score(test.observed, test.low, test.high, 0.9)))
    near = by_form["nearest run"]
    assert near.error == pytest.approx(np.abs(test.nearest_error).mean())
    assert "| cerebras, 10x | 2 |" in as_markdown(scores)
    flat = [replace(s, level="no trend") for s in scores]
    assert "| cerebras, 10x | 2 | - | - | - | - | no trend |" in as_markdown(flat)
    quoted = by_form["pool"].level not in ("not identifiable", "no trend")
    assert set(pooled_scores(scores)) == (set(by_form) if quoted else set())
    with pytest.raises(InputError, match="no table has enough runs"):
        scoreboard({"few": table.select(table.loss > 1.8)})


def test_the_interval_score_pays_for_width_and_twenty_times_the_miss():
    assert interval_score(2.0, np.array([1.9, 2.1]), np.array([2.1, 2.2]), 0.9) == pytest.approx([0.1, 1.05])
